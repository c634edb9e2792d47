"""The invariant features of many candidates at once, through one lowered nest for all that share their structure.

Of a template's configurations: knobs whose values are strings or flags choose the structure, and their combinations are
the sketches; integer and tuple knobs are numbers in one. So candidates are grouped by sketch, and each group is lowered
once, with its numbers as columns. Of stored schedules, which need no template: the factors of the splits are the
numbers, all else is structure.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import expression_of
from tuner.errors import ScheduleError
from tuner.features.invariant import NAMES, invariant_features
from tuner.lower import lower
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
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if len(members):
            result[members] = _group(template, workload, target, space, columns, members)
    return result


def describes(schedule: Schedule) -> bool:
    """Whether the invariant features say what ``schedule`` does: they know no chains of stages, such as Winograd."""
    return schedule.algorithm == "direct"


def described(space: Space, columns: Columns) -> npt.NDArray[np.bool_]:
    """Which configurations the invariant features describe: those that compute the operator directly, (N,)."""
    rows = len(next(iter(columns.values())))
    for knob in space.knobs:
        if knob.name == "algorithm":
            direct = knob.first + knob.values.index("direct") if "direct" in knob.values else -1
            return np.asarray(columns["algorithm"] == direct)
    return np.ones(rows, dtype=np.bool_)


def is_structural(knob: Knob) -> bool:
    """Whether the knob chooses among loop structures; else it is a number in one."""
    return isinstance(knob, Flag) or isinstance(knob.values[0], str)


def _group(
    template: Template,
    workload: Workload,
    target: Target,
    space: Space,
    columns: Columns,
    members: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    config: dict[str, Any] = {}
    for knob in space.knobs:
        if is_structural(knob):
            number = int(columns[knob.name][members[0]])
            config[knob.name] = knob.values[number - knob.first] if isinstance(knob.values[0], str) else number
        elif isinstance(knob.values[0], tuple):
            config[knob.name] = tuple(columns[f"{knob.name}.{item}"][members] for item in range(len(knob.values[0])))
        else:
            config[knob.name] = columns[knob.name][members]
    expression = expression_of(workload)
    return invariant_features(lower(expression, template.schedule(workload, target, config)), expression, target)


def schedule_features(workload: Workload, target: Target, schedules: Sequence[Schedule]) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) of N schedules of one workload, wherever they come from; NaN for those that cannot be lowered.

    Schedules that differ in nothing but the factors of their splits are lowered together, with the factors as columns.
    """
    result = np.full((len(schedules), len(NAMES)), np.nan, dtype=np.float32)
    groups: dict[str, list[int]] = {}
    for number, schedule in enumerate(schedules):
        if describes(schedule) and all(
            factor >= 1 for step in schedule.steps if isinstance(step, Split) for factor in step.factors
        ):
            groups.setdefault(_skeleton(schedule), []).append(number)
    expression = expression_of(workload)
    for members in groups.values():
        for part in (members, *([member] for member in members)):
            try:
                nest = lower(expression, _stacked([schedules[member] for member in part]))
            except ScheduleError:
                continue  # if one of many cannot be lowered, each is tried alone
            result[part] = invariant_features(nest, expression, target)
            if part is members:
                break
    return result


def _skeleton(schedule: Schedule) -> str:
    return str(
        [replace(step, factors=(len(step.factors),)) if isinstance(step, Split) else step for step in schedule.steps]
    )


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
