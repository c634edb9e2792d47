"""Invariant features mean the same everywhere: they count what they say, for one nest or for columns of candidates."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuner.schedules import random_schedule, random_winograd, random_workload
from tuner.build import algorithms_of, expression_by, nest_of
from tuner.dtype import DTYPES
from tuner.errors import ScheduleError
from tuner.features.invariant import NAMES, invariant_features
from tuner.features.sketches import (
    concatenated,
    distinct_features,
    is_structural,
    schedule_features,
    structures_of,
)
from tuner.operators import OPERATORS
from tuner.schedule import CacheWrite, Parallel, Reorder, Schedule, Split, Step, Unroll, Vectorize
from tuner.space import Config, Indices, Space
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.workload import Workload, matmul, parse

TARGET = Target(
    kind="cpu",
    triple="x86_64-unknown-linux-gnu",
    cpu="znver5",
    features=("avx2", "fma"),
    model="a processor",
    vector_bits=256,
    registers=16,
    l1=32 * 1024,
    l2=1024 * 1024,
    l3=0,
    cores=4,
    threads=2,
)
KEYS = [
    "resnet18.C7(layout=NCHW16c)",
    "resnet18.C9(layout=NCHW16c)",
    "conv2d(ci=13,h=7,w=7,co=13,k=3,pad=1)",
    "mobilenet.D4(layout=NCHW16c)",
    "depthwise_conv2d(n=2,c=13,h=7,w=7,k=3,pad=1)",
    "dense(m=5,ci=13,co=35)",
    "matmul.1024",
    "batch_matmul(b=3,m=7,k=13,n=17)",
]
CHOICES = [  # spaces with other algorithms, lanes, packing
    "conv2d(ci=13,h=9,w=9,co=24,k=1)",
    "conv2d(ci=16,h=14,w=14,co=32,k=3,pad=1)",
    "resnet18.C1(layout=NCHW16c,dtype=bfloat16)",
    "conv2d(ci=32,h=14,w=14,co=32,k=3,pad=1,layout=NCHW16c,dtype=bfloat16)",
    "mobilenet.D2",
    "matmul(m=64,k=64,n=64,dtype=bfloat16)",
]


def alone(workload: Workload, schedule: Schedule, target: Target = TARGET) -> np.ndarray:
    nest, expression = nest_of(workload, schedule), expression_by(workload, schedule)
    return invariant_features(nest, expression, target, algorithms_of(workload))[0]


def features(workload: Workload, schedule: Schedule, target: Target = TARGET) -> dict[str, float]:
    return dict(zip(NAMES, alone(workload, schedule, target).tolist(), strict=True))


def blocked(
    tile_m: int = 4, tile_n: int = 2, lanes: int = 8, order: str = "mn", more: tuple[Step, ...] = ()
) -> Schedule:
    """A matmul of 64x64x64: a register tile of tile_m rows by tile_n vectors, summed up over all of k."""
    loops = {"mn": ("m.0", "n.0"), "nm": ("n.0", "m.0")}[order]
    return Schedule(
        (
            Split("matmul", "m", (tile_m,)),
            Split("matmul", "n", (tile_n, lanes)),
            Reorder("matmul", (*loops, "k", "m.1", "n.1", "n.2")),
            CacheWrite("matmul", loops[-1]),
            *more,
            Unroll("matmul", ("m.1", "n.1")),
            Vectorize("matmul", "n.2"),
        )
    )


def legal(workload: Workload, count: int, seed: int = 0) -> tuple[Indices, Template, Space]:
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    indices = space.sample(np.random.default_rng(seed), 20_000)
    return indices[~template.illegal(workload, TARGET, space.columns(indices))][:count], template, space


@pytest.mark.parametrize("key", [*KEYS, *CHOICES])
def test_columns_of_a_template_give_what_each_candidate_gives_alone(key: str) -> None:
    workload = parse(key)
    indices, template, space = legal(workload, 20_000)
    drawn = space.columns(indices)
    choices = [drawn[knob.name] for knob in space.knobs if is_structural(knob)]
    assert any(len(np.unique(column)) > 1 for column in choices)
    each = {row for column in choices for value in np.unique(column) for row in np.flatnonzero(column == value)[:4]}
    indices = indices[sorted(each)]
    blocks, places = distinct_features(template, workload, TARGET, space, space.columns(indices))
    rows = concatenated(list(blocks))
    together = rows[places]
    assert together.shape == (len(indices), len(NAMES))
    for row, index in enumerate(indices.tolist()):
        schedule = template.schedule(workload, TARGET, space.config(index))
        np.testing.assert_array_equal(together[row], alone(workload, schedule))


def test_a_knob_that_a_template_does_not_read_makes_no_structures() -> None:
    workload = parse("resnet18.C12(layout=NCHW16c)")
    indices, template, space = legal(workload, 20_000)
    columns = space.columns(indices)
    made: list[Schedule] = []

    def schedule(workload: Workload, target: Target, config: Config) -> Schedule:
        made.append(template.schedule(workload, target, config))
        return made[-1]

    distinct_features(replace(template, schedule=schedule), workload, TARGET, space, columns)
    assert len(made) < len(np.unique(structures_of(space, columns))) / 2


def test_configurations_that_make_one_schedule_are_described_once() -> None:
    workload = parse("resnet18.C12(layout=NCHW16c)")
    indices, template, space = legal(workload, 20_000)
    blocks, places = distinct_features(template, workload, TARGET, space, space.columns(indices))
    rows = concatenated(list(blocks))
    schedules = [template.schedule(workload, TARGET, space.config(index)) for index in indices.tolist()]
    assert len(rows) == len(set(schedules)) < len(indices)
    for schedule, place in list(zip(schedules, places.tolist(), strict=True))[::20]:
        np.testing.assert_array_equal(rows[place], alone(workload, schedule))


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.sampled_from(sorted(OPERATORS)), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_random_schedules_give_finite_features_together_as_alone(dtype: str, operator: str, rng: Random) -> None:
    workload = random_workload(rng, operator, dtype)
    schedules = [random_schedule(rng, workload) for _ in range(3)]
    wider = [replace(schedule, steps=tuple(map(_doubled, schedule.steps))) for schedule in schedules]
    together = schedule_features(workload, TARGET, [*schedules, *wider])
    for schedule, row in zip([*schedules, *wider], together, strict=True):
        try:
            single = alone(workload, schedule)
        except ScheduleError:
            assert np.isnan(row).all()
            continue
        assert np.isfinite(row).all()
        np.testing.assert_array_equal(row, single)


@given(st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_random_chains_of_sums_give_finite_features_together_as_alone(rng: Random) -> None:
    workload, schedule = random_winograd(rng)
    both = [schedule, replace(schedule, steps=tuple(map(_doubled, schedule.steps)))]
    for single, row in zip(both, schedule_features(workload, TARGET, both), strict=True):
        assert np.isfinite(row).all()
        np.testing.assert_array_equal(row, alone(workload, single))


def _doubled(step: Step) -> Step:
    return replace(step, factors=tuple(2 * factor for factor in step.factors)) if isinstance(step, Split) else step


@pytest.mark.parametrize("key", KEYS)
def test_every_operator_has_the_same_vector(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, TARGET)
    default = template.schedule(workload, TARGET, template.default(workload, TARGET))
    assert list(features(workload, default)) == list(NAMES)


def test_the_register_tile_is_counted_in_registers_of_the_target() -> None:
    workload = matmul(m=64, k=64, n=64)
    found = features(workload, blocked(tile_m=4, tile_n=2))
    assert found["sums"] == np.log2(8)
    assert found["loads"] == pytest.approx(np.log2((4 + 2) / 8))
    assert found["registers"] == pytest.approx(np.log2((8 + 2 + 1) / 16))
    wide = features(workload, blocked(tile_m=4, tile_n=1, lanes=16))  # a vector of two registers
    assert wide["sums"] == np.log2(8)


def test_footprints_are_those_of_the_operands_inside_the_loops() -> None:
    found = features(matmul(m=64, k=64, n=64), blocked(tile_m=4, tile_n=2))
    assert found["tile_first_l1"] == pytest.approx(np.log2(4 * 4 * 64 / TARGET.l1))
    assert found["tile_second_l1"] == pytest.approx(np.log2(4 * 16 * 64 / TARGET.l1))
    assert found["whole_l2"] == pytest.approx(np.log2(3 * 4 * 64 * 64 / TARGET.l2))


def test_a_window_that_overlaps_is_counted_once() -> None:
    workload = parse("conv2d(ci=1,h=10,w=10,co=8,k=3)")
    loops = ("n", "co", "oh", "ow", "ci", "kh", "kw")
    found = features(workload, Schedule((Reorder("conv2d", loops), CacheWrite("conv2d", "co"))))
    assert found["tile_first_l1"] == pytest.approx(np.log2(4 * 10 * 10 / TARGET.l1))


def test_an_operand_that_the_next_loop_does_not_move_stays_in_the_cache() -> None:
    workload = matmul(m=64, k=256, n=64)  # two tiles fit into L1, all of a or all of b does not
    rows_outside, columns_outside = (features(workload, blocked(order=order)) for order in ("mn", "nm"))
    assert rows_outside["traffic_l1_second"] > columns_outside["traffic_l1_second"]
    assert rows_outside["traffic_l1_first"] < columns_outside["traffic_l1_first"]


def test_a_chain_is_described_by_its_largest_sum_and_the_others_against_it() -> None:
    workload = parse("resnet18.C6(layout=NCHW16c)")
    template = template_for(workload, TARGET)
    config = template.default(workload, TARGET)
    direct, two, four, seven = (
        features(workload, template.schedule(workload, TARGET, {**config, "pad": "first", "algorithm": algorithm}))
        for algorithm in ("direct", "winograd2", "winograd4", "winograd7")
    )
    assert direct["algorithm"] == 0
    assert 0 > two["algorithm"] > four["algorithm"] > seven["algorithm"]
    assert direct["algorithm_excess"] > two["algorithm_excess"] > four["algorithm_excess"] > 0
    assert seven["algorithm_excess"] == 0
    assert four["sum_inside"] == pytest.approx(np.log2(128))  # the product over the channels, at each point
    assert direct["other_arithmetic"] == direct["other_moves"] == direct["other_body"] == -20
    assert four["other_arithmetic"] > -5
    assert direct["bound_arithmetic"] > two["bound_arithmetic"] > four["bound_arithmetic"]


def test_lanes_that_lie_apart_are_seen() -> None:
    workload = parse("depthwise_conv2d(c=8,h=9,w=9,k=3)")
    order = ("n", "oh", "ow", "kh", "kw", "c")
    steps = (
        Reorder("depthwise_conv2d", order),
        CacheWrite("depthwise_conv2d", "ow"),
        Vectorize("depthwise_conv2d", "c"),
    )
    assert features(workload, Schedule(steps))["vector_first"] == pytest.approx(np.log2(1 + 81))


def test_partial_tiles_and_idle_threads_are_waste() -> None:
    workload = matmul(m=60, k=64, n=64)
    found = features(workload, blocked(tile_m=8, more=(Parallel("matmul", ("m.0",)),)))
    assert found["waste"] == pytest.approx(np.log2(64 / 60))
    assert found["tasks"] == pytest.approx(np.log2(8 / 2))
    assert found["idle"] == 0
    odd = replace(TARGET, threads=3)
    assert features(workload, blocked(tile_m=8, more=(Parallel("matmul", ("m.0",)),)), odd)["idle"] == pytest.approx(
        np.log2(9 / 8)
    )


def test_a_machine_with_larger_caches_shifts_only_what_is_compared_with_them() -> None:
    workload = matmul(m=64, k=64, n=64)
    small, large = (features(workload, blocked(), replace(TARGET, l2=size)) for size in (2**18, 2**19))
    assert small["tile_l2"] - large["tile_l2"] == pytest.approx(1)
    assert {name for name in NAMES if small[name] != large[name]} <= {
        name for name in NAMES if name.endswith(("l2", "l3")) or "l2" in name or "l3" in name
    }


def test_a_schedule_that_cannot_be_lowered_gives_no_numbers_and_spoils_no_other() -> None:
    workload = matmul(m=64, k=64, n=64)
    bad = Schedule((Split("matmul", "m", (0,)), *blocked().steps[1:]))
    rows = schedule_features(
        workload, TARGET, [blocked(), bad, Schedule((Split("matmul", "x", (2,)),)), blocked(tile_m=8)]
    )
    assert np.isfinite(rows).all(axis=1).tolist() == [True, False, False, True]
