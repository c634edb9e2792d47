"""``tunedb experiment``: which search, which model, which features: asked of stored trials, or of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import tunedb
from tunedb.cli.common import database_option, json_option, print_json, print_table
from tunedb.errors import UnknownNameError

if TYPE_CHECKING:
    from tunedb.experiments.declared import Experiment

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("experiments"),
    show_default=True,
    help="Where the files are that declare experiments.",
)
ROUNDS = 200  # of the model of `replay`

results_option = click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("experiments/results"),
    show_default=True,
    help="Where the results of runs are kept.",
)


@click.group()
def experiment() -> None:
    """Ask a question about searching, and answer it with medians over seeds: see docs/experiments.md."""


@experiment.command("list")
@folder_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List the experiments that the files in a folder declare."""
    from tunedb.experiments.declared import find

    found = find(folder)
    if as_json:
        entries = [
            {
                "name": each.name,
                "title": each.title,
                "mode": each.mode,
                "question": each.question,
                "arms": [arm.name for arm in each.arms],
                "workloads": list(each.workloads),
                "trials": each.trials,
                "seeds": each.seeds,
            }
            for each in found
        ]
        print_json({"experiments": entries})
    else:
        rows = [(each.name, each.mode, f"{len(each.arms)} arms", each.title) for each in found]
        print_table([("experiment", "mode", "", "title"), *rows])


@experiment.command()
@click.argument("names", nargs=-1)
@click.option(
    "--data",
    metavar="FILE|URL",
    help="The trials, an exported log or a database, to replay or to learn from; else what the file names.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes; else one a processor.")
@click.option("--mode", type=click.Choice(["replay", "real"]), help="Without NAMES: only experiments of this mode.")
@folder_option
@results_option
@json_option
def run(
    names: tuple[str, ...],
    data: str | None,
    jobs: int | None,
    mode: str | None,
    folder: Path,
    results: Path,
    as_json: bool,
) -> None:
    """Run the experiments NAMES, or all replays. What was run before is not run again, so a stopped one goes on."""
    from tunedb.experiments.declared import ExperimentError
    from tunedb.experiments.processes import available
    from tunedb.experiments.runner import run as run_experiments
    from tuner.experiment.arms import missing

    chosen = {}
    for each in _chosen(folder, names, mode or ("" if names else "replay")):
        if needed := next((needs for arm in each.arms if (needs := missing(arm))), None):
            if names:
                raise ExperimentError(f"{each.name} needs {needed}")
            click.echo(f"{each.name} is left out: it needs {needed}", err=True)
        else:
            chosen[folder / f"{each.name}.toml"] = each
    done = {each.name: len(each.arms) * each.seeds * len(each.workloads) for each in chosen.values()}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = {name: bar.add_task(name, total=total) for name, total in done.items()}
        run_experiments(chosen, results, data, jobs or available(), lambda name, count: bar.advance(tasks[name], count))
    if not as_json:
        for name, count in done.items():
            click.echo(f"{name}: {count} runs")
    if as_json:
        print_json({"runs": done, "results": str(results)})


@experiment.command()
@click.argument("names", nargs=-1)
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("experiments/report"),
    show_default=True,
    help="The folder to write the page, the figures and the numbers into.",
)
@folder_option
@results_option
@json_option
def report(names: tuple[str, ...], output: Path, folder: Path, results: Path, as_json: bool) -> None:
    """Write a page with tables and figures of the experiments NAMES, or of all that were run."""
    from tunedb.experiments.report import OTHER_PROGRAM, PAGE
    from tunedb.experiments.report import report as write_report

    chosen = _chosen(folder, names, "")
    if not names:
        chosen = [each for each in chosen if (results / each.name / "data.json").exists()]
    output.mkdir(parents=True, exist_ok=True)
    summaries = write_report(chosen, results, output)
    if as_json:
        print_json({"page": str(output / PAGE), "experiments": summaries})
        return
    for summary in summaries:
        for goal in summary["goals"]:
            click.echo(f"{'met    ' if goal['met'] else 'not met'}  {summary['experiment']}: {goal['goal']}")
        if not summary["this_program"]:
            click.echo(f"{summary['experiment']} was {OTHER_PROGRAM}", err=True)
    click.echo(f"{output / PAGE}: {len(summaries)} experiments")


