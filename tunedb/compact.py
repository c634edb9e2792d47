"""Giving back the room that a database no longer needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Delete, Table, delete, except_, select

from tunedb import dialect
from tunedb.engine import plain_errors
from tunedb.tables import ENVIRONMENT, SCHEDULE

if TYPE_CHECKING:
    from tunedb.database import Database


@dataclass(frozen=True)
class Compacted:
    """What was dropped, and the size of the database in bytes."""

    schedules: int
    environments: int
    before: int
    after: int


def compact(database: "Database") -> Compacted:
    """Drop the schedules and environments that nothing refers to, close all gaps, and count anew what plans rest on.

    PostgreSQL closes gaps by itself in time and many write to it at once: there, only its VACUUM ANALYZE is run.

    Raises DatabaseError, with nothing changed, when another process has the SQLite file open.
    """
    dropped = {SCHEDULE.name: 0, ENVIRONMENT.name: 0}

    def clean(connection: Connection) -> None:
        for table in (SCHEDULE, ENVIRONMENT):
            dropped[table.name] = connection.execute(_delete_unused(table)).rowcount

    with plain_errors(database.engine.url):
        before = _size(database)
        dialect.compact(database.engine, clean)
        return Compacted(dropped[SCHEDULE.name], dropped[ENVIRONMENT.name], before, _size(database))


def _delete_unused(table: Table) -> Delete:
    used = [
        select(key.parent)
        for other in table.metadata.tables.values()
        for key in other.foreign_keys
        if key.column.table is table
    ]
    return delete(table).where(table.c.id.in_(except_(select(table.c.id), *used)))


def _size(database: "Database") -> int:
    with database.engine.connect() as connection:
        return dialect.size(connection)
