"""Workloads that are alike, and what was fastest on them: the other half of what is known of a new one.

A copy of the best schedule of a similar workload is often as good as a model's first choice, and its tail is far worse
(docs/transfer-learning.md). So both are asked: a candidate's score is what the model says of it, less how far it is
from the nearest copy, weighed by how often the model is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tuner.space import Columns, Config, Knob
from tuner.target import Target
from tuner.workload import Workload

BLENDED = 3  # copies that draw candidates to them
FAR = 0.1  # of the distance between the workloads that counts as distance between configurations


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


@dataclass(frozen=True)
class Copy:
    """The fastest configuration of a workload, and how unlike the new one that workload is."""

    config: Config
    apart: float


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


def copies(trials: Sequence[Configured], workload: Workload) -> tuple[Copy, ...]:
    """What ``nearest_best`` has found, as copies for ``workload``."""
    return tuple(Copy(trial.config, distance(trial.workload, workload)) for trial in trials)


def blend(
    scores: npt.NDArray[np.float64], columns: Columns, knobs: Sequence[Knob], known: Sequence[Copy], wrong: float
) -> npt.NDArray[np.float64]:
    """A model's (N,) scores of N candidates, drawn to the copies. ``wrong``: the share of pairs it ranks wrongly.

    The score is log speed, and an octave in one knob costs as much of it as the model is wrong: about 0.05 to 0.15.
    """
    if not known:
        return scores
    far = [unlike(columns, knobs, each.config) + FAR * each.apart for each in known[:BLENDED]]
    return np.asarray(scores - wrong * np.min(far, axis=0))


def unlike(columns: Columns, knobs: Sequence[Knob], wanted: Config) -> npt.NDArray[np.float64]:
    """How far N configurations of a space are from one that may lie outside of it, (N,): octaves, words count one."""
    result = np.zeros(len(next(iter(columns.values()))))
    for knob in knobs:
        value = wanted.get(knob.name)
        if isinstance(value, str) and isinstance(knob.values[0], str):
            result += np.array([float(word != value) for word in knob.values])[columns[knob.name] - knob.first]
        elif isinstance(value, int) and isinstance(knob.values[0], int):
            result += np.abs(np.log2((1 + columns[knob.name]) / (1 + value)))
        elif isinstance(value, tuple) and isinstance(knob.values[0], tuple):
            for item, part in enumerate(value[: len(knob.values[0])]):
                result += np.abs(np.log2((1 + columns[f"{knob.name}.{item}"]) / (1 + part)))
    return result


def distance(first: Workload, second: Workload) -> float:
    """How unlike two workloads of one operator are: octaves between their sizes, and one for each different word."""
    return sum(apart(a, second[name]) for name, a in first.arguments)


def apart(first: Any, second: Any) -> float:
    """How unlike two values are: octaves between sizes, one for different words; of tuples the mean."""
    if isinstance(first, tuple) and isinstance(second, tuple):
        return sum(map(apart, first, second)) / max(len(first), 1)
    if isinstance(first, int) and isinstance(second, int):
        return abs(log2((1 + first) / (1 + second)))
    return float(first != second)
