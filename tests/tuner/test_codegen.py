"""Whatever legal schedule an operator is given, the machine code computes the reference's result, inside its arrays."""

import re
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.tuner.kernels import GUARD, allowed, assert_right, available_isas, compute, error
from tests.tuner.schedules import random_schedule, random_winograd, random_workload
from tuner.build import build, nest_of
from tuner.codegen.cpu import assembly, load
from tuner.errors import CompileError, ScheduleError
from tuner.operators import OPERATORS
from tuner.operators.winograd import TILES
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Inline,
    Pack,
    Parallel,
    Reorder,
    Schedule,
    Split,
    Step,
    Unroll,
    Vectorize,
)
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse, random_arrays

AVAILABLE = available_isas()
HOST = {threads: Target.host(threads=threads) for threads in (1, 2)}


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=100)
@given(rng=st.randoms(use_true_random=False), threads=st.sampled_from((1, 2)))
def test_a_random_legal_schedule_gives_the_result_of_the_reference(operator: str, rng: Random, threads: int) -> None:
    workload = random_workload(rng, operator)
    schedule = random_schedule(rng, workload)
    for step in schedule.steps:
        event(step.kind)
    try:
        difference = error(workload, schedule, HOST[threads])
    except ScheduleError as refusal:
        event(f"refused: {refusal}")
        return
    assert difference <= 1e-5, f"{workload} on {threads} threads\n{schedule}"


@settings(max_examples=60)
@given(rng=st.randoms(use_true_random=False), threads=st.sampled_from((1, 2)))
def test_a_random_chain_of_stages_gives_the_result_of_the_reference(rng: Random, threads: int) -> None:
    workload, schedule = random_winograd(rng)
    try:
        difference = error(workload, schedule, HOST[threads])
    except ScheduleError as refusal:
        event(f"refused: {refusal}")
        return
    assert difference <= allowed(workload, schedule), f"{workload} on {threads} threads\n{schedule}"


def test_nearly_all_random_chains_are_legal() -> None:
    """Else the test above would say little."""
    refused = 0
    for seed in range(100):
        workload, schedule = random_winograd(Random(seed))
        try:
            build(workload, schedule, HOST[1])
        except ScheduleError:
            refused += 1
    assert refused <= 20


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("algorithm", TILES)
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False), threads=st.sampled_from((1, 2)))
def test_winograd_as_its_template_schedules_it_gives_the_result_of_the_reference(
    isa: str, algorithm: str, rng: Random, threads: int
) -> None:
    workload, _ = random_winograd(rng)
    target = Target.host(threads=threads, isa=isa)
    template = template_for(workload, target)
    space = template.space(workload, target)
    drawn = space.sample(np.random.default_rng(rng.randint(0, 2**32)), 20_000)
    columns = space.columns(drawn)
    chosen = drawn[~template.illegal(workload, target, columns) & (columns["algorithm"] == 1)]
    assume(len(chosen))  # narrow vectors leave few legal ones; were there none for most shapes, this would fail
    # Larger tiles are legal only where they save something, which these small images do not show.
    config = {**space.config(int(chosen[0])), "algorithm": algorithm}
    assert_right(workload, template.schedule(workload, target, config), target)


@pytest.mark.parametrize("operator", OPERATORS)
def test_nearly_all_random_schedules_are_legal_and_use_every_step(operator: str) -> None:
    """Else the test above would say little."""
    refused, kinds = 0, Counter[str]()
    for seed in range(100):
        rng = Random(seed)
        workload = random_workload(rng, operator)
        schedule = random_schedule(rng, workload)
        kinds.update({step.kind for step in schedule.steps})
        try:
            nest_of(workload, schedule)
        except ScheduleError:
            refused += 1
    assert refused <= 5
    expected = {"split", "reorder", "parallel", "unroll", "fence", "vectorize", "cache_write", "pack", "prefetch"}
    if "conv2d" in operator:
        expected |= {"compute_at", "inline", "stagger"}
    assert {kind for kind, count in kinds.items() if count >= 10} == expected


def steps(*items: Step) -> Schedule:
    return Schedule(items)


