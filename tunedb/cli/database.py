"""``tunedb db``: the tables themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Engine

from tunedb import migrate
from tunedb.cli.common import database_option, json_option, print_json, say
from tunedb.engine import default_url, describe, make_engine, plain_errors
from tunedb.tables import REVISION


@click.group("db")
def database() -> None:
    """Make, upgrade and check the tables of a database."""


@database.command()
@database_option
@json_option
def upgrade(url: str | None, as_json: bool) -> None:
    """Bring the tables to the form that this program needs; make them where there are none."""
    with _engine(url) as engine:
        before = migrate.upgrade(engine)
    if as_json:
        print_json({"database": describe(engine.url), "before": before, "revision": REVISION})
    elif before == REVISION:
        say(f"{describe(engine.url)} is at revision {REVISION} already")
    else:
        say(f"{describe(engine.url)}: {before or 'empty'} -> {REVISION}")


@database.command()
@database_option
@json_option
def current(url: str | None, as_json: bool) -> None:
    """Print the revision of the tables, and the one that this program needs."""
    with _engine(url) as engine, engine.connect() as connection:
        revision = migrate.current(connection)
    if as_json:
        print_json({"database": describe(engine.url), "revision": revision, "needed": REVISION})
    else:
        say(f"{describe(engine.url)} is at revision {revision or 'none'}; this program needs {REVISION}")


@database.command()
@database_option
@json_option
def check(url: str | None, as_json: bool) -> None:
    """Compare the tables, column by column, with what this program expects."""
    with _engine(url) as engine:
        migrate.check(engine)
    if as_json:
        print_json({"database": describe(engine.url), "revision": REVISION, "matches": True})
    else:
        say(f"{describe(engine.url)} is as this program expects it (revision {REVISION})")


@contextmanager
def _engine(url: str | None) -> Iterator[Engine]:
    """The database as it is: ``tunedb.open`` would refuse one of another age, which is what these commands are for."""
    engine = make_engine(url or default_url())
    try:
        with plain_errors(engine.url):
            yield engine
    finally:
        engine.dispose()
