"""Whether a database holds what it says: every fingerprint, median and verdict is worked out anew from its content."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from tunedb import dialect
from tunedb.foreign import ForeignTarget, Origin, canonical, digest
from tunedb.foreign_records import any_workload, read_foreign, select_foreign
from tunedb.formats import FOREIGN
from tunedb.preparation import record_fingerprint
from tunedb.records import is_right, read_trial, select_trials, session_fingerprint, trial_fingerprint
from tunedb.tables import ENVIRONMENT, MODEL, SCHEDULE, SESSION, TARGET, TRIAL, VERIFICATION, WORKLOAD
from tunedb.verifications import verification_fingerprint
from tuner.canonical import fingerprint
from tuner.errors import TunedbError
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.trial import Environment


@dataclass(frozen=True)
class Checked:
    """How many rows were worked out anew, and what is wrong: one line each, at most ``MOST_PROBLEMS``."""

    rows: int
    problems: tuple[str, ...]


MOST_PROBLEMS = 100


def check(connection: Connection) -> Checked:
    """Check everything. Takes about as long as reading everything."""
    problems = dialect.damages(connection)
    rows = 0
    for name, statement, problem_of in _CHECKS:
        with connection.execute(statement.execution_options(yield_per=1000)) as found:
            for row in found:
                rows += 1
                problems += [f"{name} {row.fingerprint[:12]}: {problem}" for problem in _safely(problem_of, row)]
                if len(problems) >= MOST_PROBLEMS:
                    return Checked(rows, tuple(problems[:MOST_PROBLEMS]))
    return Checked(rows, tuple(problems))


def _safely(problem_of: Callable[[Row[Any]], Iterator[str]], row: Row[Any]) -> list[str]:
    try:
        return list(problem_of(row))
    except (TunedbError, KeyError, TypeError, ValueError) as error:  # what content that is not ours may raise
        return [f"its content cannot be read: {error}"]


def _same(row: Row[Any], content: str) -> Iterator[str]:
    if row.fingerprint != content:
        yield "its content has another fingerprint"


def _median(seconds: float | None, times: Sequence[float]) -> Iterator[str]:
    if seconds != (statistics.median(times) if times else None):
        yield f"{seconds} is not the median of its times"


def _workload(row: Row[Any]) -> Iterator[str]:
    workload = any_workload(row.operator, row.key)
    yield from _same(row, workload.fingerprint)
    if row.problem != workload.problem.fingerprint:
        yield "it is another problem"
    if row.flops != workload.flops:
        yield f"it takes {workload.flops} operations, not {row.flops}"


def _target(row: Row[Any]) -> Iterator[str]:
    read = ForeignTarget.from_json if row.threads is None else Target.from_json
    yield from _same(row, read(row.description).fingerprint)


def _environment(row: Row[Any]) -> Iterator[str]:
    yield from _same(row, Environment(tuple(sorted(row.facts.items()))).fingerprint)


def _schedule(row: Row[Any]) -> Iterator[str]:
    own = row.kind == "steps"
    foreign = f'"{row.kind}"'.encode() + canonical(row.steps)
    yield from _same(row, Schedule.from_json(row.steps).fingerprint if own else digest(foreign))


def _session(row: Row[Any]) -> Iterator[str]:
    key = fingerprint(row.arguments)
    yield from _same(row, session_fingerprint(key, row.created))
    if row.key != key:
        yield "its arguments have another key"


def _trial(row: Row[Any]) -> Iterator[str]:
    trial = read_trial(row)
    yield from _same(row, trial_fingerprint(trial, row.session))
    if row.seconds != trial.seconds:
        yield f"the median of its times is {trial.seconds}, not {row.seconds}"
    if row.verified and (row.retracted is not None or not is_right(trial)):
        yield "it counts as verified and is not"


def _imported(row: Row[Any]) -> Iterator[str]:
    trial = read_foreign(row)
    origin = Origin(
        trial.format, trial.workload, trial.target, trial.environment, trial.template, trial.arguments
    ).fingerprint
    if row.session != origin:
        yield "its session has another fingerprint"
    make = FOREIGN[trial.format].content
    assert make is not None
    content = make(trial.times, trial.status, trial.run_seconds, trial.details)
    yield from _same(row, record_fingerprint(origin, row.schedule, content))
    yield from _median(trial.seconds, trial.times)
    if row.verified:
        yield "it counts as verified, and nobody has verified it here"


def _verification(row: Row[Any]) -> Iterator[str]:
    environment = Environment(tuple(sorted(row.facts.items())))
    yield from _same(row, verification_fingerprint(row.trial, environment, row.created))
    yield from _median(row.seconds, row.times)


def _model(row: Row[Any]) -> Iterator[str]:
    from tunedb.registry import read_model  # takes long to import

    yield from _same(row, read_model(row).fingerprint)


_Check = tuple[str, Select[Any], Callable[[Row[Any]], Iterator[str]]]

_CHECKS: tuple[_Check, ...] = (
    ("workload", select(WORKLOAD), _workload),
    ("target", select(TARGET), _target),
    ("environment", select(ENVIRONMENT), _environment),
    ("schedule", select(SCHEDULE), _schedule),
    ("session", select(SESSION).where(SESSION.c.origin == "tunedb"), _session),
    (
        "trial",
        select_trials(
            TRIAL.c.seconds, TRIAL.c.verified, TRIAL.c.retracted, SESSION.c.fingerprint.label("session")
        ).join(SESSION, TRIAL.c.session_id == SESSION.c.id),
        _trial,
    ),
    (
        "imported trial",
        select_foreign().add_columns(
            TRIAL.c.verified, SESSION.c.fingerprint.label("session"), SCHEDULE.c.fingerprint.label("schedule")
        ),
        _imported,
    ),
    (
        "verification",
        select(VERIFICATION, TRIAL.c.fingerprint.label("trial"), ENVIRONMENT.c.facts).select_from(
            VERIFICATION.join(TRIAL, VERIFICATION.c.trial_id == TRIAL.c.id).join(
                ENVIRONMENT, VERIFICATION.c.environment_id == ENVIRONMENT.c.id
            )
        ),
        _verification,
    ),
    ("model", select(MODEL), _model),
)
