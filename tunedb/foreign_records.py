"""Records of other tools into the tables, many at once, and out again."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, select
from sqlalchemy import cast as sql_cast

from tunedb import dialect
from tunedb.foreign import ForeignTarget, ForeignTrial, ForeignWorkload, Origin
from tunedb.preparation import COLUMNS, ForeignBatch
from tunedb.records import Writer, flatten, read_environment, read_workload
from tunedb.tables import ENVIRONMENT, SCHEDULE, SESSION, TARGET, TEMPLATE, TRIAL, WORKLOAD
from tuner.trial import Environment, Status
from tuner.workload import Workload

_REMEMBERED = 100_000  # schedules: 20 MB

_IDS = ("workload_id", "target_id", "environment_id", "template_id", "session_id")


class ForeignWriter:
    """Adds records, a batch a write unit. One serves all units of an import, whose origins are the same ones.

    A unit that was rolled back leaves it out of step with the database: take a new one.
    """

    def __init__(self) -> None:
        self._origins: dict[str, tuple[int, ...]] = {}
        self._schedules: set[str] = set()  # stored ones: tuners try the same ones for many a workload

    def add(self, connection: Connection, batch: ForeignBatch) -> int:
        """Store those records of ``batch`` that are not there yet; their number."""
        for identity, origin in batch.origins.items():
            if identity not in self._origins:
                self._origins[identity] = _store_origin(connection, read_origin(origin))
        new = [(identity, *rest) for identity, rest in batch.schedules.items() if identity not in self._schedules]
        dialect.insert_many(connection, SCHEDULE, ("fingerprint", "kind", "steps"), new)
        if len(self._schedules) > _REMEMBERED:
            self._schedules.clear()
        self._schedules.update(batch.schedules)
        rows = []
        for origin, trials in batch.rows.items():
            ids = self._origins[origin]
            rows += [(*ids, *values) for values in trials]
        return dialect.insert_many(connection, TRIAL, (*_IDS, *COLUMNS), rows, {"schedule_id": SCHEDULE})


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
