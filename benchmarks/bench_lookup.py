"""How long the questions take in a large database: ``python benchmarks/bench_lookup.py [--trials N] [--url URL]``.

Makes made-up trials, 10 million unless told otherwise, of 250 workloads on 4 targets of this machine, one in ten a
failure, in SQLite (a temporary file of 6 GB) or in the empty database at URL. Then questions come in random order to
one open Database object, and their median and 99th percentile are printed, in microseconds.
"""

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam, text

import tunedb
from tunedb import Database
from tunedb.records import Writer
from tunedb.tables import UtcDateTime
from tuner.schedule import Schedule, Split, Vectorize
from tuner.target import Target, cpu_model
from tuner.trial import Environment
from tuner.workload import Workload, matmul

WORKLOADS = [matmul(m=64 * (i + 1), k=256, n=256) for i in range(250)]
TARGETS = [replace(Target.host(threads=1), threads=threads) for threads in (1, 2, 4, 8)]
SESSIONS = len(WORKLOADS) * len(TARGETS)
LOOKUPS = 20_000

NUMBERS = (
    "WITH RECURSIVE series(n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n < :last) "
)
FINGERPRINT = f"substr('{'0' * 64}' || n, length('{'0' * 64}' || n) - 63)"
SCHEDULES = f"""
INSERT INTO schedule (id, fingerprint, steps) {NUMBERS}
SELECT n, {FINGERPRINT}, json(replace(:steps, '4321', '' || n)) FROM series"""
TRIALS = f"""
INSERT INTO trial (fingerprint, workload_id, target_id, environment_id, template_id, schedule_id, session_id, sequence,
    config, status, verified, seconds, spread, repeats, times, error, message, compile_seconds, run_seconds, created)
{NUMBERS},
measured(n, seconds) AS
    (SELECT n, CASE WHEN n % 10 > 0 THEN 0.0001 + n * 7919 % 1000003 / 1000000000.0 END FROM series)
SELECT {FINGERPRINT}, :workload, :target, :environment, :template, 1 + n % :schedules, :session, n - :first,
    json('{{"tile":[' || n || ',4,16,1],"unroll": 16}}'),
    CASE WHEN n % 10 > 0 THEN 'correct' ELSE 'runtime' END, n % 10 > 0, seconds,
    CASE WHEN n % 10 > 0 THEN 0.000001 END, CASE WHEN n % 10 > 0 THEN 5 ELSE 0 END,
    json(CASE WHEN n % 10 > 0 THEN '[[' || (seconds - 0.000002) || ',' || (seconds - 0.000001) || ',' || seconds ||
        ',' || (seconds + 0.000001) || ',' || (seconds + 0.00001) || ']]' ELSE '[]' END),
    CASE WHEN n % 10 > 0 THEN 0.000001 END, CASE WHEN n % 10 > 0 THEN NULL ELSE 'signal 11' END, 0.02, 0.03, :created
FROM measured"""


def fill(db: Database, trials: int) -> None:
    """A session of as many trials for each workload on each target; ten trials share a schedule."""
    of_session = -(-trials // SESSIONS)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    schedules = max(trials // 10, 1)
    steps = json.dumps(Schedule((Split("matmul", "m", (4321, 8)), Vectorize("matmul", "n.1"))).to_json())
    with db.write() as connection:
        connection.execute(text(SCHEDULES), {"first": 1, "last": schedules, "steps": steps})
    statement = text(TRIALS).bindparams(bindparam("created", type_=UtcDateTime))
    for session in range(SESSIONS):
        created = start + timedelta(hours=session)
        with db.write() as connection:
            writer = Writer(connection)
            parameters = {
                "workload": writer.workload(WORKLOADS[session % len(WORKLOADS)]),
                "target": writer.target(TARGETS[session // len(WORKLOADS)]),
                "environment": writer.environment(Environment((("llvm", "20.1.8"), ("protocol", "1")))),
                "template": writer.template("matmul/1"),
                "session": writer.session({"session": session}, created)[1],
                "schedules": schedules,
                "first": session * of_session,
                "last": (session + 1) * of_session - 1,
                "created": created,
            }
            connection.execute(statement, parameters)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def latencies(ask: Callable[[Workload, Target], Any], lookups: int) -> dict[str, float]:
    """Microseconds, after every question was asked once."""
    for workload in WORKLOADS:
        for target in TARGETS:
            ask(workload, target)
    rng = random.Random(1)
    times = []
    for _ in range(lookups):
        workload, target = rng.choice(WORKLOADS), rng.choice(TARGETS)
        begun = time.perf_counter()
        ask(workload, target)
        times.append((time.perf_counter() - begun) * 1e6)
    return {"p50": round(statistics.median(times), 1), "p99": round(statistics.quantiles(times, n=100)[98], 1)}


def measure(db: Database) -> Mapping[str, dict[str, float]]:
    """By question."""
    return {
        "best of a target": latencies(db.best, LOOKUPS),
        "best of this machine": latencies(lambda workload, _: db.best(workload), LOOKUPS),
        "top 10 of a target": latencies(lambda workload, target: db.top(workload, 10, target), SESSIONS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--url", help="an empty database; else SQLite in a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.sqlite"
        with tunedb.open(arguments.url or f"sqlite:///{path}") as db:
            begun = time.perf_counter()
            fill(db, arguments.trials)
            filled = time.perf_counter() - begun
            report = {
                "cpu": cpu_model(),
                "database": db.engine.dialect.name,
                "sqlalchemy": sqlalchemy.__version__,
                "sqlite": sqlite3.sqlite_version,
                "trials": db.stats().trials,
                "database_mib": path.stat().st_size >> 20 if path.exists() else None,
                "fill_seconds": round(filled),
                "microseconds": measure(db),
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
