"""Which trials an export is about."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select

from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.foreign_records import read_all, select_foreign
from tunedb.records import SESSION, TARGET, TRIAL, WORKLOAD
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database


@dataclass(frozen=True)
class Selection:
    """All trials, or those of one workload, or on the target with that fingerprint, or both."""

    workload: Workload | ForeignWorkload | None = None
    target: str | None = None

    def narrow(self, statement: Select[Any]) -> Select[Any]:
        """``statement`` for these trials only, the oldest first."""
        if self.workload is not None:
            statement = statement.where(WORKLOAD.c.fingerprint == self.workload.fingerprint)
        if self.target is not None:
            statement = statement.where(TARGET.c.fingerprint == self.target)
        return statement.order_by(TRIAL.c.created, TRIAL.c.fingerprint)

    def foreign(self, database: "Database", *formats: str) -> Iterator[ForeignTrial]:
        """The records of other tools, or those in these formats, in bounded memory."""
        statement = select_foreign()
        if formats:
            statement = statement.where(SESSION.c.origin.in_(formats))
        with database.read() as connection:
            yield from read_all(connection, self.narrow(statement))
