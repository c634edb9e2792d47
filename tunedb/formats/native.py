"""The project's own log format: JSON Lines, one trial a line, each line complete in itself. See docs/log-format.md.

Files can be concatenated, split, sorted and sent in any order: what a line says is recognised by its content, so
importing it again adds nothing. Numbers keep all their digits.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from tunedb.errors import FormatError
from tunedb.formats.common import About, Parsed, Rejected, parse_lines, unique
from tunedb.formats.selection import Selection
from tunedb.formats.source import Source
from tunedb.records import (
    flatten,
    read_config,
    read_environment,
    read_schedule,
    read_target,
    read_trial,
    read_workload,
    select_trials,
)
from tunedb.tables import SESSION, TRIAL
from tuner.canonical import canonical_json
from tuner.errors import TunedbError
from tuner.target import Target
from tuner.trial import Environment, Status, Trial, describe
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

NAME = "tunedb"
VERSION = 1

_DEEPEST = 50  # levels of lists and objects; a record has six


@dataclass(frozen=True)
class Record:
    """One line: a trial, its times round by round, the session it belongs to, and why nobody should use it."""

    trial: Trial
    rounds: tuple[tuple[float, ...], ...]
    session: Mapping[str, Any]  # the arguments of the session
    session_created: datetime
    retracted: str | None = None


def encode(record: Record) -> str:
    """The line of a record, without its end."""
    data = {
        "format": NAME,
        "version": VERSION,
        **describe(record.trial),
        "times": record.rounds,
        "session": {"arguments": dict(record.session), "created": _date_text(record.session_created)},
        "created": _date_text(record.trial.created),
    }
    if record.retracted is not None:
        data["retracted"] = record.retracted
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def decode(line: str) -> Record:
    """The record of a line. Raises FormatError, which names the first field that is not as it should be."""
    data = _parse(line)
    _check_header(data)
    for name in _FIELDS - data.keys():
        raise FormatError(f"{name} is missing")
    for name in data.keys() - _FIELDS - {"retracted"}:
        raise FormatError(f"unknown field {name!r}")
    rounds = _rounds(data["times"])
    session = _dictionary(data["session"], "session")
    trial = Trial(
        workload=_workload(data["workload"]),
        target=_target(data["target"]),
        environment=_environment(data["environment"]),
        template=_template(data["template"]),
        config=_config(data["config"]),
        schedule=read_schedule(json.dumps(data["schedule"])),
        status=_status(data["status"]),
        times=flatten(rounds),
        error=_number(data["error"], "error"),
        message=_optional_text(data["message"], "message"),
        compile_seconds=_number(data["compile_seconds"], "compile_seconds"),
        run_seconds=_number(data["run_seconds"], "run_seconds"),
        sequence=_sequence(data["sequence"]),
        created=_date(data["created"], "created"),
    )
    if trial.status is Status.CORRECT and not trial.times:
        raise FormatError("a correct trial must have times")
    arguments = _dictionary(session.get("arguments"), "session.arguments")
    canonical_json(dict(arguments))  # a float in it would make its fingerprint depend on the writer
    retracted = _optional_text(data.get("retracted"), "retracted")
    return Record(trial, rounds, arguments, _date(session.get("created"), "session.created"), retracted)


def knows(head: bytes) -> bool:
    """Whether a file that begins so is one of ours."""
    return re.search(rb'^\s*\{[^\n]*"format": ?"tunedb"', head) is not None


def read(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The records of a log. Raises FormatError for what is said of its machine, which its targets say already."""
    if about != About():
        raise FormatError("a log of tunedb says all about its machine: leave --machine and --label out")
    return parse_lines(source, _read_line)


def write(database: "Database", stream: TextIO, selection: Selection) -> int:
    """Write our own trials, oldest first. Returns how many. Records of other tools have no place in this format."""
    more = (TRIAL.c.retracted, SESSION.c.arguments, SESSION.c.created.label("session_created"))
    statement = select_trials(*more).join(SESSION, TRIAL.c.session_id == SESSION.c.id)
    written = 0
    with database.read() as connection:
        for row in connection.execute(selection.narrow(statement).execution_options(yield_per=1000)):
            rounds = tuple(map(tuple, row.times))
            trial, retracted = read_trial(row), row.retracted
            if selection.redactor is not None:
                trial, retracted = selection.redactor.own(trial), selection.redactor.optional(retracted)
            stream.write(encode(Record(trial, rounds, row.arguments, row.session_created, retracted)) + "\n")
            written += 1
    return written


