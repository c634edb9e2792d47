"""The features of many candidates at once, through one lowered nest for all that share their structure.

Of a template's configurations: knobs whose values are strings or flags choose the structure, integers and tuples are
numbers in one. Where a knob has no meaning, its values make the same structure, or the same schedule. So candidates are
grouped by structure, and each group is lowered once, with the numbers of its distinct schedules as columns. Of stored
schedules, which need no template: the factors of the splits are the numbers, all else is structure.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.build import algorithms_of, expression_by, nest_of
from tuner.errors import ScheduleError
from tuner.expression import Expression
from tuner.features.invariant import invariant_features
from tuner.loopnest import Nest
from tuner.schedule import Extent, Schedule, Split, Step
from tuner.space import Columns, Flag, Knob, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.workload import Workload

Rows: TypeAlias = npt.NDArray[np.float32]  # (N, F); (N, nodes, F) for trees
Places: TypeAlias = npt.NDArray[np.int64]
# Of the N candidates that a nest stands for; the expressions at the end are those of all algorithms.
OfNest: TypeAlias = Callable[[Nest, Expression, Target, Sequence[Expression]], Rows]

CHUNK = 8192  # at most so many candidates are lowered together: what is known of their loops stays in a cache


def distinct_features(
    template: Template,
    workload: Workload,
    target: Target,
    space: Space,
    columns: Columns,
    of_nest: OfNest = invariant_features,
) -> tuple[Rows, Places]:
    """The features of the M schedules that N legal configurations make, (M, F), and which of them each one is, (N,).

    ``columns`` are those of the configurations in ``space``; the invariant features are (M, len(NAMES)).
    """
    code = structures_of(space, columns)
    order = np.argsort(code, kind="stable")
    alike: dict[Hashable, list[tuple[Places, Schedule]]] = {}
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if len(members):
            schedule = template.schedule(workload, target, _config(space, columns, members))
            alike.setdefault(_skeleton(schedule), []).append((members, schedule))
    places, known = np.empty(len(code), dtype=np.int64), 0
    parts: list[tuple[Places, Rows]] = []
    for some in alike.values():
        members = np.concatenate([numbers for numbers, _ in some])
        schedule, each, count = _distinct(_joined(some), len(members))
        places[members] = known + each
        parts.append((np.arange(known, known + count), _features(workload, target, schedule, count, of_nest)))
        known += count
    return assembled(known, parts), places


def structures_of(space: Space, columns: Columns) -> Places:
    """Which combination of structural values each of N configurations has, as a number, (N,)."""
    code = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
    for knob in space.knobs:
        if is_structural(knob):
            code = code * len(knob.values) + columns[knob.name]
    return code


def _distinct(schedule: Schedule, count: int) -> tuple[Schedule, Places, int]:
    """The distinct ones of the ``count`` candidates that a schedule stands for, which of them each is, and how many."""
    code, size = np.zeros(count, dtype=np.int64), 1
    for factor in (factor for step in schedule.steps if isinstance(step, Split) for factor in step.factors):
        if isinstance(factor, np.ndarray) and len(factor) > 1:
            values = int(factor.max()) + 1
            if size * values >= 2**63:
                known, code = np.unique(code, return_inverse=True)
                size = len(known)
            code, size = code * values + factor, size * values
    _, first, each = np.unique(code, return_index=True, return_inverse=True)
    return _cut(schedule, first), each, len(first)


def _cut(schedule: Schedule, rows: Places | slice) -> Schedule:
    """The part of a schedule that stands for some of its candidates."""
    return Schedule(
        tuple(
            replace(step, factors=tuple(_at(factor, rows) for factor in step.factors))
            if isinstance(step, Split)
            else step
            for step in schedule.steps
        )
    )


def _at(factor: Extent, rows: Places | slice) -> Extent:
    """The entries of a column; what is no column is the same for all."""
    return factor[rows] if isinstance(factor, np.ndarray) and len(factor) > 1 else factor


def assembled(rows: int, parts: Iterable[tuple[Places, Rows]]) -> Rows:
    """One matrix from the features of parts of its rows. Shorter ones end with zeros; rows of no part are NaN."""
    known = list(parts)
    if not known:
        return np.full((rows, 1), np.nan, dtype=np.float32)
    shape = np.max([block.shape[1:] for _, block in known], axis=0).tolist()
    result = np.full((rows, *shape), np.nan, dtype=np.float32)
    for members, block in known:
        result[members] = padded(block, shape)
    return result


def padded(block: Rows, shape: Sequence[int]) -> Rows:
    """(N, ...) features as (N, *shape): cut where they are longer, zeros at the end where they are shorter."""
    if block.shape[1:] == tuple(shape):
        return block
    result = np.zeros((len(block), *shape), dtype=np.float32)
    common = tuple(slice(min(size, own)) for size, own in zip(shape, block.shape[1:], strict=True))
    result[:, *common] = block[:, *common]
    return result


def is_structural(knob: Knob) -> bool:
    """Whether the knob chooses among loop structures; else it is a number in one."""
    return isinstance(knob, Flag) or isinstance(knob.values[0], str)


def _config(space: Space, columns: Columns, members: Places) -> dict[str, Any]:
    """The configurations ``members``, which agree in what is structural, as one with columns."""
    config: dict[str, Any] = {}
    for knob in space.knobs:
        if is_structural(knob):
            number = int(columns[knob.name][members[0]])
            config[knob.name] = knob.values[number - knob.first] if isinstance(knob.values[0], str) else number
        elif isinstance(knob.values[0], tuple):
            config[knob.name] = tuple(columns[f"{knob.name}.{item}"][members] for item in range(len(knob.values[0])))
        else:
            config[knob.name] = columns[knob.name][members]
    return config


def _features(workload: Workload, target: Target, schedule: Schedule, count: int, of_nest: OfNest) -> Rows:
    """Those of the ``count`` candidates that a schedule stands for. Raises ScheduleError when it is not legal."""
    expression, known = expression_by(workload, schedule), algorithms_of(workload)
    number = -(-count // CHUNK)
    parts = [slice(count * part // number, count * (part + 1) // number) for part in range(number)]
    found = [of_nest(nest_of(workload, _cut(schedule, part)), expression, target, known) for part in parts]
    sizes = [part.stop - part.start for part in parts]
    blocks = [np.broadcast_to(block, (size, *block.shape[1:])) for block, size in zip(found, sizes, strict=True)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def schedule_features(
    workload: Workload, target: Target, schedules: Sequence[Schedule], of_nest: OfNest = invariant_features
) -> Rows:
    """The features of N schedules of one workload, wherever they come from; NaN for those that cannot be lowered.

    Schedules that differ in nothing but the factors of their splits are lowered together, with the factors as columns.
    """
    parts: list[tuple[Places, Rows]] = []
    groups: dict[Hashable, list[int]] = {}
    for number, schedule in enumerate(schedules):
        if all(factor >= 1 for step in schedule.steps if isinstance(step, Split) for factor in step.factors):
            groups.setdefault(_skeleton(schedule), []).append(number)
    for members in groups.values():
        for part in (members, *([member] for member in members)):
            try:
                stacked = _stacked([schedules[member] for member in part])
                parts.append((np.array(part), _features(workload, target, stacked, len(part), of_nest)))
            except ScheduleError:
                continue  # if one of many cannot be lowered, each is tried alone
            if part is members:
                break
    return assembled(len(schedules), parts)


def _skeleton(schedule: Schedule) -> Hashable:
    """All of a schedule but the factors of its splits."""
    return tuple(
        (step.stage, step.axis, step.tail, len(step.factors)) if isinstance(step, Split) else step
        for step in schedule.steps
    )


def _joined(parts: Sequence[tuple[Places, Schedule]]) -> Schedule:
    """Schedules of one skeleton, each of as many candidates as it has members, as one for all of them."""
    if len(parts) == 1:
        return parts[0][1]
    steps: list[Step] = []
    for alike in zip(*(schedule.steps for _, schedule in parts), strict=True):
        if isinstance(alike[0], Split):
            factors = [step.factors for step in alike if isinstance(step, Split)]
            columns = [
                _column(
                    np.concatenate(
                        [
                            np.broadcast_to(each[place], len(members))
                            for each, (members, _) in zip(factors, parts, strict=True)
                        ]
                    )
                )
                for place in range(len(factors[0]))
            ]
            steps.append(replace(alike[0], factors=tuple(columns)))
        else:
            steps.append(alike[0])
    return Schedule(tuple(steps))


def _column(factors: Places) -> Extent:
    """What is the same for all candidates is no column: the two turns of a dot product have to be known as such."""
    return factors if (factors != factors[0]).any() else int(factors[0])


def _stacked(schedules: Sequence[Schedule]) -> Schedule:
    """Schedules of one skeleton as one whose factors are columns."""
    steps: list[Step] = []
    for alike in zip(*(schedule.steps for schedule in schedules), strict=True):
        first = alike[0]
        if isinstance(first, Split):
            table = np.array([step.factors for step in alike if isinstance(step, Split)], dtype=np.int64)
            steps.append(replace(first, factors=tuple(map(_column, table.T))))
        else:
            steps.append(first)
    return Schedule(tuple(steps))
