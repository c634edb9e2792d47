"""What the log formats share: how an import is reported, and how files are opened."""

import contextlib
import gzip
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tunedb.errors import FormatError

if TYPE_CHECKING:
    from tunedb.database import Database
    from tuner.target import Target
    from tuner.workload import Workload


@dataclass(frozen=True)
class Rejected:
    """A record that was not imported. ``line`` counts from 1."""

    line: int
    reason: str


@dataclass(frozen=True)
class Imported:
    """What became of the records of a file: read = new + duplicate + quarantined."""

    read: int
    new: int
    duplicate: int
    rejected: tuple[Rejected, ...]

    @property
    def quarantined(self) -> int:
        return len(self.rejected)


@dataclass(frozen=True)
class Format:
    """A log format by name. ``export`` returns the number of records that it wrote."""

    name: str
    export: "Callable[[Database, TextIO, Workload | None, Target | None], int]"
    import_: "Callable[[Database, Iterable[str]], Imported]"


@contextlib.contextmanager
def open_reader(path: str) -> Iterator[TextIO]:
    """A text file, one that gzip packed (whatever its name), or standard input for ``-``.

    Bytes that are no UTF-8 come through as lone surrogates, so that one bad line does not hide the good ones.
    Raises FormatError when it cannot be read.
    """
    with _plain_errors(path):
        if path == "-":
            stdin = io.TextIOWrapper(sys.stdin.buffer, "utf-8", errors="surrogateescape")
            try:
                yield stdin
            finally:
                stdin.detach()  # or it would close what is not ours
            return
        with Path(path).open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(stream, "utf-8", errors="surrogateescape") as text:
                yield text


@contextlib.contextmanager
def open_writer(path: str) -> Iterator[TextIO]:
    """A text file, packed by gzip when its name ends in ``.gz``, or standard output for ``-``.

    Raises FormatError when it cannot be written.
    """
    with _plain_errors(path):
        if path == "-":
            yield sys.stdout
        elif path.endswith(".gz"):
            with gzip.open(path, "wt", encoding="utf-8") as packed:
                yield packed
        else:
            with Path(path).open("w", encoding="utf-8") as text:
                yield text


@contextlib.contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of our output has had enough: not ours to explain
        raise
    except EOFError as error:
        raise FormatError(f"{path} ends in the middle of its gzip stream: what came before is imported") from error
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
