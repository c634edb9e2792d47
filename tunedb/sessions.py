"""The history of one tuning session in the database: what makes a tuner resume instead of starting again."""

import contextlib
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Row, func, select, update

from tunedb import dialect
from tunedb.errors import DatabaseError, SessionBusyError, SessionLostError
from tunedb.records import Writer, is_in_session, read_trial, select_trials, session_fingerprint
from tunedb.tables import SESSION, TRIAL
from tuner.canonical import fingerprint
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

SILENCE_SECONDS = 60.0
"""A session whose process has reported nothing for so long may be taken over."""


PINS = "pins"
"""The setting of a session whose knobs were pinned: ``algorithm=direct tile_ow=7``, sorted by name."""


@dataclass(frozen=True)
class SessionArguments:
    """What a session is: the same arguments find the same session. How many trials it may take is not one of them."""

    workload: Workload
    target: Target
    template: str
    tuner: str
    seed: int
    settings: Mapping[str, bool | int | float | str | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values without floats, whose text depends on the writer: those become strings."""
        return {
            "workload": self.workload.key,
            "target": self.target.fingerprint,
            "template": self.template,
            "tuner": self.tuner,
            "seed": self.seed,
            "settings": {name: repr(v) if isinstance(v, float) else v for name, v in self.settings.items()},
        }


class DatabaseHistory:
    """A tuner.trial.History of one session, and the claim of this process on it: a context manager.

    Leaving it marks the session as finished, or as interrupted when an exception leaves with it.
    """

    def __init__(self, database: "Database", arguments: SessionArguments) -> None:
        """Claim the session, a new one or the one these arguments found before.

        Raises SessionBusyError when another live process has it.
        """
        self._database = database
        self._owner = uuid.uuid4().hex
        with database.write() as connection:
            self._id, self.fingerprint = _claim(connection, arguments, self._owner)

    def __enter__(self) -> "DatabaseHistory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._release("finished")
        else:
            with contextlib.suppress(DatabaseError):  # it would hide the error that is on its way
                self._release("interrupted")

    def trials(self) -> Sequence[Trial]:
        """All trials of the session so far, by sequence."""
        statement = select_trials().where(is_in_session(self._id)).order_by(TRIAL.c.sequence)
        with self._database.read() as connection:
            return tuple(map(read_trial, connection.execute(statement)))

    def add(self, trial: Trial) -> None:
        """Keep ``trial``; it outlives this process when this returns.

        Raises SessionLostError when another process has taken the session over, and DatabaseError when the session has
        a trial of that sequence already or cannot be written.
        """
        with self._database.write() as connection:
            self._beat(connection)
            if Writer(connection).trial(trial, self.fingerprint, self._id, [trial.times]) != "new":
                raise DatabaseError(f"trial {trial.sequence} of this session is stored already")

    def extend_times(self, sequence: int, times: Sequence[float]) -> None:
        """Add a round of confirming repeats to a trial that is stored. Raises as ``add`` does."""
        statement = select_trials().where(is_in_session(self._id), TRIAL.c.sequence == sequence)
        with self._database.write() as connection:
            self._beat(connection)
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise DatabaseError(f"this session has no trial {sequence} to add repeats to")
            trial = read_trial(row)
            rounds = [*row.times, list(times)]
            Writer(connection).set_times(row.id, replace(trial, times=(*trial.times, *times)), rounds)

    def beat(self) -> None:
        """Report that this process is alive; ``add`` does it too. Raises SessionLostError."""
        with self._database.write() as connection:
            self._beat(connection)

    def _beat(self, connection: Connection) -> None:
        mine = update(SESSION).where(SESSION.c.id == self._id, SESSION.c.owner == self._owner)
        if not connection.execute(mine.values(heartbeat=_now())).rowcount:
            raise SessionLostError("another process has taken this tuning session over; its trials are safe there")

    def _release(self, state: Literal["finished", "interrupted"]) -> None:
        mine = update(SESSION).where(SESSION.c.id == self._id, SESSION.c.owner == self._owner)
        with self._database.write() as connection:
            connection.execute(mine.values(state=state, owner=None, host=None, pid=None))


def _claim(connection: Connection, arguments: SessionArguments, owner: str) -> tuple[int, str]:
    """Id and fingerprint of the session, which is now this process's."""
    key = fingerprint(arguments.to_json())
    claim = {
        "state": "running",
        "owner": owner,
        "heartbeat": _now(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    trials = select(func.count()).where(is_in_session(SESSION.c.id)).scalar_subquery()
    found = connection.execute(
        select(SESSION)
        .where(SESSION.c.key == key)
        .order_by(SESSION.c.state != "running", trials.desc(), SESSION.c.created, SESSION.c.fingerprint)
        .limit(1)
        .with_for_update(of=SESSION)
    ).one_or_none()
    if found is None:
        created = _now()
        identity = session_fingerprint(key, created)
        values = {"fingerprint": identity, "key": key, "arguments": arguments.to_json(), "created": created, **claim}
        session_id = dialect.insert_if_new(connection, SESSION, values)
        if session_id is None:
            raise SessionBusyError(
                "another process has just started this tuning session: wait for it or change the seed"
            )
        return session_id, identity
    if found.state == "running" and _alive(found):
        raise SessionBusyError(
            f"process {found.pid} on {found.host} is running this tuning session: wait for it or change the seed"
        )
    connection.execute(update(SESSION).where(SESSION.c.id == found.id).values(claim))
    return found.id, found.fingerprint


def _alive(session: Row[Any]) -> bool:
    """Whether the process that claimed the session may still be at it. A dead one is known at once on its own host."""
    if session.heartbeat is None or (_now() - session.heartbeat).total_seconds() > SILENCE_SECONDS:
        return False
    if session.host != socket.gethostname():
        return True
    try:
        os.kill(session.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is another user's
        return True
    return True


def _now() -> datetime:
    return datetime.now(UTC)
