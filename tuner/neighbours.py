"""Workloads that are alike, and what was fastest on them: the other half of what is known of a new one.

A copy of the best schedule of a similar workload is often as good as a model's first choice, and its tail is far worse
(docs/transfer-learning.md). So both are asked: the model leads, and a copy is among the first candidates.
"""

from collections.abc import Sequence
from math import log2
from typing import Any, Protocol, TypeVar

from tuner.space import Config
from tuner.target import Target
from tuner.workload import Workload


class Configured(Protocol):
    """A measured configuration of a template: a trial, or a record of another tool."""

    @property
    def workload(self) -> Workload: ...

    @property
    def target(self) -> Target: ...

    @property
    def template(self) -> str: ...

    @property
    def config(self) -> Config: ...

    @property
    def seconds(self) -> float | None: ...


_Found = TypeVar("_Found", bound=Configured)


def nearest_best(
    trials: Sequence[_Found], template: str, workload: Workload, target: Target, most: int
) -> list[_Found]:
    """The fastest trial of each of the workloads most like this one that the same template tuned, the nearest first."""
    best: dict[tuple[str, str], _Found] = {}
    for trial in trials:
        if trial.template == template and trial.workload.operator == workload.operator and trial.seconds:
            group = (trial.workload.problem.fingerprint, trial.target.fingerprint)
            if group not in best or trial.seconds < (best[group].seconds or 0.0):
                best[group] = trial
    ranked = sorted(
        best.values(),
        key=lambda trial: (distance(trial.workload, workload), trial.target != target, trial.workload.key),
    )
    return ranked[:most]


def distance(first: Workload, second: Workload) -> float:
    """How unlike two workloads of one operator are: octaves between their sizes, and one for each different word.

    Of sizes in each direction, such as strides, the mean counts.
    """
    return sum(apart(a, second[name]) / (len(a) if isinstance(a, tuple) else 1) for name, a in first.arguments)


def apart(first: Any, second: Any) -> float:
    """How unlike two values are: octaves between numbers, of tuples the sum of them; one for different words."""
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return sum(map(apart, first, second))
    if isinstance(first, int) and isinstance(second, int):
        return abs(log2((1 + first) / (1 + second)))
    return float(first != second)
