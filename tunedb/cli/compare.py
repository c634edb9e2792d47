"""``tunedb compare``: A against B."""

import contextlib
from collections.abc import Mapping

import click

import tunedb
from tunedb.cli.common import (
    WorkloadOrTrial,
    database_of,
    database_option,
    duration,
    json_option,
    print_facts,
    print_json,
    print_table,
)
from tunedb.compare import Comparison, Side, Verdict, compare, compare_trials
from tunedb.database import open_to_read
from tuner.workload import Workload

_WORDS: dict[Verdict, str] = {"a": "A is faster", "b": "B is faster", "same": "the same", "undecided": "undecided"}


@click.command("compare")
@click.argument("what", nargs=-1, type=WorkloadOrTrial())
@click.option("--with", "other", metavar="URL", help="B is in this database, a URL or a SQLite file; A is in --db.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="TARGET",
    help="The target of both, or, given twice, of A and of B: its name or fingerprint; else this machine.",
)
@database_option
@json_option
def compare_(
    what: tuple[Workload | str, ...], other: str | None, targets: tuple[str, ...], url: str | None, as_json: bool
) -> None:
    """Compare A with B: two targets, two databases, or two trials.

    WHAT is workloads (else all that both have), of which the best of A is compared with the best of B, or two trials,
    each by 8 or more characters of its fingerprint.
    """
    trials = [each for each in what if isinstance(each, str)]
    workloads = [each for each in what if isinstance(each, Workload)]
    if len(targets) > 2 or (trials and (targets or workloads or len(trials) != 2)):
        raise click.UsageError("give two trials and nothing else, or workloads and at most two --target")
    if not trials and other is None and len(targets) < 2:
        raise click.UsageError("what is B? Give --with URL, or --target twice, or two trials")
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(tunedb.open(url))
        there = stack.enter_context(open_to_read(database_of(other))) if other else here
        places = [(here, targets[:1]), (there, targets[-1:])]
        a, b = (Side(db, db.target_named(target[0]) if target else None) for db, target in places)
        found = compare_trials(a, trials[0], b, trials[1]) if trials else compare(a, b, workloads)
        databases = {"a": here.url, "b": there.url}
    if as_json:
        print_json({"databases": databases, **found.to_json()})
    else:
        _print_comparison(found)
        _print_sides(found, databases)


def _print_comparison(found: Comparison) -> None:
    rows = [
        (
            pair.workload.label,
            duration(pair.a.seconds),
            duration(pair.b.seconds),
            f"{pair.ratio.value:.3f}",
            f"{pair.ratio.low:.3f} to {pair.ratio.high:.3f}",
            _WORDS[pair.verdict],
        )
        for pair in found.pairs
    ]
    print_table([("workload", "A", "B", "B / A", "interval", "verdict"), *rows])
    counts = ", ".join(f"{_WORDS[verdict]} {number}" for verdict, number in found.verdicts.items() if number)
    facts = {"geometric mean": f"{found.geometric_mean:.3f} over {len(rows)} ({counts})"}
    for name, only in (("only A has", found.only_a), ("only B has", found.only_b)):
        if only:
            facts[name] = ", ".join(workload.label for workload in only[:5]) + (", ..." if len(only) > 5 else "")
    print_facts(facts)


def _print_sides(found: Comparison, databases: Mapping[str, str]) -> None:
    facts = {}
    for name, measured in (("a", [pair.a for pair in found.pairs]), ("b", [pair.b for pair in found.pairs])):
        targets = sorted({each.trial.target.name for each in measured})
        facts[name.upper()] = f"on {', '.join(targets)}, in {databases[name]}"
    print_facts(facts)
