"""Measuring stored trials again: whether they are still right here, and still as fast.

The inputs are new ones each time, so a kernel that is right only for those it was tuned on is found out. What is found
is kept beside the trial, whose own times stay as they were; only a wrong output changes it: ``best`` forgets it then.
"""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunedb import care, confidence, verifications
from tunedb.compare import Measured
from tunedb.errors import NotFoundError
from tunedb.records import Writer, read_trial, select_trials
from tunedb.tables import SESSION, TRIAL
from tunedb.verifications import Verdict, Verification
from tuner.build import build
from tuner.codegen.program import Program
from tuner.environment import detect
from tuner.errors import CompileError, ScheduleError
from tuner.measure import Measurement, Measurer, Protocol
from tuner.target import Target, TargetError
from tuner.trial import Status, Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

DRIFT = 0.05
"""Medians that lie closer together than this are the same: another hour of the same machine may differ as much."""

ROUNDS = 10  # repeats in turn with the other trials of the workload


def verify(database: "Database", trials: Sequence[Measured]) -> tuple[Verification, ...]:
    """Measure stored trials of this machine again, and store what is found: workload by workload, in their order.

    Raises:
        NotFoundError: a trial is of another machine, or has no time of its own; nothing was measured.
        DatabaseError: what was found could not be stored.
        MeasureError: the measuring process cannot be kept alive.
    """
    groups: dict[tuple[Target, Workload], list[Measured]] = {}
    for each in trials:
        _check(each)
        groups.setdefault((each.trial.target, each.trial.workload), []).append(each)
    seed = secrets.randbelow(2**31)
    found: list[Verification] = []
    with ExitStack() as stack:
        measurers: dict[Target, Measurer] = {}
        for (target, _), group in groups.items():
            if target not in measurers:
                measurers[target] = stack.enter_context(Measurer(target, protocol=Protocol(seed=seed)))
            done = _verify(group, measurers[target], seed)
            for each in group:
                _adopt(database, each.fingerprint)
            with database.write() as connection:
                for verification in done:
                    verifications.store(connection, verification)
                    if verification.status is Verdict.WRONG:
                        reason = f"verified as wrong: {verification.message}"
                        care.retract(connection, verification.trial, reason)
            found += done
    return tuple(found)


def _check(each: Measured) -> None:
    name, trial = each.fingerprint[:12], each.trial
    if trial.seconds is None:
        raise NotFoundError(f"trial {name} ended as {trial.status}: only one with a time can be verified")
    if not _is_here(trial.target):
        raise NotFoundError(f"trial {name} is of {trial.target.name} ({trial.target.model}): verify it there, not here")


def _is_here(target: Target) -> bool:
    """Whether this machine is ``target``, perhaps with fewer of its instructions."""
    try:
        return Target.host(target.threads, target.isa) == target
    except TargetError:
        return False


def _adopt(database: "Database", fingerprint: str) -> None:
    """Copy a trial that only a base has into the database itself, where what is found of it can be kept."""
    statement = select_trials(TRIAL.c.retracted, SESSION.c.arguments, SESSION.c.created.label("session_created")).join(
        SESSION, TRIAL.c.session_id == SESSION.c.id
    )
    for layer in database.layers:
        with layer.read() as connection:
            row = connection.execute(statement.where(TRIAL.c.fingerprint == fingerprint)).one_or_none()
        if row is not None:
            break
    if row is None or layer is database.layers[0]:
        return
    with database.write() as connection:
        writer = Writer(connection)
        session, session_id = writer.session(row.arguments, row.session_created)
        writer.trial(read_trial(row), session, session_id, row.times, row.retracted)


def _verify(group: Sequence[Measured], measurer: Measurer, seed: int) -> list[Verification]:
    """Measure trials of one workload again: each by itself, then all that are right in turn.

    A trial that led to its answer was measured in these two ways too.
    """
    programs = [_build(each.trial) for each in group]
    measured = [
        program if isinstance(program, Measurement) else measurer.measure(each.trial.workload, program)
        for each, program in zip(group, programs, strict=True)
    ]
    right = [
        program for program, one in zip(programs, measured, strict=True) if isinstance(program, Program) and one.times
    ]
    more = iter(measurer.confirm(group[0].trial.workload, right, ROUNDS))
    return [
        _verdict(each, one, next(more) if one.times else (), seed) for each, one in zip(group, measured, strict=True)
    ]


def _build(trial: Trial) -> Program | Measurement:
    """The program of a trial, or how it failed to become one."""
    try:
        return build(trial.workload, trial.schedule, trial.target)
    except ScheduleError as problem:
        return Measurement(Status.CONSTRAINTS, message=str(problem))
    except CompileError as problem:
        return Measurement(Status.COMPILE, message=str(problem))


def _verdict(each: Measured, measured: Measurement, more: tuple[float, ...], seed: int) -> Verification:
    verification = Verification(
        trial=each.fingerprint,
        before=each.trial.seconds,
        created=datetime.now(UTC),
        environment=detect(),
        status=Verdict.FAILED,
        times=(*measured.times, *more),
        error=measured.error,
        message=measured.message,
    )
    if measured.status is Status.CORRECT:
        return replace(verification, status=_drift(each.trial, verification.times))
    if measured.status is Status.CORRECTNESS:
        return replace(verification, status=Verdict.WRONG, message=f"{measured.message} (inputs of seed {seed})")
    return replace(verification, message=f"{measured.status}: {measured.message}")


def _drift(trial: Trial, times: Sequence[float]) -> Verdict:
    """Drifted: the intervals of the two medians do not meet, and the medians are more than ``DRIFT`` apart."""
    ratio = confidence.ratio(trial.times, times)
    apart = max(ratio.value, 1 / ratio.value) > 1 + DRIFT
    return Verdict.DRIFTED if apart and not ratio.low <= 1 <= ratio.high else Verdict.CONFIRMED
