"""The records that could not be imported: what there is, and forgetting it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from tunedb.tables import QUARANTINE


@dataclass(frozen=True)
class Quarantined:
    """A record that could not be imported."""

    file: str
    line: int  # from 1; in a document, the number of the record
    format: str
    reason: str
    raw: str  # the beginning of its text
    created: datetime


def quarantined(connection: Connection, n: int) -> Sequence[Quarantined]:
    """The first ``n``, by file and line."""
    columns = [QUARANTINE.c[name] for name in ("file", "line", "format", "reason", "raw", "created")]
    rows = connection.execute(select(*columns).order_by(QUARANTINE.c.file, QUARANTINE.c.line).limit(n))
    return tuple(Quarantined(*row) for row in rows)


def count(connection: Connection) -> int:
    """How many there are."""
    return connection.execute(select(func.count()).select_from(QUARANTINE)).scalar_one()


def clear(connection: Connection) -> int:
    """Forget all of them; how many there were."""
    return connection.execute(delete(QUARANTINE)).rowcount
