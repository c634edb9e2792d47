"""``tunedb import``, ``export`` and ``quarantine``: trials from and to files."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

import tunedb
from tunedb.cli.common import (
    Exit,
    NameType,
    WorkloadType,
    complain,
    count_option,
    database_option,
    json_option,
    name_values,
    print_json,
    printable,
    say,
)
from tunedb.foreign import ForeignWorkload
from tunedb.formats.common import Imported
from tunedb.formats.registry import FORMATS
from tunedb.formats.selection import Selection
from tunedb.formats.writer import open_writer
from tuner.workload import Workload

_READABLE = [name for name, each in FORMATS.items() if each.read]
_WRITABLE = [name for name, each in FORMATS.items() if each.write or each.write_file]


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    type=click.Choice(["auto", *_READABLE]),
    default="auto",
    show_default=True,
    help="The format of FILE; auto tells it from its beginning.",
)
@click.option(
    "--machine", type=NameType(), metavar="NAME", help="The machine that FILE is about; part of its targets' identity."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=name_values,
    metavar="KEY=VALUE",
    help="What else its targets leave out, such as cpu=3700x; part of their identity. May be given several times.",
)
@click.option("--strict", is_flag=True, help="End at the first record that cannot be read, with nothing written.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@database_option
@json_option
def import_(
    files: tuple[str, ...],
    format: str,
    machine: str | None,
    labels: dict[str, str],
    strict: bool,
    dry_run: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Add the records of each FILE (a log, perhaps gzipped; - is standard input) that are not stored yet."""
    good = True
    with tunedb.open(url) as db, _progress(files) as progress:
        for done in db.import_logs(
            files, format, machine=machine, labels=labels, strict=strict, dry_run=dry_run, progress=progress
        ):
            good &= _report(done, dry_run=dry_run, as_json=as_json, named=len(files) > 1)
    if not good:
        raise SystemExit(Exit.FAILED)


def _report(done: Imported, *, dry_run: bool, as_json: bool, named: bool) -> bool:
    """Say what became of a log, and whether that is good."""
    if as_json:
        report = asdict(done)
        reasons = [{"line": item.line, "reason": item.reason} for item in report.pop("rejected")]
        print_json({**report, "dry_run": dry_run, "reasons": reasons})
    elif done.read or done.error is None:
        would = "would be: " if dry_run else ""
        name = f"{done.file}: " if named else ""
        say(
            f"{name}read {done.read} in format {done.format}: {would}{done.new} new, {done.duplicate} duplicate, "
            f"{done.quarantined} quarantined"
        )
        for item in done.rejected:
            say(f"  line {item.line}: {item.reason}", err=True)
        if done.quarantined > len(done.rejected):
            click.echo(f"  and {done.quarantined - len(done.rejected)} more: tunedb quarantine", err=True)
    if done.error is not None:
        complain(done.error)
    elif done.quarantined and done.quarantined == done.read:
        complain(f"{done.file}: no record could be imported: is it a log in format {done.format}?")
    else:
        return True
    return False


@click.command()
@click.option(
    "--format", type=click.Choice(_WRITABLE), default="tunedb", show_default=True, help="The format to write."
)
@click.option("--workload", type=WorkloadType(), metavar="WORKLOAD", help="Only the trials of this workload.")
@click.option("--target", metavar="TARGET", help="Only those on this target: its name, machine or fingerprint.")
@click.option(
    "--output",
    "-o",
    "file",
    metavar="FILE",
    default="-",
    help="Where to write; gzipped when it ends in .gz; else, or with -, standard output.",
)
@click.option("--redact", is_flag=True, help="Replace the names of hosts and users by hashes that nobody can guess.")
@database_option
@json_option
def export(
    format: str,
    workload: Workload | ForeignWorkload | None,
    target: str | None,
    file: str,
    redact: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Write trials to a file, the oldest first: those that the format has room for."""
    if as_json and file == "-":
        raise click.UsageError("--json needs --output FILE: standard output is taken by the trials")
    chosen = FORMATS[format]
    with tunedb.open(url) as db:
        place = None if target is None else db.target_named(target)
        selection = Selection(workload, place, db.redactor() if redact else None)
        if chosen.write_file is not None:
            if file == "-":
                raise click.UsageError(f"{format} needs --output FILE: it is no text")
            written = chosen.write_file(db, Path(file), selection)
        else:
            assert chosen.write is not None
            with open_writer(file) as stream:
                written = chosen.write(db, stream, selection)
    if as_json:
        print_json({"written": written})
    elif file != "-":
        say(f"wrote {written} trials to {file}")


@click.command()
@count_option(20)
@click.option("--clear", is_flag=True, help="Forget all of them.")
@database_option
@json_option
def quarantine(count: int, clear: bool, url: str | None, as_json: bool) -> None:
    """List the records that could not be imported: file, line, reason and how they begin."""
    with tunedb.open(url) as db:
        number, records = db.quarantine(count)
        if clear:
            db.clear_quarantine()
    if as_json:
        items = [{**asdict(each), "created": each.created.isoformat()} for each in records]
        print_json({"quarantined": number, "cleared": clear, "records": items})
        return
    for each in records:
        say(f"{each.file}:{each.line}: {each.reason}\n  {printable(each.raw[:100])}")
    more = f", {number - len(records)} of them not listed" if number > len(records) else ""
    click.echo(f"{number} {'forgotten' if clear else 'in quarantine'}{more}")


@contextlib.contextmanager
def _progress(files: Sequence[str]) -> Iterator[Callable[[str, float | None], None] | None]:
    """A bar a file on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {file: bar.add_task(file, total=None if file == "-" else 1.0) for file in files}
        yield lambda file, fraction: bar.update(tasks[file], completed=fraction or 0.0)
