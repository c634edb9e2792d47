"""The tables, and the only place that says what a column is.

Content is identity: what two databases share has a ``fingerprint``, the SHA-256 of its canonical JSON. The integer ids
are private to one database and never leave it. docs/schema.md explains the whole; schema/ holds the migrations.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = "0004"
"""The migration that makes exactly these tables: the newest one in schema/versions."""

VERSION_TABLE = "tunedb_alembic_version"
"""Alembic's default name is shared by every program that uses Alembic, and some share a database."""

_Id = BigInteger().with_variant(Integer(), "sqlite")
_Fingerprint = String(64)


class UtcDateTime(TypeDecorator[datetime]):
    """A date in UTC, to the microsecond. SQLite keeps no time zone, so it is taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every constraint gets a name, for SQLite's batch migrations can only drop what has one."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, float: Double, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Workload(Base):
    """What is computed: the canonical key says all, the other columns are there to be searched.

    One that only another tool knows has a key that begins with the name of its format, and no count of operations.
    """

    __tablename__ = "workload"
    __table_args__ = (Index(None, "problem"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    problem: Mapped[str] = mapped_column(_Fingerprint)  # the same, whatever the tolerance
    operator: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(Text)
    flops: Mapped[int | None] = mapped_column(BigInteger)


class Target(Base):
    """What it is computed on; of another tool's log, what little that says, and what was added at import."""

    __tablename__ = "target"
    __table_args__ = (Index(None, "machine"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    machine: Mapped[str] = mapped_column(_Fingerprint)  # the same, whatever the number of threads
    name: Mapped[str] = mapped_column(Text)
    threads: Mapped[int | None]
    description: Mapped[dict[str, Any]]


class Environment(Base):
    """With what it was measured: versions, kernel, commit."""

    __tablename__ = "environment"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    facts: Mapped[dict[str, Any]]


class Template(Base):
    """A search space by name; a new version whenever its meaning changes."""

    __tablename__ = "template"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(32))


class Schedule(Base):
    """The steps that make one loop nest; different configurations may make the same one.

    ``kind`` is "steps" for our own, else the format that says what ``steps`` means.
    """

    __tablename__ = "schedule"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    kind: Mapped[str] = mapped_column(String(32), server_default=text("'steps'"))
    steps: Mapped[list[Any]]


class Session(Base):
    """One run of a tuner.

    ``key`` is the fingerprint of its arguments: the same command finds its session again. ``fingerprint`` adds when it
    was started, so that the sessions of two machines that ran the same command stay two when their databases merge.
    Of another tool's log (``origin``), a session is what its records share: its task, its target, its version.
    """

    __tablename__ = "session"
    __table_args__ = (
        Index(None, "key"),
        Index(
            "uq_session_running",
            "key",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        CheckConstraint("state IN ('running', 'finished', 'interrupted', 'imported')", name="state"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    key: Mapped[str] = mapped_column(_Fingerprint)
    origin: Mapped[str] = mapped_column(String(32), server_default=text("'tunedb'"))
    arguments: Mapped[dict[str, Any]]
    created: Mapped[datetime | None]  # unknown of an imported one
    state: Mapped[str] = mapped_column(String(16))
    heartbeat: Mapped[datetime | None]
    owner: Mapped[str | None] = mapped_column(String(32))  # a token of the process that runs it
    host: Mapped[str | None] = mapped_column(String(255))  # never exported
    pid: Mapped[int | None]


class Trial(Base):
    """One measured candidate. ``verified`` is the gate: nothing else can become the best.

    Of another tool's log there is no sequence and no config (its schedule says it), nobody has verified it, and
    ``details`` keeps what only its own format has a word for.
    """

    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("session_id", "sequence"),
        Index("ix_trial_best", "workload_id", "target_id", "verified", "seconds", "error"),
        CheckConstraint(
            "status IN ('correct', 'compile', 'runtime', 'timeout', 'correctness', 'constraints')", name="status"
        ),
        CheckConstraint("status = 'correct' OR seconds IS NULL", name="failed_has_no_time"),
        CheckConstraint("NOT verified OR seconds IS NOT NULL", name="verified_has_time"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id"))
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"))
    environment_id: Mapped[int] = mapped_column(ForeignKey("environment.id"))
    template_id: Mapped[int] = mapped_column(ForeignKey("template.id"))
    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedule.id"))
    session_id: Mapped[int] = mapped_column(ForeignKey("session.id"))
    sequence: Mapped[int | None]
    config: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    status: Mapped[str] = mapped_column(String(16))
    verified: Mapped[bool]  # correct, with an error within the workload's tolerance, and not retracted
    seconds: Mapped[float | None]  # median of all repeats
    spread: Mapped[float | None]  # their median absolute deviation, seconds
    repeats: Mapped[int]
    times: Mapped[list[Any]]  # the raw repeats, seconds, unrounded: one list a round of measuring
    error: Mapped[float | None]  # largest difference from the reference, relative to the largest reference value
    message: Mapped[str | None] = mapped_column(Text)
    compile_seconds: Mapped[float | None]
    run_seconds: Mapped[float | None]
    created: Mapped[datetime | None]
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    retracted: Mapped[str | None] = mapped_column(Text)  # why nobody should use it


class Verification(Base):
    """What measuring a stored trial again has found. The trial itself stays as it was measured first.

    Its fingerprint covers trial, environment and ``created``.
    """

    __tablename__ = "verification"
    __table_args__ = (
        CheckConstraint("status IN ('confirmed', 'drifted', 'wrong', 'failed')", name="status"),
        CheckConstraint("status IN ('wrong', 'failed') OR seconds IS NOT NULL", name="correct_has_time"),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id"), index=True)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environment.id"))
    created: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16))  # drifted: correct, but its time is another one
    times: Mapped[list[Any]]  # the raw repeats, seconds, unrounded, one flat list
    seconds: Mapped[float | None]  # their median
    error: Mapped[float | None]  # as in a trial
    message: Mapped[str | None] = mapped_column(Text)


class Quarantine(Base):
    """A record that could not be imported, with what there is to say about it."""

    __tablename__ = "quarantine"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)  # of file, line and text
    file: Mapped[str] = mapped_column(Text)
    line: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    raw: Mapped[str] = mapped_column(Text)  # the beginning of its text
    created: Mapped[datetime]


class Model(Base):
    """A trained cost model, and exactly what it was trained on."""

    __tablename__ = "model"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(_Fingerprint, unique=True)
    name: Mapped[str] = mapped_column(String(128), index=True)
    feature_version: Mapped[str] = mapped_column(String(32))
    training_digest: Mapped[str] = mapped_column(_Fingerprint)  # of the sorted fingerprints of its trials
    parameters: Mapped[dict[str, Any]]
    scores: Mapped[dict[str, Any]]
    blob_sha256: Mapped[str] = mapped_column(_Fingerprint)
    blob: Mapped[bytes] = mapped_column(LargeBinary)  # the model in its library's own JSON or UBJSON
    created: Mapped[datetime]