@pytest.mark.parametrize("threads", HOST)
@pytest.mark.parametrize(
    ("key", "schedule"),
    [
        ("matmul(m=5,k=7,n=9)", steps()),
        ("matmul(m=5,k=7,n=9)", steps(CacheWrite("matmul", ""))),
        ("matmul(m=5,k=7,n=9)", steps(Reorder("matmul", ("k", "m", "n")))),
        ("matmul(m=5,k=7,n=9)", steps(Reorder("matmul", ("m", "k", "n")), CacheWrite("matmul", "k"))),
        ("matmul(m=5,k=7,n=9)", steps(Split("matmul", "m", (4,), "shift"), Parallel("matmul", ("m.0",)))),
        ("matmul(m=5,k=7,n=9)", steps(Split("matmul", "m", (4,)), Parallel("matmul", ("m.0",)))),
        ("matmul(m=3,k=7,n=9)", steps(Split("matmul", "m", (8,), "shift"))),
        (
            "matmul(m=5,k=7,n=9)",
            steps(
                Split("matmul", "k", (2, 2)),
                Reorder("matmul", ("k.0", "m", "k.1", "n", "k.2")),
                CacheWrite("matmul", "k.1"),
            ),
        ),
        (
            "matmul(m=5,k=3,n=5)",
            steps(
                Split("matmul", "m", (2,)),
                Split("matmul", "n", (2,), "shift"),
                Reorder("matmul", ("m.0", "n.0", "m.1", "n.1", "k")),
                CacheWrite("matmul", "n.0"),
                Parallel("matmul", ("m.0", "n.0")),
            ),
        ),
        (
            "conv2d(ci=2,h=5,w=7,co=3,k=3,pad=1)",
            steps(
                Split("conv2d", "ow", (4,), "shift"),
                Reorder("conv2d", ("n", "co", "oh", "ow.0", "ci", "kh", "kw", "ow.1")),
                CacheWrite("conv2d", "ow.0"),
                Parallel("conv2d", ("n", "co", "oh")),
                Unroll("conv2d", ("kw",)),
                Vectorize("conv2d", "ow.1"),
                ComputeAt("pad", "ow.0"),
                Vectorize("pad", "px"),
            ),
        ),
    ],
)
def test_a_schedule_by_hand_gives_the_result_of_the_reference(key: str, schedule: Schedule, threads: int) -> None:
    assert_right(parse(key), schedule, HOST[threads])


def test_a_reduction_split_outside_the_tile_resumes_the_sum_that_it_wrote() -> None:
    workload = parse("dense(m=3,ci=10,co=6,epilogue=bias+residual+relu)")
    schedule = steps(
        Split("dense", "k", (4,)),
        Reorder("dense", ("k.0", "m", "n", "k.1")),
        CacheWrite("dense", "m"),
        Unroll("dense", ("k.1",)),
    )
    assert_right(workload, schedule, HOST[1])


@pytest.mark.parametrize("isa", AVAILABLE)
def test_a_masked_row_wider_than_a_register_is_refused(isa: str) -> None:
    """Nine lanes, the first and the last of them border, known when it is compiled."""
    workload, target = parse("conv2d(ci=1,h=8,w=7,co=1,k=3,pad=1)"), Target.host(threads=1, isa=isa)
    schedule = steps(Vectorize("pad", "px"), Unroll("pad", ("py",)))
    if target.lanes >= 9:
        assert_right(workload, schedule, target)
    else:
        with pytest.raises(ScheduleError, match=f"at most the {target.lanes} lanes"):
            build(workload, schedule, target)


def test_a_constant_whose_blocks_are_split_unevenly_is_not_packed() -> None:
    schedule = steps(
        Split("conv2d", "cib", (1,)),
        Split("conv2d", "ci", (3,)),
        Pack("conv2d", "weight", ("cob", "co", "kh", "kw", "cib.0", "cib.1", "ci.0", "ci.1")),
    )
    with pytest.raises(ScheduleError, match="the loops over dimension 1 of weight do not tile it"):
        build(parse("conv2d(ci=16,h=5,w=5,co=8,k=1,layout=NCHW8c)"), schedule, HOST[1])


