"""``tunedb best``, ``top`` and ``stats``: what the database knows."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import click

import tunedb
from tunedb.cli.common import (
    WorkloadType,
    accuracy,
    any_threads_option,
    count_option,
    database_option,
    duration,
    json_option,
    place,
    print_facts,
    print_json,
    print_table,
    say,
    speed,
    target_option,
    tolerance_option,
    workload_argument,
)
from tunedb.errors import NotFoundError
from tunedb.explain import Explanation
from tunedb.fallback import SOURCES, Fallback, Prediction, Source
from tunedb.foreign import ForeignWorkload
from tunedb.freshness import LEVELS, Level
from tunedb.lookup import Best
from tunedb.verifications import Verification
from tuner.target import ISAS, Target
from tuner.workload import Workload

freshness_option = click.option(
    "--freshness",
    type=click.Choice(LEVELS),
    default="any",
    show_default=True,
    help="With what a time must have been taken: strict, all that may change it is as here; compatible, processor, "
    "protocol and LLVM's major version are; any.",
)


@click.command()
@click.argument("workload", type=WorkloadType())
@click.option(
    "--source",
    type=click.Choice([*SOURCES, "imported"]),
    default="exact",
    show_default=True,
    help="The least sure answer that will do. exact: what was verified on this machine; related: on another one; "
    "nearest: of another workload; predicted: by a cost model; default: what tuning starts from. imported: what "
    "another tool's log says, unverified.",
)
@click.option(
    "--target",
    metavar="TARGET",
    help=f"This machine as if it had no wider vectors than {', '.join(ISAS)}; with --source imported the target's "
    "name, machine, label or fingerprint.",
)
@click.option(
    "--explain", is_flag=True, help="Say what it was chosen from, how surely, and the command that finds it again."
)
@click.option(
    "--predict",
    is_flag=True,
    help="When none was measured, print the schedule that the cost model expects to be the fastest.",
)
@freshness_option
@tolerance_option
@any_threads_option
@database_option
@json_option
def best(
    workload: Workload | ForeignWorkload,
    source: Source | Literal["imported"],
    target: str | None,
    explain: bool,
    predict: bool,
    freshness: Level,
    threads: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Print the best verified schedule of WORKLOAD for this machine, or what another tool's log says is the best."""
    if source == "imported":
        if threads is not None or explain or predict or freshness != "any":
            raise click.UsageError(
                "--threads, --explain, --predict and --freshness are for our own trials: other tools' logs say less"
            )
        _print_imported(workload, target, url, as_json)
        return
    if target is not None and target not in ISAS:
        raise click.UsageError(f"--target is one of {', '.join(ISAS)}, or needs --source imported")
    if source != "exact" and (explain or predict):
        raise click.UsageError("--explain and --predict need --source exact: a fallback explains itself")
    if isinstance(workload, ForeignWorkload):
        raise NotFoundError(f"{workload.label} is known from imports only: ask with --source imported")
    where = place(threads, target)
    with tunedb.open(url) as db:
        if explain:
            _print_explanation(db.explain(workload, where, freshness=freshness), as_json)
            return
        found: Best | Fallback
        if predict and not _is_measured(db, workload, where):
            from tunedb import prior  # XGBoost takes its time to load

            found = prior.predict(db, workload, Target.host(threads, target))
        else:
            found = db.best(workload, where, freshness=freshness, source=source)
        if isinstance(found, Fallback):
            _print_fallback(found, as_json)
            return
        fresh = db.freshness(found)
    if as_json:
        print_json({**found.to_json(), "freshness": fresh.to_json()})
        return
    say(f"{workload.label} on {found.target.name}")
    print_facts(
        {
            "time": f"{duration(found.seconds)}, {speed(found.gflops)}",
            "sure": str(found.confidence),
            "error": f"{accuracy(found.error)}: correct",
            "source": f"{found.source}, trial {found.fingerprint[:12]} of {found.trial.created:%Y-%m-%d %H:%M} UTC"
            + (f", in {found.layer}" if found.layer else ""),
            "fresh": str(fresh),
            "template": found.trial.template,
        }
    )
    say(f"\n{found.schedule}")


