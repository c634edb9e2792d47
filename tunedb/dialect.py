"""All that differs between SQLite and PostgreSQL; nothing else in tunedb asks which of the two it talks to.

SQLite: write-ahead log and ``synchronous=NORMAL``. A commit is then in the operating system's hands when it returns, so
it outlives the death of the process (SIGKILL included) but not, for the last few commits, a loss of power; the file
stays whole either way. Write units begin with BEGIN IMMEDIATE: a deferred one that reads first and writes later is
refused at once when another process wrote in between, and no time limit helps. Readers begin nothing and block nobody.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from tunedb.errors import DatabaseError

BUSY_SECONDS = 60.0
"""How long a writer waits for its turn."""

WRITE_OPTIONS = {"sqlite_begin": "IMMEDIATE"}
"""Execution options of a connection that is going to write."""

_UPGRADE_LOCK = 0x74756E656462  # "tunedb": the key of the advisory lock that upgrades take on PostgreSQL


def set_up(engine: Engine, *, read_only: bool = False) -> None:
    """Put a new engine's connections into the mode this project relies on."""
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _configure_postgresql)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite_reader if read_only else _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)


def read_only_options(url: URL) -> dict[str, Any]:
    """The options of an engine through which nothing can be written.

    SQLite needs its two helper files even to read a database in WAL mode. Where it may not make them, it reads the
    file as one that nobody changes, which is right as long as there are no changes beside the file.
    """
    if url.get_backend_name() != "sqlite":
        return {"execution_options": {"postgresql_readonly": True}}
    path = Path(url.database or "").absolute()
    beside = path.with_name(path.name + "-wal")
    fixed = not os.access(path.parent, os.W_OK) and not (beside.exists() and beside.stat().st_size)
    place = f"{path.as_uri()}?mode=ro{'&immutable=1' if fixed else ''}"
    return {"creator": lambda: sqlite3.connect(place, uri=True, check_same_thread=False)}


def insert_if_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> int | None:
    """Insert a row unless a unique constraint says it is there already; the id of the new row, or None."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new_id: int | None = connection.scalar(insert(table).on_conflict_do_nothing().returning(table.c.id), values)
    return new_id


def insert_many(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    lookups: Mapping[str, Table] = {},  # nobody writes to it
) -> int:
    """Insert the rows that no unique constraint says are there already; their number.

    This is the way for many rows: values go to the driver as they are, so JSON comes as text and a date as what
    ``stored_date`` makes of it. A column of ``lookups`` comes as a fingerprint, and gets the id of the row of that
    table that has it.
    """
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        return _copy_many(connection, table, columns, rows, lookups)
    values = [_found(lookups[name], "?") if name in lookups else "?" for name in columns]
    sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join(values)}) ON CONFLICT DO NOTHING"
    return connection.exec_driver_sql(sql, list(rows)).rowcount


def _copy_many(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    lookups: Mapping[str, Table],
) -> int:
    """PostgreSQL takes rows many times as quickly by COPY, which knows no conflicts: hence a temporary table.

    It stays until the transaction ends, since making it takes as long as copying some hundred rows.
    """
    listing, fresh = ", ".join(columns), f"fresh_{table.name}"
    shape = [f"NULL::varchar AS {name}" if name in lookups else name for name in columns]
    # A join would be planned as if all of the other table were needed.
    found = [_found(lookups[name], f"{fresh}.{name}") if name in lookups else name for name in columns]
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {fresh} ON COMMIT DROP "
        f"AS SELECT {', '.join(shape)} FROM {table.name} LIMIT 0"
    )
    connection.exec_driver_sql(f"TRUNCATE {fresh}")
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {fresh} ({listing}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    return connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({listing}) SELECT {', '.join(found)} FROM {fresh} ON CONFLICT DO NOTHING"
    ).rowcount


def _found(table: Table, fingerprint: str) -> str:
    """The id of the row with that fingerprint, in SQL."""
    return f"(SELECT id FROM {table.name} WHERE fingerprint = {fingerprint})"


@contextlib.contextmanager
def cursor_for_reading(connection: Connection) -> Iterator[Any]:
    """The driver's own cursor, for one statement.

    PostgreSQL takes ten times as long to plan a lookup as to run it. psycopg has a statement that comes again and again
    prepared, but forgets that whenever a transaction is rolled back, as the pool does: hence outside of one, if we are.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql" or connection.in_transaction():
        yield driver.cursor()
        return
    driver.autocommit = True
    try:
        yield driver.cursor()
    finally:
        driver.autocommit = False


