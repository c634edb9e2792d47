"""What a global model learns from: features of trials of many workloads, labels that compare within each of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tuner.features.representations import representation
from tuner.features.sketches import concatenated
from tuner.features.stored import Example

FEWEST = 8  # trials of one workload on one target from which something can be learned
MOST = 400  # and those beyond which more add little (docs/transfer-learning.md)
SHORTEST = 1e-9  # seconds; no kernel returns sooner, so that whatever a log says, labels stay numbers


@dataclass(frozen=True)
class TrainingSet:
    """N trials. ``groups`` numbers the pair of problem and target of each; times are compared within a group only."""

    features: npt.NDArray[np.float32]  # (N, F), or (N, nodes, F) for trees
    seconds: npt.NDArray[np.float64]  # (N,)
    groups: npt.NDArray[np.int64]  # (N,), from 0
    workloads: tuple[str, ...]  # of each group, the problem's key
    targets: tuple[str, ...]  # of each group, the target's name
    flops: tuple[float, ...]  # of each group, by the definition of its operator
    representation: str = "invariant"  # what the features are, by its name in tuner.features.representations

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """(N,) log(best time of the group / time): 0 for the best, whatever the workload and the machine."""
        best = np.full(len(self.workloads), np.inf)
        np.minimum.at(best, self.groups, self.seconds)
        return np.asarray(np.log(best[self.groups] / self.seconds))

    @property
    def speeds(self) -> npt.NDArray[np.float64]:
        """(N,) log(FLOP/s), each target's less the mean of its groups' best ones: 0 is a usual best."""
        best = np.full(len(self.workloads), np.inf)
        np.minimum.at(best, self.groups, self.seconds)
        reached = np.log(np.array(self.flops) / best)
        _, target = np.unique(self.targets, return_inverse=True)
        usual = np.bincount(target, reached) / np.bincount(target)
        return np.asarray(self.labels + (reached - usual[target])[self.groups])

    def part(self, groups: Sequence[int]) -> "TrainingSet":
        """The trials of some groups, which are numbered anew; the rows of a group are side by side, groups ascend."""
        numbers = np.full(len(self.workloads), -1)
        numbers[list(groups)] = np.arange(len(groups))
        rows = np.argsort(numbers[self.groups], kind="stable")
        rows = rows[numbers[self.groups[rows]] >= 0]
        return replace(
            self,
            features=self.features[rows],
            seconds=self.seconds[rows],
            groups=numbers[self.groups[rows]],
            workloads=tuple(self.workloads[group] for group in groups),
            targets=tuple(self.targets[group] for group in groups),
            flops=tuple(self.flops[group] for group in groups),
        )

    def thinned(self, most: int) -> "TrainingSet":
        """About ``most`` of the trials, evenly from every group; all when there are no more."""
        some = slice(None, None, max(round(len(self.seconds) / most), 1))
        return replace(self, features=self.features[some], seconds=self.seconds[some], groups=self.groups[some])

    @classmethod
    def of(cls, trials: Sequence[Example], features: str = "invariant") -> tuple["TrainingSet", npt.NDArray[np.bool_]]:
        """The timed ``trials`` as a training set, and which of them are in it: not those without such features.

        Raises TunedbError when there is no representation of that name.
        """
        described = representation(features)
        members: dict[tuple[str, str], list[int]] = {}
        for number, trial in enumerate(trials):
            members.setdefault((trial.workload.problem.fingerprint, trial.target.fingerprint), []).append(number)
        parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []  # of a group: its trials, and features
        for numbers in members.values():
            block = described.of_trials([trials[number] for number in numbers])
            good = np.flatnonzero(np.isfinite(block.reshape(len(block), -1)).all(axis=1))
            if len(good):
                parts.append((np.array(numbers)[good], block[good]))
        used = np.zeros(len(trials), dtype=np.bool_)
        used[[number for numbers, _ in parts for number in numbers]] = True
        return cls._joined(trials, parts, features), used

    @classmethod
    def _joined(
        cls,
        trials: Sequence[Example],
        parts: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]],
        features: str,
    ) -> "TrainingSet":
        """Groups side by side, their features as long as the longest."""
        if not parts:
            empty = np.empty(0)
            return cls(np.empty((0, 0), np.float32), empty, empty.astype(np.int64), (), (), (), features)
        ones = [trials[numbers[0]] for numbers, _ in parts]
        return cls(
            concatenated([block for _, block in parts]),
            np.array([trials[number].seconds for numbers, _ in parts for number in numbers], dtype=np.float64),
            np.repeat(np.arange(len(parts)), [len(numbers) for numbers, _ in parts]),
            tuple(one.workload.problem.key for one in ones),
            tuple(one.target.name for one in ones),
            tuple(one.workload.flops for one in ones),
            features,
        )


def choose(
    groups: Sequence[object], seconds: npt.NDArray[np.float64], most: int = MOST
) -> tuple[npt.NDArray[np.int64], Mapping[str, int]]:
    """Which of N trials to learn from, as positions in order, and how many are left out for which reason.

    ``groups`` says which trials are comparable, ``seconds`` is NaN for a failure. Of a group with more than ``most``,
    the fastest quarter of that number and a random draw of the others are kept, always the same ones.
    """
    left_out: Counter[str] = Counter()
    members: dict[object, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    kept: list[npt.NDArray[np.int64]] = []
    for numbers in members.values():
        own = np.array(numbers)
        timed = own[np.isfinite(seconds[own])]
        left_out["failed or without a time"] += len(own) - len(timed)
        timed = timed[seconds[timed] >= SHORTEST]
        left_out["faster than anything can be"] += int((seconds[own] < SHORTEST).sum())
        if len(timed) < FEWEST:
            left_out[f"fewer than {FEWEST} of their workload and target"] += len(timed)
        elif np.ptp(seconds[timed]) == 0:
            left_out["all equally fast"] += len(timed)
        else:
            kept.append(_thinned(timed, seconds, most))
            left_out[f"more than {most} of their workload and target"] += len(timed) - len(kept[-1])
    positions = np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)
    return positions, {reason: number for reason, number in left_out.items() if number}


def _thinned(timed: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    if len(timed) <= most:
        return timed
    ordered = timed[np.argsort(seconds[timed], kind="stable")]
    fastest, others = ordered[: most // 4], ordered[most // 4 :]
    drawn = np.random.default_rng(0).choice(len(others), most - len(fastest), replace=False)
    return np.concatenate([fastest, others[drawn]])
