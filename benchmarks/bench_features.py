"""How fast candidates are scored: ``python benchmarks/bench_features.py [WORKLOAD ...]``.

Printed are, for each workload, the legal candidates that were scored, how many of them get their invariant features and
their prediction in a second of the processor, so that other programs do not count, and how many get both in a second
by the clock, as ``best --predict`` does it: two threads predict while one describes. Before that, how long
training on 100,000 rows takes.
"""

import sys
import time

import numpy as np

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import concatenated, distinct_features
from tuner.search.candidates import Candidates
from tuner.target import Target
from tuner.templates import template_for
from tuner.transfer import scores
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
PARTS = ("features", "prediction", "both", "by the clock")


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
            blocks, _ = distinct_features(template, workload, target, space, columns)
            model = _trained(concatenated(list(blocks)))
        described, predicted, then = 0.0, 0.0, time.process_time()
        blocks, _ = distinct_features(template, workload, target, space, columns)
        for block in blocks:
            made = time.process_time()
            model.predict(block)
            done = time.process_time()
            described, predicted, then = described + made - then, predicted + done - made, done
        start = time.perf_counter()
        scores(model, template, workload, target, space, columns)
        seconds = (described, predicted, described + predicted, time.perf_counter() - start)
        number = len(next(iter(columns.values())))
        rates = ", ".join(f"{name} {number / each:>9,.0f}/s" for name, each in zip(PARTS, seconds, strict=True))
        print(f"{key:<30} {number:>7} candidates: {rates}")


def _trained(features: np.ndarray) -> GlobalModel:
    """A model of the usual size: made-up times of real features, with what cannot be learned as noise."""
    rng = np.random.default_rng(0)
    rows = features[rng.integers(0, len(features), GROUPS * ROWS)]
    seconds = np.exp(rows[:, :10] @ rng.normal(0, 0.2, 10) + rng.normal(0, 0.1, len(rows)))
    names = tuple(f"w{group}" for group in range(GROUPS))
    data = TrainingSet(rows, seconds, np.repeat(np.arange(GROUPS), ROWS), names, ("t",) * GROUPS, (1.0,) * GROUPS)
    begin, start = time.process_time(), time.perf_counter()
    rounds = GlobalModel.fit(data).rounds
    took = f"{time.process_time() - begin:.1f} s of the processor, {time.perf_counter() - start:.1f} s by the clock"
    print(f"training on {len(rows):,} rows: {took}, {rounds} rounds")
    return GlobalModel.fit(data, Settings(rounds=2 * ROUNDS, folds=1))


if __name__ == "__main__":
    main()
