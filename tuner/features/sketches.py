"""The invariant features of many candidates at once, through one lowered nest for all that share their structure.

Of a template's configurations: knobs whose values are strings or flags choose the structure, integers and tuples are
numbers in one. Where a knob has no meaning, its values make the same structure. So candidates are grouped by structure,
and each group is lowered once, with its numbers as columns. Of stored schedules, which need no template: the factors of
the splits are the numbers, all else is structure.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import algorithms_of, expression_by, nest_of
from tuner.errors import ScheduleError
from tuner.features.invariant import NAMES, invariant_features
from tuner.schedule import Schedule, Split, Step
from tuner.space import Columns, Flag, Knob, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.workload import Workload


def sketch_features(
    template: Template, workload: Workload, target: Target, space: Space, columns: Columns
) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) of N legal configurations, given as the columns of ``space``."""
    rows = len(next(iter(columns.values())))
    result = np.empty((rows, len(NAMES)), dtype=np.float32)
    structural = [knob for knob in space.knobs if is_structural(knob)]
    code = np.zeros(rows, dtype=np.int64)
    for knob in structural:
        code = code * len(knob.values) + columns[knob.name]
    order = np.argsort(code, kind="stable")
    alike: dict[str, list[tuple[npt.NDArray[np.int64], Schedule]]] = {}
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if len(members):
            schedule = template.schedule(workload, target, _config(space, columns, members))
            alike.setdefault(_skeleton(schedule), []).append((members, schedule))
    for parts in alike.values():
        everybody = np.concatenate([members for members, _ in parts])
        result[everybody] = _lowered(workload, target, _joined(parts))
    return result


def is_structural(knob: Knob) -> bool:
    """Whether the knob chooses among loop structures; else it is a number in one."""
    return isinstance(knob, Flag) or isinstance(knob.values[0], str)


def _config(space: Space, columns: Columns, members: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The configurations ``members``, which agree in what is structural, as one with columns."""
    config: dict[str, Any] = {}
    for knob in space.knobs:
        if is_structural(knob):
            config[knob.name] = knob.values[int(columns[knob.name][members[0]])]
        elif isinstance(knob.values[0], tuple):
            config[knob.name] = tuple(columns[f"{knob.name}.{item}"][members] for item in range(len(knob.values[0])))
        else:
            config[knob.name] = columns[knob.name][members]
    return config


def _lowered(workload: Workload, target: Target, schedule: Schedule) -> npt.NDArray[np.float32]:
    """The features of a schedule whose factors may be columns. Raises ScheduleError when it is not legal."""
    nest, expression = nest_of(workload, schedule), expression_by(workload, schedule)
    return invariant_features(nest, expression, target, algorithms_of(workload))


def schedule_features(workload: Workload, target: Target, schedules: Sequence[Schedule]) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) of N schedules of one workload, wherever they come from; NaN for those that cannot be lowered.

    Schedules that differ in nothing but the factors of their splits are lowered together, with the factors as columns.
    """
    result = np.full((len(schedules), len(NAMES)), np.nan, dtype=np.float32)
    groups: dict[str, list[int]] = {}
    for number, schedule in enumerate(schedules):
        if all(factor >= 1 for step in schedule.steps if isinstance(step, Split) for factor in step.factors):
            groups.setdefault(_skeleton(schedule), []).append(number)
    for members in groups.values():
        for part in (members, *([member] for member in members)):
            try:
                result[part] = _lowered(workload, target, _stacked([schedules[member] for member in part]))
            except ScheduleError:
                continue  # if one of many cannot be lowered, each is tried alone
            if part is members:
                break
    return result


def _skeleton(schedule: Schedule) -> str:
    return str(
        [replace(step, factors=(len(step.factors),)) if isinstance(step, Split) else step for step in schedule.steps]
    )


def _joined(parts: Sequence[tuple[npt.NDArray[np.int64], Schedule]]) -> Schedule:
    """Schedules of one skeleton, each of as many candidates as it has members, as one for all of them."""
    if len(parts) == 1:
        return parts[0][1]
    steps: list[Step] = []
    for alike in zip(*(schedule.steps for _, schedule in parts), strict=True):
        if isinstance(alike[0], Split):
            factors = [step.factors for step in alike if isinstance(step, Split)]
            columns = [
                np.concatenate(
                    [
                        np.broadcast_to(each[place], len(members))
                        for each, (members, _) in zip(factors, parts, strict=True)
                    ]
                )
                for place in range(len(factors[0]))
            ]
            steps.append(replace(alike[0], factors=tuple(columns)))
        else:
            steps.append(alike[0])
    return Schedule(tuple(steps))


def _stacked(schedules: Sequence[Schedule]) -> Schedule:
    """Schedules of one skeleton as one whose factors are columns."""
    steps: list[Step] = []
    for alike in zip(*(schedule.steps for schedule in schedules), strict=True):
        first = alike[0]
        if isinstance(first, Split):
            table = np.array([step.factors for step in alike if isinstance(step, Split)], dtype=np.int64)
            steps.append(replace(first, factors=tuple(table.T)))
        else:
            steps.append(first)
    return Schedule(tuple(steps))
