"""``tunedb verify``: measure stored trials again."""

import math

import click

import tunedb
from tunedb.cli.common import (
    Exit,
    WorkloadOrTrial,
    any_threads_option,
    count_option,
    database_option,
    duration,
    fail,
    json_option,
    print_json,
    print_table,
)
from tunedb.compare import Measured
from tunedb.verifications import Verdict, Verification
from tuner.target import Target
from tuner.workload import Workload


@click.command()
@click.argument("what", nargs=-1, required=True, type=WorkloadOrTrial())
@count_option(1, "How many of the best schedules of each workload.")
@any_threads_option
@database_option
@json_option
def verify(what: tuple[Workload | str, ...], count: int, threads: int | None, url: str | None, as_json: bool) -> None:
    """Measure stored trials of this machine again, compare their outputs, and store what is found.

    WHAT is workloads, whose best schedules are taken, or trials, each by 8 or more characters of its fingerprint. Best
    forgets a trial whose output is wrong; one that became faster or slower stays, and is said to have drifted.
    """
    from tunedb.verify import verify as measure_again  # needs the compiler

    place = Target.host(threads) if threads else None
    with tunedb.open(url) as db:
        trials: dict[str, Measured] = {}
        for each in what:
            if isinstance(each, str):
                found = [db.trial(each)]
            else:
                found = [Measured(best.fingerprint, best.trial) for best in db.top(each, count, place)]
            trials |= {one.fingerprint: one for one in found}
        done = measure_again(db, list(trials.values()))
    if as_json:
        print_json({"verified": [_as_json(trials[one.trial], one) for one in done]})
    else:
        _print(trials, done)
    bad = sum(one.status in (Verdict.WRONG, Verdict.FAILED) for one in done)
    if bad:
        fail(
            f"{bad} of {len(done)} trials are not what they were; those with a wrong output are retracted", Exit.FAILED
        )


def _as_json(trial: Measured, found: Verification) -> dict[str, object]:
    return {"workload": trial.trial.workload.key, "target": trial.trial.target.name, **found.to_json()}


def _print(trials: dict[str, Measured], done: tuple[Verification, ...]) -> None:
    rows = [
        (
            trials[found.trial].trial.workload.label,
            found.trial[:12],
            duration(found.before) if found.before else "-",
            duration(found.seconds) if found.seconds else "-",
            f"{found.ratio:.3f}" if found.ratio else "-",
            found.status.value,
            found.message or "",
        )
        for found in done
    ]
    print_table([("workload", "trial", "before", "now", "now / before", "verdict", ""), *rows])
    ratios = [found.ratio for found in done if found.ratio]
    if len(ratios) > 1:
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        click.echo(f"  all together take {mean:.3f} times as long as before: what they share is the machine's doing")
