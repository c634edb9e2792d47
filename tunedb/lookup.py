"""What the database knows: the best schedule, the next best ones, all trials, and how much there is.

``best`` is one SQL statement: an index over (workload, target, verified, seconds, error) gives the shortest time on
each target, and then the one trial that has the shortest of all.
Only a verified trial is ever an answer, and only one with an error that the question tolerates, whatever tolerance it
was tuned with. Of equally fast trials the newest wins. A question that asks for fresh times takes the same walk and
passes over the others.
"""

import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    Table,
    and_,
    bindparam,
    func,
    select,
)

from tunedb.confidence import Confidence, judge
from tunedb.errors import NotFoundError
from tunedb.freshness import Demand, Level, demand, freshness, is_fresh
from tunedb.prepared import Prepared
from tunedb.records import flatten, machine_fingerprint, read_trial, select_trials
from tunedb.tables import SCHEDULE, SESSION, TARGET, TRIAL, WORKLOAD
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tuner.kernel import Kernel


@dataclass(frozen=True)
class Best:
    """An answer: a verified trial, how sure its time is, and how it answers the question."""

    trial: Trial
    fingerprint: str  # of the trial
    confidence: Confidence
    source: str  # "exact": this workload was measured on this target
    layer: str | None = None  # of several layers, the database that answered

    @property
    def workload(self) -> Workload:
        return self.trial.workload

    @property
    def target(self) -> Target:
        return self.trial.target

    @property
    def environment(self) -> Environment:
        return self.trial.environment

    @property
    def schedule(self) -> Schedule:
        return self.trial.schedule

    @property
    def seconds(self) -> float:
        """Median of all repeats."""
        return self.confidence.median

    @property
    def gflops(self) -> float:
        return self.workload.flops / self.seconds / 1e9

    @property
    def error(self) -> float:
        """Largest difference from the float64 reference, relative to the largest reference value."""
        assert self.trial.error is not None  # else it would not be verified
        return self.trial.error

    def compile(self) -> "Kernel":
        """The kernel, ready to run in this process."""
        from tuner.kernel import compile_kernel  # looking up needs no compiler

        return compile_kernel(self.workload, self.schedule, self.target)

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "target": self.target.to_json(),
            "source": self.source,
            "layer": self.layer,
            "seconds": self.seconds,
            "gflops": self.gflops,
            "error": self.error,
            "verified": True,
            "confidence": self.confidence.to_json(),
            "template": self.trial.template,
            "config": {name: list(v) if isinstance(v, tuple) else v for name, v in self.trial.config.items()},
            "schedule": self.schedule.to_json(),
            "trial": self.fingerprint,
            "environment": dict(self.environment.facts),
        }


@dataclass(frozen=True)
class Stats:
    """How much is stored."""

    workloads: int
    targets: int
    schedules: int
    sessions: int
    trials: int
    verified: int
    statuses: Mapping[str, int]  # trials by how they ended


def best(connection: Connection, workload: Workload, target: Target | None, level: Level = "any") -> Best:
    """The fastest verified trial on ``target``; without one, on this machine with any number of threads.

    ``level`` says how fresh its time must be. Raises NotFoundError, which says what is stored instead.
    """
    wanted = demand(connection, level, workload, target or Target.host())
    statement = _best(_where(target), wanted is not None)
    rows = statement.all(connection, **_question(workload, target, wanted))
    if not rows:
        raise NotFoundError(_what_is_stored(connection, workload, target, level))
    return _answer(rows[0], rows[0].runner_up)


def top(
    connection: Connection,
    workload: Workload,
    n: int,
    target: Target | None,
    level: Level = "any",
    without: Set[str] = frozenset(),
) -> tuple[Best, ...]:
    """The ``n`` fastest schedules, each by its best trial and compared with the next one. Otherwise as ``best``.

    None of the trials ``without``, by their fingerprints, counts.
    """
    wanted = demand(connection, level, workload, target or Target.host())
    statement = _top(_where(target), wanted is not None, bool(without))
    question = {**_question(workload, target, wanted), **({"without": tuple(without)} if without else {})}
    among = 2 * n + 8
    rows = statement.all(connection, **question, n=n + 1, others=among - 1)
    while 0 < len(rows) <= n and rows[0].slowest is not None:  # they are of few schedules, and there are more of them
        among *= 16
        rows = statement.all(connection, **question, n=n + 1, others=among - 1)
    if not rows:
        raise NotFoundError(_what_is_stored(connection, workload, target, level))
    following = [*(row.times for row in rows[1:]), None]
    return tuple(_answer(row, times) for row, times in zip(rows[:n], following, strict=False))


