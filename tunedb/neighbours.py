"""What was measured nearby: the same workload on other targets, and workloads like it; how far away they are.

Distances are octaves between sizes and one for each different word, summed over the workload's arguments
(``tuner.transfer.distance``) and over what a target's schedules depend on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Text, bindparam, exists, select, true
from sqlalchemy import cast as sql_cast

from tunedb.confidence import judge
from tunedb.freshness import Demand, is_fresh
from tunedb.lookup import Best
from tunedb.records import (
    TARGET,
    TEMPLATE,
    TRIAL,
    WORKLOAD,
    read_config,
    read_target,
    read_trial,
    read_workload,
    select_trials,
)
from tuner.space import Config
from tuner.target import Target
from tuner.transfer import apart, distance
from tuner.workload import Workload

_SIZES = ("vector_bits", "registers", "l1", "l2", "threads")
_WORDS = ("cpu", "model")


@dataclass(frozen=True)
class Place:
    """A workload, and a target on which it has verified trials."""

    workload: Workload
    target: Target
    workload_id: int
    target_id: int


def places(connection: Connection, workload: Workload, target: Target) -> tuple[Place, ...]:
    """Where the operator of ``workload`` was measured on targets of the same kind and architecture as ``target``.

    The nearest first. ``workload`` on ``target`` itself is not among them.
    """
    pairs = (
        select(
            WORKLOAD.c.id.label("workload_id"),
            WORKLOAD.c.key,
            TARGET.c.id.label("target_id"),
            sql_cast(TARGET.c.description, Text).label("target"),
        )
        .join_from(WORKLOAD, TARGET, true())
        .where(
            WORKLOAD.c.operator == workload.operator,
            TARGET.c.threads.is_not(None),  # else it is known from another tool only
            exists().where(TRIAL.c.workload_id == WORKLOAD.c.id, TRIAL.c.target_id == TARGET.c.id, TRIAL.c.verified),
        )
    )
    found = [
        Place(read_workload(row.key), read_target(row.target), row.workload_id, row.target_id)
        for row in connection.execute(pairs)
    ]
    others = [
        each for each in found if _alike(each.target, target) and (each.workload, each.target) != (workload, target)
    ]
    return tuple(
        sorted(others, key=lambda each: (apart_from(each, workload, target), each.workload.key, each.target.name))
    )


def apart_from(place: Place, workload: Workload, target: Target) -> float:
    """How far ``place`` is from ``workload`` on ``target``."""
    return distance(place.workload, workload) + targets_apart(place.target, target)


def targets_apart(first: Target, second: Target) -> float:
    """How unlike two targets of one architecture are."""
    return sum(apart(getattr(first, name), getattr(second, name)) for name in (*_SIZES, *_WORDS))


def fastest(
    connection: Connection, place: Place, template: str, algorithms: Sequence[str], wanted: Demand | None
) -> Best | None:
    """The fastest verified trial there of that template, by one of those algorithms, that meets the demand."""
    values = {**_there(place, template), **(wanted.parameters() if wanted else {})}
    statement = (_FASTEST_FRESH if wanted else _FASTEST).execution_options(yield_per=20)
    with connection.execute(statement, values) as rows:
        for row in rows:
            if row.config.get("algorithm", "direct") in algorithms:
                trial = read_trial(row)
                return Best(trial, row.fingerprint, judge(trial.times, None), "exact")
    return None


def measured(connection: Connection, place: Place, template: str) -> list[tuple[Config, float]]:
    """All verified configurations of that template, with the seconds that each took."""
    return [(read_config(row.config), row.seconds) for row in connection.execute(_MEASURED, _there(place, template))]


def _there(place: Place, template: str) -> dict[str, Any]:
    name, _, version = template.rpartition("/")
    return {"workload": place.workload_id, "target": place.target_id, "name": name, "version": version}


def _alike(first: Target, second: Target) -> bool:
    return first.kind == second.kind and first.triple.partition("-")[0] == second.triple.partition("-")[0]


_THERE = (
    TRIAL.c.workload_id == bindparam("workload"),
    TRIAL.c.target_id == bindparam("target"),
    TRIAL.c.verified,
    TRIAL.c.template_id
    == select(TEMPLATE.c.id)
    .where(TEMPLATE.c.name == bindparam("name"), TEMPLATE.c.version == bindparam("version"))
    .scalar_subquery(),
)
_FASTEST = select_trials().where(*_THERE).order_by(TRIAL.c.seconds)
_FASTEST_FRESH = _FASTEST.where(is_fresh(TRIAL))
_MEASURED = select(TRIAL.c.config, TRIAL.c.seconds).where(*_THERE).order_by(TRIAL.c.seconds, TRIAL.c.fingerprint)
