"""Looking up what other tools' logs say. Its answers are never verified, and never mixed with those of ``best``."""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from tunedb.errors import AmbiguousError, NotFoundError
from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.foreign_records import read_foreign, select_foreign
from tunedb.tables import TARGET, TRIAL, WORKLOAD
from tuner.workload import Workload


def imported(
    connection: Connection, workload: Workload | ForeignWorkload, target: str | None, n: int
) -> tuple[ForeignTrial, ...]:
    """The ``n`` fastest records of ``workload`` on one foreign target, the fastest first.

    ``target`` is a machine's name, a label's value, a target as its tool writes it, or the beginning of a fingerprint;
    it may be left out when there are records of only one. Raises NotFoundError, which says what is stored instead.
    """
    found = _one_target(connection, workload, target)
    rows = connection.execute(_FASTEST, {"workload": workload.problem.fingerprint, "target": found.id, "n": n})
    trials = tuple(map(read_foreign, rows))
    if not trials:
        raise NotFoundError(f"all imported records of {workload.label} on {found.name} are failures")
    return trials


def target_named(connection: Connection, name: str) -> str:
    """The fingerprint of the one target, ours or foreign, that ``name`` names. Raises NotFoundError."""
    rows = connection.execute(select(TARGET)).all()
    return str(_matching(list(rows), name, "is stored").fingerprint)


def _one_target(connection: Connection, workload: Workload | ForeignWorkload, target: str | None) -> Row[Any]:
    rows = list(connection.execute(_TARGETS, {"workload": workload.problem.fingerprint}))
    if not rows:
        raise NotFoundError(f"no record of {workload.label} was imported: import a log with `tunedb import FILE`")
    if target is not None:
        return _matching(rows, target, f"has imported records of {workload.label}")
    if len(rows) > 1:
        raise AmbiguousError(
            f"{len(rows)} targets have imported records of {workload.label}: name one with --target: {_listing(rows)}"
        )
    return rows[0]


def _matching(rows: list[Row[Any]], name: str, what: str) -> Row[Any]:
    matching = [row for row in rows if name in _names(row) or (len(name) >= 6 and row.fingerprint.startswith(name))]
    if not matching:
        raise NotFoundError(f"no target {name!r} {what}; there are: {_listing(rows)}")
    if len(matching) > 1:
        raise AmbiguousError(
            f"{name!r} names {len(matching)} targets: {_listing(matching)}: take more of a fingerprint"
        )
    return matching[0]


def _names(row: Row[Any]) -> set[str]:
    said = row.description
    return {row.name, said.get("target"), said.get("machine"), *said.get("labels", {}).values()}


def _listing(rows: list[Row[Any]]) -> str:
    shown = ", ".join(f"{row.name} [{row.fingerprint[:8]}]" for row in rows[:5])
    return shown + (", ..." if len(rows) > 5 else "") if rows else "none"


_TARGETS = (
    select(TARGET)
    .where(
        TARGET.c.threads.is_(None),  # a foreign one
        select(TRIAL.c.id)
        .where(
            TRIAL.c.workload_id
            == select(WORKLOAD.c.id).where(WORKLOAD.c.fingerprint == bindparam("workload")).scalar_subquery(),
            TRIAL.c.target_id == TARGET.c.id,
        )
        .exists(),
    )
    .order_by(TARGET.c.name)
)
_FASTEST_IDS = (
    select(TRIAL.c.id)
    .where(
        TRIAL.c.workload_id
        == select(WORKLOAD.c.id).where(WORKLOAD.c.fingerprint == bindparam("workload")).scalar_subquery(),
        TRIAL.c.target_id == bindparam("target"),
        TRIAL.c.verified.is_(False),
        TRIAL.c.seconds.is_not(None),
        TRIAL.c.retracted.is_(None),
    )
    # as the index has them (an imported record has no error): of equally fast ones, that which came first
    .order_by(TRIAL.c.seconds, TRIAL.c.error, TRIAL.c.id)
    .limit(bindparam("n"))
)
_FASTEST = select_foreign().where(TRIAL.c.id.in_(_FASTEST_IDS)).order_by(TRIAL.c.seconds, TRIAL.c.error, TRIAL.c.id)
