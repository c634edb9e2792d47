"""One run of one arm: what it chose, trial by trial, what these trials took, and what choosing them took."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from tuner.experiment.arms import Arm, Setup
from tuner.experiment.pool import Pool
from tuner.experiment.sources import learn
from tuner.search.candidates import Tuner

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """The trials of one run in order: GFLOP/s (0 for a failure), and the seconds that a trial and its choice took.

    Those of choosing are processor time, so that other programs do not count. ``training`` are the seconds that a model
    of other workloads took, which a database keeps for all that come after; ``start`` those from there to the first
    choice.
    """

    speeds: tuple[float, ...]
    costs: tuple[float, ...]
    choosing: tuple[float, ...]
    start: float
    training: float

    def best(self) -> Floats:
        """The highest speed so far after each trial."""
        return np.maximum.accumulate(np.array(self.speeds)) if self.speeds else np.empty(0)

    def clock(self) -> Floats:
        """Seconds since the beginning at the end of each trial; training is not among them."""
        return np.asarray(self.start + np.cumsum(self.costs) + np.cumsum(self.choosing))

    def trials_to(self, goal: float) -> int | None:
        """Trials until ``goal`` GFLOP/s; None if it was not reached."""
        reached = np.flatnonzero(self.best() >= goal)
        return int(reached[0]) + 1 if len(reached) else None

    def seconds_to(self, goal: float) -> float | None:
        """Seconds until ``goal`` GFLOP/s; None if it was not reached."""
        reached = self.trials_to(goal)
        return None if reached is None else float(self.clock()[reached - 1])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Run":
        return cls(
            tuple(data["speeds"]), tuple(data["costs"]), tuple(data["choosing"]), data["start"], data["training"]
        )


def replay(arm: Arm, setup: Setup, trials: int) -> Run:
    """Let ``arm`` choose among the recorded configurations until ``trials`` are counted or none is left.

    The tuner is told recorded speeds, and is charged what the measurements took when they were recorded. As in a real
    session no schedule is measured twice: a configuration that makes the same one as another is told at no cost.
    """
    learned = learn(setup.sources, setup.seed, arm.lesson) if arm.lesson else None
    # The runs of an experiment share the machine, and as in a session (tuner.tune) no thread is to wait for matrices.
    with threadpool_limits(1, user_api="blas"):
        began = time.process_time()
        tuner = arm.way.build(setup, arm.options, learned)
        start = time.process_time() - began
        speeds, costs, choosing = _searched(tuner, setup.pool, trials * arm.stretch)
    training = learned.seconds if learned else 0.0
    return _counted(Run(speeds, costs, choosing, start, training), arm.stretch)


def _searched(tuner: Tuner, pool: Pool, trials: int) -> tuple[tuple[float, ...], ...]:
    """Speeds, costs and seconds of choosing of what ``tuner`` proposes."""
    speeds: list[float] = []
    costs: list[float] = []
    choosing: list[float] = []
    known: dict[str, float] = {}
    began = time.process_time()
    while len(speeds) < trials and (proposed := tuner.propose(1)):
        place = int(pool.places(proposed)[0])
        schedule = pool.trials[place].schedule.fingerprint
        fresh = schedule not in known
        tuner.observe(proposed, [known.setdefault(schedule, float(pool.speeds[place]))])
        if fresh:
            choosing.append(time.process_time() - began)
            speeds.append(known[schedule])
            costs.append(float(pool.costs[place]))
            began = time.process_time()
    return tuple(speeds), tuple(costs), tuple(choosing)


def _counted(run: Run, stretch: int) -> Run:
    """``stretch`` measured candidates as one trial: the best of them, at the cost of all of them."""
    if stretch == 1:
        return run
    parts = range(0, len(run.speeds), stretch)
    return Run(
        tuple(max(run.speeds[part : part + stretch]) for part in parts),
        tuple(sum(run.costs[part : part + stretch]) for part in parts),
        tuple(sum(run.choosing[part : part + stretch]) for part in parts),
        run.start,
        run.training,
    )
