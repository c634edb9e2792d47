"""Logs into the database: records a batch at a time, what cannot be read into quarantine, and a count of everything."""

import contextlib
import gc
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tunedb import dialect, interrupts
from tunedb.batches import Batch, read_batches
from tunedb.beside import Reader, are_long
from tunedb.errors import FormatError
from tunedb.foreign import canonical, digest
from tunedb.foreign_records import ForeignWriter
from tunedb.formats.common import About, Format, Imported, Rejected
from tunedb.formats.native import NAME, Record
from tunedb.formats.registry import format_of
from tunedb.formats.source import Source, open_source
from tunedb.preparation import stored_date
from tunedb.records import Writer
from tunedb.tables import QUARANTINE

if TYPE_CHECKING:
    from tunedb.database import Database

UNIT = 20_000
"""Records a write unit: enough that a beginning and an end cost little, few enough that other writers get a turn."""

_QUARANTINE_COLUMNS = ("fingerprint", "file", "line", "format", "reason", "raw", "created")
_MOST_REASONS = 10  # rejected records that the report names


def import_logs(
    database: "Database",
    paths: Sequence[str],
    format: str,
    about: About,
    *,
    strict: bool,
    dry_run: bool,
    progress: Callable[[str, float | None], None] | None,
) -> Generator[Imported]:
    """Add the records of logs that are not stored yet, and put into quarantine those that cannot be read.

    ``dry_run`` does it all and takes it back. ``strict`` ends a log at its first record that cannot be read, with
    nothing of it written. Both make a log one write unit, which keeps other writers waiting; otherwise some thousands
    of records are one, be they of a part of a log or of several, and no log is reported before it is stored for good.
    ``progress`` is told the path of a log and the fraction of it that was stored, if known.
    """
    beside, writer = are_long(paths), ForeignWriter()
    done: list[_Run] = []
    with Reader() as reader, _Unit(database) as unit:
        for path, following in zip(paths, [*paths[1:], None], strict=True):
            run = _Run(Path(path).name, strict, dry_run, writer)
            try:
                with open_source(path) as source:
                    run.file, chosen = source.name, format_of(source, format)
                    run.format = chosen.name
                    shared = beside and _ask(reader, source, chosen, about)
                    if shared:
                        if following is not None:
                            _ask_ahead(reader, following, format, about)
                        batches = reader.batches()
                    else:
                        unit.end()  # nobody should have to wait for what is read
                        batches = read_batches(source, chosen, about, UNIT)
                    with contextlib.closing(batches):
                        run.store_all(unit, batches, None if progress is None else partial(progress, path))
                    if not shared:
                        unit.end()
            except FormatError as error:
                run.error = str(error)
            if dry_run or run.error is not None:
                writer = ForeignWriter()  # what it remembers may have been taken back
            done.append(run)
            if following is None:
                unit.end()
            if not unit.is_open:
                yield from (each.report() for each in done)
                done.clear()


def _ask(reader: Reader, source: Source, format: Format, about: About) -> bool:
    """Have ``reader`` read ``source``, if that is something for it."""
    if source.path is None or not source.path.is_file() or format.name == NAME:
        return False
    reader.ask(str(source.path), format.name, about)
    return True


def _ask_ahead(reader: Reader, path: str, format: str, about: About) -> None:
    """Have ``reader`` begin with the log that comes next."""
    if path != "-":
        with contextlib.suppress(FormatError), open_source(path) as source:  # its turn to be complained of will come
            _ask(reader, source, format_of(source, format), about)


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


class _Unit:
    """A write unit that begins when it is needed; one that is left by an exception is taken back."""

    def __init__(self, database: "Database") -> None:
        self.records = 0
        self._database = database
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> "_Unit":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave(error)

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def begin(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.write())
        return self._connection

    def end(self) -> None:
        """Keep what was written."""
        self._leave(None)

    def take_back(self) -> None:
        self._leave(_TakeBack())

    def _leave(self, error: BaseException | None) -> None:
        self._connection, self.records = None, 0
        self._stack.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


class _TakeBack(Exception):  # noqa: N818  # nothing went wrong
    """Leaves a write unit without its changes."""


@dataclass
class _Run:
    """The import of one log, and what became of its records so far."""

    file: str
    strict: bool
    dry_run: bool
    foreign: ForeignWriter
    format: str | None = None
    read: int = 0
    new: int = 0
    quarantined: int = 0
    reasons: list[Rejected] = field(default_factory=list)
    error: str | None = None

    def store_all(self, unit: _Unit, batches: Iterable[Batch], progress: Callable[[float | None], None] | None) -> None:
        """Store each batch, and end the unit when it is large.

        Raises FormatError as ``Reader.batches`` does, and when ``strict``.
        """
        one = self.strict or self.dry_run
        if one:
            unit.end()
        with _no_garbage_collection():
            try:
                for batch in batches:
                    self._store(unit.begin(), batch)
                    interrupts.poll()
                    unit.records += batch.read
                    if not one and unit.records >= UNIT:
                        unit.end()
                    if progress is not None:
                        progress(batch.fraction)
            except FormatError:
                if one:
                    unit.take_back()
                    self.read, self.new, self.quarantined, self.reasons = 0, 0, 0, []
                raise
        if self.dry_run:
            unit.take_back()
        elif one:
            unit.end()

    def _store(self, connection: Connection, batch: Batch) -> None:
        """Store a batch and count it."""
        rejected = list(batch.rejected)
        writer = Writer(connection)
        for line, record in batch.own:
            if (problem := self._store_own(writer, record)) is not None:
                rejected.append(Rejected(line, problem))
        if self.strict and rejected:
            first = min(rejected)
            raise FormatError(f"{self.file}, line {first.line}: {first.reason}; nothing was imported")
        if self.strict and batch.error:
            raise FormatError(batch.error)
        self.new += self.foreign.add(connection, batch.foreign)
        self._put_aside(connection, rejected)
        self.read += batch.read
        self.quarantined += len(rejected)
        self.reasons = sorted([*self.reasons, *rejected])[:_MOST_REASONS]
        self.error = batch.error

    def _store_own(self, writer: Writer, record: Record) -> str | None:
        session, session_id = writer.session(record.session, record.session_created)
        outcome = writer.trial(record.trial, session, session_id, record.rounds, record.retracted)
        self.new += outcome == "new"
        if outcome == "conflict":
            return f"another trial is stored as number {record.trial.sequence} of this session"
        return None

    def _put_aside(self, connection: Connection, rejected: Iterable[Rejected]) -> None:
        now = stored_date(datetime.now(UTC))
        rows = []
        for each in rejected:
            reason = each.reason.encode("utf-8", "backslashreplace").decode()
            identity = digest(canonical([self.file, each.line, reason, each.raw]))
            rows.append((identity, self.file, each.line, self.format, reason, each.raw, now))
        dialect.insert_many(connection, QUARANTINE, _QUARANTINE_COLUMNS, rows)

    def report(self) -> Imported:
        duplicate = self.read - self.new - self.quarantined
        return Imported(
            self.file, self.format, self.read, self.new, duplicate, self.quarantined, tuple(self.reasons), self.error
        )
