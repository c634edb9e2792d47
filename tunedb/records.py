"""Between the engine's dataclasses and the rows of the tables; no row leaves the package."""

import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import Boolean, ColumnElement, Connection, Row, Select, Table, Text, and_, bindparam, select, update
from sqlalchemy import cast as sql_cast

from tunedb import dialect
from tunedb.foreign import ForeignWorkload
from tunedb.tables import ENVIRONMENT, SCHEDULE, SESSION, TARGET, TEMPLATE, TRIAL, WORKLOAD
from tuner.canonical import fingerprint
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, parse

Rounds = Sequence[Sequence[float]]
Outcome = Literal["new", "duplicate", "conflict"]


class Standing(NamedTuple):
    """Which copy of a trial stands when databases have several: the largest. It has the most repeats; of as many, it
    is the slower one, so that copies which grew apart say the same wherever they meet.
    """

    repeats: int
    seconds: float
    times: tuple[float, ...]

    @classmethod
    def of(cls, times: tuple[float, ...]) -> "Standing":
        return cls(len(times), statistics.median(times) if times else 0.0, times)


def select_trials(*more: Any) -> Select[Any]:
    """A SELECT of all that ``read_trial`` needs, and ``more`` columns.

    What many trials share comes as text, for ``read_trial`` remembers what it made of each. Records of other tools are
    no trials of ours, and are left out.
    """
    return (
        select(
            TRIAL.c.id,
            TRIAL.c.fingerprint,
            WORKLOAD.c.key.label("workload"),
            sql_cast(TARGET.c.description, Text).label("target"),
            sql_cast(ENVIRONMENT.c.facts, Text).label("environment"),
            (TEMPLATE.c.name + "/" + TEMPLATE.c.version).label("template"),
            sql_cast(SCHEDULE.c.steps, Text).label("schedule"),
            TRIAL.c.config,
            TRIAL.c.status,
            TRIAL.c.times,
            TRIAL.c.error,
            TRIAL.c.message,
            TRIAL.c.compile_seconds,
            TRIAL.c.run_seconds,
            TRIAL.c.sequence,
            TRIAL.c.created,
            *more,
        )
        .select_from(
            TRIAL.join(WORKLOAD).join(TARGET).join(ENVIRONMENT).join(TEMPLATE).join(SCHEDULE),
        )
        .where(SCHEDULE.c.kind == "steps")
    )


def is_in_session(session_id: Any) -> ColumnElement[bool]:
    """Whether a trial is of a session of ours: these have a number there, and only such are in the index that tells."""
    return and_(TRIAL.c.session_id == session_id, TRIAL.c.sequence.is_not(None))


def read_trial(row: Row[Any]) -> Trial:
    """The trial of a row of ``select_trials``."""
    return Trial(
        workload=read_workload(row.workload),
        target=read_target(row.target),
        environment=read_environment(row.environment),
        template=row.template,
        config=read_config(row.config),
        schedule=read_schedule(row.schedule),
        status=Status(row.status),
        times=flatten(row.times),
        error=row.error,
        message=row.message,
        compile_seconds=row.compile_seconds,
        run_seconds=row.run_seconds,
        sequence=row.sequence,
        created=row.created,
    )


def read_config(data: Mapping[str, Any]) -> dict[str, int | str | tuple[int, ...]]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def flatten(rounds: Rounds) -> tuple[float, ...]:
    return tuple(itertools.chain.from_iterable(rounds))


@lru_cache(256)
def machine_fingerprint(target: Target) -> str:
    """Identity of a target apart from its number of threads."""
    return fingerprint({name: value for name, value in target.to_json().items() if name != "threads"})


def trial_fingerprint(trial: Trial, session: str) -> str:
    """Identity of a trial: what was measured, where in which session, and when; not what came out, which may grow."""
    return fingerprint(
        {
            "workload": trial.workload.fingerprint,
            "target": trial.target.fingerprint,
            "environment": trial.environment.fingerprint,
            "schedule": trial.schedule.fingerprint,
            "session": session,
            "sequence": trial.sequence,
            "created": trial.created.astimezone(UTC).isoformat(timespec="microseconds"),
        }
    )


def session_fingerprint(key: str, created: datetime) -> str:
    """Identity of a session: its arguments and when it was started."""
    return fingerprint({"key": key, "created": created.astimezone(UTC).isoformat(timespec="microseconds")})


