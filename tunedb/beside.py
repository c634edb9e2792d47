"""Reads long logs in a process beside this one: to read a record takes as long as to store it, and both are Python.

It is asked for the next log before the last one is stored, so that neither of the two has to wait for the other.
"""

import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from tunedb.batches import Batch
from tunedb.errors import FormatError
from tunedb.formats.common import About, Rejected
from tunedb.preparation import ForeignBatch

LENGTH = struct.Struct("<Q")
"""What precedes a frame of the process's answer: how many bytes of JSON it has."""

_LONG = 16 << 20  # bytes of logs, unpacked, that take several times as long as the process takes to start
_PACKED = 16  # times smaller is a gzipped log, as a rule


def are_long(paths: Iterable[str]) -> bool:
    """Whether the logs are worth a process."""
    return sum(_size(Path(path)) for path in paths) >= _LONG


class Reader:
    """Reads logs of other tools, which are files, in the order in which it is asked to; a context manager.

    Its process starts with the first log that it is asked for.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: deque[Mapping[str, Any]] = deque()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, path: str, format: str, about: About) -> None:
        """Have it read a log, unless it was asked to already; ``batches`` gives what it finds."""
        request = {"path": path, "format": format, "machine": about.machine, "labels": about.labels}
        if request not in self._asked:
            self._process = self._process or _start()
            self._asked.append(request)
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # the first frame will be missing
                self._process.stdin.write(orjson.dumps(request) + b"\n")
                self._process.stdin.flush()

    def batches(self) -> Generator[Batch]:
        """What is in the first log that was asked for. Raises FormatError when the process dies.

        Who leaves in the middle has it forget all that it was asked.
        """
        assert self._process is not None
        whole = False
        try:
            while frame := _frame(self._process, self._asked[0]["path"]):
                data = orjson.loads(frame)
                rejected = [Rejected(*each) for each in data["rejected"]]
                foreign = ForeignBatch(**data["foreign"])
                yield Batch(data["read"], data["fraction"], data["error"], rejected, (), foreign)
            self._asked.popleft()
            whole = True
        finally:
            if not whole:
                self._end()

    def _end(self) -> None:
        self._asked.clear()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _size(path: Path) -> int:
    """About how many bytes are in a log; 0 of one that is no file."""
    if not path.is_file():
        return 0
    with suppress(OSError), path.open("rb") as file:
        return path.stat().st_size * (_PACKED if file.read(2) == b"\x1f\x8b" else 1)
    return 0


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tunedb.reader"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for us, who end it then
    )


def _frame(process: subprocess.Popen[bytes], path: str) -> bytes:
    assert process.stdout is not None
    header = process.stdout.read(LENGTH.size)
    if len(header) == LENGTH.size:
        (length,) = LENGTH.unpack(header)
        frame = process.stdout.read(length)
        if len(frame) == length:
            return frame
    raise FormatError(f"{path}: the process that read it has died (exit status {process.wait()}): import it again")
