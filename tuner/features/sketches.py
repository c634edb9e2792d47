"""The features of many candidates at once, through one lowered nest for all that share their structure.

Of a template's configurations: knobs whose values are strings or flags choose the structure, integers and tuples are
numbers in one. Where a knob has no meaning, its values make the same structure, or the same schedule. So candidates are
grouped by structure, and each group is lowered once, with the numbers of its distinct schedules as columns. Of stored
schedules, which need no template: the factors of the splits are the numbers, all else is structure.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
BLOCK = 2 * CHUNK  # features of about so many are handed out together: memory for those of all would be slow to get


def distinct_features(
    template: Template,
    workload: Workload,
    target: Target,
    space: Space,
    columns: Columns,
    of_nest: OfNest = invariant_features,
) -> tuple[Iterator[Rows], Places]:
    """The features of the M schedules that N legal configurations make, and which of them each one is, (N,).

    ``columns`` are those of the configurations in ``space``. The M rows come in blocks, one after the other; the
    invariant ones are (BLOCK or a few more, len(NAMES)).
    """
    skeletons: dict[Hashable, list[tuple[Places, Schedule]]] = {}
    for members in _alike(template, workload, target, space, columns):
        schedule = template.schedule(workload, target, _config(space, columns, members))
        skeletons.setdefault(_skeleton(schedule), []).append((members, schedule))
    places, known = np.empty(len(next(iter(columns.values()))), dtype=np.int64), 0
    sketches: list[tuple[Schedule, int]] = []
    for some in skeletons.values():
        members = np.concatenate([numbers for numbers, _ in some])
        joined = _joined([schedule for _, schedule in some], [len(numbers) for numbers, _ in some])
        schedule, each, count = _distinct(joined, len(members))
        places[members] = known + each
        sketches.append((schedule, count))
        known += count
    parts = (part for schedule, count in sketches for part in _features(workload, target, schedule, count, of_nest))
    return _blocks(parts), places


class _Noted(Mapping[str, Any]):
    """A configuration that notes which of its knobs were read."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.config[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.config)

    def __len__(self) -> int:
        return len(self.config)


def _alike(template: Template, workload: Workload, target: Target, space: Space, columns: Columns) -> list[Places]:
    """Which of N configurations agree in those structural knobs that their template reads.

    A structure depends on no others: so it need not be made for each value of a knob that has no meaning in it.
    """
    code = structures_of(space, columns)
    order = np.argsort(code, kind="stable")
    structural = [knob.name for knob in space.knobs if is_structural(knob)]
    # By the names of the knobs that are read, and by their values.
    found: dict[tuple[str, ...], dict[tuple[int, ...], list[Places]]] = {}
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(code) else []:
        values = {name: int(columns[name][members[0]]) for name in structural}
        for names, groups in found.items():
            if group := groups.get(tuple(values[name] for name in names)):
                group.append(members)
                break
        else:
            config = _Noted(_config(space, columns, members[:1]))
            template.schedule(workload, target, config)
            names = tuple(name for name in structural if name in config.read)
            found.setdefault(names, {})[tuple(values[name] for name in names)] = [members]
    return [np.concatenate(group) for groups in found.values() for group in groups.values()]


def _blocks(parts: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in larger parts."""
    some: list[Rows] = []
    for part in parts:
        some.append(part)
        if sum(map(len, some)) >= BLOCK:
            yield concatenated(some)
            some = []
    if some:
        yield concatenated(some)


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


def assembled(rows: int, parts: Sequence[tuple[Places, Rows]]) -> Rows:
    """One matrix from the features of parts of its rows. Shorter ones end with zeros; rows of no part are NaN."""
    block = concatenated([part for _, part in parts])
    result = np.full((rows, *block.shape[1:]), np.nan, dtype=np.float32)
    if parts:
        result[np.concatenate([members for members, _ in parts])] = block
    return result


def concatenated(parts: Sequence[Rows]) -> Rows:
    """The rows of one part after those of the other. Shorter ones end with zeros."""
    if len(parts) < 2:
        return parts[0] if parts else np.empty((0, 1), dtype=np.float32)
    shape = np.max([part.shape[1:] for part in parts], axis=0).tolist()
    return np.concatenate([padded(part, shape) for part in parts])


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


def _features(workload: Workload, target: Target, schedule: Schedule, count: int, of_nest: OfNest) -> Iterator[Rows]:
    """Those of the ``count`` candidates that a schedule stands for, in parts.

    Raises ScheduleError when it is not legal.
    """
    expression, known = expression_by(workload, schedule), algorithms_of(workload)
    number = -(-count // CHUNK)
    for part in range(number):
        rows = slice(count * part // number, count * (part + 1) // number)
        block = of_nest(nest_of(workload, _cut(schedule, rows)), expression, target, known)
        yield np.broadcast_to(block, (rows.stop - rows.start, *block.shape[1:]))


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
                schedule = _joined([schedules[member] for member in part], [1] * len(part))
                features = list(_features(workload, target, schedule, len(part), of_nest))
            except ScheduleError:
                continue  # if one of many cannot be lowered, each is tried alone
            parts.append((np.array(part), concatenated(features)))
            if part is members:
                break
    return assembled(len(schedules), parts)


def _skeleton(schedule: Schedule) -> Hashable:
    """All of a schedule but the factors of its splits."""
    return tuple(
        (step.stage, step.axis, step.tail, len(step.factors)) if isinstance(step, Split) else step
        for step in schedule.steps
    )


def _joined(schedules: Sequence[Schedule], counts: Sequence[int]) -> Schedule:
    """Schedules of one skeleton, each of so many candidates, as one for all of them."""
    steps: list[Step] = []
    for alike in zip(*(schedule.steps for schedule in schedules), strict=True):
        first = alike[0]
        if isinstance(first, Split):
            factors = zip(*(step.factors for step in alike if isinstance(step, Split)), strict=True)
            steps.append(replace(first, factors=tuple(_column(values, counts) for values in factors)))
        else:
            steps.append(first)
    return Schedule(tuple(steps))


def _column(values: Sequence[Extent], counts: Sequence[int]) -> Extent:
    """One after the other, each as often as it counts; what is the same for all candidates is no column.

    For the two turns of a dot product have to be known as such.
    """
    if any(isinstance(value, np.ndarray) for value in values):
        parts = [np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)]
        column = np.concatenate(parts) if len(parts) > 1 else parts[0]
    else:
        column = np.repeat(np.array(values, dtype=np.int64), counts)
    return column if (column != column[0]).any() else int(column[0])
