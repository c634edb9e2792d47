"""What the log formats share: what a format is, what an import reports, and how one line of JSON becomes a value."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import orjson

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord
from tunedb.formats.source import LONGEST_LINE, Source, too_long
from tuner.trial import Status

if TYPE_CHECKING:
    from tunedb.database import Database
    from tunedb.formats.native import Record
    from tunedb.formats.selection import Selection

_PREVIEW = 2000  # characters of a bad line that are kept

STATUSES = (
    Status.CORRECT,
    Status.CONSTRAINTS,  # 1: the template refused the configuration
    Status.COMPILE,  # 2: on the host
    Status.COMPILE,  # 3: on the device
    Status.RUNTIME,
    Status.CORRECTNESS,
    Status.COMPILE,  # 6: the build ran out of time
    Status.TIMEOUT,  # 7: of the run
    Status.RUNTIME,  # 8: unknown
)
"""By the error number of TVM's logs, which AutoTVM and auto_scheduler share."""

FAILED_COST = 1e9
"""What TVM writes for the time of a failure, in seconds."""


@dataclass(frozen=True)
class About:
    """What the person who imports a log says of it, since foreign targets often say little."""

    machine: str | None = None
    labels: tuple[tuple[str, str], ...] = ()  # sorted by name


class Rejected(NamedTuple):
    """A record that was not imported. ``line`` counts from 1, in a document the records."""

    line: int
    reason: str
    raw: str = ""  # the beginning of its text


class Parsed(NamedTuple):
    """A record that was read."""

    line: int
    record: "Record | ForeignRecord"


@dataclass(frozen=True)
class Imported:
    """What became of the records of a file: read = new + duplicate + quarantined."""

    file: str  # its name, without its folder
    format: str | None  # None when it is in no known one
    read: int
    new: int
    duplicate: int
    quarantined: int
    rejected: tuple[Rejected, ...]  # the first few of the quarantined
    error: str | None  # why the file was not read to its end


@dataclass(frozen=True)
class Format:
    """A log format by name.

    ``knows`` tells from the beginning of a file whether it is in this format; ``read`` yields its records, and what was
    wrong with the others; ``write`` writes those trials of a database that it can, and returns their number. Of another
    tool's format, ``content`` is the text that tells a record from others of the same origin and schedule, by its times
    in seconds, its status, the seconds that measuring took, and its details.
    """

    name: str
    knows: Callable[[bytes], bool] | None = None
    read: Callable[[Source, About], Iterator[Parsed | Rejected]] | None = None
    write: "Callable[[Database, TextIO, Selection], int] | None" = None
    write_file: "Callable[[Database, Path, Selection], int] | None" = None  # where no stream of text will do
    content: Callable[[Sequence[float], Status, float | None, Mapping[str, Any]], bytes] | None = None


def parse_lines(
    source: Source, parse: Callable[[bytes], "Record | ForeignRecord | None"]
) -> Iterator[Parsed | Rejected]:
    """What ``parse`` makes of each line; it returns None for one to leave out, and raises FormatError for a bad one."""
    for number, line in source.lines():
        try:
            if too_long(line):
                raise FormatError(f"the line is longer than {LONGEST_LINE >> 20} MiB")
            record = parse(line)
        except FormatError as error:
            yield Rejected(number, str(error), preview(line))
        else:
            if record is not None:
                yield Parsed(number, record)


def preview(line: bytes) -> str:
    """The beginning of a bad line, as text that every database can keep."""
    return line[: 4 * _PREVIEW].decode("utf-8", "backslashreplace")[:_PREVIEW].replace("\0", "\\x00")


def load(line: bytes) -> Any:
    """The value of a line of JSON. Raises FormatError, also for NaN, names given twice and 250 levels of nesting."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at column {error.colno}") from None
    if b"\\u0000" in line:
        raise FormatError("a text has a NUL character, which no database keeps")
    try:
        written = orjson.dumps([[[[[[[[value]]]]]]]])  # with room for what a value is stored in: it writes 254 levels
    except TypeError:
        raise FormatError("lists and objects are nested too deeply") from None
    # orjson keeps the last of two equal names. A lost one has taken its colon with it; what else may have, json tells.
    if written.count(b":") != line.count(b":"):
        json.loads(line, object_pairs_hook=unique)
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values. Raises FormatError for a name that is given twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{twice!r:.40} is given twice")
    return found


def times_of(costs: Any) -> list[float]:
    """The seconds of a list of repeats. Raises FormatError for anything but positive numbers."""
    if type(costs) is not list or not costs:
        raise FormatError(f"the times must be a list of seconds, not {costs!r:.40}")
    for cost in costs:
        if type(cost) is not float and type(cost) is not int:
            raise FormatError(f"a time must be a number of seconds, not {cost!r:.40}")
        if not 0 < cost < FAILED_COST:
            raise FormatError(f"a time must be positive and below {FAILED_COST:g} seconds, not {cost!r:.40}")
    return [float(cost) for cost in costs]


def status_of(error: Any) -> Status:
    """The status of one of TVM's error numbers. Raises FormatError."""
    if type(error) is not int or not 0 <= error < len(STATUSES):
        raise FormatError(f"error number {error!r:.40} is not one of 0 to {len(STATUSES) - 1}")
    return STATUSES[error]


def seconds_of(value: Any, name: str) -> float | None:
    """A duration that may be missing. Raises FormatError for anything but a number, 0 or more, or null."""
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise FormatError(f"{name} must be a number, 0 or more, or null, not {value!r:.40}")
    return float(value)


def date_of(timestamp: Any) -> datetime:
    """The date of seconds since 1970. Raises FormatError."""
    if type(timestamp) not in (int, float) or not 0 <= timestamp < 2**33:
        raise FormatError(f"the timestamp must be seconds since 1970, not {timestamp!r:.40}")
    return datetime.fromtimestamp(timestamp, UTC)


def field(data: Mapping[str, Any], name: str) -> Any:
    """A field that must be there. Raises FormatError."""
    try:
        return data[name]
    except KeyError:
        raise FormatError(f"{name} is missing") from None
