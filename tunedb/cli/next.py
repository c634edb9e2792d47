"""``tunedb next``: what to tune next."""

import click

import tunedb
from tunedb import networks
from tunedb.cli.common import (
    count_option,
    database_option,
    duration,
    json_option,
    print_json,
    print_table,
    say,
    threads_option,
)
from tunedb.priorities import TRIALS, agenda
from tuner.target import Target


@click.command("next")
@click.argument("network")
@count_option(10)
@threads_option
@database_option
@json_option
def next_(network: str, count: int, threads: int | None, url: str | None, as_json: bool) -> None:
    """List what to tune next for NETWORK: where the time of tuning is expected to pay off best.

    NETWORK is resnet18, mobilenet or vgg16, or a TOML file of your own with lines like "resnet18.C2" = 4: a workload
    and how often the network computes it.
    """
    weights = networks.load(network)
    with tunedb.open(url) as db:
        found = agenda(db, weights, Target.host(threads))
    if as_json:
        listed = found.to_json()
        print_json({**listed, "priorities": listed["priorities"][:count]})
        return
    say(f"{network} on {found.target.name}: {duration(found.seconds)} a pass, as far as it is known")
    rows = [
        (
            str(place),
            each.workload.label,
            f"{each.weight:g}",
            duration(each.seconds) + ("" if each.measured else " ?"),
            duration(each.reachable),
            str(each.trials),
            duration(each.gain) if each.gain else "0",
            duration(each.cost),
            each.basis,
        )
        for place, each in enumerate(found.priorities[:count], 1)
    ]
    print_table([("", "workload", "weight", "now", "in reach", "trials", "gain a pass", "cost", "in reach is"), *rows])
    click.echo(f"  gain and cost are expected of {TRIALS} more trials; ? is what a default schedule would take")
    if found.priorities[0].gain:
        click.echo(f"\nNext: {found.priorities[0].command}")
