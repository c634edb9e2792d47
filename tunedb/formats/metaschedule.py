"""The database of TVM's MetaSchedule: two files of JSON Lines, workloads and tuning records.

A workload is ``[structural hash, IRModule in base64]``, a record ``[number of its workload, [trace, run_secs, target,
args_info]]``. The hash is what names a workload here, with the shapes; the module itself is not kept, for only TVM can
read it. Of a failed record MetaSchedule writes a time of 1e10 seconds, and never when it was measured.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord, ForeignTarget, ForeignWorkload, Origin, canonical, digest
from tunedb.formats.common import FAILED_COST, About, Parsed, Rejected, load, parse_lines, times_of
from tunedb.formats.source import Source, open_source
from tuner.trial import Environment, Status

NAME = "metaschedule"

_RECORDS, _WORKLOADS = "database_tuning_record", "database_workload"


def knows(head: bytes) -> bool:
    """Whether a file that begins so is one of the pair."""
    return re.match(rb'\s*\[ ?(\d+, ?\[\[|"\d+", ?"[A-Za-z0-9+/])', head) is not None


def read(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The records of a file ``*database_tuning_record*``, whose workloads lie beside it in ``*database_workload*``."""
    hashes = _hashes(source)
    origins: dict[bytes, Origin] = {}

    def record(line: bytes) -> ForeignRecord:
        data = load(line)
        if not isinstance(data, list) or len(data) != 2 or not isinstance(data[1], list) or len(data[1]) != 4:
            raise FormatError("not a MetaSchedule record, which is [workload, [trace, run_secs, target, args_info]]")
        number, (trace, costs, target, shapes) = data
        if type(number) is not int or not 0 <= number < len(hashes):
            raise FormatError(f"workload {number!r:.20} is not in the file of workloads, which has {len(hashes)}")
        key = orjson.dumps((number, target, shapes))
        origin = origins.get(key) or origins.setdefault(key, _origin(hashes[number], target, shapes, about))
        failed = isinstance(costs, list) and bool(costs) and type(costs[0]) in (int, float) and costs[0] >= FAILED_COST
        status, times = (Status.RUNTIME, []) if failed else (Status.CORRECT, times_of(costs))
        schedule = canonical(trace)
        return ForeignRecord(
            origin,
            schedule.decode(),
            digest(b'"metaschedule"' + schedule),
            content(times, status, None, {}),
            status,
            times,
            "it failed; MetaSchedule does not say how" if failed else None,
            None,
            None,
            None,
            None,
        )

    return parse_lines(source, record)


def content(times: Sequence[float], status: Status, spent: float | None, details: Mapping[str, Any]) -> bytes:
    """As ``Format.content``."""
    return canonical([times])


def _hashes(source: Source) -> list[str]:
    """The structural hashes of the file of workloads, in its order."""
    if source.path is None or _RECORDS not in source.name:
        raise FormatError(
            f"a MetaSchedule database is two files: name that of the records, *{_RECORDS}*.json; "
            f"*{_WORKLOADS}*.json must lie beside it"
        )
    path = source.path.with_name(source.name.replace(_RECORDS, _WORKLOADS))
    with open_source(str(_present(path))) as workloads:
        return [_hash(number, load(line)) for number, line in workloads.lines()]


def _present(path: Path) -> Path:
    """``path``, or as it is named when it is packed, or is not."""
    other = path.with_name(path.name.removesuffix(".gz") if path.suffix == ".gz" else f"{path.name}.gz")
    return other if other.exists() and not path.exists() else path


def _hash(number: int, workload: Any) -> str:
    if not isinstance(workload, list) or len(workload) != 2 or not isinstance(workload[0], str):
        raise FormatError(f"line {number} of the file of workloads must be [hash, module]")
    return workload[0]


def _origin(name: str, target: Any, shapes: Any, about: About) -> Origin:
    if not isinstance(target, dict) or not isinstance(target.get("kind"), str) or not isinstance(shapes, list):
        raise FormatError(f"the target must be an object with its kind, not {target!r:.60}")
    options = {option: value for option, value in target.items() if option != "kind"}
    return Origin(
        NAME,
        ForeignWorkload(NAME, f"{NAME}:{name}({canonical(shapes)[1:-1].decode()})"),
        ForeignTarget(NAME, f"{target['kind']} {canonical(options).decode()}", about.machine, about.labels),
        Environment((("format", NAME),)),
        f"{NAME}/1",
        {},
    )
