"""``tunedb best``, ``top`` and ``stats``: what the database knows."""

from dataclasses import asdict

import click

import tunedb
from tunedb.cli.common import (
    accuracy,
    any_threads_option,
    database_option,
    duration,
    json_option,
    print_facts,
    print_json,
    print_table,
    speed,
    workload_argument,
)
from tunedb.errors import NotFoundError
from tuner.target import Target
from tuner.workload import Workload


@click.command()
@workload_argument
@click.option(
    "--predict",
    is_flag=True,
    help="When none was measured, print the schedule that the cost model expects to be the fastest.",
)
@any_threads_option
@database_option
@json_option
def best(workload: Workload, predict: bool, threads: int | None, url: str | None, as_json: bool) -> None:
    """Print the best verified schedule of WORKLOAD for this machine."""
    with tunedb.open(url) as db:
        if predict and not _is_measured(db, workload, threads):
            _print_prediction(db, workload, threads, as_json)
            return
        found = db.best(workload, Target.host(threads) if threads else None)
    if as_json:
        print_json(found.to_json())
        return
    click.echo(f"{workload.label} on {found.target.name}")
    print_facts(
        {
            "time": f"{duration(found.seconds)}, {speed(found.gflops)}",
            "sure": str(found.confidence),
            "error": f"{accuracy(found.error)}: correct",
            "source": f"{found.source}, trial {found.fingerprint[:12]} of {found.trial.created:%Y-%m-%d %H:%M} UTC",
            "template": found.trial.template,
        }
    )
    click.echo(f"\n{found.schedule}")


def _is_measured(db: tunedb.Database, workload: Workload, threads: int | None) -> bool:
    try:
        db.best(workload, Target.host(threads) if threads else None)
    except NotFoundError:
        return False
    return True


def _print_prediction(db: tunedb.Database, workload: Workload, threads: int | None, as_json: bool) -> None:
    from tunedb.prior import predict

    found = predict(db, workload, Target.host(threads))
    if as_json:
        print_json(found.to_json())
        return
    loss = "unknown: no workload of this operator could be held out"
    if found.expected_loss is not None:
        loss = f"{found.expected_loss:.1%} of the best speed, the mean over {found.held_out} held-out workloads"
    click.echo(f"{workload.label} on {found.target.name}: predicted, not measured")
    print_facts(
        {
            "loss": loss,
            "scored": f"{found.scored} legal schedules, {'all there are' if found.whole else 'a sample'}",
            "source": f"predicted by model {found.model[:12]}; `tunedb tune` measures",
            "template": found.template,
        }
    )
    click.echo(f"\n{found.schedule}")


@click.command()
@workload_argument
@click.option("--count", "-n", type=click.IntRange(min=1), default=10, show_default=True, help="How many to list.")
@any_threads_option
@database_option
@json_option
def top(workload: Workload, count: int, threads: int | None, url: str | None, as_json: bool) -> None:
    """List the best verified schedules of WORKLOAD for this machine, the quickest first."""
    with tunedb.open(url) as db:
        found = db.top(workload, count, Target.host(threads) if threads else None)
    if as_json:
        print_json({"schedules": [item.to_json() for item in found]})
        return
    click.echo(f"{workload.label} on this machine")
    print_table(
        [
            ("", "time", "speed", "repeats", "threads", "trial", "configuration"),
            *(
                (
                    str(place),
                    duration(item.seconds),
                    speed(item.gflops),
                    str(item.confidence.repeats),
                    str(item.target.threads),
                    item.fingerprint[:12],
                    " ".join(f"{name}={value}" for name, value in item.to_json()["config"].items()),
                )
                for place, item in enumerate(found, 1)
            ),
        ]
    )


@click.command()
@database_option
@json_option
def stats(url: str | None, as_json: bool) -> None:
    """Print how much is stored."""
    with tunedb.open(url) as db:
        found, place = asdict(db.stats()), db.url
    if as_json:
        print_json({**found, "database": place})
        return
    statuses = ", ".join(f"{number} {status}" for status, number in found.pop("statuses").items() if number)
    print_facts({**{name: str(number) for name, number in found.items()}, "ended": statuses or "-", "database": place})