def back_up(connection: Connection, path: Path) -> None:
    """Copy a SQLite database, as it is at one moment, to the file ``path``. Raises DatabaseError for a server's."""
    source = connection.connection.driver_connection
    if not isinstance(source, sqlite3.Connection):
        raise DatabaseError("a server's database is backed up with the server's own means: pg_dump")
    with contextlib.closing(sqlite3.connect(path)) as copy:
        try:
            source.backup(copy)
        except sqlite3.OperationalError as error:
            raise DatabaseError(f"{path} cannot be written: {error}") from error


def damages(connection: Connection) -> list[str]:
    """What the database itself finds wrong: damaged pages, rows that refer to none. A server looks after its own."""
    if connection.dialect.name != "sqlite":
        return []
    found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [*found, *(f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there" for row in orphans)]


def size(connection: Connection) -> int:
    """Bytes that the database takes, those of SQLite's log among them."""
    if connection.dialect.name == "postgresql":
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
    path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
    return sum(part.stat().st_size for part in (Path(path), Path(f"{path}-wal")) if path and part.exists())


def compact(engine: Engine, clean: Callable[[Connection], None]) -> None:
    """Make the database as small as its content. On SQLite ``clean`` may drop rows first, foreign keys being off.

    Raises DatabaseError when another process has the SQLite file open: it may be about to refer to such a row.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        return
    engine.dispose()  # our own idle connections would be in the way
    try:
        with engine.connect().execution_options(**WRITE_OPTIONS) as connection:
            for pragma in ("busy_timeout = 1000", "foreign_keys = OFF", "locking_mode = EXCLUSIVE"):
                _outside_of_a_transaction(connection, f"PRAGMA {pragma}")
            # Only one who is alone may leave the write-ahead log. Who is killed here leaves a file that is whole.
            _outside_of_a_transaction(connection, "PRAGMA journal_mode = DELETE")
            with connection.begin():
                clean(connection)
            for command in ("VACUUM", "ANALYZE", "PRAGMA journal_mode = WAL"):
                _outside_of_a_transaction(connection, command)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise DatabaseError("another process has the database open: compact it when nobody uses it") from error
        raise OperationalError("compact", None, error) from error
    finally:
        engine.dispose()  # the next connection shares the file again


@contextlib.contextmanager
def upgrading(engine: Engine) -> Iterator[Connection]:
    """A transaction that may change the tables: one process at a time, all of it or nothing.

    SQLite changes a table by making it anew, which its foreign keys would take for the loss of every row. They are off
    until the end, as its manual advises; nothing that the upgrade does may break one.
    """
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect().execution_options(**WRITE_OPTIONS) as connection:
        if sqlite:
            _outside_of_a_transaction(connection, "PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                if not sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
                yield connection
        finally:
            if sqlite:
                _outside_of_a_transaction(connection, "PRAGMA foreign_keys = ON")


def _outside_of_a_transaction(connection: Connection, command: str) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(command)
    cursor.close()


def _configure_postgresql(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("SET plan_cache_mode = force_generic_plan")  # the plan of a lookup is the same for every key
    cursor.execute("SET TIME ZONE 'UTC'")
    cursor.close()
    dbapi_connection.commit()


def _configure_sqlite(dbapi_connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    dbapi_connection.isolation_level = None  # the driver must begin nothing by itself: _begin_sqlite does
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
    row = cursor.execute("PRAGMA journal_mode").fetchone()
    if row[0] == "delete":
        _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -65536")  # KiB: the upper levels of the indexes of a large database
    cursor.execute("PRAGMA wal_autocheckpoint = 16384")  # pages: an import changes the same ones again and again
    cursor.close()


def _configure_sqlite_reader(dbapi_connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    dbapi_connection.isolation_level = None
    dbapi_connection.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}").close()
    dbapi_connection.execute("PRAGMA query_only = ON").close()


def _switch_to_wal(cursor: Any) -> None:
    """Processes that open a new file at once race for this; SQLite does not wait its busy time here, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin")
    if mode:
        connection.exec_driver_sql(f"BEGIN {mode}")