def test_too_much_unrolling_is_refused_and_not_compiled() -> None:
    schedule = steps(Unroll("matmul", ("m", "n", "k")))
    with pytest.raises(ScheduleError, match="unroll less"):
        build(parse("matmul(m=32,k=32,n=32)"), schedule, HOST[1])


def test_a_local_tile_that_no_stack_holds_is_refused() -> None:
    schedule = steps(CacheWrite("matmul", ""))
    with pytest.raises(ScheduleError, match="at most 16384"):
        build(parse("matmul(m=256,k=2,n=256)"), schedule, HOST[1])


def test_bench_runs_the_kernel_as_often_as_it_is_told() -> None:
    program = build(parse("matmul(m=2,k=2,n=2)"), steps(), HOST[1])
    module = load(program.ir, HOST[1])
    assert module.address("bench") != module.address("kernel") != 0
    assert "define void @bench(ptr %args, i64 %n)" in program.ir


def test_the_same_schedule_gives_the_same_text() -> None:
    workload = parse("conv2d(ci=2,h=5,w=5,co=3,k=3,pad=1)")
    first, second = (build(workload, random_schedule(Random(5), workload), HOST[2]) for _ in range(2))
    assert first == second


def test_known_elements_of_a_table_are_no_loads_and_zeros_and_ones_no_products() -> None:
    """The row transform of F(2x2) alone: eight of its sixteen coefficients are 1 or -1, and all the others are 0."""
    workload = parse("conv2d(ci=4,h=4,w=4,co=4,k=3,pad=1,layout=NCHW4c)")
    rolled = build(workload, steps(Algorithm("conv2d", "winograd2")), HOST[1]).ir
    unrolled = build(workload, steps(Algorithm("conv2d", "winograd2"), Unroll("input_rows", ("ap", "ak"))), HOST[1]).ir
    assert rolled.count("call float @llvm.fmuladd") == unrolled.count("call float @llvm.fmuladd") + 1
    assert (rolled.count("fadd"), rolled.count("fsub")) == (0, 0)
    assert (unrolled.count("fadd"), unrolled.count("fsub")) == (5, 3)


def test_multiply_adds_are_fused_into_whole_vectors() -> None:
    lanes = HOST[1].lanes
    schedule = steps(Reorder("matmul", ("m", "k", "n")), CacheWrite("matmul", "m"), Vectorize("matmul", "n"))
    program = build(parse(f"matmul(m=2,k=4,n={lanes})"), schedule, HOST[1])
    assert f"call <{lanes} x float> @llvm.fmuladd.v{lanes}f32" in program.ir


@pytest.mark.parametrize("pixels", [2, 3, 4, 7, 16, 19])
@pytest.mark.parametrize("epilogue", ["residual", "bias+residual+relu"])
@pytest.mark.parametrize("isa", AVAILABLE)
def test_a_residual_is_added_to_rows_of_pixels_where_the_lanes_are_channels(
    isa: str, epilogue: str, pixels: int
) -> None:
    """Gathering it takes longer than a pass of its own would. Two pixels are stored lane by lane anyway."""
    workload = parse(f"conv2d(n=2,ci=3,h=2,w={pixels},co=21,k=1,epilogue={epilogue})")
    target = Target.host(threads=1, isa=isa)
    schedule = steps(
        Split("conv2d", "co", (target.lanes,)),
        Reorder("conv2d", ("n", "co.0", "oh", "ci", "kh", "kw", "ow", "co.1")),
        CacheWrite("conv2d", "oh"),
        Unroll("conv2d", ("ow",)),
        Vectorize("conv2d", "co.1"),
        Pack("conv2d", "weight", ("co.0", "ci", "kh", "kw", "co.1")),
    )
    gathered = re.search(r"= insertelement .* i64 [1-9]", build(workload, schedule, target).ir)
    assert bool(gathered) == (pixels == 2)
    assert_right(workload, schedule, target)


