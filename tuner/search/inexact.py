"""Which algorithms are too inexact for a tolerance, as trials show: what fails for one schedule fails for its likes.

How exact a result is depends on the algorithm far more than on its schedule, which only changes the order of sums. So
two results that are clearly too inexact, and none that is right, speak for all schedules of their algorithm.
"""

from collections import Counter
from collections.abc import Collection

from tuner.schedule import Schedule
from tuner.trial import Status, Trial

CLEARLY = 2.0  # times the tolerance: an error that another order of the same sums will hardly bring down to it
ENOUGH = 2  # trials with such errors


class Inexact:
    """What the trials of a session say of the ``algorithms`` that it may choose from."""

    def __init__(self, algorithms: Collection[str]) -> None:
        self.algorithms = algorithms
        self._failures: Counter[str] = Counter()
        self._right: set[str] = set()

    def observe(self, trial: Trial) -> None:
        """Learn from one trial."""
        if trial.status is Status.CORRECT:
            self._right.add(trial.schedule.algorithm)
        elif trial.status is Status.CORRECTNESS and (trial.error or 0.0) > CLEARLY * trial.workload.tolerance:
            self._failures[trial.schedule.algorithm] += 1

    def excludes(self, schedule: Schedule) -> bool:
        """Whether measuring ``schedule`` would be a waste; never when the same could be said of all algorithms."""
        out = {name for name in self.algorithms if self._failures[name] >= ENOUGH and name not in self._right}
        return schedule.algorithm in out and len(out) < len(self.algorithms)
