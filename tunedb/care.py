"""Care of what is stored: merging databases, retracting trials, and copying a database while others write to it.

Content is identity, so merging is adding what the other one has and this one lacks: in any order, any number of times.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Connection, Table, Text, case, null, select, update
from sqlalchemy import cast as sql_cast

from tunedb import dialect
from tunedb.errors import DatabaseError, NotFoundError
from tunedb.preparation import stored_date
from tunedb.records import Standing, flatten, is_right, read_trial, select_trials
from tunedb.tables import (
    ENVIRONMENT,
    QUARANTINE,
    SCHEDULE,
    SESSION,
    TARGET,
    TEMPLATE,
    TRIAL,
    VERIFICATION,
    WORKLOAD,
    UtcDateTime,
)

if TYPE_CHECKING:
    from tunedb.database import Database

_ENDED = case((SESSION.c.state == "running", "interrupted"), else_=SESSION.c.state)
_BATCH = 5000  # rows a write unit
_SHARED = (WORKLOAD, TARGET, ENVIRONMENT, SCHEDULE, QUARANTINE)  # what is the same wherever it is
_BY_FINGERPRINT = {
    "workload_id": WORKLOAD,
    "target_id": TARGET,
    "environment_id": ENVIRONMENT,
    "schedule_id": SCHEDULE,
    "session_id": SESSION,
}
_MEASURED = ("times", "repeats", "seconds", "spread", "verified")  # what more rounds of repeats change


@dataclass(frozen=True)
class Merged:
    """What became of the trials of the other database: read = new + duplicate + conflicting."""

    read: int
    new: int
    duplicate: int
    conflicting: int  # another trial has their place in their session
    extended: int  # duplicates that brought rounds of repeats
    retracted: int  # duplicates that were retracted there


def merge(into: "Database", other: "Database") -> Merged:
    """Add to ``into`` all that ``other`` has and it lacks; ``other`` is only read.

    Of a trial that both have, the one with more repeats wins; a retraction anywhere is one here. One write unit a few
    thousand rows: a merge that was interrupted is simply made again. Sessions that run there are interrupted here.
    """
    with other.read() as source:
        for table in _SHARED:
            _copy(into, source, table, {})
        nobody = dict.fromkeys(("owner", "host", "pid", "heartbeat"), null())
        _copy(into, source, SESSION, {"state": _ENDED, **nobody})
        merged = _merge_trials(into, source, _templates(into, source))
        _merge_verifications(into, source)
        return merged


def retract(connection: Connection, trial: str, reason: str) -> str:
    """Mark the trial whose fingerprint begins so: ``best`` forgets it. Returns it in full. Raises NotFoundError."""
    fingerprint = _one(connection, trial)
    connection.execute(update(TRIAL).where(TRIAL.c.fingerprint == fingerprint).values(retracted=reason, verified=False))
    return fingerprint


def restore(connection: Connection, trial: str) -> str:
    """Take a retraction back. Returns the fingerprint. Raises NotFoundError."""
    fingerprint = _one(connection, trial)
    own = connection.execute(select_trials().where(TRIAL.c.fingerprint == fingerprint)).one_or_none()
    right = own is not None and is_right(read_trial(own))  # a record of another tool is never verified
    connection.execute(update(TRIAL).where(TRIAL.c.fingerprint == fingerprint).values(retracted=None, verified=right))
    return fingerprint


def backup(database: "Database", path: Path) -> None:
    """Copy a SQLite database, as it is at one moment, to a new file, while others may write to it.

    Raises DatabaseError for another kind of database, for a file that exists, and for a disk that is full.
    """
    if path.exists():
        raise DatabaseError(f"{path} exists already: name another file")
    if not path.absolute().parent.is_dir():
        raise DatabaseError(f"the folder {path.absolute().parent} does not exist: make it, or name another file")
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with database.read() as connection:
            dialect.back_up(connection, unfinished)
        unfinished.rename(path)
    except sqlite3.OperationalError as error:  # it cannot even be made
        raise DatabaseError(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _copy(into: "Database", source: Connection, table: Table, replaced: Mapping[str, Any]) -> None:
    """Copy the rows of a table, all but their ids; the columns of ``replaced`` with other values."""
    columns = [column.name for column in table.c if column.name != "id"]
    values = [replaced[name].label(name) if name in replaced else _read(table, name) for name in columns]
    with source.execute(select(*values).execution_options(yield_per=_BATCH)) as rows:
        for batch in rows.partitions():
            with into.write() as connection:
                dialect.insert_many(connection, table, columns, _writable(table, columns, batch))


def _templates(into: "Database", source: Connection) -> dict[int, int]:
    """The id here of each template there: they have a name and a version, and no fingerprint."""
    there = source.execute(select(TEMPLATE)).all()
    with into.write() as connection:
        dialect.insert_many(connection, TEMPLATE, ("name", "version"), [(row.name, row.version) for row in there])
        here = {(row.name, row.version): row.id for row in connection.execute(select(TEMPLATE))}
    return {row.id: here[row.name, row.version] for row in there}


def _merge_trials(into: "Database", source: Connection, templates: Mapping[int, int]) -> Merged:
    columns = [column.name for column in TRIAL.c if column.name != "id"]
    values = [
        _BY_FINGERPRINT[name].c.fingerprint.label(name) if name in _BY_FINGERPRINT else _read(TRIAL, name)
        for name in columns
    ]
    joined = TRIAL.join(WORKLOAD).join(TARGET).join(ENVIRONMENT).join(SCHEDULE)
    statement = select(*values).select_from(joined.join(SESSION, TRIAL.c.session_id == SESSION.c.id))
    read = new = duplicate = extended = retracted = 0
    with source.execute(statement.order_by(TRIAL.c.id).execution_options(yield_per=_BATCH)) as rows:
        for batch in rows.partitions():
            with into.write() as connection:
                known = _known(connection, [row.fingerprint for row in batch])
                fresh = [row for row in batch if row.fingerprint not in known]
                place = columns.index("template_id")
                ready = [
                    (*row[:place], templates[row[place]], *row[place + 1 :]) for row in _writable(TRIAL, columns, fresh)
                ]
                new += dialect.insert_many(connection, TRIAL, columns, ready, _BY_FINGERPRINT)
                for row in batch:
                    if row.fingerprint in known:
                        more, withdrawn = _update(connection, row, *known[row.fingerprint])
                        extended, retracted = extended + more, retracted + withdrawn
            read, duplicate = read + len(batch), duplicate + len(known)
    return Merged(read, new, duplicate, read - new - duplicate, extended, retracted)


def _merge_verifications(into: "Database", source: Connection) -> None:
    columns = [column.name for column in VERIFICATION.c if column.name != "id"]
    fingerprints = {"trial_id": TRIAL, "environment_id": ENVIRONMENT}
    values = [
        fingerprints[name].c.fingerprint.label(name) if name in fingerprints else _read(VERIFICATION, name)
        for name in columns
    ]
    joined = VERIFICATION.join(TRIAL, VERIFICATION.c.trial_id == TRIAL.c.id)
    joined = joined.join(ENVIRONMENT, VERIFICATION.c.environment_id == ENVIRONMENT.c.id)
    with source.execute(select(*values).select_from(joined).execution_options(yield_per=_BATCH)) as rows:
        for batch in rows.partitions():
            with into.write() as connection:
                known = _known(connection, [row.trial_id for row in batch])  # a conflicting trial was left out
                ready = _writable(VERIFICATION, columns, [row for row in batch if row.trial_id in known])
                dialect.insert_many(connection, VERIFICATION, columns, ready, fingerprints)


def _known(connection: Connection, fingerprints: Sequence[str]) -> dict[str, tuple[Standing, str | None]]:
    """Of the trials that are stored: what their copies here weigh, and why they were retracted."""
    known: dict[str, tuple[Standing, str | None]] = {}
    for start in range(0, len(fingerprints), 500):
        some = TRIAL.c.fingerprint.in_(fingerprints[start : start + 500])
        stored = select(TRIAL.c.fingerprint, TRIAL.c.retracted, TRIAL.c.times).where(some)
        for name, retracted, rounds in connection.execute(stored):
            known[name] = Standing.of(flatten(rounds)), retracted
    return known


def _update(connection: Connection, row: Any, copy: Standing, retracted: str | None) -> tuple[bool, bool]:
    """Take over what the other database knows more of a trial; whether its copy stands, and it has a retraction."""
    mine = update(TRIAL).where(TRIAL.c.fingerprint == row.fingerprint)
    more = Standing.of(flatten(json.loads(row.times))) > copy
    withdrawn = row.retracted is not None and retracted is None
    if more:
        columns = {name: getattr(row, name) for name in _MEASURED if name not in ("times", "verified")}
        verified = row.verified and retracted is None
        connection.execute(mine.values(times=json.loads(row.times), verified=verified, **columns))
    if withdrawn:
        connection.execute(mine.values(retracted=row.retracted, verified=False))
    return more, withdrawn


def _read(table: Table, name: str) -> Any:
    """A column as ``insert_many`` takes it, but for dates."""
    column = table.c[name]
    return sql_cast(column, Text).label(name) if isinstance(column.type, JSON) else column


def _writable(table: Table, columns: Sequence[str], rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows with their dates as ``insert_many`` takes them."""
    dates = [isinstance(table.c[name].type, UtcDateTime) for name in columns]
    return [
        tuple(stored_date(value) if is_date and value else value for value, is_date in zip(row, dates, strict=True))
        for row in rows
    ]


def _one(connection: Connection, trial: str) -> str:
    if len(trial) < 8:
        raise NotFoundError(f"{trial!r} is too short to name a trial: give 8 or more characters of its fingerprint")
    between = TRIAL.c.fingerprint.between(trial, trial + "g")  # g comes after all hexadecimal digits
    found = connection.scalars(select(TRIAL.c.fingerprint).where(between).limit(2)).all()
    if not found:
        raise NotFoundError(f"no trial's fingerprint begins with {trial}: `tunedb best` and `tunedb top` print them")
    if len(found) > 1:
        raise NotFoundError(f"several trials' fingerprints begin with {trial}: give more characters")
    return str(found[0])
