"""The tables, and the only place that says what a column is.

Content is identity: what two databases share has a ``fingerprint``, the SHA-256 of its canonical JSON. The integer ids
are private to one database and never leave it. docs/schema.md explains the whole; schema/ holds the migrations.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISION = "0005"
"""The migration that makes exactly these tables: the newest one in schema/versions."""

VERSION_TABLE = "tunedb_alembic_version"
"""Alembic's default name is shared by every program that uses Alembic, and some share a database."""

METADATA = MetaData(
    # Every constraint gets a name, for SQLite's batch migrations can only drop what has one.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


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


def _id() -> Column[int]:
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


def _fingerprint() -> Column[str]:
    return Column("fingerprint", String(64), unique=True, nullable=False)


def _is(name: str, kind: TypeEngine[Any], **more: Any) -> Column[Any]:
    """A column that always has a value."""
    return Column(name, kind, nullable=False, **more)


def _refers(name: str, table: str, **more: Any) -> Column[int]:
    return Column(name, ForeignKey(f"{table}.id"), nullable=False, **more)


WORKLOAD = Table(
    "workload",
    METADATA,
    _id(),
    _fingerprint(),
    _is("problem", String(64)),  # the same, whatever the tolerance
    _is("operator", String(255)),
    _is("key", Text()),
    Column("flops", BigInteger()),
    Index(None, "problem"),
)
"""What is computed: the canonical key says all, the other columns are there to be searched.

One that only another tool knows has a key that begins with the name of its format, and no count of operations.
"""

TARGET = Table(
    "target",
    METADATA,
    _id(),
    _fingerprint(),
    _is("machine", String(64)),  # the same, whatever the number of threads
    _is("name", Text()),
    Column("threads", Integer()),
    _is("description", JSON()),
    Index(None, "machine"),
)
"""What it is computed on; of another tool's log, what little that says, and what was added at import."""

ENVIRONMENT = Table("environment", METADATA, _id(), _fingerprint(), _is("facts", JSON()))
"""With what it was measured: versions, kernel, commit."""

TEMPLATE = Table(
    "template",
    METADATA,
    _id(),
    _is("name", String(128)),
    _is("version", String(32)),
    UniqueConstraint("name", "version"),
)
"""A search space by name; a new version whenever its meaning changes."""

SCHEDULE = Table(
    "schedule",
    METADATA,
    _id(),
    _fingerprint(),
    _is("kind", String(32), server_default=text("'steps'")),
    _is("steps", JSON()),
)
"""The steps that make one loop nest; different configurations may make the same one.

``kind`` is "steps" for our own, else the format that says what ``steps`` means.
"""

SESSION = Table(
    "session",
    METADATA,
    _id(),
    _fingerprint(),
    _is("key", String(64)),
    _is("origin", String(32), server_default=text("'tunedb'")),
    _is("arguments", JSON()),
    Column("created", UtcDateTime()),  # unknown of an imported one
    _is("state", String(16)),
    Column("heartbeat", UtcDateTime()),
    Column("owner", String(32)),  # a token of the process that runs it
    Column("host", String(255)),  # never exported
    Column("pid", Integer()),
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
"""One run of a tuner.

``key`` is the fingerprint of its arguments: the same command finds its session again. ``fingerprint`` adds when it
was started, so that the sessions of two machines that ran the same command stay two when their databases merge.
Of another tool's log (``origin``), a session is what its records share: its task, its target, its version.
"""

TRIAL = Table(
    "trial",
    METADATA,
    _id(),
    _fingerprint(),
    _refers("workload_id", "workload"),
    _refers("target_id", "target"),
    _refers("environment_id", "environment"),
    _refers("template_id", "template"),
    _refers("schedule_id", "schedule"),
    _refers("session_id", "session"),
    Column("sequence", Integer()),
    Column("config", JSON(none_as_null=True)),
    _is("status", String(16)),
    _is("verified", Boolean()),  # correct, with an error within the workload's tolerance, and not retracted
    Column("seconds", Double()),  # median of all repeats
    Column("spread", Double()),  # their median absolute deviation, seconds
    _is("repeats", Integer()),
    _is("times", JSON()),  # the raw repeats, seconds, unrounded: one list a round of measuring
    Column("error", Double()),  # largest difference from the reference, relative to the largest reference value
    Column("message", Text()),
    Column("compile_seconds", Double()),
    Column("run_seconds", Double()),
    Column("created", UtcDateTime()),
    Column("details", JSON(none_as_null=True)),
    Column("retracted", Text()),  # why nobody should use it
    Index(
        "uq_trial_session_id_sequence",
        "session_id",
        "sequence",
        unique=True,
        sqlite_where=text("sequence IS NOT NULL"),  # an imported trial has none, and nobody asks for it so
        postgresql_where=text("sequence IS NOT NULL"),
    ),
    Index("ix_trial_best", "workload_id", "target_id", "verified", "seconds", "error"),
    CheckConstraint(
        # SQLite would make a table of what IN lists, anew for each row that is stored.
        "status = 'correct' OR status = 'compile' OR status = 'runtime' OR status = 'timeout' "
        "OR status = 'correctness' OR status = 'constraints'",
        name="status",
    ),
    CheckConstraint("status = 'correct' OR seconds IS NULL", name="failed_has_no_time"),
    CheckConstraint("NOT verified OR seconds IS NOT NULL", name="verified_has_time"),
)
"""One measured candidate. ``verified`` is the gate: nothing else can become the best.

Of another tool's log there is no sequence and no config (its schedule says it), nobody has verified it, and
``details`` keeps what only its own format has a word for.
"""

VERIFICATION = Table(
    "verification",
    METADATA,
    _id(),
    _fingerprint(),
    _refers("trial_id", "trial", index=True),
    _refers("environment_id", "environment"),
    _is("created", UtcDateTime()),
    _is("status", String(16)),  # drifted: correct, but its time is another one
    _is("times", JSON()),  # the raw repeats, seconds, unrounded, one flat list
    Column("seconds", Double()),  # their median
    Column("error", Double()),  # as in a trial
    Column("message", Text()),
    CheckConstraint("status IN ('confirmed', 'drifted', 'wrong', 'failed')", name="status"),
    CheckConstraint("status IN ('wrong', 'failed') OR seconds IS NOT NULL", name="correct_has_time"),
)
"""What measuring a stored trial again has found. The trial itself stays as it was measured first.

Its fingerprint covers trial, environment and ``created``.
"""

QUARANTINE = Table(
    "quarantine",
    METADATA,
    _id(),
    _fingerprint(),  # of file, line and text
    _is("file", Text()),
    _is("line", BigInteger()),
    _is("format", String(32)),
    _is("reason", Text()),
    _is("raw", Text()),  # the beginning of its text
    _is("created", UtcDateTime()),
)
"""A record that could not be imported, with what there is to say about it."""

MODEL = Table(
    "model",
    METADATA,
    _id(),
    _fingerprint(),
    _is("name", String(128), index=True),
    _is("feature_version", String(32)),
    _is("training_digest", String(64)),  # of the sorted fingerprints of its trials
    _is("parameters", JSON()),
    _is("scores", JSON()),
    _is("blob_sha256", String(64)),
    _is("blob", LargeBinary()),  # the model in its library's own JSON or UBJSON
    _is("created", UtcDateTime()),
)
"""A trained cost model, and exactly what it was trained on."""
