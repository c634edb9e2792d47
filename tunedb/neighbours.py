"""What was measured nearby: the same workload on other targets, and workloads like it; how far away they are.

Distances are octaves between sizes and one for each different word, summed over the workload's arguments
(``tuner.neighbours.distance``) and over what a target's schedules depend on.
"""

from collections.abc import Sequence, Set
from typing import Any

from sqlalchemy import Connection, bindparam, select

from tunedb.confidence import judge
from tunedb.freshness import Demand, is_fresh
from tunedb.lookup import Best
from tunedb.places import Place, places, same_family
from tunedb.records import read_config, read_trial, select_trials
from tunedb.tables import TEMPLATE, TRIAL, WORKLOAD
from tuner.neighbours import apart, distance
from tuner.space import Config
from tuner.target import Target
from tuner.workload import Workload

_SIZES = ("vector_bits", "registers", "l1", "l2", "threads")
_WORDS = ("cpu", "model")


def neighbours(connection: Connection, workload: Workload, target: Target) -> tuple[Place, ...]:
    """Where the operator of ``workload`` was measured on targets of the family of ``target``, the nearest first.

    ``workload`` on ``target`` itself is not among them.
    """
    found = [
        place
        for place in places(connection, WORKLOAD.c.operator == workload.operator)
        if same_family(place.target, target) and (place.workload, place.target) != (workload, target)
    ]
    found.sort(key=lambda place: (apart_from(place, workload, target), place.workload.key, place.target.name))
    return tuple(found)


def apart_from(place: Place, workload: Workload, target: Target) -> float:
    """How far ``place`` is from ``workload`` on ``target``."""
    return distance(place.workload, workload) + targets_apart(place.target, target)


def targets_apart(first: Target, second: Target) -> float:
    """How unlike two targets of one architecture are."""
    return sum(apart(getattr(first, name), getattr(second, name)) for name in (*_SIZES, *_WORDS))


def fastest(
    connection: Connection,
    place: Place,
    template: str,
    algorithms: Sequence[str],
    tolerance: float,
    wanted: Demand | None,
    withdrawn: Set[str],
) -> Best | None:
    """The fastest verified trial there of that template, by those algorithms, so exact, that meets the demand.

    None of those with the ``withdrawn`` fingerprints.
    """
    values = {**_there(place, template), **(wanted.parameters() if wanted else {})}
    statement = (_FASTEST_FRESH if wanted else _FASTEST).execution_options(yield_per=20)
    with connection.execute(statement, values) as rows:
        for row in rows:
            if row.fingerprint in withdrawn:
                continue
            if row.config.get("algorithm", "direct") in algorithms and row.error <= tolerance:
                trial = read_trial(row)
                return Best(trial, row.fingerprint, judge(trial.times, None), "exact")
    return None


def measured(connection: Connection, place: Place, template: str) -> list[tuple[Config, float]]:
    """All verified configurations of that template, with the seconds that each took."""
    return [(read_config(row.config), row.seconds) for row in connection.execute(_MEASURED, _there(place, template))]


def _there(place: Place, template: str) -> dict[str, Any]:
    name, _, version = template.rpartition("/")
    return {"workload": place.workload_id, "target": place.target_id, "name": name, "version": version}


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
