"""The log of TVM's auto_scheduler (Ansor), versions 0.x: one JSON object a line.

``{"i": [[workload key, target, hardware, host, layout, names], [stages, steps]], "r": [costs, error, all_cost,
timestamp], "v": "v0.6"}``. A workload key is a hash of what only the writer of the log had, and the shapes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord, ForeignTarget, ForeignWorkload, Origin, canonical, digest
from tunedb.formats.common import (
    About,
    Parsed,
    Rejected,
    date_of,
    field,
    load,
    parse_lines,
    seconds_of,
    status_of,
    times_of,
)
from tunedb.formats.source import Source
from tunedb.formats.tvm import target_text
from tuner.trial import Environment, Status

NAME = "ansor"


def knows(head: bytes) -> bool:
    """Whether a file that begins so is one of auto_scheduler's."""
    return re.search(rb'^\s*\{"i": ?\[\[', head) is not None


def read(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The records of a log."""
    origins: dict[bytes, Origin] = {}

    def record(line: bytes) -> ForeignRecord:
        data = load(line)
        if type(data) is not dict:
            raise FormatError("not an auto_scheduler record: the line is no object")
        version = field(data, "v")
        if not isinstance(version, str) or not re.fullmatch(r"v0\.\d+", version):
            raise FormatError(f"version {version!r:.20} of auto_scheduler's log; this tunedb reads v0.x")
        (task, state), result = _pair(field(data, "i"), "i"), field(data, "r")
        if not isinstance(state, list) or len(state) != 2:
            raise FormatError(f"the state must be [stages, steps], not {state!r:.40}")
        if not isinstance(result, list) or len(result) != 4:
            raise FormatError(f"r must be [costs, error number, all cost, timestamp], not {result!r:.40}")
        costs, error, all_cost, timestamp = result
        key = orjson.dumps((task, version))
        origin = origins.get(key) or origins.setdefault(key, _origin(task, version, about))
        status, spent = status_of(error), seconds_of(all_cost, "all cost")
        failed = status is not Status.CORRECT
        times = [] if failed else times_of(costs)
        schedule = canonical(state)
        details = {"timestamp": timestamp} | ({"error_no": error} if failed else {})
        return ForeignRecord(
            origin,
            schedule.decode(),
            digest(b'"ansor"' + schedule),
            content(times, status, spent, details),
            status,
            times,
            f"error number {error}" if failed else None,
            None,
            spent,
            date_of(timestamp),
            details,
        )

    return parse_lines(source, record)


def content(times: Sequence[float], status: Status, spent: float | None, details: Mapping[str, Any]) -> bytes:
    """As ``Format.content``."""
    return canonical([times, spent, details])


def _pair(value: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise FormatError(f"{name} must be [task, state], not {value!r:.40}")
    return value[0], value[1]


def _origin(task: Any, version: str, about: About) -> Origin:
    if not isinstance(task, list) or len(task) < 2 or not all(isinstance(text, str) for text in task[:2]):
        raise FormatError(f"the task must be [workload key, target, ...], not {task!r:.60}")
    key, target, *rest = task
    workload = load(key.encode())
    if not isinstance(workload, list) or not workload or not isinstance(workload[0], str) or not target.split():
        raise FormatError(f"the workload key must be [name, arguments ...], not {key!r:.60}")
    name, *arguments = workload
    hardware = f" {canonical(rest[0]).decode()}" if rest else ""  # cores, vector bytes, cache line, ...: more identity
    return Origin(
        NAME,
        ForeignWorkload(NAME, f"{NAME}:{name}({canonical(arguments)[1:-1].decode()})"),
        ForeignTarget(NAME, target_text(target) + hardware, about.machine, about.labels),
        Environment((("format", f"{NAME} {version}"),)),
        f"{NAME}/{version}",
        {"task": task},
    )
