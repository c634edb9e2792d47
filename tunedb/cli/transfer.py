"""``tunedb import`` and ``tunedb export``: trials from and to files."""

import click

import tunedb
from tunedb.cli.common import Exit, database_option, fail, json_option, print_json
from tunedb.formats import native, open_reader, open_writer
from tuner.workload import Workload

_MOST_REASONS = 10  # quarantined lines that are explained


@click.command("import")
@click.argument("file")
@database_option
@json_option
def import_(file: str, url: str | None, as_json: bool) -> None:
    """Add the trials of FILE (JSON Lines, perhaps gzipped; - is standard input) that are not stored yet."""
    with tunedb.open(url) as db, open_reader(file) as lines:
        done = native.import_(db, lines)
    if as_json:
        print_json(
            {
                "read": done.read,
                "new": done.new,
                "duplicate": done.duplicate,
                "quarantined": done.quarantined,
                "reasons": [{"line": item.line, "reason": item.reason} for item in done.rejected[:_MOST_REASONS]],
            }
        )
    else:
        click.echo(f"read {done.read}: {done.new} new, {done.duplicate} duplicate, {done.quarantined} quarantined")
        for item in done.rejected[:_MOST_REASONS]:
            click.echo(f"  line {item.line}: {item.reason}", err=True)
        if done.quarantined > _MOST_REASONS:
            click.echo(f"  and {done.quarantined - _MOST_REASONS} more", err=True)
    if done.quarantined and done.quarantined == done.read:
        fail(f"{file}: no record could be imported: is it a log that `tunedb export` wrote?", Exit.FAILED)


@click.command()
@click.option("--workload", type=tunedb.workload, metavar="WORKLOAD", help="Only the trials of this workload.")
@click.option(
    "--output",
    "-o",
    "file",
    metavar="FILE",
    default="-",
    help="Where to write; gzipped when it ends in .gz; else, or with -, standard output.",
)
@database_option
@json_option
def export(workload: Workload | None, file: str, url: str | None, as_json: bool) -> None:
    """Write trials as JSON Lines, one a line, the oldest first."""
    if as_json and file == "-":
        raise click.UsageError("--json needs --output FILE: standard output is taken by the trials")
    with tunedb.open(url) as db, open_writer(file) as stream:
        written = native.export(db, stream, workload)
    if as_json:
        print_json({"written": written})
    elif file != "-":
        click.echo(f"wrote {written} trials to {file}")