def history(connection: Connection, workload: Workload, target: str | None) -> tuple[Trial, ...]:
    """All trials of a workload with any tolerance, oldest first; failures too. ``target``: a fingerprint, or all."""
    statement = select_trials().where(WORKLOAD.c.problem == workload.problem.fingerprint)
    if target is not None:
        statement = statement.where(TARGET.c.fingerprint == target)
    ordered = statement.order_by(TRIAL.c.created, TRIAL.c.fingerprint)
    return tuple(map(read_trial, connection.execute(ordered)))


def stats(connection: Connection) -> Stats:
    def count(table: Table) -> int:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()

    by_status = select(TRIAL.c.status, TRIAL.c.verified, func.count()).group_by(TRIAL.c.status, TRIAL.c.verified)
    statuses = {status.value: 0 for status in Status}
    verified = 0
    for status, is_verified, number in connection.execute(by_status):
        statuses[status] += number
        verified += number if is_verified else 0
    return Stats(
        workloads=count(WORKLOAD),
        targets=count(TARGET),
        schedules=count(SCHEDULE),
        sessions=count(SESSION),
        trials=sum(statuses.values()),
        verified=verified,
        statuses=statuses,
    )


def _where(target: Target | None) -> str:
    return "fingerprint" if target else "machine"


def _question(workload: Workload, target: Target | None, wanted: Demand | None) -> dict[str, Any]:
    where = target.fingerprint if target else machine_fingerprint(Target.host())
    asked = {"problem": workload.problem.fingerprint, "tolerance": workload.tolerance, "where": where}
    return {**asked, **(wanted.parameters() if wanted else {})}


def _answer(row: Any, runner_up: list[list[float]] | None) -> Best:
    trial = read_trial(row)
    confidence = judge(trial.times, flatten(runner_up) if runner_up else None)
    return Best(trial=trial, fingerprint=row.fingerprint, confidence=confidence, source="exact")


def _any_best(connection: Connection, workload: Workload, target: Target | None) -> Any | None:
    return next(iter(_best(_where(target), False).all(connection, **_question(workload, target, None))), None)


def _what_is_stored(connection: Connection, workload: Workload, target: Target | None, level: Level) -> str:
    if level != "any" and (row := _any_best(connection, workload, target)) is not None:
        found = freshness(connection, read_trial(row), row.fingerprint)
        return (
            f"no verified trial of {workload.label} there answers to --freshness {level}; the best one is {found}: "
            "`tunedb stale` lists what to measure again"
        )
    columns = (TRIAL.c.status, TRIAL.c.verified, TRIAL.c.error, TARGET)
    of_problem = select(*columns).select_from(TRIAL.join(TARGET).join(WORKLOAD))
    rows = connection.execute(of_problem.where(WORKLOAD.c.problem == workload.problem.fingerprint)).all()
    if not rows:
        return (
            f"no trial of {workload.label} is stored: tune it with `tunedb tune '{workload.label}'`, or let "
            f"`tunedb best '{workload.label}' --source default` answer without measuring"
        )
    where = target or Target.host()
    machine = machine_fingerprint(where)
    here = [row for row in rows if (row.fingerprint == where.fingerprint if target else row.machine == machine)]
    place = f"on {where.name}" if target else "on this machine"
    if errors := [row.error for row in here if row.verified]:
        return (
            f"no trial of {workload.problem.label} {place} has an error of at most {workload.tolerance:g}: "
            f"the smallest is {min(errors):.2g}; tune it with `tunedb tune '{workload.label}'`"
        )
    if here:
        ends = ", ".join(f"{sum(row.status == s for row in here)} {s}" for s in sorted({row.status for row in here}))
        return f"no verified trial of {workload.label} {place}: its {len(here)} trials there ended so: {ends}"
    others = sorted({row.name for row in rows if row.verified})
    if not others:
        return f"no verified trial of {workload.label} is stored anywhere, and none was tried {place}"
    listing = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    number = f"{len(others)} other target{'s have' if len(others) > 1 else ' has'} some"
    return f"no verified trial of {workload.label} {place}; {number}: {listing}"


def _fastest_first(trial: Any) -> tuple[Any, ...]:
    return trial.seconds, trial.created.desc(), trial.fingerprint


