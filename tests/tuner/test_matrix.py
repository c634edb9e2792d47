"""Products of matrices: the machine code for AMX gives the reference's result, by as many products as it should.

The machine that runs the tests need not have such registers: their instructions are emulated then, one by one as they
are met. Where there are registers, the same code runs on them.
"""

from math import prod
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuner.kernels import TOLERANCES, assert_right
from tests.tuner.schedules import EPILOGUES
from tests.tuner.tiles import HOST, SPLIT, X86, compute, with_tiles
from tuner.build import build, nest_of
from tuner.codegen.cpu import assembly
from tuner.codegen.matrix import Shape
from tuner.errors import ScheduleError
from tuner.operators.image import channel_block, output_size
from tuner.operators.views import is_flat, seen
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    Dot,
    Inline,
    Matrix,
    Pack,
    Reorder,
    Schedule,
    Split,
    Step,
    Unroll,
    Vectorize,
)
from tuner.target import Target
from tuner.templates import template_for
from tuner.templates.template import ceil, numeric
from tuner.workload import Workload, make, named, parse, random_arrays, reference

CHANNELS = "conv2d(ci=64,h=9,w=14,co=64,k=3,pad=1,layout=NCHW32c,dtype=bfloat16,epilogue=bias+residual+relu)"
KEYS = [
    CHANNELS,
    "conv2d(ci=32,h=7,w=7,co=48,k=3,stride=2,pad=1,layout=NCHW16c,dtype=bfloat16)",
    "conv2d(ci=64,h=5,w=35,co=32,k=1,layout=NCHW32c,dtype=bfloat16,epilogue=bias)",
    "conv2d(ci=32,h=1,w=17,co=32,k=1,layout=NCHW32c,dtype=bfloat16)",
]
PRODUCTS = [
    "dense(m=35,ci=64,co=48,dtype=bfloat16,epilogue=bias+relu)",
    "matmul(m=24,k=70,n=64,dtype=bfloat16)",
    "batch_matmul(b=2,m=16,k=64,n=16,dtype=bfloat16)",
]
PRODUCTS_EACH = 700  # of an example, at most: an emulated one takes a tenth of a millisecond


def work(workload: Workload, config: dict[str, Any]) -> tuple[int, int]:
    """The tiles of sums that a configuration has, and the products that it should take for each."""
    if workload.operator != "conv2d":
        dense = workload.operator == "dense"
        rows, depth, columns = (workload.size(name) for name in (("m", "ci", "co") if dense else ("m", "k", "n")))
        batch = workload.size("b") if workload.operator == "batch_matmul" else 1
        tiles = batch * rows // config["tile_m"] * columns // min(columns, 16)
        return tiles, depth // 2 // config["unroll_k"]
    rows, pixels = output_size(workload)
    tiles = ceil(pixels, config["tile_ow"])
    if is_flat(workload) and config.get("algorithm") in ("flat", "split"):
        block = config["block_oh"] * config["tile_oh"]
        rows, tiles = 1, ceil(rows * pixels, block * config["tile_ow"]) * block
    channels = channel_block(workload.text("layout"), workload.size("co"))
    assert channels
    tiles *= workload.size("n") * rows * workload.size("co") // min(channels, 16)
    view = seen(workload, algorithm := str(config.get("algorithm", "direct")))
    depth = prod(view.sizes("k")) * view.size("ci")
    return tiles, (3 if algorithm == "split" else 1) * depth // (2 * config["split_ci"])


def assert_tiles_do_it(workload: Workload, config: dict[str, Any], target: Target) -> None:
    """The machine code gives the reference's result, and takes the products that it should and no more."""
    program = build(workload, template_for(workload, target).schedule(workload, target, config), target)
    arrays = random_arrays(workload, seed=0)
    expected = reference(workload, arrays)
    result, executed = compute(program, target, arrays)
    difference = np.subtract(result, expected, dtype=np.float64)
    assert np.abs(difference).max() <= TOLERANCES[workload.text("dtype")] * np.abs(expected).max(), config
    if executed:
        tiles, products = work(workload, config)
        assert executed["tilezero"] == executed["tilestored"] == tiles, config
        assert executed["tdpbf16ps"] == tiles * products, config
        assert 1 <= executed["ldtilecfg"] == executed["tilerelease"] <= target.threads, config


@X86
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("key", [*KEYS, *PRODUCTS, *SPLIT])
def test_the_default_gives_the_result_of_the_reference(key: str, threads: int) -> None:
    workload, target = parse(key), with_tiles(threads)
    assert_tiles_do_it(workload, template_for(workload, target).default(workload, target), target)


