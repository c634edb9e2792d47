"""What is known of one measured candidate, and where trials come from and go to."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from tuner.canonical import fingerprint
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import Workload


class Status(StrEnum):
    """How a trial ended: the vocabulary of the T4 results format of the auto-tuning community."""

    CORRECT = "correct"
    COMPILE = "compile"  # the compiler refused it or ran out of its limit of time or memory
    RUNTIME = "runtime"  # it crashed: a signal, an illegal instruction, out of memory
    TIMEOUT = "timeout"  # it ran longer than the run limit
    CORRECTNESS = "correctness"  # it ran, and its output is wrong
    CONSTRAINTS = "constraints"  # known to be illegal before compilation


@dataclass(frozen=True)
class Environment:
    """Provenance: with what a time was measured. Values are text; a missing one is simply absent."""

    facts: tuple[tuple[str, str], ...]  # sorted by name: commit, cpu, kernel, llvm, numpy, protocol, python ...

    @property
    def fingerprint(self) -> str:
        return fingerprint(dict(self.facts))


@dataclass(frozen=True)
class Trial:
    """One measured candidate. Times are seconds per call; a failed trial has none, and says why in ``message``."""

    workload: Workload
    target: Target
    environment: Environment
    template: str  # "conv2d/3": the template and the version of its meaning
    config: Mapping[str, int | str | tuple[int, ...]]  # the values of the knobs
    schedule: Schedule
    status: Status
    times: tuple[float, ...] = ()  # raw repeats, each the mean of an inner loop of calls
    error: float | None = None  # max |output - reference| / max |reference|
    message: str | None = None
    compile_seconds: float | None = None
    run_seconds: float | None = None  # wall time of verifying and timing
    sequence: int = 0  # position in its session, from 0
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def seconds(self) -> float | None:
        """Median of the repeats; None for a failed trial."""
        return statistics.median(self.times) if self.times and self.status is Status.CORRECT else None

    @property
    def spread(self) -> float | None:
        """Median absolute deviation of the repeats, in seconds."""
        middle = self.seconds
        return None if middle is None else statistics.median(abs(time - middle) for time in self.times)

    @property
    def gflops(self) -> float | None:
        middle = self.seconds
        return None if not middle else self.workload.flops / middle / 1e9


class History(Protocol):
    """Yields the trials a tuning session already has and keeps new ones. A database is one, a list is another."""

    def trials(self) -> Sequence[Trial]:
        """All trials of the session so far, by sequence."""

    def add(self, trial: Trial) -> None:
        """Keep ``trial``; it is durable when this returns."""

    def extend_times(self, sequence: int, times: Sequence[float]) -> None:
        """Add confirming repeats to a trial that is already kept."""


@dataclass
class ListHistory:
    """The history of a session in memory."""

    items: list[Trial] = field(default_factory=list)

    def trials(self) -> Sequence[Trial]:
        return tuple(self.items)

    def add(self, trial: Trial) -> None:
        self.items.append(trial)

    def extend_times(self, sequence: int, times: Sequence[float]) -> None:
        for position, trial in enumerate(self.items):
            if trial.sequence == sequence:
                self.items[position] = replace(trial, times=(*trial.times, *times))


def describe(trial: Trial) -> dict[str, Any]:
    """A trial as plain JSON values, for people and for logs."""
    return {
        "workload": trial.workload.key,
        "target": trial.target.to_json(),
        "environment": dict(trial.environment.facts),
        "template": trial.template,
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in trial.config.items()},
        "schedule": trial.schedule.to_json(),
        "status": trial.status.value,
        "times": list(trial.times),
        "error": trial.error,
        "message": trial.message,
        "compile_seconds": trial.compile_seconds,
        "run_seconds": trial.run_seconds,
        "sequence": trial.sequence,
        "created": trial.created.isoformat(),
    }