@pytest.mark.skipif(HOST[1].isa != "avx512", reason="the names of registers are those of AVX-512")
@pytest.mark.parametrize("isa", AVAILABLE)
@settings(max_examples=25)
@given(rng=st.randoms(use_true_random=False))
def test_a_border_within_vectors_of_pixels_is_left_out(rng: Random, isa: str) -> None:
    """Rows of any length at any distance, padded unevenly, not copied: lanes that lie outside are not read."""
    kernel, dilation = rng.randint(1, 4), rng.randint(1, 2)
    reach = (kernel - 1) * dilation + 1
    stride, sizes = rng.randint(1, 5), (rng.randint(1, 9), rng.randint(1, 45))
    pad = "x".join(str(rng.randint(0, reach - 1)) for _ in range(3)) + f"x{max(reach - 1, 1)}"
    shape = f"c=3,h={sizes[0] + reach - 1},w={sizes[1] + reach - 1}"
    workload = parse(f"depthwise_conv2d({shape},k={kernel},stride={stride},dilation={dilation},pad={pad})")
    target = Target.host(threads=2, isa=isa)
    template = template_for(workload, target)
    space = template.space(workload, target).pinned({"pad": "skip"})
    legal = np.flatnonzero(~template.illegal(workload, target, space.columns(np.arange(space.size))))
    config = space.config(int(rng.choice(legal.tolist())))
    assert_right(workload, template.schedule(workload, target, config), target)


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ("c=3,h=5,w=16,k=3,pad=0x1x4x4,dilation=2", (2, 5, 4)),
        ("c=2,h=9,w=16,k=3,pad=4,dilation=4", (3, 4, 4)),  # the left border is a whole vector
        ("c=2,h=3,w=16,k=3,pad=4,dilation=2", (4, 5, 4)),  # and rows of the window lie outside
        ("c=2,h=8,w=8,k=5,pad=2", (2, 2, 4)),
        ("c=2,h=8,w=8,k=5,pad=2", (2, 1, 4)),  # a tile for either end of the row
        ("c=2,h=2,w=2,k=3,pad=1", (2, 1, 2)),
        ("c=2,h=4,w=5,k=3,pad=2,stride=2", (2, 2, 2)),
        ("c=2,h=8,w=8,k=5,pad=2,dtype=bfloat16", (2, 2, 4)),
    ],
)
def test_the_end_of_a_row_is_told_from_the_start_of_another_at_the_same_address(
    shape: str, tile: tuple[int, int, int], isa: str
) -> None:
    """A vector that begins in one row and goes on behind it lies where one does that begins before the next row."""
    rows, vectors, lanes = tile
    stage = "depthwise_conv2d"
    schedule = steps(
        Split(stage, "oh", (rows,)),
        Split(stage, "ow", (vectors, lanes)),
        Reorder(stage, ("n", "c", "oh.0", "ow.0", "kh", "kw", "oh.1", "ow.1", "ow.2")),
        CacheWrite(stage, "ow.0"),
        Unroll(stage, ("ow.0", "kh", "kw", "oh.1", "ow.1")),
        Vectorize(stage, "ow.2"),
        Inline("pad"),
    )
    assert_right(parse(f"{stage}({shape})"), schedule, Target.host(threads=1, isa=isa))


@pytest.mark.skipif("sse4" not in AVAILABLE, reason="a kernel for x86 without fused multiply-add")
@pytest.mark.parametrize("key", ["matmul(m=6,k=64,n=32)", "dense(m=5,ci=14,co=35,dtype=bfloat16,epilogue=bias)"])
def test_without_fused_multiply_adds_there_are_products_and_sums_and_no_calls(key: str) -> None:
    workload, target = parse(key), Target.host(threads=1, isa="sse4")
    template = template_for(workload, target)
    schedule = template.schedule(workload, target, template.default(workload, target))
    text = assembly(build(workload, schedule, target).ir, target)
    assert text.count("mulps") >= 6
    assert "fma" not in text
    assert_right(workload, schedule, target)


def test_a_vector_that_fills_no_register_is_one_value_all_the_same() -> None:
    """Else its weights would be put together from three loads in every step of the reduction."""
    schedule = Schedule(
        (
            Reorder("matmul", ("m", "k", "n")),
            CacheWrite("matmul", "m"),
            Vectorize("matmul", "n"),
            Pack("matmul", "b", ("k", "n")),
        )
    )
    workload = parse("matmul(m=3,k=5,n=13)")
    for isa in AVAILABLE:
        target = Target.host(threads=1, isa=isa)
        assert_right(workload, schedule, target)
        assert ("<13 x float>" in build(workload, schedule, target).ir) == (target.lanes < 13)


