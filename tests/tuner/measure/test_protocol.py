"""The timing protocol, on a clock that is an arithmetic formula."""

from collections.abc import Callable

import pytest

from tuner.measure.protocol import Protocol, calibrate, take_repeats, take_rounds


def kernel(seconds: float, log: list[int] | None = None) -> Callable[[int], float]:
    def timer(calls: int) -> float:
        if log is not None:
            log.append(calls)
        return seconds * calls

    return timer


def replay(readings: list[float]) -> Callable[[int], float]:
    clock = iter(readings)
    return lambda calls: next(clock)


@pytest.mark.parametrize("seconds", [1e-9, 1e-6, 3e-4, 1.9e-3])
def test_a_repeat_lasts_at_least_the_minimum_and_not_much_longer(seconds: float) -> None:
    calls, per_call = calibrate(kernel(seconds), 2e-3)
    assert 2e-3 <= calls * seconds < 4e-3
    assert per_call == pytest.approx(seconds)


def test_a_slow_kernel_is_called_once_a_repeat() -> None:
    assert calibrate(kernel(0.5), 2e-3)[0] == 1


def test_a_clock_that_stands_still_does_not_stop_the_calibration() -> None:
    assert calibrate(lambda calls: 0.0 if calls < 10_000 else 1.0, 2e-3)[0] >= 10_000


def test_all_repeats_are_kept_in_seconds_per_call() -> None:
    assert take_repeats(kernel(1e-4), Protocol(repeats=7), None, 1e-4) == pytest.approx([1e-4] * 7)


def test_a_candidate_that_is_clearly_slower_is_cut_short() -> None:
    assert len(take_repeats(kernel(3e-4), Protocol(), 1e-4, 3e-4)) == 1
    assert len(take_repeats(kernel(1.5e-4), Protocol(), 1e-4, 1.5e-4)) == 5


def test_one_hiccup_does_not_make_a_candidate_slow() -> None:
    for readings in ([1e-2, 3e-3, 3e-3, 3e-3, 3e-3, 3e-3], [3e-3, 1e-2, 3e-3, 3e-3, 3e-3, 3e-3]):
        assert take_repeats(replay(readings), Protocol(warm_up=0.0), 2e-3, 1e-2) == readings[1:]


def test_a_candidate_runs_for_a_while_before_its_first_repeat() -> None:
    log: list[int] = []
    take_repeats(kernel(1e-3, log), Protocol(repeats=1, warm_up=20e-3), None, 1e-3)
    assert sum(log[:-1]) * 1e-3 >= 20e-3
    assert log[-1] == log[-2]


def test_a_very_slow_kernel_ends_with_the_budget() -> None:
    assert take_repeats(kernel(0.4), Protocol(budget=1.0), None, 0.4) == [0.4] * 3
    assert take_repeats(kernel(5.0), Protocol(budget=1.0), None, 5.0) == [5.0]


def test_a_long_first_call_is_a_repeat_and_a_short_one_is_a_warm_up() -> None:
    log: list[int] = []
    assert take_repeats(kernel(0.1, log), Protocol(repeats=3), None, 0.11) == [0.11, 0.1, 0.1]
    assert log == [1, 1]
    assert take_repeats(kernel(0.01), Protocol(repeats=3), None, 0.02) == [0.01] * 3


def test_a_long_first_call_is_enough_to_know_that_a_candidate_is_slow() -> None:
    log: list[int] = []
    assert take_repeats(kernel(0.1, log), Protocol(), 1e-3, 0.11) == [0.11]
    assert log == []


def test_rounds_are_interleaved() -> None:
    log: list[str] = []

    def named(name: str) -> Callable[[int], float]:
        def timer(calls: int) -> float:
            log.append(name)
            return 1.0

        return timer

    times = take_rounds([named("a"), named("b")], Protocol(), 2)
    assert times == [[1.0, 1.0], [1.0, 1.0]]
    assert "".join(log) == "ab" + "aabb" * 2


def test_a_repeat_of_a_round_is_as_warm_as_any() -> None:
    log: list[int] = []
    times = take_rounds([kernel(1e-3, log)], Protocol(min_repeat=2e-3, warm_up=10e-3), 1)
    assert times == [[pytest.approx(1e-3)]]
    repeat, warming = log[-1], log[:-1]
    assert repeat * 1e-3 >= 2e-3
    assert sum(calls for calls in warming if calls == repeat) * 1e-3 >= 10e-3
