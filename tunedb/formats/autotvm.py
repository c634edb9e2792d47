"""AutoTVM's log, version 0.2, TopHub's files among them: one JSON object a line.

``{"input": [target, task, args, kwargs], "config": {...}, "result": [costs, error, all_cost, timestamp], ...}``

Version 0.1 and lines with pickled values are refused by name; nothing in a line is ever evaluated.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

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
from tunedb.formats.tvm import target_text, workload_of
from tuner.trial import Environment, Status

if TYPE_CHECKING:
    from tunedb.database import Database
    from tunedb.formats.selection import Selection

NAME = "autotvm"
VERSION = 0.2

_FIELDS = frozenset(("input", "config", "result", "version", "tvm_version"))
_PICKLED = re.compile(rb"[^\t]*\tgA[A-Za-z0-9+/=]")  # a target, a tab, and what base64 makes of a pickle's first byte
_REMEMBERED = 10_000  # tasks; a log has some dozens


def knows(head: bytes) -> bool:
    """Whether a file that begins so is one of AutoTVM's."""
    for line in head.splitlines()[:20]:
        if line.startswith(b"#"):
            continue
        if _PICKLED.match(line):
            return True
        return line.startswith(b"{") and (
            (b'"input"' in line and b'"result"' in line) or re.search(rb'"v": ?0\.1\b', line) is not None
        )
    return False


def read(source: Source, about: About) -> Iterator[Parsed | Rejected]:
    """The records of a log."""
    return parse_lines(source, _Reader(about).record)


def write(database: "Database", stream: TextIO, selection: "Selection") -> int:
    """Write the stored records of AutoTVM, as they were read: content for content."""
    written = 0
    for trial in selection.foreign(database, NAME):
        details = dict(trial.details)
        line = {
            "input": trial.arguments["input"],
            "config": trial.schedule,
            "result": [
                details.pop("costs", list(trial.times)),
                details.pop("error_no", 0),
                details.pop("all_cost", trial.run_seconds),
                details.pop("timestamp"),
            ],
            "version": VERSION,
            **trial.arguments["more"],
            **details,
        }
        stream.write(orjson.dumps(line).decode() + "\n")
        written += 1
    return written


def content(times: Sequence[float], status: Status, spent: float | None, details: Mapping[str, Any]) -> bytes:
    """As ``Format.content``."""
    return canonical([times, spent, details])


class _Task(NamedTuple):
    """What lines with equal inputs have in common."""

    given: Any
    origins: dict[str | None, Origin]  # by the version of TVM


