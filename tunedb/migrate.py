"""Bring a database to the tables this program knows.

Alembic is imported only when there is something to do: opening a database that is up to date costs one SELECT.
An upgrade is one transaction, and one process at a time makes it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from tunedb import dialect
from tunedb.engine import describe
from tunedb.errors import DatabaseError, NewerDatabaseError, OutdatedDatabaseError
from tunedb.tables import REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config


def current(connection: Connection) -> str | None:
    """The revision the database is at; None for one without tables of tunedb."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def prepare(engine: Engine) -> None:
    """Make an empty database ready; refuse one of another age, and one that has only tables of another program.

    Raises NewerDatabaseError or OutdatedDatabaseError with what to do about it, and DatabaseError.
    """
    with engine.connect() as connection:
        found = current(connection)
        others = inspect(connection).get_table_names() if found is None else []
        if others:
            found = current(connection)  # another process may have made our tables meanwhile
    if found is None and others:
        raise DatabaseError(
            f"{describe(engine.url)} has tables of another program, such as {min(others)}, and none of tunedb: name "
            "another database, or put ours beside them with `tunedb db upgrade`"
        )
    if found is None:
        upgrade(engine)
    elif found != REVISION:
        _refuse_newer(engine, found)
        raise OutdatedDatabaseError(
            f"{describe(engine.url)} is at revision {found}, this tunedb needs {REVISION}: run `tunedb db upgrade`"
        )


def require(engine: Engine) -> None:
    """Refuse a database that is not at this program's revision, and leave it as it is.

    Raises NewerDatabaseError or OutdatedDatabaseError, and DatabaseError for one without our tables.
    """
    with engine.connect() as connection:
        found = current(connection)
    if found is None:
        raise DatabaseError(f"{describe(engine.url)} has no tables of tunedb: is it another program's database?")
    if found != REVISION:
        _refuse_newer(engine, found)
        raise OutdatedDatabaseError(
            f"{describe(engine.url)} is at revision {found}, this tunedb needs {REVISION}: have who keeps it run "
            "`tunedb db upgrade`, or leave it out"
        )


def upgrade(engine: Engine) -> str | None:
    """Upgrade to this program's revision; returns the one found before. Raises NewerDatabaseError."""
    from alembic import command

    with dialect.upgrading(engine) as connection:
        found = current(connection)
        if found != REVISION:
            if found is not None:
                _refuse_newer(engine, found)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)
    return found


def check(engine: Engine) -> None:
    """Compare the tables with what this program expects. Raises OutdatedDatabaseError on a difference."""
    from alembic import command
    from alembic.util import CommandError

    with engine.connect() as connection:
        found = current(connection)
        if found is not None:
            _refuse_newer(engine, found)
        if found != REVISION:
            raise OutdatedDatabaseError(
                f"{describe(engine.url)} is at revision {found or 'none'}, this tunedb needs {REVISION}: run "
                "`tunedb db upgrade`"
            )
        config = _config()
        config.attributes["connection"] = connection
        try:
            command.check(config)
        except CommandError as error:
            raise OutdatedDatabaseError(f"{describe(engine.url)}: {error}: restore a backup") from error


def script_location() -> Path:
    """Where the migrations lie: in the installed package, or in the source tree."""
    installed = Path(__file__).parent / "_schema"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "schema"


def _config() -> "Config":
    import io

    from alembic.config import Config

    # Alembic reports to a stream; a library has no business with the terminal.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    return config


def _refuse_newer(engine: Engine, found: str) -> None:
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    try:
        ScriptDirectory.from_config(_config()).get_revision(found)
    except CommandError as error:
        raise NewerDatabaseError(
            f"{describe(engine.url)} is at revision {found}, which this tunedb (up to {REVISION}) does not know: "
            "upgrade tunedb, or name another database"
        ) from error
