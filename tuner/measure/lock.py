"""One measurement at a time on this machine.

Two tuners that time kernels at the same moment measure each other. Whoever times holds an advisory lock on a file with
a fixed name in the folder for temporary files; it is released when its holder ends, however it ends.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuner.errors import MeasureError


def lock_path() -> Path:
    """The file that is locked: the same one for all users who share a folder for temporary files."""
    return Path(tempfile.gettempdir()) / "tunedb-measure.lock"


@contextmanager
def machine_lock() -> Iterator[None]:
    """Wait until no other process measures, and keep others waiting until the block is left."""
    handle = _open(lock_path())
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with suppress(PermissionError):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
            with suppress(PermissionError):  # the file of another user, who has opened it up already
                os.fchmod(handle, 0o666)
            return handle
        # Linux may forbid O_CREAT on another user's file in a sticky folder; a lock needs no more than to read.
        return os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        raise MeasureError(
            f"cannot open the measuring lock {path}: {error.strerror}; remove it or set TMPDIR"
        ) from error
