"""Parallel simulated annealing over the digits of a space, for spaces too large to score as a whole.

As in AutoTVM: many chains at once, one knob changed a step, temperature falling linearly from one to zero, and a heap
of the best distinct new candidates ever met, accepted or not. All chains move together in NumPy, which is why they are
eight times as many here and take an eighth of the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.search.candidates import Candidates
from tuner.space import Indices

Score: TypeAlias = Callable[[Indices], npt.NDArray[np.floating]]

CHAINS = 1024
STEPS = 64
PATIENCE = 12  # steps without a better candidate in the heap, after which the chains stop


@dataclass
class Heap:
    """The best distinct candidates so far, at most ``size``, best first."""

    size: int
    indices: Indices
    scores: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, size: int) -> "Heap":
        return cls(size, np.empty(0, dtype=np.int64), np.empty(0))

    def push(self, indices: Indices, scores: npt.NDArray[np.float64]) -> bool:
        """Add candidates; whether the heap has changed."""
        if len(self.scores) == self.size:
            better = scores > self.scores[-1]
            indices, scores = indices[better], scores[better]
        fresh = ~np.isin(indices, self.indices) & np.isfinite(scores)
        if not fresh.any():
            return False
        new, first = np.unique(indices[fresh], return_index=True)
        merged = np.concatenate([self.indices, new])
        values = np.concatenate([self.scores, scores[fresh][first]])
        best = np.argsort(-values, kind="stable")[: self.size]
        self.indices, self.scores = merged[best], values[best]
        return True


class Annealing:
    """Chains that keep their positions from one search to the next, as the model behind the scores gets better."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self.candidates = candidates
        self.rng = rng
        self.chains = candidates.space.digits(candidates.random(rng, CHAINS))

    def search(self, score: Score, size: int) -> Heap:
        """The ``size`` candidates with the highest scores that the chains met and that were not proposed yet.

        ``score`` is called with legal configurations only; the chains never enter others.
        """
        space = self.candidates.space
        heap = Heap.empty(size)
        movable = np.flatnonzero(space.radices > 1)
        if not len(self.chains) or not len(movable):
            return heap
        places = space.indices(self.chains)
        energies = np.asarray(score(places), dtype=np.float64)
        self._push(heap, places, energies)
        scale = float(energies.std()) or 1.0  # a temperature of one is one standard deviation of the scores
        idle = 0
        for temperature in np.linspace(1, 0, STEPS + 1):
            moved = self._move(movable)
            places = space.indices(moved)
            values = np.full(len(places), -np.inf)
            legal = self.candidates.legal(places)
            if legal.any():
                values[legal] = score(places[legal])
            chance = np.exp(np.minimum((values - energies) / (scale * (temperature + 1e-5)), 1.0))
            accepted = self.rng.random(len(places)) < chance
            self.chains[accepted], energies[accepted] = moved[accepted], values[accepted]
            idle = 0 if self._push(heap, places, values) else idle + 1
            if idle >= PATIENCE:
                break
        return heap

    def _push(self, heap: Heap, places: Indices, values: npt.NDArray[np.float64]) -> bool:
        promising = values > (heap.scores[-1] if len(heap.scores) == heap.size else -np.inf)
        if not promising.any():
            return False
        places, values = places[promising], values[promising]
        unseen = self.candidates.unseen(places)
        return heap.push(places[unseen], values[unseen])

    def _move(self, movable: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Every chain with one knob, drawn uniformly, at another value, drawn uniformly."""
        rows = np.arange(len(self.chains))
        knobs = self.rng.choice(movable, size=len(rows))
        radices = self.candidates.space.radices[knobs]
        moved = self.chains.copy()
        moved[rows, knobs] = (moved[rows, knobs] + self.rng.integers(1, radices)) % radices
        return moved
