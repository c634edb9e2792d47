"""The page with all results: Markdown with figures, and the numbers behind them as JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunedb.experiments import figures, goals, stored
from tunedb.experiments.declared import Experiment, Goal, Reference
from tunedb.experiments.results import Results, collect
from tunedb.experiments.summary import MARKS, summarise

PAGE = "README.md"
OTHER_PROGRAM = "run by another version of the program than wrote this page"


def report(experiments: Sequence[Experiment], results: Path, folder: Path) -> list[dict[str, Any]]:
    """Write the page, ``NAME.json`` and the figures of each experiment into ``folder``; the summaries.

    Raises ExperimentError when an experiment was not run to its end.
    """
    parts: list[str] = []
    summaries: list[dict[str, Any]] = []
    for experiment in experiments:
        found = collect(experiment, results)
        summary = summarise(found)
        stored.write_json(folder / f"{experiment.name}.json", summary)
        drawn = [_DRAWN[name](found, folder / f"{experiment.name}-{name}.png") for name in experiment.figures]
        parts.append(_section(found, summary, drawn))
        summaries.append(summary)
    (folder / PAGE).write_text("\n\n".join([_INTRODUCTION, _overview(summaries), *parts]) + "\n", encoding="utf-8")
    return summaries


_INTRODUCTION = """# Results of the experiments

Written by `tunedb experiment report`. Speeds are relative to the best that is known of a workload. "After n" is the
mean over workloads and seeds of the best of the first n trials, "area" its mean over the logarithm of n; trials and
seconds to 95 % and 99 % are median / 75th / 90th percentile over workloads and seeds, and - is never. In a replay the
candidates are the recorded configurations, their recorded times are learned from, and the seconds are those that
measuring them took when they were recorded and choosing them took in the replay. "Random, expected" is worked out, not
drawn."""


def _overview(summaries: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"| {summary['title']} | {goal['goal']} | {_reached(goal)} | {'yes' if goal['met'] else '**no**'} |"
        for summary in summaries
        for goal in summary["goals"]
    ]
    return (
        "\n".join(["## Goals", "", "| experiment | goal | reached | met |", "|---|---|---|---|", *rows]) if rows else ""
    )


def _reached(goal: Mapping[str, Any]) -> str:
    if isinstance(goal["reached"], str):
        return goal["reached"]
    if isinstance(goal["reached"], list):
        return " and ".join(_number(value) for value in goal["reached"])
    return (
        f"{goal['reached']:.1f}x ({goal['against_first']:.1f}x against the moment that it had it; "
        f"{goal['within_noise']:.1f}x to within the noise of a timing)"
    )


def _section(results: Results, summary: Mapping[str, Any], drawn: Sequence[Path]) -> str:
    experiment = results.experiment
    marks = [mark for mark in MARKS if mark <= experiment.trials][::2]
    lines = [f"## {experiment.title}", "", experiment.question.strip(), "", _conditions(experiment, summary), ""]
    lines += [f"![{experiment.title}]({path.name})\n" for path in drawn]
    heads = " | ".join(f"after {mark}" for mark in marks)
    lines += [f"| | {heads} | area | trials to 95 % | to 99 % | seconds to 95 % |", "|---" * (len(marks) + 5) + "|"]
    for name, each in summary["arms"].items():
        lines.append(_row(name, each, marks, f"{each['area']:.3f}", _triple(each["seconds_to_95"], "{:.2f}")))
    if summary["random"]:
        lines.append(_row("Random, expected", summary["random"], marks, "", ""))
    training = {name: each["training_seconds"] for name, each in summary["arms"].items() if each["training_seconds"]}
    if training:
        took = ", ".join(f"{seconds:.1f} s ({name})" for name, seconds in training.items())
        lines += ["", f"Training on the sources took {took}, once for all workloads; it is not in the seconds above."]
    for goal, judged in zip(experiment.goals, summary["goals"], strict=True):
        if "worse" in judged:
            lines += ["", f"{judged['goal']}: {judged['reached']}.", "", *goals.table(judged)]
        if "trials" in judged:
            lines += ["", *_to_result(goal, judged["trials"], experiment.references)]
    if experiment.references:
        lines += ["", "From elsewhere:", "", "| | |", "|---|---|"]
        lines += [f"| {reference.name} | {reference.text} |" for reference in experiment.references]
    if len(experiment.workloads) > 1:
        lines += ["", "<details><summary>Trials to 95 % by workload</summary>", "", *_by_workload(results, summary)]
        lines += ["", "</details>"]
    return "\n".join(lines)


def _to_result(goal: Goal, trials: Mapping[str, Sequence[float | None]], references: Sequence[Reference]) -> list[str]:
    """In how many trials an arm has the result of another one's search, beside figures from elsewhere."""
    rows = {goal.arm: {label: _triple(each) for label, each in trials.items()}}
    rows |= {reference.name: reference.trials for reference in references if reference.trials}
    shares = "/".join(f"{share:.0%}" for share in goals.RESULTS)
    return [
        f"Trials to {shares} of what {goal.at} trials of {goal.than} found, median over the seeds; from elsewhere, to "
        "the result of a long search of their own, where ? is not known:",
        "",
        f"| | {' | '.join(trials)} |",
        "|---" * (len(trials) + 1) + "|",
        *(f"| {name} | {' | '.join(each.get(label, '') for label in trials)} |" for name, each in rows.items()),
    ]


