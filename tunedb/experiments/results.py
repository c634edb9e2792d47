"""The runs of an experiment, as they are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunedb.experiments import stored
from tunedb.experiments.declared import Experiment, ExperimentError
from tuner.experiment.replay import Run

Floats = npt.NDArray[np.float64]


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
            digest = stored.digest_of(experiment, arm.name, data["digest"], data.get("program", ""))
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
