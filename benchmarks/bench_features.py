"""How fast candidates are scored: ``python benchmarks/bench_features.py [WORKLOAD ...]``.

Printed are, for each workload, the legal candidates that were scored, how many a second get their invariant features
and their prediction, and the rate of both together; before that, how long training on 100,000 rows takes. The seconds
are those of the processor, in one thread: so other programs do not count.
"""

import sys
import time

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


def main() -> None:
    target = Target.host(threads=1)
    model = None
    for key in sys.argv[1:] or WORKLOADS:
        workload = parse(key)
        template = template_for(workload, target)
        space = template.space(workload, target)
        candidates = Candidates(space, lambda columns: template.illegal(workload, target, columns))  # noqa: B023
        columns = space.columns(candidates.random(np.random.default_rng(0), CANDIDATES))
        begin = time.process_time()
        features, places = distinct_features(template, workload, target, space, columns)
        describing = time.process_time() - begin
        model = model or _trained(features)
        begin = time.process_time()
        number = len(model.predict(features)[places])
        predicting = time.process_time() - begin
        print(
            f"{key:<30} {number:>7} candidates: features {number / describing:>9,.0f}/s, "
            f"prediction {number / predicting:>9,.0f}/s, both {number / (describing + predicting):>9,.0f}/s"
        )


def _trained(features: np.ndarray) -> GlobalModel:
    """A model of the usual size: made-up times of real features, with what cannot be learned as noise."""
    rng = np.random.default_rng(0)
    rows = features[rng.integers(0, len(features), GROUPS * ROWS)]
    seconds = np.exp(rows[:, :10] @ rng.normal(0, 0.2, 10) + rng.normal(0, 0.1, len(rows)))
    names = tuple(f"w{group}" for group in range(GROUPS))
    data = TrainingSet(rows, seconds, np.repeat(np.arange(GROUPS), ROWS), names, ("t",) * GROUPS)
    begin = time.process_time()
    rounds = GlobalModel.fit(data).rounds
    print(f"training on {len(rows):,} rows: {time.process_time() - begin:.1f} s, {rounds} rounds")
    return GlobalModel.fit(data, Settings(rounds=2 * ROUNDS, folds=1))


if __name__ == "__main__":
    main()
