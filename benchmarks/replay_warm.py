"""What a warm start is worth, by stored trials: ``benchmarks/replay_warm.py --db URL [--seeds N] [--rows N] TEXT ...``.

Each TEXT is a set of source workloads, by a part of their labels ("resnet18.C1(" or "conv2d"), and ``TEXT=>TEXT`` says
which workloads are tuned after them. The candidates of a workload are its measured schedules and its recorded times are
charged; nothing is run. Tuners: warm (the default of ``tunedb tune``), cold, and random. Printed are the quality of the
best after 1, 4, 16 and 64 trials, and the trials to 95 % and 99 % of the best, as median/p75/p90 (- is never).
"""

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

import tunedb
from tunedb.prior import training
from tuner.cost_model.gbt import GradientBoostedTrees, Settings
from tuner.cost_model.global_model import GlobalModel
from tuner.cost_model.training import TrainingSet
from tuner.search.candidates import Candidates, Tuner
from tuner.search.model_guided import ModelGuided, Plan
from tuner.search.simple import Random
from tuner.search.warm import WarmStarted
from tuner.space import Indices, Space
from tuner.templates import template_for
from tuner.transfer import GlobalPrior, prior_from
from tuner.trial import Trial

TRIALS = 64
TUNERS = ("warm", "cold", "random")


class Measured(Candidates):
    """The configurations of a space that were measured."""

    def __init__(self, space: Space, indices: Indices) -> None:
        super().__init__(space, lambda columns: np.zeros(len(next(iter(columns.values()))), dtype=np.bool_))
        self.measured = np.unique(indices)

    @property
    def listed(self) -> Indices:  # type: ignore[override]
        return self.measured

    def legal(self, indices: Indices) -> npt.NDArray[np.bool_]:
        return np.isin(indices, self.measured)


def curve(tuner: str, trials: Sequence[Trial], prior: GlobalPrior | None, seed: int) -> npt.NDArray[np.float64]:
    """The best so far, relative to the best there is, after each trial."""
    workload, target = trials[0].workload, trials[0].target
    template = template_for(workload, target)
    space = template.space(workload, target)
    times = {space.index(trial.config): trial.seconds or np.inf for trial in trials}
    candidates, rng = Measured(space, np.array(list(times))), np.random.default_rng(seed)
    model = GradientBoostedTrees(Settings(), seed)
    cold = ModelGuided(candidates, rng, model, partial(template.features, workload, target), Plan())
    made: Tuner = cold
    if tuner == "random":
        made = Random(candidates, rng)
    elif tuner == "warm" and prior is not None:
        made = WarmStarted(candidates, rng, prior, cold)
    found: list[float] = []
    for _ in range(min(TRIALS, len(times))):
        (index,) = made.propose(1)
        found.append(times[index])
        made.observe([index], [1e-9 * workload.flops / times[index]])
    return np.asarray(min(times.values()) / np.minimum.accumulate(found))


def reached(curves: Sequence[npt.NDArray[np.float64]], share: float) -> str:
    counts = [int(np.argmax(one >= share)) + 1 if (one >= share).any() else np.inf for one in curves]
    quantiles = np.quantile(counts, (0.5, 0.75, 0.9), method="inverted_cdf")
    return "/".join("-" if np.isinf(count) else f"{count:.0f}" for count in quantiles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--db")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="records of each source workload; 0 is all")
    options = parser.parse_args()
    with tunedb.open(options.db) as db, db.read() as connection:
        known = training([connection]).trials
    groups: dict[str, list[Trial]] = {}
    for trial in known:
        groups.setdefault(trial.workload.label, []).append(trial)
    for pair in options.pairs:
        source, _, aim = pair.partition("=>")
        sources = [name for name in groups if any(part in name for part in source.split("+"))]
        aims = [name for name in groups if name not in sources and any(part in name for part in aim.split("+"))]
        taught = [trial for name in sources for trial in groups[name][: options.rows or None]]
        data, _ = TrainingSet.of(taught)
        model = GlobalModel.fit(data)
        print(f"{pair}: {len(taught)} trials of {len(sources)} workloads, then {len(aims)}, {options.seeds} seeds")
        for tuner in TUNERS:
            curves, verdicts = [], set()
            for name in aims:
                first = groups[name][0]
                template = template_for(first.workload, first.target)
                space = template.space(first.workload, first.target)
                prior, report = prior_from(model, data, taught, {}, template, first.workload, first.target, space)
                verdicts.add(report.verdict)
                curves += [curve(tuner, groups[name], prior, seed) for seed in range(options.seeds)]
            after = " ".join(
                f"{number}: {np.mean([one[min(number, len(one)) - 1] for one in curves]):.3f}"
                for number in (1, 4, 16, 64)
            )
            note = f" ({', '.join(sorted(verdicts))})" if tuner == "warm" else ""
            print(f"  {tuner:<6} after {after}; 95 %: {reached(curves, 0.95)}, 99 %: {reached(curves, 0.99)}{note}")


if __name__ == "__main__":
    main()
