"""A PostgreSQL server for the tests: the one that TUNEDB_TEST_POSTGRES_URL names, else one that is started for them."""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

GIVEN = os.environ.get("TUNEDB_TEST_POSTGRES_URL")


def programs() -> Path | None:
    """The folder with the newest server's programs, which distributions keep out of the path; None without any."""
    found = shutil.which("pg_ctl")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    places = [Path(found).parent] if found else folders[-1:]
    return next((place for place in places if (place / "initdb").exists()), None)


def available() -> bool:
    """Whether there is a server to test with, and a driver to reach it."""
    return find_spec("psycopg") is not None and (GIVEN is not None or programs() is not None)


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database. A server that was started for it is stopped, and its files removed."""
    if GIVEN is not None:
        yield GIVEN
        return
    binaries = programs()
    assert binaries is not None
    user = _user()
    with tempfile.TemporaryDirectory(prefix="tunedb-postgres-") as name:
        folder = Path(name)
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, port = folder / "data", _free_port()
        options = f"-p {port} -c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"

        def call(program: str, *arguments: str) -> None:
            command = [str(binaries / program), "-D", str(data), *arguments]
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        call("initdb", "-U", "tunedb", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://tunedb@/postgres?host={folder}&port={port}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")


def _user() -> str | None:
    """Who runs the server: it refuses to run as root. None for whoever runs the tests."""
    if os.getuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody" if "nobody" in names else getpass.getuser()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
