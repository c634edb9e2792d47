"""Trials made up for tests, and a program that writes them: ``python samples.py URL SEED COUNT``."""

import sys
from datetime import UTC, datetime, timedelta

import tunedb
from tunedb.sessions import SessionArguments
from tuner.schedule import Schedule, Split, Vectorize
from tuner.target import Target
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, matmul

WORKLOAD = matmul(m=64, k=32, n=48)
TARGET = Target(
    kind="cpu",
    triple="x86_64-unknown-linux-gnu",
    cpu="znver5",
    features=("avx2", "fma"),
    model="a processor",
    vector_bits=256,
    registers=16,
    l1=32768,
    l2=1048576,
    l3=0,
    cores=2,
    threads=2,
)
ENVIRONMENT = Environment((("llvm", "20.1.8"), ("protocol", "1")))
EPOCH = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


def trial(
    sequence: int = 0,
    times: tuple[float, ...] = (0.25, 0.5, 0.125),
    *,
    status: Status = Status.CORRECT,
    error: float | None = 1e-6,
    message: str | None = None,
    tile: int | None = None,
    workload: Workload = WORKLOAD,
    target: Target = TARGET,
) -> Trial:
    """A trial; its schedule follows from ``tile``, which is another one for each sequence unless given."""
    tile = sequence + 1 if tile is None else tile
    return Trial(
        workload=workload,
        target=target,
        environment=ENVIRONMENT,
        template="matmul/3",
        config={"tile": (tile, 4), "unroll": 1, "order": "mnk"},
        schedule=Schedule((Split("matmul", "m", (tile, 4)), Vectorize("matmul", "n.1"))),
        status=status,
        times=times if status is Status.CORRECT else (),
        error=error if status is Status.CORRECT else None,
        message=message,
        compile_seconds=0.1,
        run_seconds=1 / 3,
        sequence=sequence,
        created=EPOCH + timedelta(seconds=sequence),
    )


def arguments(seed: int = 0, workload: Workload = WORKLOAD, target: Target = TARGET) -> SessionArguments:
    return SessionArguments(workload, target, "matmul/3", "random", seed, {"epsilon": 0.05})


def write(url: str, seed: int, count: int) -> None:
    """One process of several: a session of its own, going on where an earlier one stopped."""
    with tunedb.open(url) as db, db.session(arguments(seed)) as session:
        for sequence in range(len(session.trials()), count):
            session.add(trial(sequence, (0.1 + seed, 0.2, 0.3)))
            print(sequence, flush=True)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
