"""What other tools' logs say, in words that the database keeps: never taken for what was measured here.

A foreign schedule is no list of our steps, and a foreign target often says little ("llvm" for three different CPUs), so
both are kept as they are. A workload that this project has a key for is that workload; any other keeps its own name,
which begins with the name of its format.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from tunedb.errors import FormatError
from tuner.trial import Environment, Status
from tuner.workload import Workload

LONGEST_KEY = 8000
"""No workload of a real tool has a longer key, in characters."""


def canonical(value: Any) -> bytes:
    """The one text of a JSON value: sorted keys, no spaces, and the shortest digits that give a float64 back."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(text: bytes) -> str:
    """SHA-256, as 64 hexadecimal digits."""
    return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True)
class ForeignWorkload:
    """A workload that only another tool knows: ``autotvm:conv2d_transpose_nchw.cuda(...)``."""

    operator: str  # with the name of the format
    key: str

    def __post_init__(self) -> None:
        if len(self.key) > LONGEST_KEY or len(self.operator) > 255:
            raise FormatError(f"the workload's key is longer than {LONGEST_KEY} characters: {self.key:.60}...")

    @cached_property
    def fingerprint(self) -> str:
        return digest(canonical({"foreign": self.key}))

    @property
    def problem(self) -> "ForeignWorkload":
        """Itself: it has no tolerance."""
        return self

    @property
    def label(self) -> str:
        return self.key

    @property
    def flops(self) -> None:
        """Nobody says how many operations it takes."""
        return None


@dataclass(frozen=True)
class ForeignTarget:
    """A machine as another tool names it, and what was said at import (``--machine``, ``--label``). All is identity."""

    format: str
    target: str  # options in alphabetical order
    machine: str | None = None
    labels: tuple[tuple[str, str], ...] = ()  # sorted by name

    @property
    def name(self) -> str:
        """A short name for people."""
        where = f" on {self.machine}" if self.machine else ""
        labels = "".join(f" {name}={value}" for name, value in self.labels)
        return f"{self.target}{where}{labels} ({self.format})"

    @cached_property
    def fingerprint(self) -> str:
        return digest(canonical(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "target": self.target,
            "machine": self.machine,
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ForeignTarget":
        return cls(data["format"], data["target"], data["machine"], tuple(sorted(data["labels"].items())))


@dataclass(frozen=True)
class Origin:
    """What all records of one task in a log share."""

    format: str
    workload: Workload | ForeignWorkload
    target: ForeignTarget
    environment: Environment
    template: str  # NAME/VERSION: the task, and the version of the format
    arguments: Mapping[str, Any] = field(hash=False)  # what the format needs to write its records again

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the session that stands for it."""
        return digest(
            canonical(
                {
                    "format": self.format,
                    "workload": self.workload.fingerprint,
                    "target": self.target.fingerprint,
                    "environment": self.environment.fingerprint,
                    "template": self.template,
                    "arguments": self.arguments,
                }
            )
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "operator": self.workload.operator,
            "workload": self.workload.key,
            "target": self.target.to_json(),
            "environment": dict(self.environment.facts),
            "template": self.template,
            "arguments": self.arguments,
        }


class ForeignRecord(NamedTuple):
    """A record that was read from a log. A tuple, for millions are made, and a dataclass takes ten times as long."""

    origin: Origin
    schedule: str  # the JSON text of the configuration, trace or steps, in the words of its format
    schedule_fingerprint: str
    content: bytes  # what tells this record from others of the same origin and schedule
    status: Status
    times: list[float]  # seconds
    message: str | None
    compile_seconds: float | None
    run_seconds: float | None
    created: datetime | None
    details: Mapping[str, Any] | None  # what only its own format has a word for


@dataclass(frozen=True)
class ForeignTrial:
    """A stored record of another tool. Nobody verified it here, and its time says nothing about this machine."""

    fingerprint: str
    workload: Workload | ForeignWorkload
    target: ForeignTarget
    environment: Environment
    template: str
    schedule: Any  # JSON, in the words of its format
    status: Status
    times: tuple[float, ...]
    seconds: float | None  # their median
    message: str | None
    compile_seconds: float | None
    run_seconds: float | None
    created: datetime | None
    details: Mapping[str, Any]
    arguments: Mapping[str, Any]  # of its origin
    retracted: str | None

    @property
    def format(self) -> str:
        return self.target.format

    @property
    def gflops(self) -> float | None:
        flops = self.workload.flops
        return None if flops is None or not self.seconds else flops / self.seconds / 1e9

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "target": self.target.to_json(),
            "source": "imported",
            "seconds": self.seconds,
            "gflops": self.gflops,
            "error": None,
            "verified": False,
            "status": self.status.value,
            "times": list(self.times),
            "template": self.template,
            "schedule": self.schedule,
            "trial": self.fingerprint,
            "environment": dict(self.environment.facts),
            "created": self.created.isoformat() if self.created else None,
        }
