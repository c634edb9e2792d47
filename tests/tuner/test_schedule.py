"""A schedule is data: it prints, hashes, and reads back from its JSON."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.schedules import random_schedule, random_workload
from tuner.errors import ScheduleError
from tuner.operators import OPERATORS
from tuner.schedule import CacheWrite, ComputeAt, Pack, Parallel, Reorder, Schedule, Split, Unroll, Vectorize

EVERY_STEP = Schedule(
    (
        Split("conv2d", "ow", (14,), "shift"),
        Split("conv2d", "co", (2, 16)),
        Reorder("conv2d", ("n", "co.0", "oh", "ow.0", "ci", "kh", "kw", "ow.1", "co.1", "co.2")),
        CacheWrite("conv2d", "ow.0"),
        Parallel("conv2d", ("n", "co.0", "oh")),
        Unroll("conv2d", ("ow.1", "co.1")),
        Vectorize("conv2d", "co.2"),
        Pack("conv2d", "weight", ("co.0", "ci", "kh", "kw", "co.1", "co.2")),
        ComputeAt("pad", "oh"),
    )
)


@given(rng=st.randoms(use_true_random=False), operator=st.sampled_from(sorted(OPERATORS)))
def test_a_schedule_reads_back_from_its_json(rng: Random, operator: str) -> None:
    schedule = random_schedule(rng, random_workload(rng, operator))
    again = Schedule.from_json(json.loads(json.dumps(schedule.to_json())))
    assert again == schedule
    assert again.fingerprint == schedule.fingerprint


def test_the_json_is_lists_of_plain_values() -> None:
    assert EVERY_STEP.to_json()[:2] == [
        ["split", "conv2d", "ow", [14], "shift"],
        ["split", "conv2d", "co", [2, 16], "cut"],
    ]
    assert EVERY_STEP.to_json()[-2] == [*("pack", "conv2d", "weight", ["co.0", "ci", "kh", "kw", "co.1", "co.2"], "")]
    assert Schedule.from_json(EVERY_STEP.to_json()) == EVERY_STEP


def test_schedules_that_are_read_share_their_steps_and_what_only_equals_one_is_refused() -> None:
    one, other = (Schedule.from_json([["split", "conv2d", "ow", [1, 14], "shift"]]) for _ in range(2))
    assert one.steps[0] is other.steps[0]
    with pytest.raises(ScheduleError, match="split has a bad factors"):
        Schedule.from_json([["split", "conv2d", "ow", [True, 14], "shift"]])


def test_a_schedule_prints_one_step_a_line() -> None:
    assert str(EVERY_STEP).splitlines()[:3] == [
        "conv2d.split(ow, (14), shift)",
        "conv2d.split(co, (2, 16), cut)",
        "conv2d.reorder((n, co.0, oh, ow.0, ci, kh, kw, ow.1, co.1, co.2))",
    ]
    assert str(EVERY_STEP).splitlines()[-1] == "pad.compute_at(oh)"


def test_the_fingerprint_of_a_schedule_never_changes() -> None:
    assert EVERY_STEP.fingerprint == "d04a5f713a5479a4eaef2ca162168b7f74539d493ec0a4234d26cf5a951f0600"
    assert Schedule().fingerprint == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


def test_order_and_values_of_the_steps_are_identity() -> None:
    steps = EVERY_STEP.steps
    others = [
        Schedule(steps[::-1]),
        Schedule(steps[:-1]),
        Schedule((Split("conv2d", "ow", (14,), "cut"), *steps[1:])),
        Schedule((Split("conv2d", "ow", (7,), "shift"), *steps[1:])),
    ]
    assert len({schedule.fingerprint for schedule in (EVERY_STEP, *others)}) == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([["fold", "conv2d", "ow"]], "schedule step 0: expected one of algorithm, cache_write, .* but found"),
        (["split"], "schedule step 0: expected one of"),
        ([[]], "schedule step 0: expected one of"),
        ([[["split"]]], "schedule step 0: expected one of"),
        ([{}], "schedule step 0: expected one of"),
        ([None], "schedule step 0: expected one of"),
        (
            [["cache_write", "conv2d", "ow"], ["split", "conv2d", "ow", [2]]],
            "schedule step 1: split takes 4 values but 3",
        ),
        ([["split", "conv2d", "ow", 2, "cut"]], "schedule step 0: split has a bad factors: 2"),
        ([["split", "conv2d", "ow", [2.0], "cut"]], r"split has a bad factors: \[2\.0\]"),
        ([["split", "conv2d", "ow", ["2"], "cut"]], r"split has a bad factors: \['2'\]"),
        ([["split", "conv2d", "ow", [True], "cut"]], r"split has a bad factors: \[True\]"),
        ([["split", "conv2d", ["ow"], [2], "cut"]], r"split has a bad axis: \['ow'\]"),
        ([["unroll", "conv2d", "ow"]], "unroll has a bad loops: 'ow'"),
        ([["vectorize", "conv2d", None]], "vectorize has a bad loop: None"),
        ([["vectorize", 3, "ow"]], "vectorize has a bad stage: 3"),
        (None, "schedule"),
        (5, "schedule"),
        ({}, "schedule"),
        ("split", "schedule"),
    ],
)
def test_what_is_no_schedule_is_refused_by_its_first_bad_step(data: Any, message: str) -> None:
    with pytest.raises(ScheduleError, match=message) as caught:
        Schedule.from_json(data)
    assert "\n" not in str(caught.value)
