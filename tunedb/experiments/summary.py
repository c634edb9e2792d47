"""What the runs of an experiment say: medians, quantiles and goals, worked out from the results that are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunedb.experiments import stored
from tunedb.experiments.declared import Experiment, ExperimentError, Goal
from tuner.experiment.baselines import quantile_of
from tuner.experiment.replay import Run

Floats = npt.NDArray[np.float64]

MARKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.95, 0.99)
WITHIN = 0.99  # two kernels within 1 % are hardly told apart, so that much of another's quality counts as equal to it


@dataclass(frozen=True)
class Results:
    """All runs of an experiment: of each arm, of each workload, by seed; and the best known speed of each workload."""

    experiment: Experiment
    runs: Mapping[str, Mapping[str, Sequence[Run]]]
    data: Mapping[str, Any]  # what was replayed

    def best(self, label: str) -> float:
        """GFLOP/s of the fastest that is known."""
        return float(self.data["workloads"][label]["best_gflops"])

    def relative(self, arm: str, label: str) -> Floats:
        """(seeds, trials) best so far of each run, relative to the best known; a run that ended early stays there."""
        trials = self.experiment.trials
        rows = [run.best() for run in self.runs[arm][label]]
        return np.array([np.pad(row, (0, trials - len(row)), mode="edge")[:trials] for row in rows]) / self.best(label)

    def pooled(self, arm: str) -> Floats:
        """(workloads * seeds, trials) of all workloads."""
        return np.concatenate([self.relative(arm, label) for label in self.experiment.workloads])

    def trials_to(self, arm: str, share: float) -> list[int | None]:
        """Of each run of the arm the trials to ``share`` of the best known; None where it was not reached."""
        return [
            run.trials_to(share * self.best(label))
            for label in self.experiment.workloads
            for run in self.runs[arm][label]
        ]

    def seconds_to(self, arm: str, share: float) -> list[float | None]:
        """The same in seconds of choosing and measuring."""
        return [
            run.seconds_to(share * self.best(label))
            for label in self.experiment.workloads
            for run in self.runs[arm][label]
        ]


def collect(experiment: Experiment, folder: Path) -> Results:
    """The results under ``folder``. Raises ExperimentError when some are missing."""
    try:
        data = json.loads((folder / experiment.name / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{experiment.name} was not run: tunedb experiment run {experiment.name}") from error
    runs: dict[str, dict[str, list[Run]]] = {}
    for arm in experiment.arms:
        runs[arm.name] = {}
        for label in experiment.workloads:
            places = [stored.place(folder, experiment.name, arm.name, label, seed) for seed in range(experiment.seeds)]
            digest = stored.digest_of(experiment, arm.name, data["digest"])
            found = [stored.load(place, digest) for place in places]
            if (missing := sum(run is None for run in found)) or label not in data["workloads"]:
                raise ExperimentError(
                    f"{experiment.name}: {missing or len(found)} of {len(found)} runs of {arm.name!r} on {label} are "
                    f"missing: tunedb experiment run {experiment.name}"
                )
            runs[arm.name][label] = [run for run in found if run is not None]
    return Results(experiment, runs, data)


def quantiles(values: Sequence[float | None]) -> list[float | None]:
    """Median, third quartile and 90th percentile, each a value that occurs; None, which is never, counts as largest."""
    numbers = [np.inf if value is None else float(value) for value in values]
    found = np.quantile(numbers, (0.5, 0.75, 0.9), method="inverted_cdf")
    return [None if np.isinf(value) else float(value) for value in found]


def summarise(results: Results) -> dict[str, Any]:
    """Everything that a report says, as JSON."""
    experiment = results.experiment
    marks = [mark for mark in MARKS if mark <= experiment.trials]
    arms = {}
    for arm in experiment.arms:
        pooled = results.pooled(arm.name)
        training = [run.training for runs in results.runs[arm.name].values() for run in runs]
        arms[arm.name] = {
            "after": {str(mark): float(np.mean(pooled[:, mark - 1])) for mark in marks},
            "lowest": {str(mark): float(np.min(pooled[:, mark - 1])) for mark in marks},
            **{f"trials_to_{share:.0%}"[:-1]: quantiles(results.trials_to(arm.name, share)) for share in SHARES},
            **{f"seconds_to_{share:.0%}"[:-1]: quantiles(results.seconds_to(arm.name, share)) for share in SHARES},
            "training_seconds": float(np.median(training)),
            "workloads": {
                label: {
                    "median_after": float(np.median(results.relative(arm.name, label)[:, -1])),
                    "trials_to_95": quantiles([run.trials_to(0.95 * results.best(label)) for run in runs]),
                }
                for label, runs in results.runs[arm.name].items()
            },
        }
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "mode": experiment.mode,
        "trials": experiment.trials,
        "seeds": experiment.seeds,
        "data": {name: value for name, value in results.data.items() if name != "workloads"},
        "arms": arms,
        "random": _random(results, marks),
        "goals": [judge(results, goal) for goal in experiment.goals],
        "references": [vars(reference) for reference in experiment.references],
    }


def _random(results: Results, marks: Sequence[int]) -> dict[str, Any] | None:
    """What random search is expected to reach: worked out, not drawn. None for a real experiment."""
    workloads = results.data["workloads"].values()
    if results.experiment.mode == "real":
        return None
    expected = [np.array(each["random_expected"]) / each["best_gflops"] for each in workloads]
    return {
        "after": {str(mark): float(np.mean([row[min(mark, len(row)) - 1] for row in expected])) for mark in marks},
        **{
            f"trials_to_{share:.0%}"[:-1]: random_trials(
                [np.array(each["random_reaches"][str(share)]) for each in workloads]
            )
            for share in SHARES
        },
    }


def random_trials(chances: Sequence[Floats]) -> list[int | None]:
    """Median, third quartile and 90th percentile of the draws that random search takes, over workloads and luck."""
    longest = max(map(len, chances))
    together = np.mean([np.pad(row, (0, longest - len(row)), mode="edge") for row in chances], axis=0)
    return [quantile_of(together, quantile) for quantile in (0.5, 0.75, 0.9)]


def judge(results: Results, goal: Goal) -> dict[str, Any]:
    """Whether a goal was reached, and what was."""
    if goal.faster:
        found = {label: speedups(results, goal, label) for label in results.experiment.workloads}
        whole, first = (float(np.median([pair[k] for pairs in found.values() for pair in pairs])) for k in (0, 1))
        return {
            "goal": f"{goal.arm}: {goal.faster:g} times quicker than {goal.at} trials of {goal.than} to what they find",
            "reached": whole,
            "against_first": first,
            "workloads": {label: float(np.median([pair[0] for pair in pairs])) for label, pairs in found.items()},
            "met": bool(whole >= goal.faster),
        }
    median, _, p90 = quantiles(results.trials_to(goal.arm, goal.share))
    met = median is not None and median <= goal.median and p90 is not None and p90 <= goal.p90
    return {
        "goal": f"{goal.arm}: {goal.share:.0%} of the best in {goal.median} trials, 90 % of runs in {goal.p90}",
        "reached": [median, p90],
        "met": met,
    }


def speedups(results: Results, goal: Goal, label: str) -> list[tuple[float, float]]:
    """By seed: the seconds of ``at`` trials of ``than`` over those that ``arm`` needs to what these have found.

    And the same with the seconds until they first had it, which nobody knows while tuning. 0 where the arm never got
    there. Training on other workloads is not counted: it is done once for all of them.
    """
    found = []
    for mine, other in zip(results.runs[goal.arm][label], results.runs[goal.than][label], strict=True):
        last = min(goal.at, len(other.speeds)) - 1
        quality = WITHIN * float(other.best()[last])
        seconds, first = mine.seconds_to(quality), other.seconds_to(quality)
        found.append((float(other.clock()[last]) / seconds, first / seconds) if seconds and first else (0.0, 0.0))
    return found
