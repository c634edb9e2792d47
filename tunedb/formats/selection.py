"""Which trials an export is about."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select

from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.foreign_records import read_all, select_foreign
from tunedb.redact import Redactor
from tunedb.tables import SESSION, TARGET, TRIAL, WORKLOAD
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database


@dataclass(frozen=True)
class Selection:
    """All trials, or those of one workload with any tolerance, or on one target, or both; and who hides names.

    ``target`` is a fingerprint.
    """

    workload: Workload | ForeignWorkload | None = None
    target: str | None = None
    redactor: Redactor | None = None

    def narrow(self, statement: Select[Any]) -> Select[Any]:
        """``statement`` for these trials only, the oldest first."""
        return self._of_these(statement).order_by(TRIAL.c.created, TRIAL.c.fingerprint)

    def _of_these(self, statement: Select[Any]) -> Select[Any]:
        if self.workload is not None:
            statement = statement.where(WORKLOAD.c.problem == self.workload.problem.fingerprint)
        if self.target is not None:
            statement = statement.where(TARGET.c.fingerprint == self.target)
        return statement

    def places(self, database: "Database", *formats: str) -> list[tuple[str, str]]:
        """Key of the workload and device of the records in these formats: two of them, if there are several."""
        pairs = (
            select(TRIAL.c.workload_id, TRIAL.c.target_id)
            .select_from(TRIAL.join(WORKLOAD).join(TARGET).join(SESSION, TRIAL.c.session_id == SESSION.c.id))
            .where(SESSION.c.origin.in_(formats))
            .distinct()
            .limit(2)
        )
        chosen = self._of_these(pairs).subquery()
        statement = (
            select(WORKLOAD.c.key, TARGET.c.description)
            .select_from(chosen)
            .join(WORKLOAD, WORKLOAD.c.id == chosen.c.workload_id)
            .join(TARGET, TARGET.c.id == chosen.c.target_id)
        )
        with database.read() as connection:
            places = [(row.key, row.description["target"]) for row in connection.execute(statement)]
        if self.redactor is None:
            return places
        return [(self.redactor.text(key), self.redactor.text(device)) for key, device in places]

    def foreign(self, database: "Database", *formats: str) -> Generator[ForeignTrial, None, None]:
        """The records of other tools, or those in these formats, in bounded memory.

        Those of a format are without the retracted ones, for a log of another tool cannot say that they are.
        """
        statement = select_foreign()
        if formats:
            statement = statement.where(SESSION.c.origin.in_(formats), TRIAL.c.retracted.is_(None))
        with database.read() as connection:
            for trial in read_all(connection, self.narrow(statement)):
                yield trial if self.redactor is None else self.redactor.foreign(trial)
