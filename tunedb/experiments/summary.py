"""What the runs of an experiment say: medians, quantiles and goals, worked out from the results that are kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunedb.experiments import stored
from tunedb.experiments.goals import judge
from tunedb.experiments.results import Floats, Results, quantiles
from tuner.cost_model.metrics import area_over_log
from tuner.experiment.baselines import quantile_of

MARKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.95, 0.99)


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
            "area": float(np.mean([area_over_log(row) for row in pooled])),
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
        "this_program": results.data["program"] == stored.program(experiment.mode),
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
