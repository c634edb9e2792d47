"""``tunedb tune``: watch a workload being tuned, and read what came of it."""

import shlex
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import tunedb
from tunedb.cli.common import (
    Exit,
    database_option,
    duration,
    fail,
    json_option,
    name_values,
    print_facts,
    print_json,
    print_table,
    say,
    speed,
    target_option,
    threads_option,
    tolerance_option,
    workload_argument,
)
from tunedb.confidence import Confidence, judge
from tunedb.engine import hide_password
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tuner.transfer import Report
    from tuner.tune import Result

TUNERS = ("model", "random", "grid", "genetic")  # those of tuner.tuners, which takes long to import


@click.command()
@workload_argument
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="How many schedules to measure, those that fail included.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of every random choice; another seed is another session.",
)
@click.option(
    "--tuner", type=click.Choice(TUNERS), default="model", show_default=True, help="How to choose candidates."
)
@click.option(
    "--set",
    "pins",
    multiple=True,
    callback=name_values,
    metavar="NAME=VALUE",
    help="Search only where this knob of the template has this value, such as algorithm=direct. May be given several "
    "times; other values are another session.",
)
@click.option("--cold", is_flag=True, help="Learn nothing from the other trials in the database.")
@tolerance_option
@target_option
@threads_option
@database_option
@json_option
def tune(
    workload: Workload,
    trials: int,
    seed: int,
    tuner: str,
    pins: dict[str, str],
    cold: bool,
    isa: str | None,
    threads: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Measure schedules of WORKLOAD on this machine, store every trial, and say what was found.

    The same command goes on where an earlier one stopped, and measures nothing twice. The tuner "model" starts with
    what all trials in the database teach about this workload.
    """
    from tuner.measure import Measurer

    if cold and tuner != "model":
        raise click.UsageError(f"--cold is for the tuner model: {tuner} learns from no other trials anyway")
    target = Target.host(threads, isa)
    if target.threads > target.cores:
        click.echo(f"Warning: {target.threads} threads share {target.cores} cores: the times say little.", err=True)
    reports: list[Report] = []
    with tunedb.open(url) as db:
        try:
            with Watch(workload, target, trials) as watch:
                result = tunedb.tune(
                    workload,
                    db=db,
                    trials=trials,
                    seed=seed,
                    threads=threads,
                    isa=isa,
                    tuner=tuner,
                    pins=pins,
                    cold=cold,
                    on_warm=reports.append,
                    on_start=watch.start,
                    on_trial=watch.trial,
                )
            with Measurer(target) as measurer:
                peak = measurer.peak() / 1e9
        except KeyboardInterrupt:
            click.echo("Interrupted. Every finished trial is stored; to go on, give the same command again.", err=True)
            raise SystemExit(Exit.INTERRUPTED) from None
        place = db.url
    confidence = _confidence(result)
    warm = reports[0] if reports else None
    if as_json:
        arguments = {"workload": workload.key, "target": target.to_json(), "tuner": tuner, "seed": seed, "set": pins}
        start = {"warm_start": warm.to_json() if warm else None}
        print_json({**arguments, **_summary(result, confidence, peak), **start, "database": place})
    else:
        _report(workload, target, result, confidence, peak, place)
        if warm:
            _print_warm(warm)
    if result.best is None:
        fail(
            f"no schedule of {workload.label} gave a correct result; the last one: {result.trials[-1].message}",
            Exit.FAILED,
        )
    if not as_json:
        _print_next(workload, isa, url)


class Watch:
    """The progress of a session, on a terminal; drawn between trials only, as a drawing thread disturbs their times."""

    def __init__(self, workload: Workload, target: Target, trials: int) -> None:
        console = Console(stderr=True)
        self._shown = console.is_terminal
        self._progress = Progress(
            TextColumn(f"{workload.label} on {target.name}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            disable=not self._shown,
        )
        self._task = self._progress.add_task("starting", total=trials)
        self._began = monotonic()
        self._new = 0
        self._trials: list[Trial] = []

    def __enter__(self) -> "Watch":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, stored: Sequence[Trial]) -> None:
        """The session goes on after these."""
        self._trials.extend(stored)
        self._began = monotonic()
        self._draw()

    def trial(self, trial: Trial) -> None:
        """One more was measured and stored."""
        self._trials.append(trial)
        self._new += 1
        self._draw()

    def _draw(self) -> None:
        if not self._shown:
            return
        speeds = [trial.gflops for trial in self._trials if trial.gflops is not None]
        parts = [
            f"best {speed(max(speeds))}" if speeds else "no time yet",
            f"{len(self._trials) - len(speeds)} failed",
            f"{(monotonic() - self._began) / self._new:.3f} s/trial" if self._new else "starting",
        ]
        self._progress.update(self._task, completed=len(self._trials), description=", ".join(parts), refresh=True)


def _confidence(result: "Result") -> Confidence | None:
    """How sure the best time of the session is, beside the fastest other schedule of the session."""
    if result.best is None:
        return None
    others = [trial for trial in result.trials if trial.seconds is not None and trial is not result.best]
    runner_up = min(others, key=lambda trial: trial.seconds or 0.0).times if others else None
    return judge(result.best.times, runner_up)


def _summary(result: "Result", confidence: Confidence | None, peak: float) -> dict[str, Any]:
    default, best = result.default, result.best
    spent = sum(result.shares.values())
    return {
        "trials": len(result.trials),
        "measured": len(result.trials) - result.failed,
        "failed": result.failed,
        "new": result.measured,
        "default_seconds": default and default.seconds,
        "default_gflops": default and default.gflops,
        "best_seconds": best and best.seconds,
        "best_gflops": best and best.gflops,
        "confidence": confidence and confidence.to_json(),
        "peak_gflops": peak,
        "seconds_per_trial": result.seconds_per_trial,
        "shares": {name: seconds / spent for name, seconds in result.shares.items()},
    }


def _report(
    workload: Workload, target: Target, result: "Result", confidence: Confidence | None, peak: float, place: str
) -> None:
    say(f"{workload.label} on {target.name}")
    rows = [
        (f"{name} schedule", duration(trial.seconds), speed(trial.gflops), f"{trial.gflops / peak:.0%} of the peak")
        for name, trial in (("default", result.default), ("best", result.best))
        if trial is not None and trial.seconds is not None and trial.gflops is not None
    ]
    print_table(rows)
    cost = "" if result.seconds_per_trial is None else f", {result.seconds_per_trial:.3f} s each"
    threads = f"{target.threads} thread{'s' * (target.threads > 1)}"
    facts = {
        "peak": f"{speed(peak)} on {threads}, in registers alone",
        "trials": f"{len(result.trials)}, of which {result.failed} failed; {result.measured} were new{cost}",
        "database": place,
    }
    print_facts({"sure": str(confidence), **facts} if confidence else facts)


def _print_warm(report: "Report") -> None:
    """What the session was told by earlier trials, and what that was worth."""
    click.echo(f"\nWarm start: {report.verdict}; {report.why}")
    left_out = "; ".join(f"{number} {reason}" for reason, number in report.left_out.items()) or "none"
    measured_on = "; ".join(f"{number} on {name}" for name, number in report.machines.items()) or "nothing"
    facts = {
        "learned from": f"{report.used} trials of {report.workloads} workloads",
        "machines": measured_on,
        "left out": left_out,
    }
    if report.rank_correlation is not None:
        worst = min(report.held_out, key=lambda one: one.rank_correlation)
        facts["held out"] = (
            f"rank correlation {report.rank_correlation:.2f} (median), "
            f"{worst.rank_correlation:.2f} at worst ({worst.workload}); --json has every workload"
        )
    if report.coverage is not None:
        facts["coverage"] = f"{report.coverage:.0%} of what its schedules are like was seen before"
    if report.nearest:
        facts["most alike"] = report.nearest[0]
    print_facts(facts)


def _print_next(workload: Workload, isa: str | None, url: str | None) -> None:
    target = f" --target {isa}" if isa else ""
    name = shlex.quote(workload.label) + target + (f" --db {shlex.quote(hide_password(url))}" if url else "")
    click.echo("\nNext:")
    print_facts(
        {
            f"tunedb best {name}": "the best schedule, and how sure it is",
            f"tunedb show {name} --what nest": "its loops; or: schedule, llvm, asm",
            f"tunedb run {name}": "run it here and compare it with the reference",
        }
    )