@experiment.command()
@click.option(
    "--operator", default="conv2d", show_default=True, metavar="NAME", help="The operator whose layers are held out."
)
@click.option(
    "--holdout",
    type=click.Choice(["layer", "network", "target"]),
    default="layer",
    show_default=True,
    help="What no model has seen: a quarter of the layers at a time, each network in turn, or each machine in turn.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Repetitions.")
@click.option("--folds", type=click.IntRange(min=2), default=4, show_default=True, metavar="N", help="Parts of layers.")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Learn from N random records of each layer; 0: all.",
)
@click.option(
    "--layers", type=click.IntRange(min=0), default=0, metavar="N", help="Learn from N random layers; 0: all."
)
@click.option(
    "--objective",
    type=click.Choice(["regression", "rank", "top-heavy"]),
    default="regression",
    show_default=True,
    help="What the model learns.",
)
@database_option
@json_option
def replay(
    operator: str,
    holdout: str,
    seeds: int,
    folds: int,
    rows: int,
    layers: int,
    objective: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Hold layers, networks or machines of a database out, and see what the rest teaches about them.

    Records of other tools count, when their templates are known. Nothing is measured and nothing is stored.
    """
    from tunedb.experiments.transfer import Question, transfer
    from tuner.cost_model.global_model import Settings

    question = Question(operator, holdout, seeds, folds, rows, layers)  # type: ignore[arg-type]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tunedb.open(url) as db, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        # As many rounds for every fold: which number is best for held-out layers makes a difference of 0.002. One
        # thread: on a machine that does other things, two wait for each other most of the time.
        settings = Settings(objective=objective, rounds=2 * ROUNDS, folds=1, threads=1)  # type: ignore[arg-type]
        found = transfer(
            db, question, settings, lambda what, share: bar.update(task, description=what, completed=share)
        )
    if as_json:
        print_json(found)
        return
    known = found["known"]
    click.echo(
        f"{operator}: {known['layers']} layers, {known['configurations']} configurations; "
        f"{holdout} held out, {seeds} seeds"
    )
    _print_transfer("all", found["overall"])
    for name, table in found["held_out"].items():
        _print_transfer(name, table)


def _print_transfer(title: str, table: Mapping[str, Any]) -> None:
    click.echo(f"\n{title}")
    heads = ("", "layers", "pairwise", "harmonic", "mean", "top-5", "trials to 95 %", "to 99 %")
    rows = [
        (
            name,
            str(row["layers"]),
            "-" if row["pairwise"] is None else f"{row['pairwise']:.3f}",
            *(f"{row[figure]:.3f}" for figure in ("harmonic_top1", "mean_top1", "top5")),
            *(
                "/".join("-" if n is None else str(n) for n in row[key].values())
                for key in ("trials_to_95", "trials_to_99")
            ),
        )
        for name, row in table.items()
    ]
    print_table([heads, *rows])


def _chosen(folder: Path, names: tuple[str, ...], mode: str) -> "list[Experiment]":
    from tunedb.experiments.declared import find, read

    if names:
        known = sorted(path.stem for path in folder.glob("*.toml"))
        if unknown := [name for name in names if name not in known]:
            there = f"there are {', '.join(known)}" if known else "name the folder of the TOML files with --folder"
            raise UnknownNameError(f"there is no experiment {unknown[0]!r} in {folder}: {there}")
        return [read(folder / f"{name}.toml") for name in names]
    return [each for each in find(folder) if mode in ("", each.mode)]
