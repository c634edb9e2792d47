"""How fast candidates are scored: ``python benchmarks/bench_features.py [WORKLOAD ...]``.

Printed are, for each workload, the legal candidates that were scored, how many a second get their invariant features
and their prediction, and the rate of both together; before that, how long training on 100,000 rows takes. First in
seconds of the processor, in one thread, so that other programs do not count; then by the clock, as ``best --predict``
does it, with a thread a core for the prediction.
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import distinct_features
from tuner.search.candidates import Candidates
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse

WORKLOADS = (
    "resnet18.C2(layout=NCHW16c)",
    "resnet18.C7(layout=NCHW16c)",
    "resnet18.C9(layout=NCHW16c)",
    "resnet18.C7",
    "matmul.1024",
)
ROUNDS = 200  # of the model, the most that there are
CANDIDATES = 200_000
GROUPS, ROWS = 50, 2000
NAMES: dict[Callable[[], float], str] = {time.process_time: "one thread's processor", time.perf_counter: "by the clock"}


def main() -> None:
    target = Target.host(threads=1)
    model = None
    for key in sys.argv[1:] or WORKLOADS:
        workload = parse(key)
        template = template_for(workload, target)
        space = template.space(workload, target)
        candidates = Candidates(space, lambda columns: template.illegal(workload, target, columns))  # noqa: B023
        columns = space.columns(candidates.random(np.random.default_rng(0), CANDIDATES))
        if model is None:
            model = _trained(distinct_features(template, workload, target, space, columns)[0])
        for clock, threads in ((time.process_time, 1), (time.perf_counter, len(os.sched_getaffinity(0)))):
            scorer = GlobalModel.from_bytes(model.to_bytes(), "gbt", model.rounds, "invariant", threads)
            begin = clock()
            features, places = distinct_features(template, workload, target, space, columns)
            described = clock()
            number = len(scorer.predict(features)[places])
            predicted = clock()
            print(
                f"{key:<30} {number:>7} candidates, {NAMES[clock]}: features {number / (described - begin):>9,.0f}/s, "
                f"prediction {number / (predicted - described):>9,.0f}/s, both {number / (predicted - begin):>9,.0f}/s"
            )


def _trained(features: np.ndarray) -> GlobalModel:
    """A model of the usual size: made-up times of real features, with what cannot be learned as noise."""
    rng = np.random.default_rng(0)
    rows = features[rng.integers(0, len(features), GROUPS * ROWS)]
    seconds = np.exp(rows[:, :10] @ rng.normal(0, 0.2, 10) + rng.normal(0, 0.1, len(rows)))
    names = tuple(f"w{group}" for group in range(GROUPS))
    data = TrainingSet(rows, seconds, np.repeat(np.arange(GROUPS), ROWS), names, ("t",) * GROUPS, (1.0,) * GROUPS)
    clocks = list(NAMES)
    begin = [clock() for clock in clocks]
    rounds = GlobalModel.fit(data).rounds
    took = ", ".join(f"{clock() - then:.1f} s {NAMES[clock]}" for clock, then in zip(clocks, begin, strict=True))
    print(f"training on {len(rows):,} rows: {took}, {rounds} rounds")
    return GlobalModel.fit(data, Settings(rounds=2 * ROUNDS, folds=1))


if __name__ == "__main__":
    main()
