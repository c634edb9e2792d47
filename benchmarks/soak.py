"""Many processes at one database, and processes that are killed: ``python -m benchmarks.soak [--url URL]``.

First 8 processes write and 4 read for a minute. Then 200 processes, each at a SQLite database of its own, are ended by
SIGKILL at a random moment of an import, a tuning session, a merge or an upgrade. After each, every trial that was
acknowledged must be there, ``check`` must find nothing, the processes it had started must end, and the same command
must finish the work. Prints a JSON object; anything that was lost or left ends it with an AssertionError.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tunedb
from tunedb import importing, migrate, reader
from tunedb.database import open_to_read
from tunedb.engine import make_engine
from tunedb.errors import NotFoundError
from tunedb.sessions import SessionArguments
from tunedb.tables import REVISION
from tuner.schedule import Schedule, Split, Vectorize
from tuner.target import Target, cpu_model
from tuner.trial import Environment, Status, Trial
from tuner.workload import matmul

ROOT = Path(__file__).parents[1]
WORKLOAD = matmul(m=16, k=16, n=16)
TARGET = Target.host(threads=1)
ENVIRONMENT = Environment((("protocol", "1"),))
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LOG_LINES, LOG_BATCH, OTHERS = 3000, 300, 400  # small batches, so that a kill finds many places between two of them

_context = multiprocessing.get_context("forkserver")  # each is a process of its own, and starts in milliseconds
_context.set_forkserver_preload(["tunedb.tuning", "tunedb.prior", "tuner.tune", "tuner.measure", "alembic.command"])


def trial(sequence: int, seconds: float) -> Trial:
    return Trial(
        workload=WORKLOAD,
        target=TARGET,
        environment=ENVIRONMENT,
        template="matmul/3",
        config={"tile": (sequence + 1, 4)},
        schedule=Schedule((Split("matmul", "m", (sequence + 1, 4)), Vectorize("matmul", "n.1"))),
        status=Status.CORRECT,
        times=(seconds,) * 5,
        error=1e-6,
        message=None,
        compile_seconds=0.1,
        run_seconds=0.2,
        sequence=sequence,
        created=EPOCH + timedelta(seconds=sequence),
    )


def arguments(seed: int) -> SessionArguments:
    return SessionArguments(WORKLOAD, TARGET, "matmul/3", "random", seed)


# Many at once


def write(url: str, seed: int, seconds: float, pipe: Connection) -> None:
    """Store trials until the time is up; send how long each took."""
    latencies = []
    rng = random.Random(seed)
    with tunedb.open(url) as db, db.session(arguments(seed)) as session:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            session.add(trial(len(latencies), rng.uniform(0.1, 1)))
            latencies.append(time.perf_counter() - begun)
    pipe.send(latencies)


def read(url: str, seed: int, seconds: float, pipe: Connection) -> None:
    """Ask for the best until the time is up; send how long each answer took. An answer never gets worse."""
    latencies, best = [], float("inf")
    with tunedb.open(url) as db:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            with contextlib.suppress(NotFoundError):
                found = db.best(WORKLOAD, TARGET).seconds
                assert found <= best
                best = found
            latencies.append(time.perf_counter() - begun)
    pipe.send(latencies)


def crowd(url: str, seconds: float, writers: int = 8, readers: int = 4) -> dict[str, Any]:
    """Let them all at it. Raises AssertionError when a trial is missing or a process did not end well."""
    started = [start(write, url, seed, seconds) for seed in range(writers)]
    started += [start(read, url, seed, seconds) for seed in range(readers)]
    results = [pipe.recv() for _, pipe in started]
    for process, _ in started:
        process.join()
        assert process.exitcode == 0
    with tunedb.open(url) as db:
        stored = db.stats().trials
        assert stored == sum(map(len, results[:writers]))
        assert db.check().problems == ()
    return {
        "writers": writers,
        "readers": readers,
        "seconds": seconds,
        "trials": stored,
        "write_ms": _percentiles(itertools.chain.from_iterable(results[:writers])),
        "best_ms": _percentiles(itertools.chain.from_iterable(results[writers:])),
    }


def _percentiles(latencies: Iterator[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "p50": round(statistics.median(ordered) * 1e3, 3),
        "p99": round(ordered[len(ordered) * 99 // 100] * 1e3, 3),
        "max": round(ordered[-1] * 1e3, 1),
        "number": len(ordered),
    }


def start(work: Callable[..., None], *arguments: Any) -> tuple[Any, Connection]:
    """A process, and where it sends to."""
    here, there = _context.Pipe(duplex=False)
    process = _context.Process(target=work, args=(*arguments, there))
    process.start()
    there.close()
    return process, here


# Killed


def do_import(folder: Path, seed: int, pipe: Connection) -> None:
    beside = bool(seed // len(WORKS) % 2)  # a process reads the log, in batches of its own size
    importing.are_long = lambda paths: beside
    importing.UNIT = LOG_BATCH
    unit = max(reader.RECORDS, LOG_BATCH) if beside else LOG_BATCH
    with tunedb.open(f"sqlite:///{folder}/trials.sqlite") as db:
        pipe.send("ready")
        db.import_log(f"{folder}/some.log", progress=lambda _: pipe.send(unit))


def do_tune(folder: Path, seed: int, pipe: Connection) -> None:
    with tunedb.open(f"sqlite:///{folder}/trials.sqlite") as db:
        pipe.send("ready")
        tunedb.tune(
            WORKLOAD, db=db, trials=20, seed=seed, threads=1, tuner="random", on_trial=lambda trial: pipe.send(1)
        )


def do_merge(folder: Path, seed: int, pipe: Connection) -> None:
    with (
        tunedb.open(f"sqlite:///{folder}/trials.sqlite") as db,
        open_to_read(f"sqlite:///{folder}/other.sqlite") as other,
    ):
        pipe.send("ready")
        pipe.send(db.merge(other).new)


def do_upgrade(folder: Path, seed: int, pipe: Connection) -> None:
    engine = make_engine(f"sqlite:///{folder}/trials.sqlite")
    pipe.send("ready")
    migrate.upgrade(engine)


WORKS = {"import": do_import, "tune": do_tune, "merge": do_merge, "upgrade": do_upgrade}


def work(kind: str, folder: Path, seed: int, pipe: Connection) -> None:
    """One of them. Its place for temporary files tells its processes, and keeps other tuners from waiting for it."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    WORKS[kind](folder, seed, pipe)


