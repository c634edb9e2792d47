"""Whether a time was taken with what is here now: the versions and settings that a time depends on.

A trial is judged by the environment that it was measured in, and by those in which it was measured again since: the
latest word counts. docs/freshness.md says which facts each level compares, and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sqlalchemy import BindParameter, ColumnElement, Connection, FromClause, and_, bindparam, case, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import Text

from tunedb.records import read_environment
from tunedb.tables import ENVIRONMENT, TEMPLATE, TRIAL, VERIFICATION
from tuner.environment import detect
from tuner.errors import ScheduleError
from tuner.target import Target
from tuner.templates import template_for
from tuner.trial import Environment, Trial
from tuner.workload import Workload

Level: TypeAlias = Literal["strict", "compatible", "any"]
LEVELS: tuple[Level, ...] = ("strict", "compatible", "any")

STRICT = ("cpu", "governor", "kernel", "llvm", "llvmlite", "os", "protocol", "tunedb")
"""Facts that may change a time. ``commit``, ``numpy`` and ``python`` do not: what is timed is machine code."""


def meets(level: Level, then: Environment, now: Environment) -> bool:
    """Whether a time that was taken in the environment ``then`` still stands in ``now``."""
    return _compared(level, then) == _compared(level, now)


def _compared(level: Level, environment: Environment) -> tuple[str | None, ...]:
    facts = dict(environment.facts)
    if level == "strict":
        return tuple(facts.get(name) for name in STRICT)
    if level == "compatible":
        return facts.get("cpu"), facts.get("protocol"), facts.get("llvm", "").partition(".")[0]
    return ()


@dataclass(frozen=True)
class Demand:
    """What a lookup asks of a trial: ids of the environments and templates that will do."""

    environments: tuple[int, ...]
    templates: tuple[int, ...]

    def parameters(self) -> dict[str, Any]:
        """The values of what ``is_fresh`` leaves open."""
        return {"environments": self.environments, "templates": self.templates}


def demand(connection: Connection, level: Level, workload: Workload, target: Target) -> Demand | None:
    """What ``level`` asks of the trials of ``workload`` on ``target``; None when all will do.

    It reads the tables of environments and templates, which are small.
    """
    if level == "any":
        return None
    now = detect()
    facts = select(ENVIRONMENT.c.id, sql_cast(ENVIRONMENT.c.facts, Text).label("facts"))
    environments = [row.id for row in connection.execute(facts) if meets(level, read_environment(row.facts), now)]
    template = current_template(workload, target) if level == "strict" else None
    templates = [
        row.id
        for row in connection.execute(select(TEMPLATE))
        if level != "strict" or f"{row.name}/{row.version}" == template
    ]
    return Demand(tuple(environments), tuple(templates))


def is_fresh(trial: FromClause) -> ColumnElement[bool]:
    """The condition that a row of ``trial`` meets a Demand, whose ``parameters`` it takes."""
    environments: BindParameter[Any] = bindparam("environments", expanding=True)
    again = VERIFICATION.alias()
    latest = (
        select(again.c.status)
        .where(again.c.trial_id == trial.c.id, again.c.environment_id.in_(environments))
        .order_by(again.c.created.desc(), again.c.id.desc())
        .limit(1)
        .correlate(trial)
        .scalar_subquery()
    )
    own = case((trial.c.environment_id.in_(environments), "confirmed"))
    return and_(
        trial.c.template_id.in_(bindparam("templates", expanding=True)), func.coalesce(latest, own) == "confirmed"
    )


@dataclass(frozen=True)
class Freshness:
    """How a stored time relates to this process's environment.

    ``changed``: what differs between the environment in which the time was last found true and this one, as (then,
    now). ``strict`` and ``compatible``: what was last found in an environment that equals this one to that level:
    "confirmed", or "drifted", "wrong" or "failed" when it was measured again; None when it was not measured in one.
    """

    changed: Mapping[str, tuple[str | None, str | None]]
    strict: str | None = field(repr=False)
    compatible: str | None = field(repr=False)

    @property
    def level(self) -> Literal["strict", "compatible", "stale"]:
        """The strictest question that the time answers."""
        if self.answers("strict"):
            return "strict"
        return "compatible" if self.answers("compatible") else "stale"

    def answers(self, level: Level) -> bool:
        """Whether the time answers a question of ``level``."""
        if level == "strict":
            return self.strict == "confirmed" and "template" not in self.changed
        return level == "any" or self.compatible == "confirmed"

    def to_json(self) -> dict[str, Any]:
        changed = {name: {"then": then, "now": now} for name, (then, now) in self.changed.items()}
        return {"level": self.level, "changed": changed}

    def __str__(self) -> str:
        changes = ", ".join(f"{fact} {then or '-'} -> {now or '-'}" for fact, (then, now) in self.changed.items())
        again = next((found for found in (self.strict, self.compatible) if found not in (None, "confirmed")), None)
        remarks = [f"since then: {changes}"] if changes else []
        remarks += [f"measured again here: {again}"] if again else []
        return "; ".join([self.level, *remarks])


def freshness(connection: Connection, trial: Trial, fingerprint: str) -> Freshness:
    """How fresh the time of a stored trial is."""
    verifications = (
        select(VERIFICATION.c.status, sql_cast(ENVIRONMENT.c.facts, Text).label("facts"))
        .join_from(VERIFICATION, ENVIRONMENT)
        .join(TRIAL, VERIFICATION.c.trial_id == TRIAL.c.id)
        .where(TRIAL.c.fingerprint == fingerprint)
        .order_by(VERIFICATION.c.created, VERIFICATION.c.id)
    )
    found = [(trial.environment, "confirmed")]
    found += [(read_environment(row.facts), row.status) for row in connection.execute(verifications)]
    now = detect()
    then, here = (dict(environment.facts) for environment in (_last_confirmed(found), now))
    changed = {name: (then.get(name), here.get(name)) for name in STRICT if then.get(name) != here.get(name)}
    template = current_template(trial.workload, trial.target)
    if trial.template != template:
        changed["template"] = (trial.template, template)
    return Freshness(changed, _latest(found, "strict", now), _latest(found, "compatible", now))


def current_template(workload: Workload, target: Target) -> str | None:
    """The template and version that would be tuned now; None when there is none."""
    try:
        return template_for(workload, target).key
    except ScheduleError:
        return None


def _last_confirmed(found: list[tuple[Environment, str]]) -> Environment:
    return next(environment for environment, status in reversed(found) if status == "confirmed")


def _latest(found: list[tuple[Environment, str]], level: Level, now: Environment) -> str | None:
    return next((status for environment, status in reversed(found) if meets(level, environment, now)), None)
