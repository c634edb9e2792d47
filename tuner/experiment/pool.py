"""A pool: all that was measured of one workload on one target, as the candidates of a replay.

In a replay a tuner chooses among recorded configurations, learns their recorded times, and is charged what they cost
then. So many tuners and seeds can be compared in minutes, on equal terms, and nobody's luck with the clock decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import log

import numpy as np
import numpy.typing as npt

from tuner.errors import ScheduleError
from tuner.search.candidates import Candidates
from tuner.space import Indices, Space, Value
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.trial import Trial
from tuner.workload import Workload

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # compared by identity, so that what is worked out of one can be remembered
class Pool:
    """The N configurations of a workload that were measured on a target, in the order of their numbers."""

    workload: Workload
    target: Target
    template: Template
    space: Space
    indices: Indices  # (N,), ascending
    trials: tuple[Trial, ...]  # one of each configuration, with the repeats of all of its measurements

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> "Pool":
        """The pool of trials of one workload and target, by whatever tuners and however often measured.

        Trials of another template, or of configurations that the space does not have any more, are left out. Raises
        ScheduleError when nothing is left.
        """
        workload, target = trials[0].workload, trials[0].target
        template = template_for(workload, target)
        space = template.space(workload, target)
        found: dict[int, Trial] = {}
        for trial in trials:
            if trial.template != template.key:
                continue
            try:
                index = space.index(trial.config)
            except ScheduleError:
                continue
            known = found.get(index)
            # One that failed once and worked once counts as working: another time limit decided, not the schedule.
            if known is None or (known.seconds is None and trial.seconds is not None):
                found[index] = trial
            elif trial.seconds is not None:
                found[index] = replace(known, times=(*known.times, *trial.times))
        if not found:
            raise ScheduleError(f"no stored trial of {workload.label} is in the space of {template.key}")
        indices = np.array(sorted(found), dtype=np.int64)
        return cls(workload, target, template, space, indices, tuple(found[index] for index in indices.tolist()))

    def only(self, values: Mapping[str, Value]) -> "Pool":
        """The part with these values of knobs; a knob that the space does not have is no restriction."""
        kept = [
            number
            for number, trial in enumerate(self.trials)
            if all(trial.config.get(name, value) == value for name, value in values.items())
        ]
        if not kept:
            raise ScheduleError(f"no stored trial of {self.workload.label} has {dict(values)}")
        return replace(self, indices=self.indices[kept], trials=tuple(self.trials[number] for number in kept))

    @cached_property
    def seconds(self) -> Floats:
        """(N,) median times; infinite for those that failed."""
        return np.array([np.inf if trial.seconds is None else trial.seconds for trial in self.trials])

    @cached_property
    def noise(self) -> float:
        """How much two timings of one schedule usually differ, as a share."""
        return noise([trial.times for trial in self.trials])

    @cached_property
    def speeds(self) -> Floats:
        """(N,) GFLOP/s; 0 for those that failed."""
        return 1e-9 * self.workload.flops / self.seconds

    @cached_property
    def costs(self) -> Floats:
        """(N,) seconds that compiling, verifying and timing took when they were recorded."""
        return np.array([(trial.compile_seconds or 0.0) + (trial.run_seconds or 0.0) for trial in self.trials])

    def places(self, indices: Indices | Sequence[int]) -> npt.NDArray[np.int64]:
        """Positions in the pool of configurations that are in it."""
        return np.asarray(np.searchsorted(self.indices, indices), dtype=np.int64)

    def candidates(self) -> "Recorded":
        """What a tuner may choose from."""
        return Recorded(self)


def noise(times: Sequence[Sequence[float]]) -> float:
    """How much two of the times of one schedule usually differ, as a share: the median over pairs of its repeats.

    Of the schedules within 10 % of the fastest, which are those that are compared. 0 without repeats.
    """
    medians = [float(np.median(each)) if each else np.inf for each in times]
    top = [each for each, middle in zip(times, medians, strict=True) if middle <= 1.1 * min(medians)]
    pairs = [abs(log(one / other)) for each in top for one, other in combinations(each, 2)]
    return float(np.median(pairs)) if pairs else 0.0


def pools(trials: Iterable[Trial]) -> dict[tuple[str, str], Pool]:
    """The pools of all workloads and targets, by the workload's label and the target's name.

    Those without a timed trial, and those that no template of this program covers, are left out. Of two machines with
    the same name the one with more trials is taken.
    """
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.workload.fingerprint, trial.target.fingerprint), []).append(trial)
    result: dict[tuple[str, str], Pool] = {}
    for members in sorted(groups.values(), key=len):
        try:
            pool = Pool.of(members)
        except ScheduleError:
            continue
        if np.isfinite(pool.seconds).any():
            result[pool.workload.label, pool.target.name] = pool
    return result


class Recorded(Candidates):
    """The configurations of a pool. What a tuner makes up is replaced by the recorded one most like it."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.space, lambda columns: np.zeros(len(next(iter(columns.values()))), dtype=np.bool_))
        self._recorded = pool.indices
        digits = pool.space.digits(pool.indices)
        self._digits = digits / np.maximum(pool.space.radices - 1, 1)

    @cached_property
    def listed(self) -> Indices:
        return self._recorded

    @property
    def quickly_listed(self) -> bool:
        return True

    def legal(self, indices: Indices) -> npt.NDArray[np.bool_]:
        return np.isin(indices, self._recorded)

    def admit(self, indices: Indices) -> Indices:
        """For each configuration the one most like it of those that were not proposed yet, each once.

        A pool has a thousand of a space's hundred thousand configurations, so hardly a child of a genetic tuner is
        among them. The distance adds up, over the knobs, how far apart the positions of two values are.
        """
        left = np.flatnonzero(self.remaining(self._recorded))
        chosen: list[int] = []
        for index in indices.tolist():
            if not len(left):
                break
            wanted = self.space.digits(np.array([index]))[0] / np.maximum(self.space.radices - 1, 1)
            nearest = int(np.argmin(np.abs(self._digits[left] - wanted).sum(axis=1)))
            chosen.append(int(self._recorded[left[nearest]]))
            left = np.delete(left, nearest)
        return np.array(chosen, dtype=np.int64)
