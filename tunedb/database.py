"""The database as people call it. ``open`` gives one; docs/schema.md says what is in it."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, overload

from sqlalchemy import Connection, Engine

from tunedb import care, dialect, interrupts, lookup, migrate, quarantine
from tunedb.care import Merged
from tunedb.compact import Compacted, compact
from tunedb.compare import Measured, stored_trial
from tunedb.engine import default_url, describe, make_engine, plain_errors
from tunedb.errors import FormatError
from tunedb.explain import Explanation, explain
from tunedb.fallback import Fallback, Source
from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.formats.common import About, Imported
from tunedb.freshness import Freshness, Level
from tunedb.freshness import freshness as freshness_of
from tunedb.imported import imported as lookup_imported
from tunedb.imported import target_named
from tunedb.importing import import_logs
from tunedb.integrity import Checked, check
from tunedb.lookup import Best, Stats
from tunedb.quarantine import Quarantined
from tunedb.redact import Redactor, redactor
from tunedb.sessions import DatabaseHistory, SessionArguments
from tunedb.stale import Stale, stale
from tunedb.verifications import Verification, of_workload
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload


class Database:
    """Tuning trials in SQL. Safe to use from several threads and processes at once; a context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> "Database":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"tunedb.open({self.url!r})"

    @property
    def url(self) -> str:
        """Where it is; without the password."""
        return describe(self._engine.url)

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def layers(self) -> "tuple[Database, ...]":
        """The databases that answers come from, this one first; see docs/layers.md."""
        return (self,)

    def _home(self, best: Best) -> "Database":
        """The database that gave an answer."""
        return self

    def close(self) -> None:
        with interrupts.held_back():  # the last one to close a SQLite file tidies it up
            self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read from, which keeps no writer waiting. Raises DatabaseError for what the driver raises."""
        with plain_errors(self._engine.url), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def read_layers(self) -> Iterator[tuple[Connection, ...]]:
        """A connection to each layer, this database's first. Raises as ``read``."""
        with contextlib.ExitStack() as stack:
            yield tuple(stack.enter_context(layer.read()) for layer in self.layers)

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A write unit: all of it is stored when the block ends, or nothing. Raises DatabaseError.

        Ctrl-C takes effect when the block ends.
        """
        with (
            interrupts.held_back(),
            plain_errors(self._engine.url),
            self._engine.connect().execution_options(**dialect.WRITE_OPTIONS) as connection,
            connection.begin(),
        ):
            yield connection

    def session(self, arguments: SessionArguments) -> DatabaseHistory:
        """The session of these arguments, to be continued or begun. Raises SessionBusyError."""
        return DatabaseHistory(self, arguments)

    @overload
    def best(
        self,
        workload: Workload,
        target: Target | None = None,
        *,
        freshness: Level = "any",
        source: Literal["exact"] = "exact",
    ) -> Best: ...

    @overload
    def best(
        self, workload: Workload, target: Target | None = None, *, freshness: Level = "any", source: Source
    ) -> Best | Fallback: ...

    def best(
        self,
        workload: Workload,
        target: Target | None = None,
        *,
        freshness: Level = "any",
        source: Source = "exact",
    ) -> Best | Fallback:
        """The fastest verified trial on ``target``; without one, on this machine with any number of threads.

        The answer's ``target`` says on which. ``freshness`` says with what its time must have been taken: "strict", all
        that may change a time is as here and now; "compatible", processor, protocol and LLVM's major version are.

        ``source`` is the least sure way to answer that will do when there is no such trial: docs/fallback.md. The
        answer's ``source`` says which it was; unless that is "exact" it is a Fallback, which has no time but can
        ``compile`` as well. Raises NotFoundError, which says what is stored instead.
        """
        with self.read() as connection:
            if source == "exact":
                return lookup.best(connection, workload, target, freshness)
            from tunedb.ladder import answer  # what was measured elsewhere needs more of the engine

            return answer(connection, workload, target, freshness, source)

    def top(
        self, workload: Workload, n: int = 10, target: Target | None = None, *, freshness: Level = "any"
    ) -> tuple[Best, ...]:
        """The ``n`` fastest schedules, fastest first, each by its best trial. Target and freshness as for ``best``."""
        with self.read() as connection:
            return lookup.top(connection, workload, n, target, freshness)

    def freshness(self, best: Best) -> Freshness:
        """How the environment in which an answer was measured differs from this one."""
        with self._home(best).read() as connection:
            return freshness_of(connection, best.trial, best.fingerprint)

    def stale(self, freshness: Level = "strict") -> tuple[Stale, ...]:
        """What to measure again on this machine for all answers to be that fresh, the cheapest first."""
        with self.read() as connection:
            return stale(connection, freshness)

    def history(self, workload: Workload, target: Target | str | None = None) -> tuple[Trial, ...]:
        """All trials of ``workload``, on ``target`` (or what ``target_named`` gives) or on every one, oldest first.

        Failures too.
        """
        place = target.fingerprint if isinstance(target, Target) else target
        with self.read() as connection:
            return lookup.history(connection, workload, place)

    def trial(self, name: str) -> Measured:
        """The trial whose fingerprint begins with ``name``, 8 or more characters of it. Raises NotFoundError."""
        with self.read() as connection:
            return stored_trial(connection, name)

    def verifications(self, workload: Workload) -> tuple[Verification, ...]:
        """What measuring trials of ``workload`` again has found (``tunedb verify``), oldest first."""
        with self.read() as connection:
            return of_workload(connection, workload)

    def import_log(
        self,
        path: str,
        format: str = "auto",
        *,
        machine: str | None = None,
        labels: Mapping[str, str] | None = None,
        strict: bool = False,
        dry_run: bool = False,
        progress: Callable[[float | None], None] | None = None,
    ) -> Imported:
        """Add the records of a log that are not stored yet; ``-`` is standard input. docs/formats.md has the formats.

        ``machine`` and ``labels`` say what the log's targets leave out, and become part of their identity. With
        ``strict``, a record that cannot be read ends it with nothing written; otherwise it goes to ``quarantine``.
        ``dry_run`` only counts. ``progress`` is told now and then which fraction of the file was read, if known.

        Raises FormatError when the file cannot be read to its end, or is in no known format.
        """
        told = None if progress is None else lambda _, fraction: progress(fraction)
        (report,) = self.import_logs(
            [path], format, machine=machine, labels=labels, strict=strict, dry_run=dry_run, progress=told
        )
        if report.error is not None:
            raise FormatError(report.error)
        return report

    def import_logs(
        self,
        paths: Sequence[str],
        format: str = "auto",
        *,
        machine: str | None = None,
        labels: Mapping[str, str] | None = None,
        strict: bool = False,
        dry_run: bool = False,
        progress: Callable[[str, float | None], None] | None = None,
    ) -> Generator[Imported]:
        """As ``import_log`` of one log after the other, but quicker, and the next log's turn comes whatever happens.

        What a report's ``error`` says, ``import_log`` raises. ``progress`` is told the path as well.
        """
        about = About(machine, tuple(sorted((labels or {}).items())))
        return import_logs(self, paths, format, about, strict=strict, dry_run=dry_run, progress=progress)

    def imported(
        self, workload: Workload | ForeignWorkload, target: str | None = None, n: int = 1
    ) -> tuple[ForeignTrial, ...]:
        """The ``n`` fastest records of other tools on one target: unverified, and never an answer of ``best``.

        ``target`` is a machine's name, a label's value, a target as its tool writes it, or the beginning of a
        fingerprint; needed when there are several. Raises NotFoundError, which says what is stored instead.
        """
        with self.read() as connection:
            return lookup_imported(connection, workload, target, n)

    def target_named(self, name: str) -> str:
        """The fingerprint of the stored target that ``name`` names, as in ``imported``. Raises NotFoundError."""
        with self.read() as connection:
            return target_named(connection, name)

    def redactor(self) -> Redactor:
        """What replaces the names that this machine and the database know, for an export that tells none of them."""
        with self.read() as connection:
            return redactor(connection)

    def quarantine(self, n: int = 20) -> tuple[int, Sequence[Quarantined]]:
        """How many records could not be imported, and the first ``n`` of them."""
        with self.read() as connection:
            return quarantine.count(connection), quarantine.quarantined(connection, n)

    def clear_quarantine(self) -> int:
        """Forget the records that could not be imported; how many there were."""
        with self.write() as connection:
            return quarantine.clear(connection)

    def explain(self, workload: Workload, target: Target | None = None, *, freshness: Level = "any") -> Explanation:
        """``best``, and what stands behind it: the runner-up, all trials, and the command that finds it again."""
        best = self.best(workload, target, freshness=freshness)
        others = [
            other
            for other in self.top(workload, 2, best.target, freshness=freshness)
            if other.fingerprint != best.fingerprint
        ]
        with self._home(best).read() as connection:
            return explain(connection, best, others[0] if others else None)

    def retract(self, trial: str, reason: str) -> str:
        """Mark a trial, by 8 or more characters of its fingerprint, as not to be used: ``best`` forgets it.

        It stays in the history. Returns the whole fingerprint. Raises NotFoundError.
        """
        with self.write() as connection:
            return care.retract(connection, trial, reason)

    def restore(self, trial: str) -> str:
        """Take the retraction of a trial back. Returns its fingerprint. Raises NotFoundError."""
        with self.write() as connection:
            return care.restore(connection, trial)

    def merge(self, other: "Database") -> Merged:
        """Add all that ``other`` has and this one lacks; ``other`` is only read. Doing it again changes nothing."""
        return care.merge(self, other)

    def backup(self, path: str | Path) -> None:
        """Copy a SQLite database to a new file while others may write to it. Raises DatabaseError."""
        care.backup(self, Path(path))

    def compact(self) -> Compacted:
        """Make the database as small as its content. Raises DatabaseError when another process has the file open."""
        return compact(self)

    def check(self) -> Checked:
        """Work everything out anew from its content, and say what differs from what is stored."""
        with self.read() as connection:
            return check(connection)

    def stats(self) -> Stats:
        """How much is stored."""
        with self.read() as connection:
            return lookup.stats(connection)


def open(url: str | None = None, *, bases: Sequence[str] | None = None) -> Database:
    """The database at ``url``, else at ``TUNEDB_URL``, else a file in the user's data folder. An empty one is set up.

    ``bases``, else those of ``TUNEDB_BASE_URLS``, are databases that answers come from too, and that nothing is ever
    written to. Raises DatabaseError, with what to do, when it cannot be used.
    """
    from tunedb.layers import Layered, base_urls

    engine = make_engine(url or default_url())
    try:
        with plain_errors(engine.url):
            migrate.prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    places = base_urls() if bases is None else tuple(bases)
    return Layered(engine, places) if places else Database(engine)


def open_to_read(url: str) -> Database:
    """A database of this program's revision, which is only read and which nobody can write to through what this gives.

    Raises UnreachableDatabaseError when there is no way to it, and DatabaseError for any other.
    """
    engine = make_engine(url, read_only=True)
    try:
        with plain_errors(engine.url):
            migrate.require(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)
