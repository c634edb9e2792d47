"""The records of a log in batches, each with all done that can be done before a write unit begins."""

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord
from tunedb.foreign_records import ForeignBatch, prepare
from tunedb.formats.common import About, Format, Parsed, Rejected
from tunedb.formats.native import Record
from tunedb.formats.source import Source

_LARGEST = 32_000_000  # characters of a batch, for the schedules of some formats are long
_OWN_SIZE = 10_000  # about that of a record of ours in memory


class Batch(NamedTuple):
    """What came of some of the records of a log."""

    read: int
    fraction: float | None  # of the log that was read by then, if known
    error: str | None  # why the log cannot be read further
    rejected: Sequence[Rejected]
    own: Sequence[tuple[int, Record]]  # with their lines
    foreign: ForeignBatch


def read_batches(source: Source, format: Format, about: About, records: int) -> Generator[Batch]:
    """What is in ``source``, so many records a batch."""
    assert format.read is not None
    error: str | None = None

    def until_an_error(items: Iterator[Parsed | Rejected]) -> Iterator[Parsed | Rejected]:
        nonlocal error
        try:
            yield from items
        except FormatError as problem:
            error = str(problem)

    some: list[Parsed | Rejected] = []
    size = 0
    for each in until_an_error(format.read(source, about)):
        some.append(each)
        size += _size(each)
        if len(some) == records or size > _LARGEST:
            yield _batch(some, source.fraction, None)
            some, size = [], 0
    if some or error:
        yield _batch(some, source.fraction, error)


def _batch(items: Sequence[Parsed | Rejected], fraction: float | None, error: str | None) -> Batch:
    rejected: list[Rejected] = []
    own: list[tuple[int, Record]] = []
    foreign: list[ForeignRecord] = []
    for each in items:
        if isinstance(each, Rejected):
            rejected.append(each)
        elif isinstance(each.record, ForeignRecord):
            foreign.append(each.record)
        else:
            own.append((each.line, each.record))
    return Batch(len(items), fraction, error, rejected, own, prepare(foreign))


def _size(item: Parsed | Rejected) -> int:
    """Characters of what may be long in a record."""
    if isinstance(item, Rejected):
        return len(item.raw)
    return len(item.record.schedule) if isinstance(item.record, ForeignRecord) else _OWN_SIZE