def prepare(folder: Path, kind: str) -> None:
    """What the work needs."""
    if kind == "import":
        (folder / "some.log").write_text("".join(map(_line, range(LOG_LINES))))
    if kind == "merge":
        with tunedb.open(f"sqlite:///{folder}/other.sqlite") as other, other.session(arguments(0)) as session:
            for sequence in range(OTHERS):
                session.add(trial(sequence, 0.5))
    if kind == "upgrade":
        with contextlib.closing(sqlite3.connect(folder / "trials.sqlite")) as connection:
            connection.executescript((ROOT / "tests" / "tunedb" / "fixtures" / "0001.sql").read_text())
    else:
        tunedb.open(f"sqlite:///{folder}/trials.sqlite").close()


def _line(number: int) -> str:
    given = ["llvm", "softmax.x86", [["TENSOR", [number % 7 + 1, 64], "float32"]], {}]
    config = {"index": number, "code_hash": None, "entity": [["tile", "sp", [-1, number]]]}
    result = [[1 / (number + 1)], 0, 0.5, 1677395400]
    return json.dumps({"input": given, "config": config, "result": result, "version": 0.2}) + "\n"


def kill(folder: Path, kind: str, seed: int, moment: float) -> int:
    """One process that is killed so many seconds after it began to work; the trials it had acknowledged."""
    process, pipe = start(work, kind, folder, seed)
    acknowledged = 0
    with contextlib.suppress(EOFError):
        assert pipe.recv() == "ready"
        time.sleep(moment)
        process.kill()
        while True:
            acknowledged += pipe.recv()
    process.join()
    deadline = time.monotonic() + 10
    while left := started_by(folder):
        assert time.monotonic() < deadline, f"{kind} was killed and has left {left}"
        time.sleep(0.01)
    return acknowledged


def started_by(folder: Path) -> list[str]:
    """The commands of the processes that work in ``folder``, where Linux tells."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"TMPDIR={folder}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def verify(folder: Path, kind: str, seed: int, acknowledged: int) -> None:
    """All that was acknowledged is there and sound, and the same work can be finished."""
    url = f"sqlite:///{folder}/trials.sqlite"
    if kind == "upgrade":
        engine = make_engine(url)
        with engine.connect() as connection:
            assert migrate.current(connection) in ("0001", REVISION)
            connection.commit()
        migrate.upgrade(engine)
        migrate.check(engine)
        engine.dispose()
        acknowledged = 3  # that was stored before
    with tunedb.open(url) as db:
        assert db.stats().trials >= acknowledged
        assert db.check().problems == ()
        if kind == "import":
            assert db.import_log(f"{folder}/some.log").read == db.stats().trials == LOG_LINES
        if kind == "merge":
            with tunedb.open(f"sqlite:///{folder}/other.sqlite") as other:
                assert db.merge(other).conflicting == 0
            assert db.stats().trials == OTHERS
        if kind == "tune":
            with db.session(SessionArguments(WORKLOAD, TARGET, _template(), "random", seed)) as session:
                assert [each.sequence for each in session.trials()] == list(range(len(session.trials())))
        assert db.check().problems == ()


def _template() -> str:
    from tuner.templates import template_for

    return template_for(WORKLOAD, TARGET).key


def kills(rounds: int, kinds: Sequence[str] = tuple(WORKS)) -> dict[str, int]:
    """Rounds by kind; the moments are spread over the time that the work takes."""
    rng = random.Random(0)
    whole: dict[str, float] = {}
    done: Counter[str] = Counter()
    for number, kind in zip(range(rounds), itertools.cycle(kinds), strict=False):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, kind)
            if kind not in whole:
                whole[kind] = _duration(folder, kind)
                verify(folder, kind, 0, 0)
                prepare_again(folder, kind)
            verify(folder, kind, number, kill(folder, kind, number, rng.uniform(0, whole[kind])))
        done[kind] += 1
    return dict(done)


def prepare_again(folder: Path, kind: str) -> None:
    for file in folder.iterdir():
        file.unlink()
    prepare(folder, kind)


def _duration(folder: Path, kind: str) -> float:
    process, pipe = start(work, kind, folder, 0)
    pipe.recv()
    begun = time.perf_counter()
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="of the crowd (60)")
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="of killing (200)")
    parser.add_argument("--url", help="an empty database for the crowd; else SQLite in a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "cpu": cpu_model(),
            "database": (options.url or "sqlite").partition(":")[0],
            "crowd": crowd(options.url or f"sqlite:///{folder}/crowd.sqlite", options.seconds),
            "killed": kills(options.rounds),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
