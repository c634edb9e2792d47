"""Kernel Tuner's cache file, and T4, the results format of the auto-tuning community. Each is one JSON document.

A cache names its kernel, its problem size and its device. T4 names none of them: its kernel is the name of the file,
or what ``--label kernel=NAME`` says. Times are milliseconds in a cache and what ``timeunit`` says in T4. A cache that
was left open, as a tuner that was stopped leaves it, is closed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord, ForeignTarget, ForeignTrial, ForeignWorkload, Origin, canonical, digest
from tunedb.formats.common import About, Parsed, Rejected, field, load, preview, seconds_of, times_of
from tunedb.formats.source import Source
from tuner.trial import Environment, Status

if TYPE_CHECKING:
    from tunedb.database import Database
    from tunedb.formats.selection import Selection

CACHE = "kernel-tuner"
T4 = "t4"

_FAILURES = {
    "CompilationFailedConfig": Status.COMPILE,
    "RuntimeFailedConfig": Status.RUNTIME,
    "InvalidConfig": Status.CONSTRAINTS,
}
_UNITS = {"seconds": 1, "miliseconds": 1e3, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}  # a second
_SCHEMA = "1.0.0"


def knows_cache(head: bytes) -> bool:
    """Whether a file that begins so is a cache."""
    return head.lstrip().startswith(b"{") and b'"tune_params_keys"' in head and b'"kernel_name"' in head


def knows_t4(head: bytes) -> bool:
    """Whether a file that begins so is a T4 file."""
    return head.lstrip().startswith(b"{") and b'"invalidity"' in head and b'"configuration"' in head


def read_cache(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The configurations of a cache. Raises FormatError when it is none."""
    data = _object(_closed(source.document()), "the cache")
    names, entries = field(data, "tune_params_keys"), _object(field(data, "cache"), "cache")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f"tune_params_keys must be the names of the parameters, not {names!r:.40}")
    size = canonical(field(data, "problem_size")).decode()
    origin = _origin(CACHE, f"{field(data, 'kernel_name')}({size})", str(field(data, "device_name")), about)
    for number, entry in enumerate(entries.values(), 1):
        try:
            yield Parsed(number, _cached(origin, _object(entry, "the entry"), names))
        except FormatError as error:
            yield Rejected(number, str(error), preview(orjson.dumps(entry)))


