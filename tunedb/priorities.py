"""What to tune next: where an hour of tuning is expected to make a network faster by the most.

    gain     =  weight x (time now - time within reach) x chance
    priority =  gain / expected seconds of tuning

- *Time now* is that of the best verified trial that is exact enough, whatever tolerance it was tuned for; of a workload
  that was never tuned, what a default schedule is expected to take: its operations at the median speed that the default
  schedules of comparable workloads had.
- *Within reach* is the speed of the fastest comparable workload on the same target: the same operator with the same
  window and stride. Where there is no other such one, it is the median speed of the best trials of the operator.
- *Chance*: of N + n trials in no special order, the best is one of the last n with probability n / (N + n). So what has
  had N trials already is expected to gain that part of the distance by n more. Tuners do better than random at first
  and worse later; this keeps a workload that cannot reach its neighbours from being proposed for ever.
- *Seconds of tuning*: n times what a trial took to compile and to run, of the workload or of comparable ones.

A cost model is not asked: it ranks the schedules of one workload, and knows no times.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, and_, bindparam, case, func, select

from tunedb.errors import NotFoundError
from tunedb.records import read_workload
from tunedb.tables import TARGET, TRIAL, WORKLOAD
from tuner.target import Target
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

TRIALS = 64
"""What is proposed: as many more trials as ``tunedb tune`` makes unless it is told otherwise."""

_COST = 0.1  # seconds a trial, where no trial says what it took


@dataclass(frozen=True)
class Known:
    """What is stored of a problem on the target. Times are seconds."""

    problem: Workload
    trials: int  # for any tolerance
    longest: Mapping[Workload, int]  # trials of the longest session, by the workload: the problem with a tolerance
    best: float | None  # of the verified ones that are exact enough
    default: float | None  # of the schedules that its sessions began with
    cost: float  # of one trial: compiling and running


@dataclass(frozen=True)
class Priority:
    """A workload, and what tuning it with ``TRIALS`` more trials is expected to bring. Times are seconds."""

    workload: Workload
    weight: float
    seconds: float  # of one call now
    measured: bool  # whether that was measured; else it is what a default schedule is expected to take
    reachable: float  # of one call
    basis: str  # what ``reachable`` rests on
    trials: int  # so far
    cost: float  # expected, of the proposed trials
    command: str  # that makes them; a session that was begun goes on

    @property
    def gain(self) -> float:
        """Expected, in one pass of the network."""
        chance = TRIALS / (self.trials + TRIALS)
        return self.weight * max(self.seconds - self.reachable, 0.0) * chance

    @property
    def score(self) -> float:
        """Seconds gained a pass for each second of tuning."""
        return self.gain / self.cost

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "weight": self.weight,
            "seconds": self.seconds,
            "measured": self.measured,
            "reachable_seconds": self.reachable,
            "basis": self.basis,
            "trials": self.trials,
            "expected_gain": self.gain,
            "expected_cost": self.cost,
            "score": self.score,
            "command": self.command,
        }


@dataclass(frozen=True)
class Agenda:
    """What to tune next, the most rewarding first."""

    target: Target
    priorities: tuple[Priority, ...]

    @property
    def seconds(self) -> float:
        """Of one pass of the network now, as far as its workloads are listed."""
        return sum(each.weight * each.seconds for each in self.priorities)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target.to_json(),
            "network_seconds": self.seconds,
            "more_trials": TRIALS,
            "priorities": [each.to_json() for each in self.priorities],
        }


def agenda(database: "Database", weights: Mapping[Workload, float], target: Target) -> Agenda:
    """The workloads of ``weights`` in the order in which to tune them.

    Raises NotFoundError when nothing was ever measured on ``target``: nothing can be expected then.
    """
    with database.read() as connection:
        known = {bound: _known(connection, target, bound) for bound in {each.tolerance for each in weights}}
    if not any(one.best for each in known.values() for one in each.values()):
        heaviest = max(weights, key=lambda workload: weights[workload] * workload.flops)
        raise NotFoundError(
            f"no right result was measured on {target.name}, so nothing can be expected: begin with what takes most "
            f"operations, `tunedb tune '{heaviest.label}'`"
        )
    priorities = [
        _priority(workload, weight, known[workload.tolerance], target.threads) for workload, weight in weights.items()
    ]
    return Agenda(target, tuple(sorted(priorities, key=lambda each: (-each.score, each.workload.label))))


def _priority(workload: Workload, weight: float, known: Mapping[Workload, Known], threads: int) -> Priority:
    mine = known.get(workload.problem)
    others = [one for one in known.values() if one is not mine]
    best = mine.best if mine else None
    default = _speeds(workload, others, lambda one: one.default) or _speeds(workload, others, lambda one: one.best)
    seconds = best or workload.flops / statistics.median(default)
    speed, basis = _reach(workload, others) or (workload.flops / seconds, "nothing else was measured")
    session = mine.longest.get(workload, 0) if mine else 0
    costs = [mine.cost] if mine and mine.cost else _circle(workload, others, lambda one: one.cost or None)
    return Priority(
        workload=workload,
        weight=weight,
        seconds=seconds,
        measured=best is not None,
        reachable=min(workload.flops / speed, seconds),
        basis=basis,
        trials=mine.trials if mine else 0,
        cost=TRIALS * (statistics.median(costs) if costs else _COST),
        command=f"tunedb tune '{workload.label}' --trials {session + TRIALS} --threads {threads}",
    )


def _reach(workload: Workload, others: Sequence[Known]) -> tuple[float, str] | None:
    """The speed that ``workload`` should reach, in operations a second, and what says so."""
    alike = [one for one in others if one.best and _shape(one.problem) == _shape(workload)]
    if alike:
        fastest = max(alike, key=lambda one: one.problem.flops / (one.best or math.inf))
        assert fastest.best is not None
        return fastest.problem.flops / fastest.best, f"the speed of {fastest.problem.label}, the fastest one alike"
    speeds = _speeds(workload, others, lambda one: one.best)
    named = "one other, which is not alike" if len(speeds) == 1 else f"{len(speeds)} others, none alike"
    return (statistics.median(speeds), f"the median speed of {named}") if speeds else None


def _shape(workload: Workload) -> tuple[object, ...]:
    """What workloads of the same speed have in common: the operator, and the window and stride if it has any."""
    arguments = dict(workload.arguments)
    return workload.operator, arguments.get("k") if "stride" in arguments else None, arguments.get("stride")


def _speeds(workload: Workload, others: Sequence[Known], seconds: Callable[[Known], float | None]) -> list[float]:
    def speed(one: Known) -> float | None:
        known = seconds(one)
        return one.problem.flops / known if known else None

    return _circle(workload, others, speed)


def _circle(workload: Workload, others: Sequence[Known], value: Callable[[Known], float | None]) -> list[float]:
    """The values of those that are alike; else of those of the same operator; else of all."""
    circles: tuple[Callable[[Workload], bool], ...] = (
        lambda other: _shape(other) == _shape(workload),
        lambda other: other.operator == workload.operator,
        lambda other: True,
    )
    for belongs in circles:
        values = [found for one in others if belongs(one.problem) and (found := value(one)) is not None]
        if values:
            return values
    return []


def _known(connection: Connection, target: Target, tolerance: float) -> dict[Workload, Known]:
    """By problem; of the best trials those with an error of at most ``tolerance``."""
    sessions: dict[Workload, list[tuple[Workload, Row[Any]]]] = {}
    for row in connection.execute(_SESSIONS, {"target": target.fingerprint, "tolerance": tolerance}):
        workload = read_workload(row.workload)
        sessions.setdefault(workload.problem, []).append((workload, row))
    return {problem: _sum_up(problem, found) for problem, found in sessions.items()}


def _sum_up(problem: Workload, found: Sequence[tuple[Workload, Row[Any]]]) -> Known:
    sessions = [row for _, row in found]
    trials = sum(row.trials for row in sessions)
    best = [row.best for row in sessions if row.best is not None]
    default = [row.first for row in sessions if row.first is not None]
    longest: dict[Workload, int] = {}
    for workload, row in found:
        longest[workload] = max(longest.get(workload, 0), row.trials)
    return Known(
        problem=problem,
        trials=trials,
        longest=longest,
        best=min(best, default=None),
        default=statistics.median(default) if default else None,
        cost=sum(row.cost for row in sessions) / trials,
    )


_EXACT_ENOUGH = and_(TRIAL.c.verified, TRIAL.c.error <= bindparam("tolerance"))

_SESSIONS = (
    select(
        WORKLOAD.c.key.label("workload"),
        func.count().label("trials"),
        func.min(case((_EXACT_ENOUGH, TRIAL.c.seconds))).label("best"),
        func.min(case((TRIAL.c.sequence == 0, TRIAL.c.seconds))).label("first"),
        func.sum(func.coalesce(TRIAL.c.compile_seconds, 0.0) + func.coalesce(TRIAL.c.run_seconds, 0.0)).label("cost"),
    )
    .select_from(TRIAL.join(WORKLOAD).join(TARGET))
    .where(TARGET.c.fingerprint == bindparam("target"))
    .group_by(TRIAL.c.workload_id, WORKLOAD.c.key, TRIAL.c.session_id)
)
