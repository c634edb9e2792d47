"""Names of hosts and users in what leaves the database: replaced by keyed hashes.

A plain hash of a name is no secret: whoever has a list of names hashes them all and compares. So each redactor draws a
key, which is written nowhere and gone when it is: equal names give equal hashes within one file, and nobody can guess
a name by trying, not even who wrote the file.
"""

import getpass
import hmac
import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from tunedb.foreign import ForeignTarget, ForeignTrial, ForeignWorkload
from tunedb.tables import SESSION, TARGET
from tuner.trial import Environment, Trial

_NOBODY = frozenset(("", "localhost", "root"))  # names that tell nothing
_NAMING = re.compile(r"host|user|owner|author|machine|node|email", re.IGNORECASE)  # labels whose values are names
_HOME = re.compile(r"(/home/|/Users/|\\Users\\|(?<![\w.)-])~(?=[A-Za-z]))([\w.-]+)")
_ADDRESS = re.compile(r"([\w.+-]+)@([\w-]+(?:\.[\w-]+)*)")


class Redactor:
    """Replaces ``names``, the users in paths of home folders, and both halves of ``user@host``."""

    def __init__(self, names: Iterable[str]) -> None:
        self._key = secrets.token_bytes(32)
        known = sorted({name.lower() for name in names} - _NOBODY, key=len, reverse=True)
        # A host may come with its domain, which says as much.
        listing = "|".join(map(re.escape, known)) or r"(?!)"
        self._known = re.compile(rf"(?<![\w-])({listing})(?:\.[a-z][\w-]*)*(?![\w-])", re.IGNORECASE)

    def name(self, name: str) -> str:
        """What stands for a name: the same for the same one, in capitals or not."""
        return "anon-" + hmac.digest(self._key, name.lower().encode(), "sha256").hex()[:16]

    def text(self, text: str) -> str:
        """``text`` with every name that can be recognised replaced."""
        text = _ADDRESS.sub(lambda found: f"{self.name(found[1])}@{self.name(found[2])}", text)
        text = _HOME.sub(lambda found: found[1] + self.name(found[2]), text)
        return self._known.sub(lambda found: self.name(found[1]), text)

    def value(self, value: Any) -> Any:
        """A JSON value with all its texts redacted; the values of labels and fields that are names, as a whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, Mapping):
            return {name: self._field(name, item) for name, item in value.items()}
        return value

    def own(self, trial: Trial) -> Trial:
        """One of our own trials: names may be in its environment and its message."""
        return replace(
            trial,
            environment=self._environment(trial.environment),
            message=self.optional(trial.message),
        )

    def foreign(self, trial: ForeignTrial) -> ForeignTrial:
        """A record of another tool."""
        target, workload = trial.target, trial.workload
        if isinstance(workload, ForeignWorkload):  # T4 names a kernel after its file
            workload = ForeignWorkload(self.text(workload.operator), self.text(workload.key))
        return replace(
            trial,
            workload=workload,
            target=ForeignTarget.from_json({**self.value(target.to_json()), "format": target.format}),
            environment=self._environment(trial.environment),
            message=self.optional(trial.message),
            retracted=self.optional(trial.retracted),
            details=self.value(trial.details),
            arguments=self.value(trial.arguments),
        )

    def _field(self, name: str, value: Any) -> Any:
        return self.name(value) if isinstance(value, str) and _NAMING.search(name) else self.value(value)

    def _environment(self, environment: Environment) -> Environment:
        return Environment(tuple(sorted(self.value(dict(environment.facts)).items())))

    def optional(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)


def redactor(connection: Connection) -> Redactor:
    """A redactor of the names that this machine and the database know, with a key of its own."""
    names = {*_names_here(), *connection.scalars(select(SESSION.c.host).where(SESSION.c.host.is_not(None)).distinct())}
    for description in connection.scalars(select(TARGET.c.description).where(TARGET.c.threads.is_(None))):
        labels = {name: value for name, value in description["labels"].items() if _NAMING.search(name)}
        names.update(filter(None, (description["machine"], *labels.values())))
    return Redactor({*names, *(name.partition(".")[0] for name in names)})


def _names_here() -> set[str]:
    names = {socket.gethostname(), Path.home().name}
    with suppress(OSError, KeyError):  # a user without a name
        names.add(getpass.getuser())
    return names
