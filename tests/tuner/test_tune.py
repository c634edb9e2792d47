"""Tuning keeps the books: every candidate is one trial, nothing is measured twice, the best is verified and confirmed.

The template and the measurer are stand-ins here, so that a candidate's time is a known function of its configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tuner.tune
from tuner.codegen.program import Program
from tuner.errors import CompileError, ScheduleError, TunedbError
from tuner.features.knob import knob_features
from tuner.measure import Measurement
from tuner.schedule import Schedule, Split
from tuner.space import Choice, Columns, Config, Flag, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.trial import ListHistory, Status, Trial
from tuner.tune import Result, Settings, tune
from tuner.tuners import TUNERS
from tuner.workload import Workload, matmul

WORKLOAD = matmul(m=64, k=64, n=64)
TARGET = Target.host(threads=1)
DEFAULT = {"i": 4, "j": 4, "k": 1, "unused": 0}


def space(workload: Workload, target: Target) -> Space:
    return Space(
        [Choice("i", tuple(range(1, 31))), Choice("j", tuple(range(1, 31))), Choice("k", (1, 2, 4)), Flag("unused")]
    )


def schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    i, j, k = (int(config[name]) for name in "ijk")  # type: ignore[arg-type]
    return Schedule((Split("matmul", "m", (i, k)), Split("matmul", "n", (j,))))


def illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    return columns["i"] * columns["j"] > 400


TEMPLATE = Template(
    name="stand-in",
    version=1,
    space=space,
    schedule=schedule,
    illegal=illegal,
    features=lambda workload, target, columns: knob_features(columns),
    default=lambda workload, target: dict(DEFAULT),
)


def seconds(i: int, j: int, k: int) -> float:
    """The best is i=24, j=16, k=2."""
    return 1e-3 * (1 + 0.05 * abs(i - 24) + 0.04 * abs(j - 16) + 0.3 * abs(k - 2))


def fake_build(workload: Workload, schedule: Schedule, target: Target) -> Program:
    (first, second) = schedule.steps
    i, k, j = (*first.factors, *second.factors)  # type: ignore[attr-defined]
    if i == 13:
        raise ScheduleError("thirteen rows do not fit")
    if i == 14:
        raise CompileError("the compiler gave up")
    return Program(f"{i} {j} {k}", (), 0, 1)


@dataclass
class Measuring:
    """Knows the time of every program. ``lucky`` programs look ten times as fast when measured the first time."""

    lucky: tuple[str, ...] = ()
    stop_after: int | None = None
    measured: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    beats: list[float | None] = field(default_factory=list)

    def measure(self, workload: Workload, program: Program, beat: float | None) -> Measurement:
        if self.stop_after is not None and len(self.measured) == self.stop_after:
            raise KeyboardInterrupt
        self.measured.append(program.ir)
        self.beats.append(beat)
        i, j, k = map(int, program.ir.split())
        if j == 5:
            return Measurement(Status.CORRECTNESS, error=0.5, message="wrong by 0.5", compile_seconds=1e-6)
        time = seconds(i, j, k) / (10 if program.ir in self.lucky else 1)
        return Measurement(Status.CORRECT, (time,) * 3, error=1e-7, compile_seconds=1e-6, run_seconds=1e-5)

    def confirm(self, workload: Workload, programs: Sequence[Program], rounds: int) -> list[tuple[float, ...]]:
        self.confirmed += [program.ir for program in programs]
        return [(seconds(*map(int, program.ir.split())),) * rounds for program in programs]


@pytest.fixture(autouse=True)
def _no_code_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner.tune, "build", fake_build)


def run(history: ListHistory | None = None, measuring: Measuring | None = None, **options: Any) -> Result:
    arguments: dict[str, Any] = {"trials": 40, "template": TEMPLATE, **options}
    history = ListHistory() if history is None else history
    return tune(WORKLOAD, TARGET, history=history, measurer=measuring or Measuring(), **arguments)


def names(trials: Sequence[Trial]) -> list[str]:
    return [trial.schedule.fingerprint for trial in trials]


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_candidate_is_one_trial_of_a_different_schedule(tuner: str) -> None:
    history, measuring, told = ListHistory(), Measuring(), []
    result = run(history, measuring, tuner=tuner, trials=130, on_trial=told.append)
    assert len(result.trials) == result.measured == len(told) == 130
    assert [trial.sequence for trial in history.trials()] == list(range(130))
    assert len(set(names(result.trials))) == 130
    assert len(measuring.measured) == len(set(measuring.measured))
    assert list(result.trials) == history.items
    assert all(trial.template == "stand-in/1" for trial in result.trials)
    assert all(trial.config["i"] * trial.config["j"] <= 400 for trial in result.trials)  # type: ignore[operator]


def test_the_default_comes_first() -> None:
    result = run(trials=1)
    assert result.default is not None
    assert result.default is result.trials[0]
    assert result.default.config == DEFAULT


def test_failures_are_kept_with_their_status_and_message() -> None:
    result = run(tuner="grid", trials=1300)
    by_status = {status: [t for t in result.trials if t.status is status] for status in Status}
    assert all(trial.config["i"] == 13 for trial in by_status[Status.CONSTRAINTS])
    assert {trial.message for trial in by_status[Status.CONSTRAINTS]} == {"thirteen rows do not fit"}
    assert {trial.message for trial in by_status[Status.COMPILE]} == {"the compiler gave up"}
    assert {(trial.message, trial.error) for trial in by_status[Status.CORRECTNESS]} == {("wrong by 0.5", 0.5)}
    failures = [trial for trial in result.trials if trial.status is not Status.CORRECT]
    assert result.failed == len(failures) > 0
    assert all(trial.seconds is None and trial.times == () for trial in failures)


def test_the_search_goes_on_when_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Program:
        raise ScheduleError("no")

    monkeypatch.setattr(tuner.tune, "build", refuse)
    result = run()
    assert (result.failed, result.best, result.confirmed) == (40, None, 0)


def test_a_small_space_ends_the_session_early() -> None:
    tiny = replace(
        TEMPLATE, space=lambda *_: Space([Choice("i", (4, 8)), Choice("j", (4,)), Choice("k", (1,)), Flag("unused")])
    )
    assert len(run(template=tiny).trials) == 2


@pytest.mark.parametrize("tuner", TUNERS)
def test_the_same_seed_gives_the_same_trials_and_another_one_others(tuner: str) -> None:
    first, again, other = (names(run(tuner=tuner, seed=seed).trials) for seed in (7, 7, 8))
    assert first == again
    assert (first == other) == (tuner == "grid")


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_session_goes_on_where_it_was_interrupted(tuner: str) -> None:
    history, before = ListHistory(), Measuring(stop_after=20)
    with pytest.raises(KeyboardInterrupt):
        run(history, before, tuner=tuner)
    stored = len(history.trials())
    assert stored >= 20
    copies, continued, after = [ListHistory(list(history.items)) for _ in range(2)], [], Measuring()
    for copy in copies:
        after = Measuring()
        continued.append(run(copy, after, tuner=tuner))
    assert names(continued[0].trials) == names(continued[1].trials)
    result = continued[0]
    assert result.measured == 40 - stored
    assert len(result.trials) == len(set(names(result.trials))) == 40
    assert not set(before.measured) & set(after.measured)


def test_a_finished_session_is_not_measured_again() -> None:
    history, again = ListHistory(), Measuring()
    first = run(history)
    second = run(history, again)
    assert (again.measured, again.confirmed) == ([], [])
    assert (second.measured, second.best, second.seconds_per_trial) == (0, first.best, None)


def test_a_resumed_model_has_learned_from_what_is_stored() -> None:
    history = ListHistory()
    run(history, trials=60)
    known = min(trial.seconds for trial in history.trials() if trial.seconds)
    later = [trial.seconds for trial in run(history, trials=90).trials[60:] if trial.seconds]
    assert np.median(later) < 1.5 * known


def test_a_history_of_another_version_of_the_template_is_refused() -> None:
    history = ListHistory()
    run(history, trials=2)
    with pytest.raises(ScheduleError, match="stand-in/1, not stand-in/2"):
        run(history, template=replace(TEMPLATE, version=2))


def test_the_best_few_and_the_default_are_measured_again() -> None:
    history, measuring = ListHistory(), Measuring()
    result = run(history, measuring, settings=Settings(confirm=3, rounds=7))
    assert result.best is not None
    assert len(measuring.confirmed) == result.confirmed == 3 + 1
    assert result.default is not None
    assert len(result.default.times) == 3 + 7
    assert len(result.best.times) == 3 + 7
    assert history.items[result.best.sequence].times == result.best.times


def test_who_leads_by_luck_is_found_out() -> None:
    luckless = run(tuner="grid", trials=300)
    slow = [trial for trial in luckless.trials if trial.status is Status.CORRECT and trial != luckless.best][:5]
    lucky = tuple(fake_build(WORKLOAD, trial.schedule, TARGET).ir for trial in slow)
    measuring = Measuring(lucky=lucky)
    result = run(measuring=measuring, tuner="grid", trials=300)
    assert set(lucky) <= set(measuring.confirmed)
    assert result.best is not None
    assert luckless.best is not None
    assert result.best.schedule == luckless.best.schedule


def test_a_wrong_result_is_never_the_best() -> None:
    result = run(tuner="random", trials=300)
    assert result.best is not None
    assert result.best.status is Status.CORRECT
    assert result.best.config["j"] != 5


def test_a_candidate_is_told_what_it_has_to_beat() -> None:
    measuring = Measuring()
    result = run(measuring=measuring, tuner="random")
    assert measuring.beats[0] is None
    assert result.best is not None
    assert min(beat for beat in measuring.beats if beat is not None) >= result.best.seconds


def test_the_model_finds_more_than_chance_does() -> None:
    def best(tuner: str, seed: int) -> float:
        result = run(tuner=tuner, seed=seed, trials=60)
        assert result.best is not None
        assert result.best.seconds is not None
        return result.best.seconds

    gains = [np.log(best("random", seed) / best("model", seed)) for seed in range(6)]
    assert np.mean(gains) > 0.05
    assert np.median(gains) > 0


def test_the_shares_add_up_to_the_cost_of_the_trials() -> None:
    result = run()
    assert list(result.shares) == ["choose", "build", "compile", "measure", "store", "confirm", "other"]
    assert all(share >= -1e-9 for name, share in result.shares.items() if name not in ("compile", "measure"))
    assert result.seconds_per_trial == pytest.approx(sum(result.shares.values()) / 40)
    assert result.shares["compile"] == pytest.approx(1e-6 * sum(t.compile_seconds is not None for t in result.trials))


@pytest.mark.parametrize("tuner", ["model", "random", "grid", "genetic"])
def test_a_pinned_knob_has_one_value_in_all_trials(tuner: str) -> None:
    result = run(tuner=tuner, pins={"j": "16", "unused": 1}, trials=20)
    assert len(result.trials) == 20
    assert {(trial.config["j"], trial.config["unused"]) for trial in result.trials} == {(16, 1)}
    assert result.trials[0].config == DEFAULT | {"j": 16, "unused": 1}


def test_a_default_that_a_pin_makes_illegal_gives_way_to_the_one_most_like_it() -> None:
    default = replace(TEMPLATE, default=lambda workload, target: DEFAULT | {"i": 30})
    result = run(template=default, pins={"j": 20}, trials=1)
    assert result.trials[0].config == DEFAULT | {"i": 20, "j": 20}


RIVALS = [DEFAULT | {"j": 16}, DEFAULT | {"i": 8}, DEFAULT | {"j": 20}]
WITH_RIVALS = replace(TEMPLATE, rivals=lambda workload, target: [dict(config) for config in RIVALS])


@pytest.mark.parametrize("tuner", ["model", "random"])
def test_a_session_begins_with_the_default_and_its_rivals(tuner: str) -> None:
    result = run(template=WITH_RIVALS, tuner=tuner, trials=6)
    assert [trial.config for trial in result.trials[:4]] == [DEFAULT, *RIVALS]
    assert result.default == result.trials[0]


def test_the_default_and_its_rivals_can_be_left_to_the_search() -> None:
    left = run(tuner="random", trials=4, settings=Settings(starts=False))
    assert left.default is None
    assert left.trials[0].config != DEFAULT


def test_a_session_that_was_stopped_goes_on_with_the_rivals_that_are_left() -> None:
    history = ListHistory()
    run(history, template=WITH_RIVALS, trials=2)
    result = run(history, template=WITH_RIVALS, trials=8)
    assert [trial.config for trial in result.trials[:4]] == [DEFAULT, *RIVALS]
    assert len({trial.schedule.fingerprint for trial in result.trials}) == 8


def test_pins_leave_the_rivals_that_have_them() -> None:
    result = run(template=WITH_RIVALS, pins={"j": 16}, trials=2)
    assert result.trials[0].config == RIVALS[0]


def test_pins_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ScheduleError, match="no schedule is legal with i=30, j=30: leave one of these out"):
        run(pins={"i": 30, "j": 30})


def test_an_unknown_tuner_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TunedbError, match="no tuner 'bayes': use one of model, random, genetic, grid"):
        run(tuner="bayes")


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(TunedbError, match="the seed is -1"):
        run(seed=-1)


def test_no_thread_of_a_product_of_matrices_turns_beside_what_is_measured() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    during: list[set[int]] = []
    with threadpool_limits(2, user_api="blas"):
        run(trials=2, on_trial=lambda trial: during.append(threads()))
        assert threads() == {2}
    assert during == [{1}, {1}]