def _read_line(line: bytes) -> Record:
    try:
        return decode(line.decode("utf-8", "surrogateescape"))
    except FormatError:
        raise
    except (TunedbError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError(str(error)) from error


_FIELDS = frozenset(
    (
        "format",
        "version",
        "workload",
        "target",
        "environment",
        "template",
        "config",
        "schedule",
        "status",
        "times",
        "error",
        "message",
        "compile_seconds",
        "run_seconds",
        "session",
        "sequence",
        "created",
    )
)


def _parse(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line, parse_constant=_no_constant, object_pairs_hook=unique)
        if not line.isascii() or "\\u" in line:
            json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FormatError("the line is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at column {error.colno}") from error
    if _deeper(data, _DEEPEST):
        raise FormatError("lists and objects are nested too deeply")
    return _dictionary(data, "the line")


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_deeper(each, levels - 1) for each in inner))


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"{name} is not a number of JSON: leave out what was not measured (null)")


def _check_header(data: Mapping[str, Any]) -> None:
    if data.get("format") != NAME:
        raise FormatError(f"format is {data.get('format')!r}, not {NAME!r}: is this another program's log?")
    if data.get("version") != VERSION:
        raise FormatError(f"version {data.get('version')!r} of the format; this tunedb reads {VERSION}: upgrade tunedb")


def _dictionary(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{name} must be an object, not {value!r:.40}")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{name} must be text, not {value!r:.40}")
    return value


def _optional_text(value: Any, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise FormatError(f"{name} must be a number, 0 or more, or null, not {value!r:.40}")
    return float(value)


def _rounds(value: Any) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(each, list) and each for each in value):
        raise FormatError(f"times must be a list of rounds, each a list of seconds, not {value!r:.40}")
    if not all(_number(time, "times") for each in value for time in each):
        raise FormatError("times must be positive")
    return tuple(tuple(map(float, each)) for each in value)


def _workload(value: Any) -> Workload:
    workload = read_workload(_text(value, "workload"))
    if workload.flops >= 2**63:
        raise FormatError(f"workload: {value:.60} is larger than any machine")
    return workload


def _target(value: Any) -> Target:
    target = read_target(json.dumps(_dictionary(value, "target")))
    if not 0 < target.threads < 2**31:
        raise FormatError(f"target: {target.threads} threads")
    return target


def _environment(value: Any) -> Environment:
    for name, fact in _dictionary(value, "environment").items():
        _text(fact, f"environment.{name}")
    return read_environment(json.dumps(value))


def _template(value: Any) -> str:
    name, _, version = _text(value, "template").rpartition("/")
    if not 0 < len(name) <= 128 or not 0 < len(version) <= 32:
        raise FormatError(f"template must be NAME/VERSION, not {value!r:.40}")
    return f"{name}/{version}"


def _config(value: Any) -> dict[str, int | str | tuple[int, ...]]:
    for name, item in _dictionary(value, "config").items():
        numbers = item if isinstance(item, list) else [item]
        if not isinstance(item, str) and not all(isinstance(number, int) for number in numbers):
            raise FormatError(f"config.{name} must be a number, text or a list of numbers, not {item!r:.40}")
    return read_config(value)


def _status(value: Any) -> Status:
    if value not in list(Status):
        raise FormatError(f"status must be one of {', '.join(Status)}, not {value!r:.40}")
    return Status(value)


def _sequence(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise FormatError(f"sequence must be a number, 0 or more, not {value!r:.40}")
    return value


def _date(value: Any, name: str) -> datetime:
    date = datetime.fromisoformat(_text(value, name))
    if date.tzinfo is None:
        raise FormatError(f"{name} must be a date in UTC, such as 2026-01-31T12:00:00+00:00, not {value!r:.40}")
    return date.astimezone(UTC)


def _date_text(date: datetime) -> str:
    return date.astimezone(UTC).isoformat(timespec="microseconds")