def _conditions(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    runs = f"{len(experiment.workloads)} workloads, {experiment.seeds} seeds, {experiment.trials} trials"
    stale = "" if summary["this_program"] else f" {OTHER_PROGRAM[0].upper()}{OTHER_PROGRAM[1:]}."
    if experiment.mode == "real":
        return f"Real: {runs}, {experiment.threads} thread(s).{stale}"
    facts = summary["data"]["environment"]
    where = ", ".join(facts[name] for name in ("cpu", "os") if name in facts)
    learned = f" Learned from {len(experiment.sources)} workloads." if experiment.sources else ""
    only = f" Only configurations with {', '.join(f'{k}={v}' for k, v in experiment.knobs.items())}." * bool(
        experiment.knobs
    )
    return f"Replay of trials measured on {where}, LLVM {facts.get('llvm', 'unknown')}: {runs}.{learned}{only}{stale}"


def _row(name: str, each: Mapping[str, Any], marks: Sequence[int], area: str, seconds: str) -> str:
    after = " | ".join(f"{each['after'][str(mark)]:.3f}" for mark in marks)
    trials = f"{_triple(each['trials_to_95'])} | {_triple(each['trials_to_99'])}"
    return f"| {name} | {after} | {area} | {trials} | {seconds} |"


def _triple(values: Sequence[float | None], form: str = "{:g}") -> str:
    return "/".join("-" if value is None else form.format(value) for value in values)


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:g}"


def _by_workload(results: Results, summary: Mapping[str, Any]) -> list[str]:
    names = list(summary["arms"])
    lines = [f"| workload | best known, GFLOP/s | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for label in results.experiment.workloads:
        cells = [_triple(summary["arms"][name]["workloads"][label]["trials_to_95"]) for name in names]
        lines.append(f"| {label} | {results.best(label):.1f} | {' | '.join(cells)} |")
    return lines


def _trials(results: Results, path: Path) -> Path:
    """Best so far over trials, a panel for each workload; with more than nine, one panel of all together."""
    experiment = results.experiment
    colours = figures.colours([arm.name for arm in experiment.arms])
    steps = np.arange(1.0, experiment.trials + 1)
    together = len(experiment.workloads) > 9
    figure, axes = figures.panels(1 if together else len(experiment.workloads), *((7.0, 4.2) if together else ()))
    for panel, label in zip(axes, [""] if together else experiment.workloads, strict=True):
        for arm in experiment.arms:
            curves = _mean_curves(results, arm.name) if together else results.relative(arm.name, label)
            figures.band(panel, steps, curves, arm.name, colours[arm.name])
        if experiment.mode == "replay":
            described = results.data["workloads"]
            some = experiment.workloads if together else (label,)
            expected = [np.array(described[each]["random_expected"]) / results.best(each) for each in some]
            length = min(map(len, expected))
            mean = np.mean([row[:length] for row in expected], axis=0)
            figures.baseline(panel, steps[:length], mean, "Random, expected")
        panel.set_title(label or f"mean of {len(experiment.workloads)} workloads", fontsize=8)
    scale = {"xscale": "log"} if experiment.sources else {}
    limits = {"xlim": (1, experiment.trials), "ylim": (None, 1.01)}
    figures.finish(figure, axes, path, xlabel="trials", ylabel="best so far / best known", **limits, **scale)
    return path


def _mean_curves(results: Results, arm: str) -> Any:
    """(seeds, trials): the mean over the workloads for each seed."""
    return np.mean([results.relative(arm, label) for label in results.experiment.workloads], axis=0)


def _seconds(results: Results, path: Path) -> Path:
    """Best so far over the seconds of choosing and measuring."""
    experiment = results.experiment
    colours = figures.colours([arm.name for arm in experiment.arms])
    figure, axes = figures.panels(len(experiment.workloads))
    for panel, label in zip(axes, experiment.workloads, strict=True):
        every = [run for runs in results.runs.values() for run in runs[label]]
        ends = [float(run.clock()[-1]) for run in every]
        steps = np.geomspace(min(float(run.clock()[0]) for run in every), min(ends), 200)
        for arm in experiment.arms:
            curves = np.array([_at(run.clock(), run.best(), steps) for run in results.runs[arm.name][label]])
            figures.band(panel, steps, curves / results.best(label), arm.name, colours[arm.name])
        panel.set_title(label, fontsize=8)
    figures.finish(figure, axes, path, xlabel="seconds", ylabel="best so far / best known", xscale="log")
    return path


def _at(clock: Any, best: Any, steps: Any) -> Any:
    """The best at given times; 0 before the first trial has ended."""
    return np.concatenate([[0.0], best])[np.searchsorted(clock, steps, side="right")]


def _bars(results: Results, path: Path) -> Path:
    """GFLOP/s at the end, for each workload and arm."""
    experiment = results.experiment
    figure, axes = figures.panels(1, max(5.0, 0.8 * len(experiment.workloads)), 3.6)
    heights = {
        arm.name: [[float(run.best()[-1]) for run in results.runs[arm.name][label]] for label in experiment.workloads]
        for arm in experiment.arms
    }
    names = [label.split("(")[0] for label in experiment.workloads]
    figures.bars(axes[0], names, heights)
    figures.finish(figure, axes, path, ylabel=f"GFLOP/s after {experiment.trials} trials")
    return path


_DRAWN: Mapping[str, Callable[[Results, Path], Path]] = {"trials": _trials, "seconds": _seconds, "bars": _bars}
