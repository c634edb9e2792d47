"""Rows of the tables from records of other tools: all that can be done before, and far from, a database.

A record is recognised by its content: what its origin, its schedule and its own values are. So the same line of two
overlapping files is stored once, and the order of files does not matter.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from tunedb.foreign import ForeignRecord, Origin, digest

COLUMNS = (
    "schedule_id",
    "fingerprint",
    "status",
    "verified",
    "seconds",
    "spread",
    "repeats",
    "times",
    "message",
    "compile_seconds",
    "run_seconds",
    "created",
    "details",
)
"""What a row of a batch says of a trial; the schedule by its fingerprint."""


class ForeignBatch(NamedTuple):
    """Records for which all is done that needs no database. All of it is JSON, to go from one process to another."""

    origins: Mapping[str, Any]  # by fingerprint, as ``Origin.to_json`` gives them
    schedules: Mapping[str, Sequence[str]]  # by fingerprint: format and steps
    rows: Mapping[str, Sequence[Sequence[Any]]]  # by fingerprint of the origin: ``COLUMNS``


class Preparation:
    """A batch that is being filled. It keeps no record, for the less memory is in use, the quicker the next one is."""

    def __init__(self) -> None:
        self._origins: dict[str, Origin] = {}
        self._schedules: dict[str, tuple[str, str]] = {}
        self._rows: dict[str, list[Sequence[Any]]] = {}

    def add(self, record: ForeignRecord) -> None:
        identity = record.origin.fingerprint
        if identity not in self._origins:
            self._origins[identity], self._rows[identity] = record.origin, []
        self._schedules[record.schedule_fingerprint] = record.origin.format, record.schedule
        self._rows[identity].append(_values(record))

    def finish(self) -> ForeignBatch:
        return ForeignBatch({key: each.to_json() for key, each in self._origins.items()}, self._schedules, self._rows)


def record_fingerprint(origin: str, schedule: str, content: bytes) -> str:
    """Identity of a record whose origin and schedule have these fingerprints."""
    return digest(f"{origin}{schedule}".encode() + content)


def stored_date(date: datetime) -> str:
    """How a date in UTC is written for ``insert_many``: without its zone, which every connection takes for UTC."""
    minute = _minute(date.year, date.month, date.day, date.hour, date.minute)
    return "%s:%02d.%06d" % (minute, date.second, date.microsecond)  # noqa: UP031  # others take longer


@lru_cache(maxsize=16)
def _minute(year: int, month: int, day: int, hour: int, minute: int) -> str:
    """The text of a minute, which the next records of a log share: that is half the work."""
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}"


def _values(record: ForeignRecord) -> Sequence[Any]:
    """``COLUMNS`` of a record."""
    times = record.times
    schedule = record.schedule_fingerprint
    seconds = _median(times) if times else None
    return (
        schedule,
        record_fingerprint(record.origin.fingerprint, schedule, record.content),
        record.status.value,
        False,
        seconds,
        None if seconds is None else _median([abs(time - seconds) for time in times]),
        len(times),
        orjson.dumps([times]).decode() if times else "[]",
        record.message,
        record.compile_seconds,
        record.run_seconds,
        None if record.created is None else stored_date(record.created),
        None if record.details is None else orjson.dumps(record.details).decode(),
    )


def _median(times: Sequence[float]) -> float:
    """As statistics.median, in a fifth of the time, which an import spends twice a record."""
    if len(times) == 1:
        return times[0]
    ordered = sorted(times)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
