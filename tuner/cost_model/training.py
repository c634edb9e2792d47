"""What a global model learns from: features of trials of many workloads, labels that compare within each of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuner.features.sketches import schedule_features
from tuner.trial import Trial

FEWEST = 8  # trials of one workload on one target from which something can be learned
MOST = 400  # and those beyond which more add little (docs/transfer-learning.md)


@dataclass(frozen=True)
class TrainingSet:
    """N trials. ``groups`` numbers the pair of problem and target of each; times are compared within a group only."""

    features: npt.NDArray[np.float32]  # (N, F)
    seconds: npt.NDArray[np.float64]  # (N,)
    groups: npt.NDArray[np.int64]  # (N,), from 0
    workloads: tuple[str, ...]  # of each group, the problem's key
    targets: tuple[str, ...]  # of each group, the target's name

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """(N,) log(best time of the group / time): 0 for the best, whatever the workload and the machine."""
        best = np.full(len(self.workloads), np.inf)
        np.minimum.at(best, self.groups, self.seconds)
        return np.asarray(np.log(best[self.groups] / self.seconds))

    def part(self, groups: Sequence[int]) -> "TrainingSet":
        """The trials of some groups, which are numbered anew."""
        numbers = np.full(len(self.workloads), -1)
        numbers[list(groups)] = np.arange(len(groups))
        rows = numbers[self.groups] >= 0
        return TrainingSet(
            self.features[rows],
            self.seconds[rows],
            numbers[self.groups[rows]],
            tuple(self.workloads[group] for group in groups),
            tuple(self.targets[group] for group in groups),
        )

    def thinned(self, most: int) -> "TrainingSet":
        """About ``most`` of the trials, evenly from every group; all when there are no more."""
        some = slice(None, None, max(round(len(self.seconds) / most), 1))
        return TrainingSet(self.features[some], self.seconds[some], self.groups[some], self.workloads, self.targets)

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> tuple["TrainingSet", npt.NDArray[np.bool_]]:
        """The timed ``trials`` as a training set, and which of them are in it: not those that cannot be lowered."""
        members: dict[tuple[str, str], list[int]] = {}
        for number, trial in enumerate(trials):
            members.setdefault((trial.workload.problem.fingerprint, trial.target.fingerprint), []).append(number)
        blocks: list[npt.NDArray[np.float32]] = []
        seconds: list[npt.NDArray[np.float64]] = []
        groups: list[npt.NDArray[np.int64]] = []
        workloads: list[str] = []
        targets: list[str] = []
        used = np.zeros(len(trials), dtype=np.bool_)
        for numbers in members.values():
            some = [trials[number] for number in numbers]
            features = schedule_features(some[0].workload, some[0].target, [trial.schedule for trial in some])
            good = np.flatnonzero(np.isfinite(features).all(axis=1))
            if not len(good):
                continue
            used[np.array(numbers)[good]] = True
            blocks.append(features[good])
            seconds.append(np.array([some[row].seconds for row in good], dtype=np.float64))
            groups.append(np.full(len(good), len(workloads)))
            workloads.append(some[0].workload.problem.key)
            targets.append(some[0].target.name)
        if not blocks:
            empty = np.empty(0)
            return cls(np.empty((0, 0), np.float32), empty, empty.astype(np.int64), (), ()), used
        everything = (np.concatenate(blocks), np.concatenate(seconds), np.concatenate(groups).astype(np.int64))
        return cls(*everything, tuple(workloads), tuple(targets)), used


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
        timed = own[np.isfinite(seconds[own]) & (np.nan_to_num(seconds[own]) > 0)]
        left_out["failed or without a time"] += len(own) - len(timed)
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