def read_t4(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The results of a T4 file. Raises FormatError when it is none."""
    data = _object(source.document(), "the file")
    version = data.get("schema_version", _SCHEMA)
    if not isinstance(version, str) or not version.startswith("1."):
        raise FormatError(f"version {version!r:.20} of T4; this tunedb reads 1.x")
    metadata, results = _object(data.get("metadata", {}), "metadata"), field(data, "results")
    unit = metadata.get("timeunit", "miliseconds")
    if not isinstance(unit, str) or unit not in _UNITS or not isinstance(results, list):
        raise FormatError(f"timeunit must be one of {', '.join(_UNITS)} and results a list, not {unit!r:.20}")
    stem = re.sub(r"(_T4)?(\.json)?(\.gz)?$", "", source.name)
    kernel = str(metadata.get("kernel") or dict(about.labels).get("kernel") or stem)
    origin = _origin(T4, kernel, str(metadata.get("device") or "unknown device"), about)
    for number, entry in enumerate(results, 1):
        try:
            yield Parsed(number, _result(origin, _object(entry, "the result"), _UNITS[unit]))
        except FormatError as error:
            yield Rejected(number, str(error), preview(orjson.dumps(entry)))


def write_t4(database: "Database", stream: TextIO, selection: "Selection") -> int:
    """Write the stored T4 results and Kernel Tuner caches of one kernel on one device.

    Raises FormatError when there is more than one, for T4 has no word that would keep them apart.
    """
    places = selection.places(database, T4, CACHE)
    if len(places) > 1:
        (one, _), (other, _) = places
        raise FormatError(
            f"a T4 file is of one kernel on one device, and there are {one} and {other}: name one with --workload "
            "(and --target)"
        )
    metadata = {"timeunit": "miliseconds"}
    for key, device in places:
        metadata |= {"kernel": key.partition(":")[2], "device": device}
    head = orjson.dumps({"metadata": metadata, "schema_version": _SCHEMA}).decode()
    stream.write(head.removesuffix("}") + ',"results":[\n')
    written = 0
    for trial in selection.foreign(database, T4, CACHE):
        stream.write((",\n" if written else "") + orjson.dumps(_as_t4(trial)).decode())
        written += 1
    stream.write("\n]}\n")
    return written


def content(times: Sequence[float], status: Status, spent: float | None, details: Mapping[str, Any]) -> bytes:
    """As ``Format.content``."""
    return canonical([times, status.value, details["timestamp"]])


def _as_t4(trial: ForeignTrial) -> dict[str, Any]:
    details = trial.details
    times: dict[str, Any] = {name: details.get(name, 0) for name in ("framework", "search_algorithm", "validation")}
    times["compilation"] = _milliseconds(trial.compile_seconds or 0.0)
    if trial.times:
        times["runtimes"] = [_milliseconds(time) for time in trial.times]
    value = _milliseconds(trial.seconds) if trial.seconds else trial.message
    return {
        "timestamp": details.get("timestamp"),
        "configuration": trial.schedule,
        "times": times,
        "invalidity": trial.status.value,
        "correctness": int(trial.status is Status.CORRECT),
        "measurements": details.get("measurements", [{"name": "time", "value": value, "unit": ""}]),
        "objectives": details.get("objectives", ["time"]),
    }


def _origin(format: str, kernel: str, device: str, about: About) -> Origin:
    return Origin(
        format,
        ForeignWorkload(format, f"{format}:{kernel}"),
        ForeignTarget(format, device, about.machine, about.labels),
        Environment((("format", format),)),
        f"{format}/1",
        {},
    )


def _cached(origin: Origin, entry: Mapping[str, Any], names: Sequence[str]) -> ForeignRecord:
    time = field(entry, "time")
    if isinstance(time, str) and time not in _FAILURES:
        raise FormatError(f"time is {time!r:.40}: not a number, and not a failure that is known")
    status = _FAILURES[time] if isinstance(time, str) else Status.CORRECT
    raw = entry.get("times", [time])
    spent = {
        name: entry[column]
        for name, column in (
            ("framework", "framework_time"),
            ("search_algorithm", "strategy_time"),
            ("validation", "verification_time"),
            ("benchmark", "benchmark_time"),
        )
        if column in entry
    }
    config = {name: field(entry, name) for name in names}
    return _record(origin, config, status, raw, 1e3, entry.get("compile_time"), entry.get("timestamp"), time, spent)


def _result(origin: Origin, entry: Mapping[str, Any], unit: float) -> ForeignRecord:
    invalidity = field(entry, "invalidity")
    if invalidity not in list(Status):
        raise FormatError(f"invalidity must be one of {', '.join(Status)}, not {invalidity!r:.40}")
    times = _object(field(entry, "times"), "times")
    rest = {name: entry[name] for name in ("measurements", "objectives") if name in entry}
    rest |= {name: times[name] for name in ("framework", "search_algorithm", "validation") if name in times}
    measured = entry.get("measurements")
    values = [each.get("value") for each in measured if isinstance(each, dict)] if isinstance(measured, list) else []
    return _record(
        origin,
        _object(field(entry, "configuration"), "configuration"),
        Status(invalidity),
        times.get("runtimes"),
        unit,
        times.get("compilation"),
        entry.get("timestamp"),
        values[0] if values else None,
        rest,
    )


def _record(
    origin: Origin,
    config: Mapping[str, Any],
    status: Status,
    raw: Any,
    unit: float,
    compilation: Any,
    timestamp: Any,
    value: Any,
    rest: Mapping[str, Any],
) -> ForeignRecord:
    times = [time / unit for time in times_of(raw)] if status is Status.CORRECT else []
    compiling = seconds_of(compilation, "the compilation time")
    details = {"timestamp": timestamp, **rest}
    schedule = canonical(config)
    return ForeignRecord(
        origin,
        schedule.decode(),
        digest(f'"{origin.format}"'.encode() + schedule),
        content(times, status, None, details),
        status,
        times,
        str(value) if status is not Status.CORRECT and value is not None else None,
        None if compiling is None else compiling / unit,
        None,
        _date(timestamp),
        details,
    )


def _date(text: Any) -> datetime | None:
    """The date of an ISO 8601 text; one without a zone is UTC."""
    if text is None:
        return None
    try:
        date = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise FormatError(f"the timestamp must be a date such as 2026-01-31 12:00:00+00:00, not {text!r:.40}") from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)


def _milliseconds(seconds: float) -> float:
    """The number that gives back exactly ``seconds`` when it is divided by 1000, if there is one."""
    near = seconds * 1e3
    candidates = (near, math.nextafter(near, math.inf), math.nextafter(near, 0.0))
    return next((each for each in candidates if each / 1e3 == seconds), near)


def _object(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, bytes):
        value = load(value)
    if not isinstance(value, dict):
        raise FormatError(f"{name} must be an object, not {value!r:.40}")
    return value


def _closed(text: bytes) -> bytes:
    """A cache with the end that Kernel Tuner only writes when it is done."""
    text = text.rstrip()
    return text.removesuffix(b",") + b"}}" if text.endswith((b",", b"{")) else text
