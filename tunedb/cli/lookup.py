"""``tunedb best``, ``top`` and ``stats``: what the database knows."""

from dataclasses import asdict

import click

import tunedb
from tunedb.cli.common import (
    database_option,
    duration,
    json_option,
    print_columns,
    print_json,
    speed,
    target_of,
    threads_option,
    workload_argument,
)
from tuner.workload import Workload


@click.command()
@workload_argument
@threads_option
@database_option
@json_option
def best(workload: Workload, threads: int | None, url: str | None, as_json: bool) -> None:
    """Print the best verified schedule of WORKLOAD on this machine."""
    with tunedb.open(url) as db:
        found = db.best(workload, target_of(threads))
    if as_json:
        print_json(found.to_json())
        return
    click.echo(f"{workload.label} on {found.target.name}")
    print_columns(
        [
            ("time", f"{duration(found.seconds)}, {speed(found.gflops)}"),
            ("confidence", f"{found.confidence}"),
            ("error", f"{found.error:.2g} of the largest reference value"),
            ("source", found.source),
        ]
    )
    click.echo("\n" + str(found.schedule))
