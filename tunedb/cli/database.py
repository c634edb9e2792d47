"""``tunedb db``: the tables themselves."""

import click

from tunedb import migrate
from tunedb.cli.common import database_option, json_option, print_json
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
    engine = make_engine(url or default_url())
    with plain_errors(engine.url):
        before = migrate.upgrade(engine)
    if as_json:
        print_json({"database": describe(engine.url), "before": before, "revision": REVISION})
    elif before == REVISION:
        click.echo(f"{describe(engine.url)} is at revision {REVISION} already")
    else:
        click.echo(f"{describe(engine.url)}: {before or 'empty'} -> {REVISION}")


@database.command()
@database_option
@json_option
def current(url: str | None, as_json: bool) -> None:
    """Print the revision of the tables, and the one that this program needs."""
    engine = make_engine(url or default_url())
    with plain_errors(engine.url), engine.connect() as connection:
        revision = migrate.current(connection)
    if as_json:
        print_json({"database": describe(engine.url), "revision": revision, "needed": REVISION})
    else:
        click.echo(f"{describe(engine.url)} is at revision {revision or 'none'}; this program needs {REVISION}")


@database.command()
@database_option
@json_option
def check(url: str | None, as_json: bool) -> None:
    """Compare the tables, column by column, with what this program expects."""
    engine = make_engine(url or default_url())
    with plain_errors(engine.url):
        migrate.check(engine)
    if as_json:
        print_json({"database": describe(engine.url), "revision": REVISION, "matches": True})
    else:
        click.echo(f"{describe(engine.url)} is as this program expects it (revision {REVISION})")
