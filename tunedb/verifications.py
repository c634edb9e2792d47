"""What measuring stored trials again has found: the table of it, and what it means for the trial."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, bindparam, select
from sqlalchemy import cast as sql_cast

from tunedb import dialect
from tunedb.records import Writer, read_environment
from tunedb.tables import ENVIRONMENT, TRIAL, VERIFICATION, WORKLOAD
from tuner.canonical import fingerprint
from tuner.trial import Environment
from tuner.workload import Workload


class Verdict(StrEnum):
    """How measuring a trial again ended."""

    CONFIRMED = "confirmed"  # correct, and as fast as it was
    DRIFTED = "drifted"  # correct, but not as fast or as slow as it was
    WRONG = "wrong"  # its output is wrong: `best` forgets the trial
    FAILED = "failed"  # it does not compile any more, crashes or takes too long


@dataclass(frozen=True)
class Verification:
    """One trial, measured again. Times are seconds a call; there are none unless its output was right."""

    trial: str  # fingerprint
    before: float | None  # the trial's own median
    created: datetime
    environment: Environment
    status: Verdict
    times: tuple[float, ...] = ()
    error: float | None = None  # as in a trial
    message: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identity: which trial was measured again, with what, and when."""
        return verification_fingerprint(self.trial, self.environment, self.created)

    @property
    def seconds(self) -> float | None:
        """Median of the repeats."""
        return statistics.median(self.times) if self.times else None

    @property
    def ratio(self) -> float | None:
        """How many times as long it took as at first."""
        return self.seconds / self.before if self.seconds is not None and self.before is not None else None

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "created": self.created.isoformat(),
            "status": self.status.value,
            "before": self.before,
            "seconds": self.seconds,
            "ratio": self.ratio,
            "times": list(self.times),
            "error": self.error,
            "message": self.message,
            "environment": dict(self.environment.facts),
        }


def verification_fingerprint(trial: str, environment: Environment, created: datetime) -> str:
    """Identity of a verification of the trial with that fingerprint."""
    date = created.astimezone(UTC).isoformat(timespec="microseconds")
    return fingerprint({"trial": trial, "environment": environment.fingerprint, "created": date})


def store(connection: Connection, found: Verification) -> None:
    """Keep a verification of a trial that is stored."""
    trial_id = connection.execute(_TRIAL, {"trial": found.trial}).scalar_one()
    values = {
        "fingerprint": found.fingerprint,
        "trial_id": trial_id,
        "environment_id": Writer(connection).environment(found.environment),
        "created": found.created,
        "status": found.status.value,
        "times": list(found.times),
        "seconds": found.seconds,
        "error": found.error,
        "message": found.message,
    }
    dialect.insert_if_new(connection, VERIFICATION, values)


def of_trial(connection: Connection, trial: str) -> tuple[Verification, ...]:
    """All verifications of the trial with that fingerprint, oldest first."""
    return _read(connection, _OF_TRIAL, {"trial": trial})


def of_workload(connection: Connection, workload: Workload) -> tuple[Verification, ...]:
    """All verifications of trials of ``workload``, with any tolerance, oldest first."""
    return _read(connection, _OF_WORKLOAD, {"problem": workload.problem.fingerprint})


def _read(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> tuple[Verification, ...]:
    return tuple(map(_verification, connection.execute(statement, values)))


def _verification(row: Row[Any]) -> Verification:
    return Verification(
        trial=row.trial,
        before=row.before,
        created=row.created,
        environment=read_environment(row.facts),
        status=Verdict(row.status),
        times=tuple(row.times),
        error=row.error,
        message=row.message,
    )


_ALL = (
    select(
        TRIAL.c.fingerprint.label("trial"),
        TRIAL.c.seconds.label("before"),
        sql_cast(ENVIRONMENT.c.facts, Text).label("facts"),
        *(VERIFICATION.c[name] for name in ("created", "status", "times", "error", "message")),
    )
    .select_from(
        VERIFICATION.join(TRIAL, VERIFICATION.c.trial_id == TRIAL.c.id).join(
            ENVIRONMENT, VERIFICATION.c.environment_id == ENVIRONMENT.c.id
        )
    )
    .order_by(VERIFICATION.c.created, VERIFICATION.c.fingerprint)
)
_OF_TRIAL = _ALL.where(TRIAL.c.fingerprint == bindparam("trial"))
_OF_WORKLOAD = _ALL.where(
    TRIAL.c.workload_id.in_(select(WORKLOAD.c.id).where(WORKLOAD.c.problem == bindparam("problem")))
)
_TRIAL = select(TRIAL.c.id).where(TRIAL.c.fingerprint == bindparam("trial"))