def _print_explanation(found: Explanation, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
        return
    best, other = found.best, found.runner_up
    say(f"{best.workload.label} on {best.target.name}")
    statuses = ", ".join(f"{number} {status}" for status, number in found.statuses.items())
    print_facts(
        {
            "best": f"{duration(best.seconds)}, trial {best.fingerprint[:12]}"
            + (f", in {best.layer}" if best.layer else ""),
            "runner-up": f"{duration(other.seconds)}, trial {other.fingerprint[:12]}" if other else "none",
            "sure": str(best.confidence),
            "error": f"{accuracy(best.error)}: correct",
            "measured": f"{best.trial.created:%Y-%m-%d %H:%M} UTC",
            "fresh": str(found.freshness),
            "where": ", ".join(f"{name} {fact}" for name, fact in best.environment.facts),
            "chosen from": f"{sum(found.statuses.values())} trials ({statuses}), {found.retracted} retracted, "
            f"{found.first:%Y-%m-%d} to {found.last:%Y-%m-%d}",
            "verified": _last_word(found.verifications),
            "again": found.command,
        }
    )


def _last_word(found: Sequence[Verification]) -> str:
    if not found:
        return "not measured again since"
    last = found[-1]
    ratio = f", {last.ratio:.3f} times as long" if last.ratio else ""
    return f"{last.status} on {last.created:%Y-%m-%d %H:%M} UTC{ratio}" + (
        f", the last of {len(found)} times" if len(found) > 1 else ""
    )


def _print_imported(workload: Workload | ForeignWorkload, target: str | None, url: str | None, as_json: bool) -> None:
    with tunedb.open(url) as db:
        (found,) = db.imported(workload, target)
    if as_json:
        print_json(found.to_json())
        return
    assert found.seconds is not None  # else it would be no answer
    say(f"{workload.label} on {found.target.name}")
    print_facts(
        {
            "time": duration(found.seconds) + (f", {speed(found.gflops)}" if found.gflops else ""),
            "sure": f"median of {len(found.times)} repeats; unverified: nobody has compared its output here",
            "source": f"imported, record {found.fingerprint[:12]}"
            + (f" of {found.created:%Y-%m-%d %H:%M} UTC" if found.created else ""),
            "template": found.template,
        }
    )
    click.echo(f"\n{json.dumps(found.schedule)}")


def _is_measured(db: tunedb.Database, workload: Workload, where: Target | None) -> bool:
    try:
        db.best(workload, where)
    except NotFoundError:
        return False
    return True


def _print_fallback(found: Fallback, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json())
        return
    say(f"{found.workload.label} on {found.target.name}: {found.source}, not measured")
    loss = "unknown: nothing comparable was measured"
    if found.expected_loss is not None:
        loss = f"{found.expected_loss:.1%} of the best speed, the mean over {found.held_out} held-out workloads"
    facts = {"loss": loss, "template": found.template}
    if isinstance(found, Prediction):
        facts["scored"] = f"{found.scored} legal schedules, {'all there are' if found.whole else 'a sample'}"
        facts["by"] = f"model {found.model[:12]}"
    if (origin := found.origin) is not None:
        facts["taken from"] = f"{origin.workload.label} on {origin.target.name}, trial {origin.fingerprint[:12]}"
        facts["there"] = f"{duration(origin.seconds)}, {speed(origin.gflops)}"
        facts["distance"] = f"{found.distance:.1f} (octaves between sizes, one for each different word)"
    print_facts({**facts, "better": f"`tunedb tune '{found.workload.label}'` measures"})
    say(f"\n{found.schedule}")


@click.command()
@workload_argument
@count_option(10)
@freshness_option
@tolerance_option
@target_option
@any_threads_option
@database_option
@json_option
def top(
    workload: Workload,
    count: int,
    freshness: Level,
    isa: str | None,
    threads: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """List the best verified schedules of WORKLOAD for this machine, the quickest first."""
    with tunedb.open(url) as db:
        found = db.top(workload, count, place(threads, isa), freshness=freshness)
    if as_json:
        print_json({"schedules": [item.to_json() for item in found]})
        return
    click.echo(f"{workload.label} on this machine")
    layered = found[0].layer is not None
    print_table(
        [
            ("", "time", "speed", "repeats", "threads", "trial", *(["layer"] if layered else []), "configuration"),
            *(
                (
                    str(place),
                    duration(item.seconds),
                    speed(item.gflops),
                    str(item.confidence.repeats),
                    str(item.target.threads),
                    item.fingerprint[:12],
                    *([item.layer or ""] if layered else []),
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
        (found, *bases) = [{**asdict(layer.stats()), "database": layer.url} for layer in db.layers]
    if as_json:
        print_json({**found, "bases": bases})
        return
    for layer in (found, *bases):
        statuses = ", ".join(f"{number} {status}" for status, number in layer.pop("statuses").items() if number)
        place = layer.pop("database")
        counts = {name: str(number) for name, number in layer.items()}
        print_facts({**counts, "ended": statuses or "-", "database" if layer is found else "base": place})
