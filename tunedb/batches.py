"""The records of a log in batches, each with all done that can be done before a write unit begins."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord
from tunedb.formats.common import About, Format, Parsed, Rejected
from tunedb.formats.source import Source
from tunedb.preparation import ForeignBatch, Preparation

if TYPE_CHECKING:
    from tunedb.formats.native import Record

_LARGEST = 32_000_000  # characters of a batch, for the schedules of some formats are long
_OWN_SIZE = 10_000  # about that of a record of ours in memory


class Batch(NamedTuple):
    """What came of some of the records of a log."""

    read: int
    fraction: float | None  # of the log that was read by then, if known
    error: str | None  # why the log cannot be read further
    rejected: Sequence[Rejected]
    own: "Sequence[tuple[int, Record]]"  # with their lines
    foreign: ForeignBatch


def read_batches(source: Source, format: Format, about: About, records: int) -> Generator[Batch]:
    """What is in ``source``, so many records a batch."""
    assert format.read is not None
    some = _Batch()
    try:
        for each in format.read(source, about):
            some.add(each)
            if some.read == records or some.size > _LARGEST:
                yield some.finish(source.fraction, None)
                some = _Batch()
    except FormatError as error:
        yield some.finish(source.fraction, str(error))
    else:
        if some.read:
            yield some.finish(source.fraction, None)


class _Batch:
    """A batch that is being filled."""

    def __init__(self) -> None:
        self.read = 0
        self.size = 0  # characters of what may be long in a record
        self._rejected: list[Rejected] = []
        self._own: list[tuple[int, Record]] = []
        self._foreign = Preparation()

    def add(self, item: Parsed | Rejected) -> None:
        self.read += 1
        if isinstance(item, Rejected):
            self._rejected.append(item)
            self.size += len(item.raw)
        elif isinstance(record := item.record, ForeignRecord):
            self._foreign.add(record)
            self.size += len(record.schedule)
        else:
            self._own.append((item.line, record))
            self.size += _OWN_SIZE

    def finish(self, fraction: float | None, error: str | None) -> Batch:
        return Batch(self.read, fraction, error, self._rejected, self._own, self._foreign.finish())
