"""Records of other tools into the tables, many at once, and out again.

A record is recognised by its content: what its origin, its schedule and its own values are. So the same line of two
overlapping files is stored once, and the order of files does not matter.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

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
from tuner.trial import Status
from tuner.workload import Workload

_REMEMBERED = 200_000  # schedules whose ids are known
_IDS = ("workload_id", "target_id", "environment_id", "template_id", "session_id")
_VALUES = ("status", "verified", "seconds", "spread", "repeats", "times", "message", "compile_seconds", "run_seconds")
_COLUMNS = ("fingerprint", *_IDS, "schedule_id", *_VALUES, "created", "details")


class ForeignWriter:
    """Adds records, a batch a write unit. One serves a whole import: what a unit has stored, the next need not ask for.

    A unit that was rolled back leaves it out of step with the database: take a new one.
    """

    def __init__(self) -> None:
        self._origins: dict[str, tuple[int, ...]] = {}
        self._schedules: dict[str, int] = {}

    def add(self, connection: Connection, records: Sequence[ForeignRecord]) -> int:
        """Store those of ``records`` that are not there yet; their number."""
        if len(self._schedules) > _REMEMBERED:
            self._schedules.clear()
        unknown = {
            each.schedule_fingerprint: (each.schedule_fingerprint, each.origin.format, each.schedule)
            for each in records
            if each.schedule_fingerprint not in self._schedules
        }
        dialect.insert_many(connection, SCHEDULE, ("fingerprint", "kind", "steps"), list(unknown.values()))
        self._schedules.update(dialect.ids_of(connection, SCHEDULE, list(unknown)))
        date = dialect.stored_date(connection)
        return dialect.insert_many(connection, TRIAL, _COLUMNS, [self._row(connection, date, each) for each in records])

    def _row(self, connection: Connection, date: Callable[[datetime], str], record: ForeignRecord) -> tuple[Any, ...]:
        """The values of ``_COLUMNS``."""
        origin, times = record.origin, record.times
        identity = origin.fingerprint
        ids = self._origins.get(identity)
        if ids is None:
            ids = self._origins[identity] = _store_origin(connection, origin)
        seconds = _median(times) if times else None
        return (
            digest(f"{identity}{record.schedule_fingerprint}".encode() + record.content),
            *ids,
            self._schedules[record.schedule_fingerprint],
            record.status.value,
            False,
            seconds,
            None if seconds is None else _median([abs(time - seconds) for time in times]),
            len(times),
            orjson.dumps([times]).decode() if times else "[]",
            record.message,
            record.compile_seconds,
            record.run_seconds,
            None if record.created is None else date(record.created),
            None if record.details is None else orjson.dumps(record.details).decode(),
        )


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


def any_workload(operator: str, key: str) -> Workload | ForeignWorkload:
    """The workload of a stored key; only a foreign one begins with the name of a format."""
    return ForeignWorkload(operator, key) if ":" in key.partition("(")[0] else read_workload(key)


def read_all(connection: Connection, statement: Select[Any]) -> Iterator[ForeignTrial]:
    """The trials of a SELECT, in bounded memory."""
    with connection.execute(statement.execution_options(yield_per=1000)) as rows:
        yield from map(read_foreign, rows)


_COPIED = ("seconds", "message", "compile_seconds", "run_seconds", "created", "retracted")


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