@pytest.mark.parametrize(("stride", "gathered"), [(2, False), (4, False), (5, True)])
def test_pixels_that_lie_near_each_other_are_taken_out_of_whole_vectors(stride: int, gathered: bool) -> None:
    workload = parse(f"depthwise_conv2d(c=2,h=4,w=99,k=1,stride={stride})")
    schedule = Schedule(
        (
            Split("depthwise_conv2d", "ow", (8,)),
            Reorder("depthwise_conv2d", ("n", "c", "oh", "ow.0", "kh", "kw", "ow.1")),
            CacheWrite("depthwise_conv2d", "ow.0"),
            Vectorize("depthwise_conv2d", "ow.1"),
        )
    )
    assert_right(workload, schedule, HOST[1])
    ir = build(workload, schedule, HOST[1]).ir
    assert ("insertelement <8 x float> %" in ir) == gathered


def test_the_tile_stays_in_registers() -> None:
    schedule = steps(
        Split("matmul", "m", (6,)),
        Split("matmul", "n", (2, 16)),
        Reorder("matmul", ("m.0", "n.0", "k", "m.1", "n.1", "n.2")),
        CacheWrite("matmul", "n.0"),
        Unroll("matmul", ("m.1", "n.1")),
        Vectorize("matmul", "n.2"),
    )
    text = assembly(build(parse("matmul(m=6,k=64,n=32)"), schedule, HOST[1]).ir, HOST[1])
    multiply_adds = [line for line in text.splitlines() if "vfmadd" in line]
    assert len(multiply_adds) == 12
    assert all("zmm" in line for line in multiply_adds)


def test_sums_are_stored_once_where_a_stretch_of_code_ends_and_not_after_each_addition() -> None:
    workload = parse("matmul(m=1,k=40,n=16)")
    order = Reorder("matmul", ("m", "k.0", "k.1", "n"))
    cut, tile = Split("matmul", "k", (8,)), CacheWrite("matmul", "m")
    unrolled = steps(cut, order, tile, Unroll("matmul", ("k.1",)), Vectorize("matmul", "n"))
    sums = [line for line in build(workload, unrolled, HOST[1]).ir.splitlines() if '%"tile"' in line]
    # Set to zero; loaded and stored in the loop of k.0, which has eight additions; loaded to be written out.
    assert [line.split(" = ")[-1].split()[0] for line in sums] == ["alloca", "store", "load", "store", "load"]
    assert_right(workload, unrolled, HOST[1])


def test_a_mask_that_many_loads_share_is_made_once() -> None:
    workload = parse("conv2d(ci=16,h=20,w=20,co=16,k=3,pad=1)")
    template = template_for(workload, HOST[1])
    config = template.default(workload, HOST[1]) | {"algorithm": "winograd4", "tile_oh": 1, "tile_ow": 1}
    ir = build(workload, template.schedule(workload, HOST[1], config), HOST[1]).ir
    pack = ir[ir.index("@region0") : ir.index("@region1")]
    assert pack.count("@llvm.masked.load") > 2 * pack.count("icmp ult <")


def test_text_that_is_no_program_is_a_compile_error() -> None:
    with pytest.raises(CompileError, match="LLVM refused the program"):
        load("define void @kernel(ptr %args) { ret i32 0 }", HOST[1])


def test_the_guards_notice_what_is_written_beside_an_array() -> None:
    """The tests above rely on it."""
    workload = parse("matmul(m=2,k=2,n=2)")
    program = build(workload, steps(), HOST[1])
    beside = f"""
  %beside = getelementptr float, ptr %output, i64 {4 + GUARD // 2}
  store float 1.0, ptr %beside
  ret void
"""
    kernel, bench = program.ir.split("define void @bench")
    head, tail = kernel.rsplit("  ret void", 1)
    with pytest.raises(AssertionError, match="written beside output"):
        compute(
            replace(program, ir=f"{head}{beside}{tail}define void @bench{bench}"), HOST[1], random_arrays(workload, 0)
        )
