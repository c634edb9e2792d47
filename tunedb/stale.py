"""What to measure again on this machine: answers whose times were taken with something else than what is here now.

An answer that was never measured again costs one trial; where that has already found another time, or the template
has changed, or nothing was measured on this machine at all, it takes a session.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from tunedb import lookup
from tunedb.errors import NotFoundError
from tunedb.explain import tuning_command
from tunedb.freshness import Freshness, Level, current_template, freshness
from tunedb.lookup import Best
from tunedb.places import Place, places, same_family
from tunedb.records import is_in_session, machine_fingerprint
from tunedb.tables import SESSION, TARGET, TRIAL
from tuner.target import Target
from tuner.workload import Workload


@dataclass(frozen=True)
class Stale:
    """Something to measure again. ``freshness`` is None where nothing was measured on this machine."""

    best: Best  # the answer as it stands; elsewhere, when there is none here
    threads: int  # to measure with
    freshness: Freshness | None
    seconds: float  # what compiling and running took then; choosing and storing come on top
    command: str

    @property
    def workload(self) -> Workload:
        return self.best.workload

    @property
    def why(self) -> str:
        return str(self.freshness) if self.freshness else f"measured on {self.best.target.name} only"

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "target": self.best.target.name,
            "threads": self.threads,
            "trial": self.best.fingerprint,
            "freshness": self.freshness.to_json() if self.freshness else None,
            "why": self.why,
            "seconds": self.seconds,
            "command": self.command,
        }


def stale(connection: Connection, level: Level = "strict") -> tuple[Stale, ...]:
    """All answers for this machine that do not meet ``level``, and workloads that have none; the cheapest first."""
    host = Target.host()
    here = places(connection, TARGET.c.machine == machine_fingerprint(host))
    found = [*_changed(connection, here, level), *_missing(connection, {place.workload for place in here}, host)]
    return tuple(sorted(found, key=lambda one: (one.seconds, one.workload.key, one.threads)))


def _changed(connection: Connection, here: tuple[Place, ...], level: Level) -> Iterator[Stale]:
    for place in here:
        best = lookup.best(connection, place.workload, place.target)
        fresh = freshness(connection, best.trial, best.fingerprint)
        if fresh.answers(level):
            continue
        again = fresh.strict if level == "strict" else fresh.compatible
        if again is None and best.trial.template == current_template(place.workload, place.target):
            cost = (best.trial.compile_seconds or 0.0) + (best.trial.run_seconds or 0.0)
            yield Stale(best, place.target.threads, fresh, cost, f"tunedb verify {best.fingerprint[:12]}")
        elif not _answers(connection, place, level):
            yield _session(connection, best, place.target.threads, fresh, _next_seed(connection, place))


def _missing(connection: Connection, known: set[Workload], host: Target) -> Iterator[Stale]:
    """Workloads that were measured on other machines of this family only, each by its fastest answer."""
    fastest: dict[Workload, Best] = {}
    for place in places(connection, TARGET.c.machine != machine_fingerprint(host)):
        if place.workload not in known and same_family(place.target, host):
            best = lookup.best(connection, place.workload, place.target)
            if place.workload not in fastest or best.seconds < fastest[place.workload].seconds:
                fastest[place.workload] = best
    for best in fastest.values():
        yield _session(connection, best, min(best.target.threads, host.threads), None, None)


def _session(connection: Connection, best: Best, threads: int, fresh: Freshness | None, seed: int | None) -> Stale:
    """Another session like that of ``best``, which gives the costs."""
    seconds = func.coalesce(TRIAL.c.compile_seconds, 0.0) + func.coalesce(TRIAL.c.run_seconds, 0.0)
    own = select(TRIAL.c.session_id).where(TRIAL.c.fingerprint == best.fingerprint).scalar_subquery()
    arguments = connection.execute(select(SESSION.c.arguments).where(SESSION.c.id == own)).scalar_one()
    trials, cost = connection.execute(select(func.count(), func.sum(seconds)).where(is_in_session(own))).one()
    seed = arguments.get("seed", 0) if seed is None else seed
    return Stale(best, threads, fresh, cost, tuning_command(best.workload, arguments, trials, seed, threads))


def _next_seed(connection: Connection, place: Place) -> int:
    """A seed that makes a new session: one that is finished measures nothing again."""
    sessions = (
        select(TRIAL.c.session_id)
        .where(TRIAL.c.workload_id == place.workload_id, TRIAL.c.target_id == place.target_id)
        .distinct()
    )
    known = connection.scalars(select(SESSION.c.arguments).where(SESSION.c.id.in_(sessions)))
    return 1 + max(int(arguments.get("seed", 0)) for arguments in known)


def _answers(connection: Connection, place: Place, level: Level) -> bool:
    try:
        lookup.best(connection, place.workload, place.target, level)
    except NotFoundError:
        return False
    return True
