"""Where something was measured: the pairs of a workload and a target that have verified trials of ours."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Text, exists, select, true
from sqlalchemy import cast as sql_cast

from tunedb.records import read_target, read_workload
from tunedb.tables import TARGET, TRIAL, WORKLOAD
from tuner.target import Target
from tuner.workload import Workload


@dataclass(frozen=True)
class Place:
    """A workload, and a target on which it has verified trials; and their ids in one database."""

    workload: Workload
    target: Target
    workload_id: int
    target_id: int


def places(connection: Connection, *where: ColumnElement[bool]) -> tuple[Place, ...]:
    """The places that meet conditions on workload and target. It looks into the index of trials once for each pair."""
    verified = exists().where(TRIAL.c.workload_id == WORKLOAD.c.id, TRIAL.c.target_id == TARGET.c.id, TRIAL.c.verified)
    pairs = (
        select(
            WORKLOAD.c.id.label("workload_id"),
            WORKLOAD.c.key,
            TARGET.c.id.label("target_id"),
            sql_cast(TARGET.c.description, Text).label("target"),
        )
        .join_from(WORKLOAD, TARGET, true())
        .where(TARGET.c.threads.is_not(None), verified, *where)  # what only another tool knows has no threads
    )
    return tuple(
        Place(read_workload(row.key), read_target(row.target), row.workload_id, row.target_id)
        for row in connection.execute(pairs)
    )


def same_family(first: Target, second: Target) -> bool:
    """Whether schedules for one are worth trying on the other: the same kind of target and architecture."""
    return first.kind == second.kind and first.triple.partition("-")[0] == second.triple.partition("-")[0]