class Writer:
    """Adds content inside one write unit, whatever of it is there already. Remembers ids as long as the unit lasts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[str, str], int] = {}

    def trial(
        self, trial: Trial, session: str, session_id: int, rounds: Rounds, retracted: str | None = None
    ) -> Outcome:
        """Add a trial of the session with that fingerprint and id; ``rounds`` are its times, round by round.

        ``retracted`` says why nobody should use it, if so, also when it is stored already. Of a trial that is, the copy
        that stands stays. Another one that has its place in the session is a conflict, and stays.
        """
        identity = trial_fingerprint(trial, session)
        stored = [list(each) for each in rounds if each]
        values = {
            "fingerprint": identity,
            "workload_id": self.workload(trial.workload),
            "target_id": self.target(trial.target),
            "environment_id": self.environment(trial.environment),
            "template_id": self.template(trial.template),
            "schedule_id": self._schedule(trial.schedule),
            "session_id": session_id,
            "sequence": trial.sequence,
            "config": {name: list(v) if isinstance(v, tuple) else v for name, v in trial.config.items()},
            "status": trial.status.value,
            "verified": is_right(trial) and retracted is None,
            "seconds": trial.seconds,
            "spread": trial.spread,
            "repeats": len(trial.times),
            "times": stored,
            "error": trial.error if trial.error is not None and math.isfinite(trial.error) else None,
            "message": trial.message,
            "compile_seconds": trial.compile_seconds,
            "run_seconds": trial.run_seconds,
            "created": trial.created,
            "retracted": retracted,
        }
        if dialect.insert_if_new(self._connection, TRIAL, values) is not None:
            return "new"
        row = self._connection.execute(_STORED, {"fingerprint": identity}).one_or_none()
        if row is None:
            return "conflict"
        if Standing.of(trial.times) > Standing.of(flatten(row.times)):
            self.set_times(row.id, trial, stored)
        if retracted is not None:
            self._connection.execute(_RETRACT, {"trial_id": row.id, "reason": retracted})
        return "duplicate"

    def set_times(self, trial_id: int, trial: Trial, rounds: Rounds) -> None:
        """Store the times that ``trial``, whose other values are as stored, has after more rounds."""
        self._connection.execute(
            _SET_TIMES,
            {
                "trial_id": trial_id,
                "times": [list(each) for each in rounds],
                "repeats": len(trial.times),
                "seconds": trial.seconds,
                "spread": trial.spread,
                "verified": is_right(trial),
            },
        )

    def session(self, arguments: Mapping[str, Any], created: datetime) -> tuple[str, int]:
        """Fingerprint and id of a session that came from elsewhere; a new one is marked as interrupted."""
        key = fingerprint(dict(arguments))
        identity = session_fingerprint(key, created)
        return identity, self.id_of(
            SESSION,
            identity,
            lambda: {"key": key, "arguments": dict(arguments), "created": created, "state": "interrupted"},
        )

    def workload(self, workload: "Workload | ForeignWorkload") -> int:
        """The id of a workload."""
        return self.id_of(
            WORKLOAD,
            workload.fingerprint,
            lambda: {
                "problem": workload.problem.fingerprint,
                "operator": workload.operator,
                "key": workload.key,
                "flops": workload.flops,
            },
        )

    def target(self, target: Target) -> int:
        """The id of a target."""
        return self.id_of(
            TARGET,
            target.fingerprint,
            lambda: {
                "machine": machine_fingerprint(target),
                "name": target.name,
                "threads": target.threads,
                "description": target.to_json(),
            },
        )

    def environment(self, environment: Environment) -> int:
        """The id of an environment."""
        return self.id_of(ENVIRONMENT, environment.fingerprint, lambda: {"facts": dict(environment.facts)})

    def _schedule(self, schedule: Schedule) -> int:
        return self.id_of(SCHEDULE, schedule.fingerprint, lambda: {"steps": schedule.to_json()})

    def template(self, template: str) -> int:
        """The id of a template, ``NAME/VERSION``."""
        name, _, version = template.rpartition("/")
        known = self._ids.get(("template", template))
        if known is None:
            named = {"name": name, "version": version}
            if (known := self._connection.scalar(_FIND_TEMPLATE, named)) is None:
                known = dialect.insert_if_new(self._connection, TEMPLATE, named)
            if known is None:  # another process was quicker
                known = self._connection.execute(_FIND_TEMPLATE, named).scalar_one()
            self._ids["template", template] = known
        return known

    def id_of(self, table: Table, identity: str, values: Callable[[], Mapping[str, Any]]) -> int:
        """The private id of the row with that fingerprint; ``values`` gives its other columns if it has to be made."""
        known = self._ids.get((table.name, identity))
        if known is None:
            find = _FIND[table.name]
            if (known := self._connection.scalar(find, {"fingerprint": identity})) is None:
                known = dialect.insert_if_new(self._connection, table, {"fingerprint": identity, **values()})
            if known is None:  # another process was quicker
                known = self._connection.execute(find, {"fingerprint": identity}).scalar_one()
            self._ids[table.name, identity] = known
        return known


def is_right(trial: Trial) -> bool:
    """Whether a trial has a time, and an error that its workload tolerates."""
    return trial.seconds is not None and trial.error is not None and trial.error <= trial.workload.tolerance


_FIND: dict[str, Select[int]] = {
    table.name: select(table.c.id).where(table.c.fingerprint == bindparam("fingerprint"))
    for table in (WORKLOAD, TARGET, ENVIRONMENT, SCHEDULE, SESSION)
}
_FIND_TEMPLATE: Select[int] = select(TEMPLATE.c.id).where(
    TEMPLATE.c.name == bindparam("name"), TEMPLATE.c.version == bindparam("version")
)
_STORED = select(TRIAL.c.id, TRIAL.c.times).where(TRIAL.c.fingerprint == bindparam("fingerprint"))
_SET_TIMES = (
    update(TRIAL)
    .where(TRIAL.c.id == bindparam("trial_id"))
    .values({name: bindparam(name) for name in ("times", "repeats", "seconds", "spread")})
    .values(verified=and_(bindparam("verified", type_=Boolean), TRIAL.c.retracted.is_(None)))
)

_RETRACT = (
    update(TRIAL)
    .where(TRIAL.c.id == bindparam("trial_id"), TRIAL.c.retracted.is_(None))
    .values(retracted=bindparam("reason"), verified=False)
)


@lru_cache(1024)
def read_workload(key: str) -> Workload:
    return parse(key)


@lru_cache(256)
def read_target(text: str) -> Target:
    return Target.from_json(json.loads(text))


@lru_cache(256)
def read_environment(text: str) -> Environment:
    return Environment(tuple(sorted(json.loads(text).items())))


@lru_cache(4096)
def read_schedule(text: str) -> Schedule:
    return Schedule.from_json(json.loads(text))