class _Reader:
    """Remembers what the lines of a log have in common, for they say it anew each time.

    A line begins with its input, as a rule; of one that begins as an earlier one did, only the rest is parsed.
    """

    def __init__(self, about: About) -> None:
        self._about = about
        self._tasks: dict[bytes, _Task] = {}  # by all that comes before a line's config, and by the input's JSON

    def record(self, line: bytes) -> ForeignRecord | None:
        """The record of a line, None for a comment. Raises FormatError."""
        if not line.startswith(b"{"):
            if line.startswith(b"#"):
                return None
            if _PICKLED.match(line):
                raise FormatError("a pickled AutoTVM record: pickles can run programs, so they are never read")
        beginning = line[: line.find(b'"config"')]
        known = self._tasks.get(beginning)
        data = load(line) if known is None else _rest(line, len(beginning))
        if type(data) is not dict:
            raise FormatError("not an AutoTVM record: the line is no object")
        if known is None and "input" not in data and data.get("v") == 0.1:
            raise FormatError("an AutoTVM record of version 0.1, which names no template: only 0.2 is read")
        task = known or self._task(field(data, "input"))
        if field(data, "version") != VERSION:
            raise FormatError(f"version {data['version']!r:.20} of AutoTVM's log; this tunedb reads {VERSION}")
        origin = self._origin(task, data.get("tvm_version"))
        if known is None:
            self._remember(beginning, task)
        config = field(data, "config")
        _check_config(config)
        schedule = canonical(config)
        result = field(data, "result")
        if type(result) is not list or len(result) != 4:
            raise FormatError(f"result must be [costs, error number, all cost, timestamp], not {result!r:.40}")
        costs, error, all_cost, timestamp = result
        status = status_of(error)
        spent = seconds_of(all_cost, "all cost")
        details = {"timestamp": timestamp}
        if type(all_cost) is not float:
            details["all_cost"] = all_cost  # a column makes it one
        if status is Status.CORRECT:
            times, message = times_of(costs), None
        else:
            times, message = [], f"error number {error}"
            details |= {"error_no": error, "costs": costs}
        if not _FIELDS.issuperset(data):
            details |= {name: data[name] for name in data.keys() - _FIELDS}
        return ForeignRecord(
            origin,
            schedule.decode(),
            digest(b'"autotvm"' + schedule),
            content(times, status, spent, details),
            status,
            times,
            message,
            None,
            spent,
            date_of(timestamp),
            details,
        )

    def _task(self, given: Any) -> _Task:
        return self._tasks.get(orjson.dumps(given)) or _Task(given, {})

    def _remember(self, beginning: bytes, task: _Task) -> None:
        """Keep the task of a good line: who kept those of bad ones would keep whatever a file is full of."""
        if len(self._tasks) >= _REMEMBERED:
            self._tasks.clear()
        self._tasks[orjson.dumps(task.given)] = task
        if _is_input(beginning, task.given):
            self._tasks[beginning] = task

    def _origin(self, task: _Task, tvm: Any) -> Origin:
        if tvm is not None and not isinstance(tvm, str):
            raise FormatError(f"tvm_version must be text, not {tvm!r:.40}")
        return task.origins.get(tvm) or task.origins.setdefault(tvm, _origin(task.given, tvm, self._about))


def _is_input(beginning: bytes, given: Any) -> bool:
    """Whether a line's beginning is its input and nothing else, so that what follows is an object without it."""
    try:
        return bool(orjson.loads(beginning.rstrip().removesuffix(b",") + b"}") == {"input": given})
    except orjson.JSONDecodeError:
        return False


def _rest(line: bytes, begin: int) -> Any:
    """The object of a line without its input, which ends before ``begin``. Raises FormatError."""
    try:
        data = load(b"{" + line[begin:])
    except FormatError:
        return load(line)  # which says in what column of all of it the error is
    return data if "input" not in data else load(line)


def _origin(given: Any, tvm: str | None, about: About) -> Origin:
    if type(given) is not list or len(given) != 4 or not isinstance(given[0], str) or not isinstance(given[1], str):
        raise FormatError(f"input must be [target, task, arguments, keywords], not {given!r:.60}")
    target, task, arguments, keywords = given
    if not target.split():
        raise FormatError("the target is empty")
    if not 0 < len(task) <= 100:
        raise FormatError(f"the name of the task must have 1 to 100 characters, not {task!r:.40}")
    facts = {"format": f"{NAME} {VERSION}"} | ({"tvm": tvm} if tvm else {})
    return Origin(
        NAME,
        workload_of(task, arguments, keywords) or _own_name(task, arguments, keywords),
        ForeignTarget(NAME, target_text(target), about.machine, about.labels),
        Environment(tuple(sorted(facts.items()))),
        f"{NAME}:{task}/{VERSION}",
        {"input": given, "more": {} if tvm is None else {"tvm_version": tvm}},
    )


def _own_name(task: str, arguments: Any, keywords: Any) -> ForeignWorkload:
    given = canonical(arguments) + (canonical(keywords) if keywords else b"")
    return ForeignWorkload(f"{NAME}:{task}", f"{NAME}:{task}({given.decode()})")


def _check_config(config: Any) -> None:
    entity = config.get("entity") if type(config) is dict else None
    if type(entity) is list:
        for knob in entity:
            if type(knob) is not list or len(knob) != 3:
                break
        else:
            return
    raise FormatError(f"config must have an entity: a list of [name, kind, value], not {config!r:.60}")
