"""The network of TreeGRU: a gated recurrent unit that runs from the leaves of a tree to its root (needs PyTorch).

The cell, the sizes and the training are those of AutoTVM's published experiments (docs/cost-models.md). A node's state
is a child-sum GRU of its input and the sum of its children's states. Of the context-encoded form each state h is spread
over slots, slot i getting softmax(sigmoid(W h))_i * h, and the slots are summed over all nodes.

Equal subtrees have equal states, and most subtrees of a batch are equal: candidates differ in a few extents. So a batch
is a forest in which each distinct subtree of a level is one node, computed once; the result is the same.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load, save
from torch import nn

from tuner.cost_model.objectives import Pairs
from tuner.cost_model.tree_gru import MINIBATCHES, Settings
from tuner.features.sketches import padded
from tuner.features.tree import LEVEL, NUMBERS, PARENT, TOKEN, VOCABULARY, Trees

Hashes = npt.NDArray[np.uint64]

CHUNK = 1024  # trees that are predicted together
PARTS = 8  # groups that a minibatch is of, drawn with replacement


@dataclass(frozen=True)
class Level:
    """The distinct subtrees whose roots are at one level."""

    tokens: torch.Tensor  # (n,)
    numbers: torch.Tensor  # (n, W)
    parents: torch.Tensor  # (edges,) positions in the level above
    children: torch.Tensor  # (edges,) positions in this level


def subtree_hashes(trees: Trees) -> Hashes:
    """(N, nodes) numbers that are equal for equal subtrees at equal levels, and different for others but by chance."""
    levels, parents = trees[..., LEVEL].astype(np.int64), trees[..., PARENT].astype(np.int64)
    own = np.full(levels.shape, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in (LEVEL, *range(TOKEN, trees.shape[2])):
        bits = np.ascontiguousarray(trees[..., column]).view(np.uint32).astype(np.uint64)
        own = _mixed(own ^ bits)
    below = np.zeros_like(own)
    for level in range(int(levels.max()), 1, -1):
        row, node = np.nonzero(levels == level)
        own[row, node] = _mixed(own[row, node] + below[row, node])
        np.add.at(below, (row, parents[row, node]), own[row, node])
    return _mixed(own + np.where(levels == 1, below, np.uint64(0)))


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def forest(trees: Trees, hashes: Hashes) -> tuple[list[Level], torch.Tensor]:
    """The levels of N trees from the deepest to the roots, and for each tree the position of its root."""
    levels, parents = trees[..., LEVEL].astype(np.int64), trees[..., PARENT].astype(np.int64)
    place = np.zeros(levels.shape, dtype=np.int64)  # of each node among the distinct ones of its level
    found: list[Level] = []
    chosen = np.zeros(levels.shape, dtype=np.bool_)  # nodes that stand for their equals
    for level in range(1, int(levels.max()) + 1):
        row, node = np.nonzero(levels == level)
        _, first, inverse = np.unique(hashes[row, node], return_index=True, return_inverse=True)
        place[row, node] = inverse
        chosen[row[first], node[first]] = True
        own = trees[row[first], node[first]]
        edges = (
            chosen[row, parents[row, node]] if level > 1 else np.zeros(len(row), dtype=np.bool_)
        )  # of the children, only those of a node that stands for others
        found.append(
            Level(
                torch.from_numpy(own[:, TOKEN].astype(np.int64)),
                torch.from_numpy(np.ascontiguousarray(own[:, NUMBERS:])),
                torch.from_numpy(place[row, parents[row, node]][edges]),
                torch.from_numpy(inverse[edges]),
            )
        )
    return found[::-1], torch.from_numpy(place[:, 0].copy())


class TreeNetwork(nn.Module):
    """Scores of trees whose rows have ``numbers`` numbers."""

    def __init__(self, settings: Settings, numbers: int) -> None:
        super().__init__()
        hidden, self.slots, self.numbers = settings.hidden, settings.slots, numbers
        self.hidden = hidden
        if self.slots:
            self.encode: nn.Module = nn.Linear(numbers, hidden)
            self.scatter = nn.Linear(hidden, self.slots, bias=False)
            size = hidden
        else:
            self.encode = nn.Embedding(VOCABULARY, hidden)
            size = numbers + hidden
        self.inputs = nn.Linear(size, 3 * hidden)  # of the reset gate, the update gate and the new state
        self.states = nn.Linear(hidden, 3 * hidden, bias=False)
        self.head = nn.Sequential(nn.Linear(hidden * max(self.slots, 1), hidden), nn.Sigmoid(), nn.Linear(hidden, 1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, levels: list[Level], roots: torch.Tensor) -> torch.Tensor:
        """(N,) scores of the trees with these roots."""
        spread: torch.Tensor | None = None
        below: Level | None = None
        state = torch.zeros(0, self.hidden)
        for level in levels:
            sums = torch.zeros(len(level.tokens), self.hidden)
            slots = torch.zeros(len(level.tokens), self.slots * self.hidden)
            if below is not None:
                sums = sums.index_add(0, below.parents, state[below.children])
                if spread is not None:
                    slots = slots.index_add(0, below.parents, spread[below.children])
            state = self._cell(level, sums)
            if self.slots:
                share = torch.softmax(torch.sigmoid(self.scatter(state)), dim=1)
                spread = slots + (share[:, :, None] * state[:, None, :]).flatten(1)
            below = level
        found: torch.Tensor = self.head((spread if spread is not None else state)[roots])
        return found[:, 0]

    def _cell(self, level: Level, sums: torch.Tensor) -> torch.Tensor:
        if self.slots:
            seen = torch.sigmoid(self.encode(level.numbers))
        else:
            seen = torch.cat([level.numbers, self.encode(level.tokens)], dim=1)
        from_input, from_state = self.inputs(seen).chunk(3, dim=1), self.states(sums).chunk(3, dim=1)
        reset, update = torch.sigmoid(from_input[0] + from_state[0]), torch.sigmoid(from_input[1] + from_state[1])
        new = torch.tanh(from_input[2] + reset * from_state[2])
        return (1 - update) * new + update * sums


class TrainedNetwork:
    """A network, the scale of its labels, and how it is trained."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._network: TreeNetwork | None = None
        self._shift, self._scale = 0.0, 1.0

    def fit(
        self,
        trees: Trees,
        labels: npt.NDArray[np.float64],
        groups: npt.NDArray[np.int64],
        steps: int,
        good: Callable[[], float] | None = None,
    ) -> int:
        """Train on N trees, from the weights there are, for so many minibatches at most; how many were of use.

        Ranks compare trees of a group only; ``groups`` ascend. With ``good`` training ends when that gets no better,
        and the weights are those of the best moment.
        """
        settings = self.settings
        if self._network is None:
            self._network = _built(settings, trees.shape[2] - NUMBERS, self._seed)
            if settings.objective == "regression":
                self._shift, self._scale = float(labels.mean()), float(labels.std()) or 1.0
        network, hashes = self._network, subtree_hashes(trees)
        adam = torch.optim.Adam(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        best, used, weights = -np.inf, steps, network.state_dict()
        with one_thread():
            for step in range(1, steps + 1):
                rows = self._minibatch(groups)
                loss = self._loss(network(*forest(trees[rows], hashes[rows])), labels[rows], groups[rows])
                adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
                adam.step()
                if good is not None and step % MINIBATCHES == 0:
                    if (now := good()) > best:
                        best, used = now, step
                        weights = {name: value.clone() for name, value in network.state_dict().items()}
                    elif step - used >= settings.patience:
                        break
        if good is not None:
            network.load_state_dict(weights)
        return used

    def predict(self, trees: Trees) -> npt.NDArray[np.float64]:
        """(N,) scores, on the scale of the labels if they are learned by regression; zero without a network."""
        result = np.zeros(len(trees))
        if self._network is None:
            return result
        with one_thread(), torch.no_grad():
            for start in range(0, len(trees), CHUNK):
                some = padded(trees[start : start + CHUNK], (trees.shape[1], NUMBERS + self._network.numbers))
                scores = self._network(*forest(some, subtree_hashes(some)))
                result[start : start + CHUNK] = self._shift + self._scale * scores.double().numpy()
        return result

    def to_bytes(self) -> bytes:
        """The arrays in the format of safetensors, the settings in its header."""
        assert self._network is not None, "a network is stored after it was trained"
        arrays = {name: value.numpy() for name, value in self._network.state_dict().items()}
        scale = [self._network.numbers, self._shift, self._scale]
        about = json.dumps({"settings": asdict(self.settings), "scale": scale}, sort_keys=True)
        data: bytes = save(arrays, metadata={"tunedb": about})  # one entry, for several are written in any order
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "TrainedNetwork":
        """The network that ``to_bytes`` wrote; the caller compares a hash before."""
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tunedb"])
        found = cls(Settings(**about["settings"]), seed=0)
        numbers, found._shift, found._scale = about["scale"]
        found._network = _built(found.settings, numbers, seed=0)
        found._network.load_state_dict({name: torch.from_numpy(array) for name, array in load(data).items()})
        return found

    def _loss(
        self, scores: torch.Tensor, labels: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        if self.settings.objective == "regression":
            return nn.functional.mse_loss(scores, torch.from_numpy((labels - self._shift) / self._scale).float())
        pairs = Pairs.within(labels, groups, self._rng)
        margins = scores[torch.from_numpy(pairs.better)] - scores[torch.from_numpy(pairs.worse)]
        return nn.functional.softplus(-margins).sum() / max(len(pairs.better), 1)

    def _minibatch(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of a few groups, in ascending order of the groups."""
        drawn = np.sort(self._rng.integers(0, groups[-1] + 1, PARTS))
        starts, ends = np.searchsorted(groups, drawn, side="left"), np.searchsorted(groups, drawn, side="right")
        rows = [
            self._rng.integers(start, end, max(self.settings.batch // PARTS, 1))
            for start, end in zip(starts, ends, strict=True)
        ]
        return np.concatenate(rows)


def _built(settings: Settings, numbers: int, seed: int) -> TreeNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TreeNetwork(settings, numbers)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread gives the same sums on every machine, and none is left spinning while a kernel is timed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
