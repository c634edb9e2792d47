"""What other tools' records teach: those whose template is known, as examples that a model learns from like any trial.

A log says little of its machine. What is not said is taken to be as in most: so features of one machine are right up to
a constant, and times are compared within a machine only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection, func, or_, select

from tunedb.foreign import ForeignTarget, ForeignTrial
from tunedb.foreign_records import read_foreign, select_foreign
from tunedb.tables import SCHEDULE, TARGET, TEMPLATE, TRIAL
from tuner.errors import ScheduleError
from tuner.foreign_templates import TEMPLATES, Knobs, is_foreign, knobs_of, wrong
from tuner.target import Target
from tuner.workload import Workload

# Names of processors, as LLVM has them, by their vectors; any other has SSE2, or what the target's -mattr adds.
_CPUS = {
    "avx512": r"skylake-avx512|cascadelake|cooperlake|icelake.*|tigerlake|sapphirerapids|x86-64-v4|znver4",
    "avx2": r"core-avx2|haswell|broadwell|skylake|alderlake|x86-64-v3|znver[123]",
    "avx": r"core-avx-i|corei7-avx|sandybridge|ivybridge|btver2|bdver.",
}
_VECTORS = {"avx512": (("avx2", "avx512f"), 512, 32), "avx2": (("avx2",), 256, 16), "avx": (("avx",), 256, 16)}
_SSE2 = (("sse2",), 128, 16)
_SIZES = {"cores": 8, "threads": 8, "l1": 32, "l2": 512, "l3": 8192}  # caches in KiB


@dataclass(frozen=True)
class Lesson:
    """A foreign record as a model sees it (tuner.features.stored.Example)."""

    workload: Workload
    target: Target
    template: str
    schedule: Knobs
    seconds: float | None


class LessonRow(NamedTuple):
    """A trial that a model may learn from, before it is read. A tuple, for there may be hundreds of thousands."""

    fingerprint: str
    layer: Connection
    id: int  # in its layer
    group: tuple[str, str]  # workload and target: times are compared within it
    template_id: int
    seconds: float | None
    created: datetime | None
    imported: bool


def imported_rows(connection: Connection, until: datetime | None, workloads: Mapping[int, str]) -> list[LessonRow]:
    """The records whose template is known. Of several of one configuration, the one with the median time stands."""
    described = select(TARGET.c.id, TARGET.c.description).where(
        TARGET.c.id.in_(select(TRIAL.c.target_id).join_from(TRIAL, TEMPLATE).where(TEMPLATE.c.name.in_(TEMPLATES)))
    )
    machine = {row.id: target_of(ForeignTarget.from_json(row.description)) for row in connection.execute(described)}
    columns = (TRIAL.c.id, TRIAL.c.fingerprint, TRIAL.c.workload_id, TRIAL.c.target_id, TRIAL.c.template_id)
    statement = select(*columns, TRIAL.c.schedule_id, TRIAL.c.seconds, TRIAL.c.created).join_from(TRIAL, TEMPLATE)
    statement = statement.where(TEMPLATE.c.name.in_(TEMPLATES), TRIAL.c.retracted.is_(None))
    if until is not None:
        statement = statement.where(or_(TRIAL.c.created.is_(None), TRIAL.c.created <= until))
    same: dict[tuple[str, str, int], list[LessonRow]] = {}
    for row in connection.execute(statement.order_by(TRIAL.c.fingerprint)):
        group = (workloads[row.workload_id], machine[row.target_id].fingerprint)
        made = LessonRow(row.fingerprint, connection, row.id, group, row.template_id, row.seconds, row.created, True)
        same.setdefault((*group, row.schedule_id), []).append(made)
    return [sorted(each, key=_time)[(len(each) - 1) // 2] for each in same.values()]


def _time(row: LessonRow) -> float:
    return float("inf") if row.seconds is None else row.seconds


def imported_number(connection: Connection, until: datetime | None) -> int:
    """How many such records there are, without reading them."""
    statement = select(func.count()).select_from(TRIAL.join(TEMPLATE))
    statement = statement.where(TEMPLATE.c.name.in_(TEMPLATES), TRIAL.c.retracted.is_(None))
    if until is not None:
        statement = statement.where(or_(TRIAL.c.created.is_(None), TRIAL.c.created <= until))
    return connection.scalar(statement) or 0


def unknown(connection: Connection) -> int:
    """How many records of other tools nothing can be learned from, for their template is not known."""
    statement = select(func.count()).select_from(TRIAL.join(SCHEDULE).join(TEMPLATE))
    return connection.scalar(statement.where(SCHEDULE.c.kind != "steps", TEMPLATE.c.name.not_in(TEMPLATES))) or 0


def lessons(connection: Connection, ids: Sequence[int]) -> dict[str, Lesson]:
    """Those of the records ``ids`` that can be lowered, by fingerprint."""
    rows = connection.execute(select_foreign().where(TRIAL.c.id.in_(ids))) if ids else ()
    found = ((row.fingerprint, lesson_of(read_foreign(row))) for row in rows)
    return {name: lesson for name, lesson in found if lesson is not None}


def lesson_of(trial: ForeignTrial) -> Lesson | None:
    """What a record teaches; None when its template or its configuration is not one that can be lowered."""
    if not is_foreign(trial.template) or not isinstance(trial.workload, Workload):
        return None
    try:
        knobs = knobs_of(trial.schedule)
    except ScheduleError:
        return None
    if wrong(trial.template, trial.workload, knobs) is not None:
        return None
    return Lesson(trial.workload, target_of(trial.target), trial.template, knobs, trial.seconds)


@lru_cache(maxsize=1024)
def target_of(foreign: ForeignTarget) -> Target:
    """The machine of a log, as far as it is said: ``-mcpu`` and ``-mattr`` of its target, and labels given at import.

    ``--label`` may say ``cores``, ``threads``, and the caches ``l1``, ``l2`` and ``l3`` in KiB. Other labels, such as
    the network that a layer is from, make no other machine.
    """
    cpu = re.search(r"-mcpu=(\S+)", foreign.target)
    attributes = re.search(r"-mattr=(\S+)", foreign.target)
    name = cpu.group(1) if cpu else "x86-64"
    isa = next((isa for isa, known in _CPUS.items() if re.fullmatch(known, name)), None)
    if attributes:
        isa = next((each for each in _CPUS if f"+{each}" in attributes.group(1)), isa)
    features, bits, registers = _VECTORS[isa] if isa else _SSE2
    labels = dict(foreign.labels)
    size = {key: int(labels[key]) if labels.get(key, "").isdigit() else usual for key, usual in _SIZES.items()}
    return Target(
        kind="cpu",
        triple="x86_64",
        cpu=name,
        features=features,
        model=foreign.machine or foreign.target,
        vector_bits=bits,
        registers=registers,
        l1=size["l1"] << 10,
        l2=size["l2"] << 10,
        l3=size["l3"] << 10,
        cores=size["cores"],
        threads=size["threads"],
    )
