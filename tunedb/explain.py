"""Why a schedule is the best: what it was chosen from, how surely, and the command that finds it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from tunedb.freshness import Freshness, freshness
from tunedb.lookup import Best
from tunedb.records import is_in_session
from tunedb.sessions import PINS
from tunedb.tables import SESSION, TARGET, TRIAL, WORKLOAD
from tunedb.verifications import Verification, of_trial
from tuner.target import narrower
from tuner.workload import Workload


@dataclass(frozen=True)
class Explanation:
    """An answer and what stands behind it: all trials of its problem on its target, whatever their tolerance."""

    best: Best
    runner_up: Best | None  # the fastest other schedule
    statuses: Mapping[str, int]  # trials by how they ended
    retracted: int
    first: datetime
    last: datetime
    freshness: Freshness
    verifications: tuple[Verification, ...]  # of the best one, oldest first
    command: str  # that tunes the same, and would find it again

    def to_json(self) -> dict[str, Any]:
        return {
            **self.best.to_json(),
            "runner_up": self.runner_up.to_json() if self.runner_up else None,
            "statuses": dict(self.statuses),
            "retracted": self.retracted,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "measured": self.best.trial.created.isoformat(),
            "freshness": self.freshness.to_json(),
            "verifications": [each.to_json() for each in self.verifications],
            "command": self.command,
        }


def explain(connection: Connection, best: Best, runner_up: Best | None) -> Explanation:
    """The explanation of an answer of this database, beside the fastest other schedule."""
    here = (
        select(TRIAL.c.status, func.count().label("number"), func.count(TRIAL.c.retracted).label("retracted"))
        .add_columns(func.min(TRIAL.c.created).label("first"), func.max(TRIAL.c.created).label("last"))
        .select_from(TRIAL.join(WORKLOAD).join(TARGET))
        .where(WORKLOAD.c.problem == best.workload.problem.fingerprint, TARGET.c.fingerprint == best.target.fingerprint)
        .group_by(TRIAL.c.status)
    )
    rows = connection.execute(here).all()
    of_best = select(SESSION.c.id, SESSION.c.arguments).join(TRIAL, TRIAL.c.session_id == SESSION.c.id)
    session = connection.execute(of_best.where(TRIAL.c.fingerprint == best.fingerprint)).one()
    size = connection.execute(select(func.count()).where(is_in_session(session.id))).scalar_one()
    return Explanation(
        best=best,
        runner_up=runner_up,
        statuses={row.status: row.number for row in rows},
        retracted=sum(row.retracted for row in rows),
        first=min(row.first for row in rows),
        last=max(row.last for row in rows),
        freshness=freshness(connection, best.trial, best.fingerprint),
        verifications=of_trial(connection, best.fingerprint),
        command=tuning_command(
            best.workload, session.arguments, size, session.arguments.get("seed", 0), best.target.threads
        ),
    )


def tuning_command(workload: Workload, arguments: Mapping[str, Any], trials: int, seed: int, threads: int) -> str:
    """The command for so many trials, in the way of a session that had these arguments."""
    settings = arguments.get("settings", {})
    options = ["--cold"] if settings.get("start") == "cold" else []
    options += [f"--set {pin}" for pin in settings.get(PINS, "").split()]
    options += [f"--target {each.isa}" for each in narrower(threads) if each.fingerprint == arguments.get("target")]
    return " ".join(
        (
            f"tunedb tune '{workload.label}' --trials {trials} --tuner {arguments.get('tuner')}",
            f"--seed {seed} --threads {threads}",
            *options,
        )
    )
