"""How long ``db.best(workload)`` takes in a large database: ``python benchmarks/bench_lookup.py [TRIALS]``.

The database has 100,000 trials unless told otherwise, of 50 workloads on 4 targets, one in ten of them a failure.
Printed are the time to import it, to open it, and the median and the 99th percentile of the lookups.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tunedb
from tunedb.formats.native import Record, encode
from tuner.schedule import Schedule, Split, Vectorize
from tuner.target import Target, cpu_model
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, matmul

LOOKUPS = 5000


def lines(trials: int, workloads: list[Workload], targets: list[Target]) -> Iterator[str]:
    """A log of made-up trials: a session for each workload on each target."""
    rng = random.Random(0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    environment = Environment((("llvm", "20.1.8"), ("protocol", "1")))
    for number in range(trials):
        session, sequence = divmod(number, -(-trials // (len(workloads) * len(targets))))
        factors = tuple(rng.choice((1, 2, 4, 8, 16, 32)) for _ in range(4))
        failed = rng.random() < 0.1
        trial = Trial(
            workload=workloads[session % len(workloads)],
            target=targets[session // len(workloads)],
            environment=environment,
            template="matmul/1",
            config={"tile": factors},
            schedule=Schedule((Split("matmul", "m", factors), Vectorize("matmul", "n.1"))),
            status=Status.RUNTIME if failed else Status.CORRECT,
            times=() if failed else tuple(rng.lognormvariate(-7, 1) for _ in range(5)),
            error=None if failed else 1e-6,
            message="signal 11" if failed else None,
            compile_seconds=0.02,
            run_seconds=0.03,
            sequence=sequence,
            created=start + timedelta(seconds=number),
        )
        rounds = (trial.times,) if trial.times else ()
        yield encode(Record(trial, rounds, {"session": session}, start))


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    workloads = [matmul(m=64 * (i + 1), k=256, n=256) for i in range(50)]
    host = Target.host(threads=1)
    targets = [replace(host, threads=threads) for threads in (1, 2, 4, 8)]
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'trials.sqlite'}"
        log = Path(folder) / "log.jsonl"
        log.write_text("\n".join(lines(trials, workloads, targets)), encoding="utf-8")
        with tunedb.open(url) as db:
            begun = time.perf_counter()
            db.import_log(str(log))
            imported = time.perf_counter() - begun
        begun = time.perf_counter()
        db = tunedb.open(url)
        opened = time.perf_counter() - begun
        report: dict[str, Any] = {
            "cpu": cpu_model(),
            "trials": db.stats().trials,
            "import_seconds": imported,
            "open_seconds": opened,
        }
        rng = random.Random(1)
        questions: dict[str, Target | None] = {"best_of_target": targets[0], "best_of_machine": None}
        for name, target in questions.items():
            times = []
            for _ in range(LOOKUPS):
                workload = rng.choice(workloads)
                begun = time.perf_counter()
                db.best(workload, target)
                times.append(time.perf_counter() - begun)
            report[f"{name}_median_ms"] = statistics.median(times) * 1e3
            report[f"{name}_p99_ms"] = statistics.quantiles(times, n=100)[98] * 1e3
        db.close()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
