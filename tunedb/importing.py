"""Logs into the database: records a batch at a time, what cannot be read into quarantine, and a count of everything."""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tunedb import dialect, interrupts
from tunedb.errors import FormatError
from tunedb.foreign import ForeignRecord, canonical, digest
from tunedb.foreign_records import ForeignWriter
from tunedb.formats.common import About, Format, Imported, Parsed, Rejected
from tunedb.formats.native import Record
from tunedb.formats.source import Source
from tunedb.records import QUARANTINE, Writer

if TYPE_CHECKING:
    from tunedb.database import Database

BATCH = 10_000
"""Records a write unit: enough that a beginning and an end cost little, few enough that other writers get a turn."""

_BATCH_SIZE = 32_000_000  # characters of a write unit, for the schedules of some formats are long
_OWN_SIZE = 10_000  # about that of a record of ours in memory

_QUARANTINE_COLUMNS = ("fingerprint", "file", "line", "format", "reason", "raw", "created")
_MOST_REASONS = 10  # rejected records that the report names


def import_log(
    database: "Database",
    source: Source,
    format: Format,
    about: About,
    *,
    strict: bool = False,
    dry_run: bool = False,
    on_batch: Callable[[], None] | None = None,
) -> Imported:
    """Add the records of ``source`` that are not stored yet, and put into quarantine those that cannot be read.

    ``dry_run`` does it all and takes it back. ``strict`` ends at the first record that cannot be read, with nothing
    written. Both are one write unit, which keeps other writers waiting; otherwise a batch is one.

    Raises FormatError for a source that cannot be read to its end, after importing what came before, and for a bad
    record when ``strict``.
    """
    assert format.read is not None
    run = _Run(source.name, format.name, strict)
    batches = _batches(format.read(source, about))
    with contextlib.suppress(_TakeBack), _no_garbage_collection():
        if strict or dry_run:
            with database.write() as connection:
                for batch in batches:
                    run.store(connection, batch)
                    interrupts.poll()
                    if on_batch is not None:
                        on_batch()
                if dry_run:
                    raise _TakeBack
        else:
            for batch in batches:
                with database.write() as connection:
                    run.store(connection, batch)
                if on_batch is not None:
                    on_batch()
    return run.report()


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Records have no cycles, and to look for some in millions of them takes a fifth of an import's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _TakeBack(Exception):  # noqa: N818  # nothing went wrong
    """Leaves a write unit without its changes."""


@dataclass
class _Run:
    file: str
    format: str
    strict: bool
    read: int = 0
    new: int = 0
    quarantined: int = 0
    reasons: list[Rejected] = field(default_factory=list)
    foreign: ForeignWriter = field(default_factory=ForeignWriter)

    def store(self, connection: Connection, batch: Sequence[Parsed | Rejected]) -> None:
        """Store a batch and count it."""
        rejected = [each for each in batch if isinstance(each, Rejected)]
        foreign: list[ForeignRecord] = []
        writer = Writer(connection)
        for each in batch:
            if isinstance(each, Rejected):
                continue
            line, record = each
            if isinstance(record, ForeignRecord):
                foreign.append(record)
            elif (problem := self._store_own(writer, record)) is not None:
                rejected.append(Rejected(line, problem))
        if self.strict and rejected:
            first = min(rejected)
            raise FormatError(f"{self.file}, line {first.line}: {first.reason}; nothing was imported")
        self.new += self.foreign.add(connection, foreign)
        self._put_aside(connection, rejected)
        self.read += len(batch)
        self.quarantined += len(rejected)
        self.reasons = sorted([*self.reasons, *rejected])[:_MOST_REASONS]

    def _store_own(self, writer: Writer, record: Record) -> str | None:
        session, session_id = writer.session(record.session, record.session_created)
        outcome = writer.trial(record.trial, session, session_id, record.rounds)
        self.new += outcome == "new"
        if outcome == "conflict":
            return f"another trial is stored as number {record.trial.sequence} of this session"
        return None

    def _put_aside(self, connection: Connection, rejected: Iterable[Rejected]) -> None:
        now = dialect.stored_date(connection)(datetime.now(UTC))
        rows = []
        for each in rejected:
            reason = each.reason.encode("utf-8", "backslashreplace").decode()
            identity = digest(canonical([self.file, each.line, reason, each.raw]))
            rows.append((identity, self.file, each.line, self.format, reason, each.raw, now))
        dialect.insert_many(connection, QUARANTINE, _QUARANTINE_COLUMNS, rows)

    def report(self) -> Imported:
        duplicate = self.read - self.new - self.quarantined
        return Imported(self.format, self.read, self.new, duplicate, self.quarantined, tuple(self.reasons))


def _batches(records: Iterator[Parsed | Rejected]) -> Iterator[list[Parsed | Rejected]]:
    """``records`` in lists; those that came before an error are not lost to it."""
    ended: FormatError | None = None

    def until_an_error() -> Iterator[Parsed | Rejected]:
        nonlocal ended
        try:
            yield from records
        except FormatError as error:
            ended = error

    good = until_an_error()
    batch: list[Parsed | Rejected] = []
    size = 0
    for each in good:
        batch.append(each)
        size += _size(each)
        if len(batch) == BATCH or size > _BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
    if ended is not None:
        raise ended


def _size(item: Parsed | Rejected) -> int:
    """Characters of what may be long in a record."""
    if isinstance(item, Rejected):
        return len(item.raw)
    return len(item.record.schedule) if isinstance(item.record, ForeignRecord) else _OWN_SIZE