def _counts(trial: FromClause, fresh: bool, without: bool = False) -> ColumnElement[bool]:
    """What a trial must be to answer."""
    conditions = [trial.c.verified, trial.c.error <= bindparam("tolerance")]
    if fresh:
        conditions.append(is_fresh(trial))
    if without:
        conditions.append(trial.c.fingerprint.not_in(bindparam("without", expanding=True)))
    return and_(*conditions)


def _on(trial: FromClause, workload: FromClause, target: ColumnElement[int], *which: bool) -> ColumnElement[bool]:
    """What counts of one workload on one target; ``which`` as for ``_counts``."""
    return and_(trial.c.workload_id == workload.c.id, trial.c.target_id == target, _counts(trial, *which))


def _first(
    column: str, trial: FromClause, *conditions: ColumnElement[bool], after: ColumnElement[int] | None = None
) -> ScalarSelect[Any]:
    """A column of the fastest trial, or one ``after`` it, that meets the conditions: ``_on``, first in the index."""
    first = select(trial.c[column]).where(*conditions).order_by(trial.c.seconds).limit(1).offset(after)
    return first.correlate_except(trial).scalar_subquery()


def _best_statement(where: str, fresh: bool) -> Select[Any]:
    """The shortest time of each workload of the problem and each target that matches; the trial that has the shortest
    of those; its runner-up. The index alone gives the times, and one trial is read.
    """
    each, place, same = TRIAL.alias("each"), TARGET.alias("place"), WORKLOAD.alias("same")
    asked = and_(same.c.problem == bindparam("problem"), place.c[where] == bindparam("where"))
    shortest = (
        select(func.min(_first("seconds", each, _on(each, same, place.c.id, fresh))))
        .select_from(place.join(same, asked))
        .correlate(None)
        .scalar_subquery()
    )
    fastest = (
        select(each.c.id)
        .select_from(place.join(same, asked).join(each, _on(each, same, place.c.id, fresh)))
        .where(each.c.seconds == shortest)
        .order_by(each.c.created.desc(), each.c.fingerprint)
        .limit(1)
        .scalar_subquery()
    )
    following, next_, other = TRIAL.alias("following"), WORKLOAD.alias("next"), TRIAL.alias("other")
    on_same_target = _on(other, next_, TRIAL.c.target_id, fresh)
    runner_up = (
        select(following.c.times)
        .select_from(
            next_.join(
                following,
                following.c.id == _first("id", other, on_same_target, other.c.schedule_id != TRIAL.c.schedule_id),
            )
        )
        .where(next_.c.problem == bindparam("problem"))
        .order_by(following.c.seconds)
        .limit(1)
        .correlate(TRIAL)
        .scalar_subquery()
    )
    return select_trials(runner_up.label("runner_up")).where(TRIAL.c.id == fastest)


def _top_statement(where: str, *which: bool) -> Select[Any]:
    """The best trial of each schedule that the fastest trials have, in order.

    These are all that are as fast as the one after ``others`` on some target, where there are so many: ``slowest`` is
    its time, else null. The index gives it, and no slower trial is read.
    """
    each, place, same = TRIAL.alias("each"), TARGET.alias("place"), WORKLOAD.alias("same")
    last = _first("seconds", each, _on(each, same, place.c.id, *which), after=bindparam("others", type_=Integer()))
    asked = and_(same.c.problem == bindparam("problem"), place.c[where] == bindparam("where"))
    slowest = select(func.min(last).label("seconds")).select_from(place.join(same, asked)).cte("slowest")
    bound = select(slowest.c.seconds).scalar_subquery()
    rank = func.row_number().over(partition_by=(each.c.schedule_id, each.c.target_id), order_by=_fastest_first(each.c))
    ranked = (
        select(each.c.id, rank.label("rank"))
        .select_from(each.join(place).join(same))
        .where(asked, _counts(each, *which), each.c.seconds <= func.coalesce(bound, sys.float_info.max))
        .subquery()
    )
    return (
        select_trials(bound.label("slowest"))
        .where(TRIAL.c.id.in_(select(ranked.c.id).where(ranked.c.rank == 1)))
        .order_by(*_fastest_first(TRIAL.c))
        .limit(bindparam("n"))
    )


@cache
def _best(where: str, fresh: bool) -> Prepared:
    return Prepared(_best_statement(where, fresh))


@cache
def _top(where: str, fresh: bool, without: bool) -> Prepared:
    return Prepared(_top_statement(where, fresh, without))