def random_case(rng: Random, kind: str) -> tuple[Workload, dict[str, Any], Target]:
    """A small workload that matrix registers can do, with a legal configuration in which they do."""
    if kind == "product":
        sizes = {"m": rng.randint(1, 40), "n": 16 * rng.randint(1, 4), "k": 2 * rng.randint(1, 40)}
        operator = rng.choice(("dense", "matmul", "batch_matmul"))
        if operator == "dense":
            sizes = {"m": sizes["m"], "ci": sizes["k"], "co": sizes["n"], "epilogue": rng.choice(EPILOGUES)}
        elif operator == "batch_matmul":
            sizes["b"] = rng.randint(1, 3)
        workload = make(operator, **sizes, dtype="bfloat16")
    else:
        block = rng.choice((8, 16, 32))
        few = kind in ("split", "3x3") and rng.random() < 0.5  # channels: columns and they are one axis
        columns = 2 if few and kind == "3x3" else rng.randint(2, 3)  # a row of bfloat16 as it lies has whole pairs
        window = 1 if kind == "1x1" else (rng.randint(1, 3), columns)
        channels = [ci for ci in range(1, 10, 1 if kind == "split" else 2) if -(-ci * columns // 2) * 2 <= block]
        workload = make(
            "conv2d",
            n=rng.randint(1, 2),
            ci=rng.choice(channels) if few else block * rng.randint(1, 2),
            co=block * rng.randint(1, 3),
            h=rng.randint(5, 9),
            w=rng.randint(5, 21),
            k=window,
            stride=rng.randint(1, 2),
            pad=rng.choice((0, 1)) if window != 1 else 0,
            dilation=(rng.randint(1, 2), 1 if few else rng.randint(1, 1 if window == 1 else 2)),
            layout=f"NCHW{block}c",
            epilogue=rng.choice(EPILOGUES),
            dtype="float32" if kind == "split" else "bfloat16",
        )
    target = with_tiles(rng.randint(1, 2))
    template = template_for(workload, target)
    pins = {"unit": "matrices"} | ({"algorithm": "split"} if kind == "split" else {})
    space = template.space(workload, target).pinned(pins)
    drawn = space.sample(np.random.default_rng(rng.randrange(2**32)), 2000)
    legal = drawn[~template.illegal(workload, target, space.columns(drawn))].tolist()
    configs = [config for index in legal if not str((config := space.config(index)).get("algorithm")).startswith("w")]
    few = [config for config in configs if np.prod(work(workload, config)) <= PRODUCTS_EACH]
    return workload, (few or [min(configs, key=lambda config: np.prod(work(workload, config)))])[0], target


@X86
@pytest.mark.parametrize("kind", ["3x3", "1x1", "product", "split"])
@settings(max_examples=12)
@given(rng=st.randoms(use_true_random=False))
def test_random_configurations_give_the_result_of_the_reference(kind: str, rng: Random) -> None:
    assert_tiles_do_it(*random_case(rng, kind))


def small(number: int, dtype: str) -> Workload:
    """A layer of ResNet-18 with fewer pixels and channels."""
    layer = dict(parse(f"resnet18.C{number}").arguments)
    channels = {name: int(layer[name]) // 4 for name in ("ci", "co")}
    sizes = {name: max(int(layer[name]) // 2, 5) for name in ("h", "w")}
    block = min(32, *channels.values())
    return make("conv2d", **{**layer, **channels, **sizes, "layout": f"NCHW{block}c", "dtype": dtype})


@X86
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("number", range(2, 13))
def test_the_defaults_of_known_layers_give_the_result_of_the_reference(number: int, dtype: str) -> None:
    workload, target = small(number, dtype), with_tiles(threads=2)
    config = template_for(workload, target).default(workload, target)
    assert config["unit"] == "matrices"
    assert_tiles_do_it(workload, config, target)


@X86
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", named())
def test_a_search_may_choose_the_defaults_of_known_layers(name: str, dtype: str) -> None:
    for layout in ("NCHW", "NCHW16c", "NCHW32c"):
        layer = dict(named()[name].arguments)
        shape = {"layout": layout} if "layout" in layer else {}
        workload, target = make(named()[name].operator, **{**layer, **shape, "dtype": dtype}), with_tiles()
        template = template_for(workload, target)
        columns = numeric(template.default(workload, target), template.space(workload, target))
        assert not template.illegal(workload, target, columns).any(), workload.label


@X86
@pytest.mark.parametrize("key", ["resnet18.C9(layout=NCHW32c)", "resnet18.C9(layout=NCHW32c,dtype=bfloat16)"])
def test_matrix_registers_are_for_what_can_use_them(key: str) -> None:
    workload, target = parse(key), with_tiles()
    template = template_for(workload, target)
    space = template.space(workload, target)
    drawn = space.sample(np.random.default_rng(0), 20000)
    legal = drawn[~template.illegal(workload, target, space.columns(drawn))].tolist()
    pairs = {(str(config["algorithm"])[:5], config["unit"]) for config in map(space.config, legal)}
    own = ("split", "matrices") if workload.text("dtype") == "float32" else ("direc", "matrices")
    assert pairs == {own, ("direc", "vectors"), ("winog", "vectors")}


@X86
@pytest.mark.parametrize("key", [*KEYS, *PRODUCTS])
def test_without_such_registers_the_same_schedule_is_done_by_vectors(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, with_tiles())
    assert_right(workload, template.schedule(workload, with_tiles(), template.default(workload, with_tiles())), HOST)


@X86
def test_the_default_loads_each_operand_once_for_two_products() -> None:
    workload, target = parse(CHANNELS.replace("h=9", "h=8")), with_tiles()
    template = template_for(workload, target)
    program = build(workload, template.schedule(workload, target, template.default(workload, target)), target)
    code = assembly(program.ir, target)
    assert code.count("tdpbf16ps") == code.count("tileloadd") == 4
    assert code.count("tilezero") == code.count("tilestored")
    assert code.count("ldtilecfg") == code.count("tilerelease") == 1


def test_matrices_are_offered_only_where_there_are_registers_for_them() -> None:
    workload = parse(CHANNELS)
    names = {knob.name for knob in template_for(workload, HOST).space(workload, HOST).knobs}
    assert ("unit" in names) == HOST.has_tiles
    assert "unit" in {knob.name for knob in template_for(workload, with_tiles()).space(workload, with_tiles()).knobs}


def test_a_configuration_says_rows_and_bytes_of_each_register() -> None:
    data = Shape(rows=14, steps=8, columns=16, sums=4).configuration
    assert len(data) == 64
    assert [int.from_bytes(data[16 + 2 * n : 18 + 2 * n], "little") for n in range(8)] == [64] * 4 + [32] * 2 + [64] * 2
    assert list(data[48:56]) == [14] * 4 + [14] * 2 + [8] * 2


def test_conditions_within_a_tile_are_refused() -> None:
    workload, target = parse("conv2d(ci=32,h=16,w=16,co=16,k=3,pad=1,layout=NCHW32c,dtype=bfloat16)"), with_tiles()
    template = template_for(workload, target)
    steps = template.schedule(workload, target, template.default(workload, target)).steps
    inlined = (*(step for step in steps if step.stage != "pad"), Inline("pad"))
    with pytest.raises(ScheduleError, match="what has conditions within a tile"):
        build(workload, Schedule(inlined), target)


TILE = ("ow.1", "ci.1", "ci.2", "co")


def test_interrupted_sums_are_refused() -> None:
    steps = (
        Algorithm("conv2d", "split"),
        Split("conv2d", "ci", (8, 2)),
        Split("conv2d", "ow", (8,)),
        Reorder("conv2d", ("n", "cob", "oh", "kh", "ow.0", "cib", "kw", "p", "q", "ci.0", *TILE)),
        CacheWrite("conv2d", "ow.0"),
        Vectorize("conv2d", "co"),
        Dot("conv2d", "ci.2"),
        Matrix("conv2d", "ow.1", "ci.1"),
        Unroll("conv2d", ("p", "q")),
        Unroll("parts", ("pp",)),
    )
    with pytest.raises(ScheduleError, match="cannot be interrupted"):
        build(parse("conv2d(ci=16,h=4,w=18,co=16,k=3,layout=NCHW16c)"), Schedule(steps), with_tiles())


DENSE = parse("dense(m=32,ci=64,co=16,dtype=bfloat16)")
SPLITS = (Split("dense", "m", (16,)), Split("dense", "k", (16, 2)))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((*SPLITS, Matrix("dense", "m.1", "k.1")), "must stand around a dot product of vectors"),
        (
            (
                *SPLITS,
                Reorder("dense", ("m.0", "k.0", "k.1", "m.1", "k.2", "n")),
                Vectorize("dense", "n"),
                Dot("dense", "k.2"),
                Matrix("dense", "k.1", "m.1"),
            ),
            "rows must be a loop of the output",
        ),
    ],
)
def test_what_is_no_product_of_matrices_is_refused(steps: tuple[Step, ...], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        nest_of(DENSE, Schedule(steps))


@pytest.mark.parametrize(
    ("m", "rows", "more", "message"),
    [
        (32, 32, (), "at most 16 rows"),
        (30, 16, (Pack("dense", "weight", ("k.0", "k.1", "n", "k.2")),), "whole tiles only"),
        (32, 16, (), "needs pairs side by side"),
    ],
)
def test_what_the_registers_cannot_do_is_refused(m: int, rows: int, more: tuple[Step, ...], message: str) -> None:
    steps = (
        Split("dense", "m", (rows,)),
        Split("dense", "k", (16, 2)),
        Reorder("dense", ("m.0", "k.0", "m.1", "k.1", "k.2", "n")),
        CacheWrite("dense", "m.0"),
        Vectorize("dense", "n"),
        Dot("dense", "k.2"),
        Matrix("dense", "m.1", "k.1"),
        *more,
    )
    with pytest.raises(ScheduleError, match=message):
        build(parse(f"dense(m={m},ci=64,co=16,dtype=bfloat16)"), Schedule(steps), with_tiles())
