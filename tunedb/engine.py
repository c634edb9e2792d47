"""From a URL to an engine, and from a driver's error to one line that says what to do."""

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from tunedb import dialect
from tunedb.errors import DatabaseError, UnreachableDatabaseError

_NETWORK_FILE_SYSTEMS = frozenset(
    ("afs", "beegfs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs")
)

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")

_PASSWORD = re.compile(r"(\w://[^\s:/@]*:).*@", re.DOTALL)
_MALFORMED_PASSWORD = re.compile(r"(\w:/*[^\s:/@]*:)\S*@")
_QUERY_PASSWORD = re.compile(r"([?&][a-z]*password=)[^&\s]*[^&\s:]")


def default_url() -> str:
    """``TUNEDB_URL``, or a SQLite file in the user's data folder (which is made if need be)."""
    if url := os.environ.get("TUNEDB_URL"):
        return url
    folder = Path(platformdirs.user_data_dir("tunedb"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(
            f"the data folder {folder} cannot be made ({error.strerror}): name another database with --db or TUNEDB_URL"
        ) from error
    return f"sqlite:///{folder / 'tunedb.sqlite'}"


def make_engine(url: str, *, read_only: bool = False) -> Engine:
    """The engine of a database. Raises DatabaseError for a URL that cannot work; connects to nothing yet.

    Through a ``read_only`` one nothing can be written, and no file comes into being.
    """
    if not url.isprintable():
        raise DatabaseError(f"{hide_password(url)!a} has signs that cannot be shown: give the database another name")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # a port that is no number is the latter
        raise DatabaseError(
            f"{hide_password(url)!r} is not a database URL: write sqlite:///tuning.sqlite or postgresql://user@host/name"
        ) from error
    if parsed.drivername not in _DRIVERS:
        raise DatabaseError(f"{parsed.drivername} is not a database tunedb knows: use sqlite or postgresql")
    if parsed.get_backend_name() == "sqlite":
        _check_place(parsed, read_only=read_only)
    elif "@" in (parsed.host or ""):
        raise DatabaseError(f"{hide_password(url)}: its password seems to have an @: write %40 for it")
    options = dialect.read_only_options(parsed) if read_only else {}
    try:
        engine = create_engine(parsed, json_serializer=_dump_json, json_deserializer=json.loads, **options)
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"the driver for {parsed.drivername} is missing ({error.name}): pip install 'tunedb[postgres]'"
        ) from error
    dialect.set_up(engine, read_only=read_only)
    return engine


def describe(url: URL) -> str:
    """The URL for people: without its password."""
    return hide_password(url.render_as_string(hide_password=False))


def hide_password(text: str) -> str:
    """A text with ``***`` for the password of each URL in it, wherever a URL may have one.

    It goes as far as the last @ there is: a password that should have been written in per cent escapes and was not
    would otherwise be taken for a host, and shown.
    """
    for pattern in (_PASSWORD, _MALFORMED_PASSWORD):
        text = pattern.sub(r"\1***@", text)
    return _QUERY_PASSWORD.sub(r"\1***", text)


@contextlib.contextmanager
def plain_errors(url: URL) -> Iterator[None]:
    """Turn what a driver raises inside into a DatabaseError of one line."""
    try:
        yield
    except DBAPIError as error:
        kind = UnreachableDatabaseError if _is_unreachable(error) else DatabaseError
        raise kind(f"{describe(url)}: {_advice(error)}") from error


def _dump_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _check_place(url: URL, *, read_only: bool) -> None:
    """Refuse what is known to go wrong before SQLite says only "unable to open database file"."""
    if url.query:
        raise DatabaseError(f"{describe(url)}: a file takes no options: leave out what comes after the question mark")
    if not url.database or url.database == ":memory:":
        if read_only:
            raise DatabaseError(f"{describe(url)} is a new database in memory, with nothing to read: name a file")
        return
    path = Path(url.database).absolute()
    if read_only and not path.exists():
        raise UnreachableDatabaseError(f"{path} is not there: name another file")
    if not path.parent.is_dir():
        raise DatabaseError(f"the folder {path.parent} does not exist: make it, or name another database")
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder: name a file in it")
    if not read_only and not os.access(path.parent, os.W_OK):
        raise DatabaseError(
            f"the folder {path.parent} is read-only: copy the database to one you may write in, or name it in "
            "TUNEDB_BASE_URLS to ask it"
        )
    if not read_only and path.exists() and not os.access(path, os.W_OK):
        raise DatabaseError(f"{path} is read-only: make it writable, or name it in TUNEDB_BASE_URLS to ask it")
    kind = _file_system(path.parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise DatabaseError(
            f"{path} lies on a network file system ({kind}), where SQLite loses data: use a local folder or PostgreSQL"
        )


def _file_system(folder: Path) -> str | None:
    """The type of the file system that holds ``folder``; None where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved = folder.resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in mounts:
        _, mount_point, kind, *_ = line.split(" ")
        place = Path(mount_point.replace("\\040", " "))
        if resolved.is_relative_to(place) and len(place.parts) >= best[0]:
            best = (len(place.parts), kind)
    return best[1]


def _advice(error: DBAPIError) -> str:
    cause = error.orig
    code = getattr(cause, "sqlite_errorcode", None)
    advice = {
        sqlite3.SQLITE_NOTADB: "this file is not a SQLite database: name another file",
        sqlite3.SQLITE_CORRUPT: "the file is damaged: recover it with `sqlite3 FILE .recover`, or restore a copy",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: check its folder and permissions",
        sqlite3.SQLITE_READONLY: "the database is read-only: check the permissions of the file and its folder",
        sqlite3.SQLITE_FULL: "the disk is full: free some space and run the same command again; what is stored is safe",
        sqlite3.SQLITE_IOERR: "the disk reported an error; what is stored is safe if the disk is",
        sqlite3.SQLITE_BUSY: "another process has kept the database locked for a minute: end it and try again",
    }
    if code is not None and code & 0xFF in advice:
        return advice[code & 0xFF]
    if _is_unreachable(error):
        return f"the database cannot be reached: {_first_line(cause)}"
    return _first_line(cause)


def _is_unreachable(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return bool(code & 0xFF == sqlite3.SQLITE_CANTOPEN)
    return isinstance(error, OperationalError)  # of a server, it is nearly always about the way to it


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
