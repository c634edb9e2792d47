"""Which algorithms a session gives up because their results are not exact enough."""

from typing import Any

import numpy as np
import pytest

from tuner.codegen.program import Program
from tuner.measure import Measurement
from tuner.schedule import Algorithm, Schedule, Split
from tuner.search.inexact import Inexact
from tuner.space import Choice, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.trial import Environment, ListHistory, Status, Trial
from tuner.tune import Result, tune
from tuner.workload import matmul

WORKLOAD = matmul(m=64, k=64, n=64, tolerance=1e-6)
TARGET = Target.host(threads=1)
ERRORS = {"direct": 5e-7, "quick": 2e-6, "rough": 1e-5}
ALGORITHMS = tuple(ERRORS)


def schedule(algorithm: str, tile: int = 1) -> Schedule:
    chosen = () if algorithm == "direct" else (Algorithm("matmul", algorithm),)
    return Schedule((*chosen, Split("matmul", "m", (tile,))))


def trial(algorithm: str, error: float | None, status: Status = Status.CORRECTNESS) -> Trial:
    return Trial(WORKLOAD, TARGET, Environment(()), "t/1", {}, schedule(algorithm), status, error=error)


def told(*trials: Trial) -> Inexact:
    inexact = Inexact(ALGORITHMS)
    for each in trials:
        inexact.observe(each)
    return inexact


def test_two_clear_failures_speak_for_all_schedules_of_an_algorithm() -> None:
    assert not told(trial("rough", 1e-5)).excludes(schedule("rough"))
    inexact = told(trial("rough", 1e-5), trial("rough", 9e-6))
    assert inexact.excludes(schedule("rough", tile=7))
    assert not inexact.excludes(schedule("quick"))
    assert not inexact.excludes(schedule("direct"))


@pytest.mark.parametrize(
    "others",
    [
        [trial("quick", 5e-7, Status.CORRECT)],  # one was right
        [trial("rough", 1e-5)] * 2 + [trial("direct", 1e-5)] * 2,  # all fail so: then that says nothing
    ],
)
def test_an_algorithm_that_may_be_right_is_kept(others: list[Trial]) -> None:
    assert not told(*[trial("quick", 3e-6)] * 3, *others).excludes(schedule("quick"))


@pytest.mark.parametrize(
    "failure",
    [trial("quick", 1.5e-6), trial("quick", None), trial("quick", None, Status.RUNTIME)],
)
def test_other_failures_than_a_clear_lack_of_exactness_say_nothing_of_the_algorithm(failure: Trial) -> None:
    assert not told(*[failure] * 5).excludes(schedule("quick"))


class Measuring:
    """Measures at once; the error is that of the algorithm."""

    def measure(self, workload: Any, program: Program, beat: float | None) -> Measurement:
        error = ERRORS[program.ir]
        if error > workload.tolerance:
            return Measurement(Status.CORRECTNESS, error=error)
        return Measurement(Status.CORRECT, (1e-3,) * 3, error=error)

    def confirm(self, workload: Any, programs: Any, rounds: int) -> list[tuple[float, ...]]:
        return [(1e-3,) * rounds for _ in programs]


TEMPLATE = Template(
    name="stand-in",
    version=1,
    space=lambda workload, target: Space([Choice("tile", tuple(range(1, 31))), Choice("algorithm", ALGORITHMS)]),
    schedule=lambda workload, target, config: schedule(str(config["algorithm"]), int(config["tile"])),  # type: ignore[arg-type]
    illegal=lambda workload, target, columns: np.zeros(len(columns["tile"]), dtype=np.bool_),
    features=lambda workload, target, columns: np.stack(list(columns.values()), axis=1).astype(np.float32),
    default=lambda workload, target: {"tile": 1, "algorithm": "direct"},
)


@pytest.mark.parametrize("tuner", ["model", "random", "grid", "genetic"])
def test_a_session_wastes_two_trials_on_an_algorithm_that_is_too_inexact(
    tuner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.tune.build", lambda _, schedule, __: Program(schedule.algorithm, (), 0, 1))
    history = ListHistory()

    def run(tolerance: float, trials: int) -> Result:
        workload = WORKLOAD.within(tolerance)
        return tune(
            workload, TARGET, history=history, measurer=Measuring(), trials=trials, tuner=tuner, template=TEMPLATE
        )

    assert run(9e-7, 12).failed <= 4
    assert run(9e-7, 34).failed <= 4  # a session that goes on knows what it found out before
    assert {each.schedule.algorithm for each in history.items if each.seconds} == {"direct"}
    history.items.clear()
    assert run(3e-6, 30).failed <= 2
