"""``tunedb history``, ``merge``, ``retract``, ``check``, ``compact`` and ``backup``: what is stored, and care of it."""

from dataclasses import asdict
from pathlib import Path

import click

import tunedb
from tunedb.cli.common import (
    Exit,
    count_option,
    database_of,
    database_option,
    duration,
    fail,
    json_option,
    print_facts,
    print_json,
    print_table,
    say,
    workload_argument,
)
from tunedb.database import open_to_read
from tunedb.verifications import Verification
from tuner.trial import Trial, describe
from tuner.workload import Workload


@click.command()
@workload_argument
@count_option(20)
@click.option("--target", metavar="TARGET", help="Only those on this target: its name, machine or fingerprint.")
@database_option
@json_option
def history(workload: Workload, count: int, target: str | None, url: str | None, as_json: bool) -> None:
    """List the latest trials of WORKLOAD on all machines, failures too, the latest last."""
    with tunedb.open(url) as db:
        trials = db.history(workload, None if target is None else db.target_named(target))
        again = db.verifications(workload)
    if not trials:
        where = "" if target is None else f" on {target}"
        fail(
            f"no trial of {workload.label}{where} is stored: tune it with `tunedb tune '{workload.label}'`",
            Exit.NOT_FOUND,
        )
    shown = trials[-count:]
    if as_json:
        verifications = [each.to_json() for each in again]
        print_json(
            {"trials": [describe(trial) for trial in shown], "stored": len(trials), "verifications": verifications}
        )
        return
    click.echo(f"{len(shown)} of {len(trials)} trials of {workload.label}, {len(again)} measured again")
    lines = [(trial.created, _trial_line(trial)) for trial in shown]
    lines += [(each.created, _verification_line(each)) for each in again if shown and each.created > shown[0].created]
    if lines:
        ordered = [line for _, line in sorted(lines, key=lambda each: each[0])]
        print_table([("", "when (UTC)", "status", "time", "what"), *ordered])


def _trial_line(trial: Trial) -> tuple[str, ...]:
    config = " ".join(f"{name}={value}" for name, value in describe(trial)["config"].items())
    return (
        str(trial.sequence),
        f"{trial.created:%Y-%m-%d %H:%M:%S}",
        trial.status.value,
        duration(trial.seconds) if trial.seconds else "-",
        f"{trial.target.name}  {trial.message or config}",
    )


def _verification_line(found: Verification) -> tuple[str, ...]:
    before = f" (before: {duration(found.before)})" if found.before else ""
    return (
        "again",
        f"{found.created:%Y-%m-%d %H:%M:%S}",
        found.status.value,
        duration(found.seconds) if found.seconds else "-",
        f"trial {found.trial[:12]}{before} {found.message or ''}".rstrip(),
    )


@click.command()
@click.argument("other")
@database_option
@json_option
def merge(other: str, url: str | None, as_json: bool) -> None:
    """Add what OTHER, a database's URL or a SQLite file, has and this database lacks."""
    with tunedb.open(url) as db, open_to_read(database_of(other)) as there:
        done = db.merge(there)
    if as_json:
        print_json(asdict(done))
    else:
        print_facts({name: str(number) for name, number in asdict(done).items()})


@click.command()
@click.argument("trial")
@click.option("--reason", metavar="TEXT", help="Why it should not be used; needed unless it is restored.")
@click.option("--undo", is_flag=True, help="Take the retraction back.")
@database_option
@json_option
def retract(trial: str, reason: str | None, undo: bool, url: str | None, as_json: bool) -> None:
    """Mark TRIAL, 8 or more characters of a fingerprint, as not to be used: best forgets it, history does not."""
    if bool(reason) == undo:
        raise click.UsageError("give either --reason TEXT or --undo")
    with tunedb.open(url) as db:
        found = db.retract(trial, reason) if reason else db.restore(trial)
    if as_json:
        print_json({"trial": found, "retracted": reason})
    else:
        click.echo(f"trial {found[:12]} is {'retracted' if reason else 'as it was'}")


@click.command()
@database_option
@json_option
def check(url: str | None, as_json: bool) -> None:
    """Work out every fingerprint and median anew, look for damage, and say what is wrong."""
    with tunedb.open(url) as db:
        found = db.check()
    if as_json:
        print_json(asdict(found))
    else:
        for problem in found.problems:
            say(problem)
    if found.problems:
        fail(f"{len(found.problems)} problems in {found.rows} rows", Exit.FAILED)
    if not as_json:
        click.echo(f"{found.rows} rows are what they say")


@click.command()
@database_option
@json_option
def compact(url: str | None, as_json: bool) -> None:
    """Drop the schedules and environments that no trial refers to, and give the room back that nothing fills."""
    with tunedb.open(url) as db:
        done = db.compact()
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{done.before} bytes -> {done.after} bytes")
        print_facts({"schedules dropped": str(done.schedules), "environments dropped": str(done.environments)})


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@json_option
def backup(file: Path, url: str | None, as_json: bool) -> None:
    """Copy a SQLite database, as it is at one moment, to a new FILE, while others may write to it."""
    with tunedb.open(url) as db:
        db.backup(file)
    if as_json:
        print_json({"written": str(file)})
    else:
        say(f"wrote {file}")
