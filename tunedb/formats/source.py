"""Where records come from: files, plain or packed by gzip, and standard input; in bounded memory."""

import contextlib
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, cast

from tunedb.errors import FormatError

LONGEST_LINE = 16 << 20
"""Bytes. No tool writes longer lines; a longer one is put aside, and never held in memory as a whole."""

LARGEST_DOCUMENT = 512 << 20
"""Bytes, unpacked, of a file that is one JSON document and has to be held in memory."""

_CHUNK = 1 << 20
_HEAD = 1 << 16


class Source:
    """A log that is open for reading. ``head`` is its beginning, from which its format can be told."""

    def __init__(self, name: str, raw: "BufferedReader[Any]", path: Path | None = None) -> None:
        self.name = name
        self.path = path  # None for standard input
        self._raw = raw
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        self._stream = gzip.GzipFile(fileobj=raw) if packed else raw
        self.head = self._read_head()

    @property
    def fraction(self) -> float | None:
        """How much of the file was read; None for standard input."""
        if self.path is None:
            return None
        return self._raw.tell() / max(os.fstat(self._raw.fileno()).st_size, 1)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are not empty, without their ends, numbered from 1.

        One that is too long is cut to just above ``LONGEST_LINE`` bytes: see ``too_long``.
        """
        number, rest = 1, b""
        for chunk in self._chunks():
            first, *others = chunk.split(b"\n")
            rest = (rest + first)[: LONGEST_LINE + 1] if len(rest) <= LONGEST_LINE else rest
            for line in others:
                if rest and not rest.isspace():
                    yield number, rest
                number, rest = number + 1, line
        if rest and not rest.isspace():
            yield number, rest

    def document(self) -> bytes:
        """All of it. Raises FormatError when it is larger than ``LARGEST_DOCUMENT``."""
        chunks, size = [], 0
        for chunk in self._chunks():
            size += len(chunk)
            if size > LARGEST_DOCUMENT:
                raise FormatError(
                    f"{self.name} is larger than {LARGEST_DOCUMENT >> 20} MiB: too large for one document"
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _chunks(self) -> Iterator[bytes]:
        yield self.head
        while chunk := self._read():
            yield chunk

    def _read_head(self) -> bytes:
        """Enough to tell the format from. An error after that is met again by who reads on."""
        head = self._read()
        with contextlib.suppress(FormatError):
            while len(head) < _HEAD and (more := self._read()):
                head += more
        return head

    def _read(self) -> bytes:
        """Some of what comes next: to insist on more would lose what lies before the end of a cut gzip file."""
        with plain_errors(self.name):
            return self._stream.read1(_CHUNK)


def too_long(line: bytes) -> bool:
    """Whether ``Source.lines`` has cut this line."""
    return len(line) > LONGEST_LINE


@contextlib.contextmanager
def open_source(path: str) -> Iterator[Source]:
    """A file, one that gzip packed (whatever its name), or standard input for ``-``. Raises FormatError."""
    if path == "-":
        stdin = BufferedReader(cast(RawIOBase, sys.stdin.buffer))
        try:
            yield Source("standard input", stdin)
        finally:
            stdin.detach()  # or it would close what is not ours
        return
    with contextlib.ExitStack() as stack:
        with plain_errors(path):
            raw = stack.enter_context(Path(path).open("rb"))
        yield Source(Path(path).name, raw, Path(path))


@contextlib.contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn what the system says of a file into a FormatError of one line."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has had enough: not ours to explain
        raise
    except EOFError as error:
        raise FormatError(f"{name} ends in the middle of its gzip stream") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{name} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise FormatError(f"{name}: {error.strerror or error}") from error
