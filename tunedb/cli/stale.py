"""``tunedb stale``: what to measure again after a change of compiler or machine."""

import click

import tunedb
from tunedb.cli.common import count_option, database_option, duration, json_option, print_json, print_table
from tunedb.freshness import Level


@click.command()
@click.option(
    "--freshness",
    type=click.Choice(["strict", "compatible"]),
    default="strict",
    show_default=True,
    help="What to call stale: a time that was taken with anything else that may change it, or only with another "
    "processor, protocol or major version of LLVM.",
)
@count_option(20)
@database_option
@json_option
def stale(freshness: Level, count: int, url: str | None, as_json: bool) -> None:
    """List what to measure again on this machine, the cheapest first, each with the command that does it."""
    with tunedb.open(url) as db:
        found = db.stale(freshness)
    total = sum(one.seconds for one in found)
    if as_json:
        print_json({"stale": len(found), "seconds": total, "commands": [one.to_json() for one in found[:count]]})
        return
    if not found:
        click.echo(f"all answers for this machine are fresh ({freshness})")
        return
    print_table(
        [
            ("cost", "workload", "threads", "command", ""),
            *(
                (duration(one.seconds), one.workload.label, str(one.threads), one.command, one.why)
                for one in found[:count]
            ),
        ]
    )
    left = f" ({len(found) - count} more)" if len(found) > count else ""
    click.echo(f"  {len(found)} to measure again{left}, about {duration(total)} in all")
