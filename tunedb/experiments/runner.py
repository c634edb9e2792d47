"""Runs what of an experiment was not run yet: replays in several processes, real ones one after another."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tunedb.experiments import real, stored
from tunedb.experiments.data import Data, load, setup_of
from tunedb.experiments.declared import Experiment, read
from tunedb.experiments.processes import ignore_interrupts
from tunedb.experiments.summary import SHARES
from tuner.experiment.arms import Arm
from tuner.experiment.baselines import expected_best, random_reaches
from tuner.experiment.replay import replay


@dataclass(frozen=True)
class Unit:
    """The runs of an arm with one seed."""

    path: Path
    source: str
    folder: Path
    experiment: str
    arm: str
    seed: int


Lot: TypeAlias = tuple[Unit, ...]  # units that a process runs one after another, for they learn the same from the same


def run(
    experiments: Mapping[Path, Experiment],
    folder: Path,
    source: str | None,
    jobs: int,
    progress: Callable[[str, int], None],
) -> None:
    """Run what is missing of the experiments at these paths and keep it under ``folder``.

    ``source`` replaces the data that the files name. ``progress`` is told how many runs of which
    experiment were finished or found, as they come.
    """
    lots: dict[Hashable, list[Unit]] = {}
    for path, experiment in experiments.items():
        chosen = source or (str(experiment.data) if experiment.data else "")
        if experiment.mode == "real":
            for _ in real.run(experiment, folder, chosen):
                progress(experiment.name, 1)
            continue
        data = load(chosen)  # in this process first, so that what is wrong with it is said at once
        _describe(experiment, folder, data)
        for arm in experiment.arms:
            for seed in range(experiment.seeds):
                unit = Unit(path, chosen, folder, experiment.name, arm.name, seed)
                if _finished(experiment, unit, data):
                    progress(experiment.name, len(experiment.workloads))
                else:
                    lots.setdefault(_lesson(experiment, arm, unit), []).append(unit)
    # The largest first, so that no process has one left when the others are through.
    _run(sorted(map(tuple, lots.values()), key=len, reverse=True), jobs, progress)


def _lesson(experiment: Experiment, arm: Arm, unit: Unit) -> Hashable:
    """Equal for units that learn the same; others are of a lot of their own."""
    if arm.lesson is None:
        return unit
    target = experiment.source_targets.get(arm.name, experiment.target)
    knobs = tuple(sorted(experiment.knobs.items()))
    return unit.source, experiment.sources, experiment.folds, target, knobs, unit.seed, arm.lesson


def _run(lots: Sequence[Lot], jobs: int, progress: Callable[[str, int], None]) -> None:
    def told(made: Mapping[str, int]) -> None:
        for name, count in made.items():
            progress(name, count)

    if jobs == 1 or len(lots) < 2:
        for unit in (unit for lot in lots for unit in lot):
            told(work((unit,)))
        return
    # Spawned, not forked: XGBoost's threads do not survive a fork.
    context = get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(lots)), mp_context=context, initializer=ignore_interrupts) as pool:
        waiting = [pool.submit(work, lot) for lot in lots]
        try:
            for done in as_completed(waiting):
                told(done.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def work(lot: Lot) -> dict[str, int]:
    """Make the runs of a lot that are missing; how many runs of each experiment it has."""
    made: Counter[str] = Counter()
    for unit in lot:
        experiment, data = read(unit.path), load(unit.source)
        arm = next(arm for arm in experiment.arms if arm.name == unit.arm)
        digest = _digest(experiment, arm.name, data)
        for label in experiment.workloads:
            place = stored.place(unit.folder, experiment.name, arm.name, label, unit.seed)
            if stored.load(place, digest) is None:
                setup = setup_of(data, experiment, arm, label, unit.seed)
                facts = {"experiment": experiment.name, "arm": arm.name, "workload": label, "seed": unit.seed}
                stored.save(place, digest, replay(arm, setup, experiment.trials), facts)
        made[experiment.name] += len(experiment.workloads)
    return made


def _digest(experiment: Experiment, arm: str, data: Data) -> str:
    return stored.digest_of(experiment, arm, data.digest, stored.program("replay"))


def _finished(experiment: Experiment, unit: Unit, data: Data) -> bool:
    digest = _digest(experiment, unit.arm, data)
    return all(
        stored.load(stored.place(unit.folder, experiment.name, unit.arm, label, unit.seed), digest) is not None
        for label in experiment.workloads
    )


def _describe(experiment: Experiment, folder: Path, data: Data) -> None:
    """Write down what was replayed, and what random search is expected to reach in it."""
    described = {}
    for label in experiment.workloads:
        pool = data.pool(label, experiment.target, experiment.knobs)
        expected = expected_best(pool.speeds, experiment.trials)
        best = float(pool.speeds.max())
        described[label] = {
            "target": pool.target.name,
            "template": pool.template.key,
            "configurations": len(pool.indices),
            "failed": int(np.isinf(pool.seconds).sum()),
            "best_gflops": best,
            "noise": pool.noise,
            "random_expected": expected.tolist(),
            "random_reaches": {
                str(share): random_reaches(pool.speeds, share * best)[: experiment.trials].tolist() for share in SHARES
            },
        }
    about = {
        "digest": data.digest,
        "program": stored.program("replay"),
        "trials": data.trials,
        "environment": dict(data.facts),
        "workloads": described,
    }
    stored.write_json(folder / experiment.name / "data.json", about)
