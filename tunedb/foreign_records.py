"""Records of other tools into the tables, many at once, and out again.

A record is recognised by its content: what its origin, its schedule and its own values are. So the same line of two
overlapping files is stored once, and the order of files does not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, Select, Text, select
from sqlalchemy import cast as sql_cast

from tunedb import dialect
from tunedb.foreign import ForeignRecord, ForeignTarget, ForeignTrial, ForeignWorkload, Origin, digest
from tunedb.records import (
    ENVIRONMENT,
    SCHEDULE,
    SESSION,
    TARGET,
    TEMPLATE,
    TRIAL,
    WORKLOAD,
    Writer,
    flatten,
    read_environment,
    read_workload,
)
from tuner.trial import Environment, Status
from tuner.workload import Workload

_REMEMBERED = 200_000  # schedules whose ids are known
_IDS = ("workload_id", "target_id", "environment_id", "template_id", "session_id")
_VALUES = ("status", "verified", "seconds", "spread", "repeats", "times", "message", "compile_seconds", "run_seconds")
_COLUMNS = (*_IDS, "schedule_id", "fingerprint", *_VALUES, "created", "details")


class ForeignBatch(NamedTuple):
    """Records for which all is done that needs no database. All of it is JSON, to go from one process to another."""

    origins: Mapping[str, Any]  # by fingerprint, as ``Origin.to_json`` gives them
    schedules: Mapping[str, Sequence[str]]  # by fingerprint: format and steps
    rows: Sequence[tuple[str, str, Sequence[Any]]]  # fingerprints of origin and schedule; the other ``_COLUMNS``


def prepare(records: Sequence[ForeignRecord]) -> ForeignBatch:
    """The batch of these records."""
    return ForeignBatch(
        {each.fingerprint: each.to_json() for each in {id(each.origin): each.origin for each in records}.values()},
        {each.schedule_fingerprint: (each.origin.format, each.schedule) for each in records},
        [_row(each) for each in records],
    )


class ForeignWriter:
    """Adds records, a batch a write unit. One serves a whole import: what a unit has stored, the next need not ask for.

    A unit that was rolled back leaves it out of step with the database: take a new one.
    """

    def __init__(self) -> None:
        self._origins: dict[str, tuple[int, ...]] = {}
        self._schedules: dict[str, int] = {}

    def add(self, connection: Connection, batch: ForeignBatch) -> int:
        """Store those records of ``batch`` that are not there yet; their number."""
        if len(self._schedules) > _REMEMBERED:
            self._schedules.clear()
        unknown = [identity for identity in batch.schedules if identity not in self._schedules]
        if unknown:
            fresh = [(identity, *batch.schedules[identity]) for identity in unknown]
            dialect.insert_many(connection, SCHEDULE, ("fingerprint", "kind", "steps"), fresh)
            self._schedules.update(dialect.ids_of(connection, SCHEDULE, unknown))
        for identity, origin in batch.origins.items():
            if identity not in self._origins:
                self._origins[identity] = _store_origin(connection, read_origin(origin))
        origins, schedules = self._origins, self._schedules
        rows = [(*origins[origin], schedules[schedule], *values) for origin, schedule, values in batch.rows]
        return dialect.insert_many(connection, TRIAL, _COLUMNS, rows)


def select_foreign() -> Select[Any]:
    """A SELECT of all that ``read_foreign`` needs."""
    return (
        select(
            TRIAL.c.fingerprint,
            WORKLOAD.c.operator,
            WORKLOAD.c.key.label("workload"),
            TARGET.c.description.label("target"),
            sql_cast(ENVIRONMENT.c.facts, Text).label("environment"),
            (TEMPLATE.c.name + "/" + TEMPLATE.c.version).label("template"),
            SCHEDULE.c.steps,
            SESSION.c.arguments,
            *(TRIAL.c[name] for name in _COPIED),
            TRIAL.c.status,
            TRIAL.c.times,
            TRIAL.c.details,
        )
        .select_from(
            TRIAL.join(WORKLOAD)
            .join(TARGET)
            .join(ENVIRONMENT)
            .join(TEMPLATE)
            .join(SCHEDULE)
            # SQLAlchemy would also find the way over the session that a schedule has not got
            .join(SESSION, TRIAL.c.session_id == SESSION.c.id)
        )
        .where(SCHEDULE.c.kind != "steps")
    )


def read_foreign(row: Row[Any]) -> ForeignTrial:
    """The trial of a row of ``select_foreign``."""
    return ForeignTrial(
        fingerprint=row.fingerprint,
        workload=any_workload(row.operator, row.workload),
        target=ForeignTarget.from_json(row.target),
        environment=read_environment(row.environment),
        template=row.template,
        schedule=row.steps,
        status=Status(row.status),
        times=flatten(row.times),
        details=row.details or {},
        arguments=row.arguments,
        **{name: getattr(row, name) for name in _COPIED},
    )


def read_origin(data: Mapping[str, Any]) -> Origin:
    """The inverse of ``Origin.to_json``."""
    return Origin(
        data["format"],
        any_workload(data["operator"], data["workload"]),
        ForeignTarget.from_json(data["target"]),
        Environment(tuple(sorted(data["environment"].items()))),
        data["template"],
        data["arguments"],
    )


def any_workload(operator: str, key: str) -> Workload | ForeignWorkload:
    """The workload of a stored key; only a foreign one begins with the name of a format."""
    return ForeignWorkload(operator, key) if ":" in key.partition("(")[0] else read_workload(key)


def read_all(connection: Connection, statement: Select[Any]) -> Iterator[ForeignTrial]:
    """The trials of a SELECT, in bounded memory."""
    with connection.execute(statement.execution_options(yield_per=1000)) as rows:
        yield from map(read_foreign, rows)


_COPIED = ("seconds", "message", "compile_seconds", "run_seconds", "created", "retracted")


def _row(record: ForeignRecord) -> tuple[str, str, Sequence[Any]]:
    """A row of a ForeignBatch."""
    times = record.times
    origin, schedule = record.origin.fingerprint, record.schedule_fingerprint
    seconds = _median(times) if times else None
    values = (
        digest(f"{origin}{schedule}".encode() + record.content),
        record.status.value,
        False,
        seconds,
        None if seconds is None else _median([abs(time - seconds) for time in times]),
        len(times),
        orjson.dumps([times]).decode() if times else "[]",
        record.message,
        record.compile_seconds,
        record.run_seconds,
        None if record.created is None else dialect.stored_date(record.created),
        None if record.details is None else orjson.dumps(record.details).decode(),
    )
    return origin, schedule, values


def _store_origin(connection: Connection, origin: Origin) -> tuple[int, ...]:
    """The ids of ``_IDS``."""
    writer, target = Writer(connection), origin.target
    return (
        writer.workload(origin.workload),
        writer.id_of(
            TARGET,
            target.fingerprint,
            lambda: {"machine": target.fingerprint, "name": target.name, "description": target.to_json()},
        ),
        writer.environment(origin.environment),
        writer.template(origin.template),
        writer.id_of(
            SESSION,
            origin.fingerprint,
            lambda: {
                "key": origin.fingerprint,
                "origin": origin.format,
                "arguments": dict(origin.arguments),
                "state": "imported",
            },
        ),
    )


def _median(times: Sequence[float]) -> float:
    """As statistics.median, in a fifth of the time, which an import spends twice a record."""
    if len(times) == 1:
        return times[0]
    ordered = sorted(times)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
