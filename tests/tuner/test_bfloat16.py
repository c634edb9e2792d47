"""Operands of bfloat16: the same results by dot-product instructions, by widening, and by any legal schedule."""

from collections import Counter
from dataclasses import replace
from random import Random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.tuner.kernels import TOLERANCES, assert_right, available_isas, error
from tests.tuner.schedules import random_schedule, random_workload
from tuner.build import build, nest_of
from tuner.codegen.cpu import assembly
from tuner.errors import ArgumentError, ScheduleError
from tuner.kernel import compile_kernel
from tuner.operators import OPERATORS
from tuner.schedule import CacheWrite, Dot, Pack, Parallel, Reorder, Schedule, Split, Step, Vectorize
from tuner.target import Target, aarch64
from tuner.templates import template_for
from tuner.workload import parse, random_arrays, reference

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DENSE = parse("dense(m=5,ci=7,co=21,dtype=bfloat16,epilogue=bias+relu)")
TARGETS = {isa: Target.host(threads=2, isa=isa) for isa in available_isas()}


def by_pairs(*more: Step) -> Schedule:
    """Lanes over columns, and dot products along the reduction."""
    steps = (
        Split("dense", "n", (8,)),
        Split("dense", "k", (2,)),
        Reorder("dense", ("m", "n.0", "k.0", "k.1", "n.1")),
        CacheWrite("dense", "n.0"),
        Vectorize("dense", "n.1"),
        Dot("dense", "k.1"),
    )
    return Schedule((*steps, *more))


PACKED = by_pairs(Pack("dense", "weight", ("n.0", "k.0", "n.1", "k.1")))


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=40)
@given(rng=st.randoms(use_true_random=False), isa=st.sampled_from(sorted(TARGETS)))
def test_a_random_legal_schedule_gives_the_result_of_the_reference(operator: str, rng: Random, isa: str) -> None:
    workload = random_workload(rng, operator, "bfloat16")
    schedule = random_schedule(rng, workload)
    for step in schedule.steps:
        event(step.kind)
    try:
        difference = error(workload, schedule, TARGETS[isa])
    except ScheduleError as refusal:
        event(f"refused: {refusal}")
        return
    assert difference <= TOLERANCES["bfloat16"], f"{workload} on {isa}\n{schedule}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_nearly_all_random_schedules_are_legal_and_many_have_dot_products(operator: str) -> None:
    """Else the test above would say little."""
    refused, kinds = 0, Counter[str]()
    for seed in range(60):
        rng = Random(seed)
        workload = random_workload(rng, operator, "bfloat16")
        schedule = random_schedule(rng, workload)
        kinds.update({step.kind for step in schedule.steps})
        try:
            nest_of(workload, schedule)
        except ScheduleError:
            refused += 1
    assert refused <= 6
    assert kinds["dot"] >= 30


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("schedule", [by_pairs(), PACKED], ids=["as they lie", "packed"])
def test_pairs_are_read_packed_and_as_they_lie(schedule: Schedule, isa: str) -> None:
    assert_right(DENSE, schedule, TARGETS[isa])


def with_features(*features: str) -> Target:
    host = Target.host(threads=1)
    known = {**host.to_json(), "features": sorted({*host.features, *features}), "cpu": "x86-64-v4"}
    return Target.from_json({**known, "vector_bits": 512, "registers": 32})


@pytest.mark.skipif(not Target.host().triple.startswith("x86_64"), reason="LLVM assembles for this machine only")
def test_dot_products_are_one_instruction_where_there_is_one() -> None:
    target = with_features("avx512f", "avx512vl", "avx512bw", "avx512bf16")
    code = assembly(build(DENSE, PACKED, target).ir, target)
    assert "vdpbf16ps" in code
    assert "vcvtneps2bf16" in code
    narrow = Target.host(threads=1, isa="sse4")
    assert "dpbf16" not in assembly(build(DENSE, PACKED, narrow).ir, narrow)


@pytest.mark.parametrize("has", [True, False])
def test_dot_products_of_aarch64_are_assembled(has: bool) -> None:
    target = replace(aarch64(), features=("bf16", "fp-armv8", "neon")) if has else aarch64()
    workload = parse("conv2d(ci=16,h=8,w=8,co=16,k=3,pad=1,layout=NCHW16c,dtype=bfloat16)")
    template = template_for(workload, target)
    schedule = template.schedule(workload, target, template.default(workload, target))
    code = assembly(build(workload, schedule, target).ir, target)
    assert ("bfdot" in code, "fmla" in code) == (has, not has)
    assert "__truncsfbf2" not in code  # a function that no library of ours has


def test_what_is_only_copied_is_not_converted() -> None:
    workload = parse("conv2d(ci=16,h=5,w=5,co=16,k=3,pad=1,layout=NCHW16c,dtype=bfloat16)")
    program = build(
        workload, Schedule((Vectorize("pad", "pb"), Parallel("pad", ("pn", "pc", "py")))), TARGETS[min(TARGETS)]
    )
    copied = program.ir[program.ir.index("void @region0") : program.ir.index("void @region1")]
    assert "load <16 x i16>" in copied
    assert "float>" not in copied


@pytest.mark.parametrize("isa", TARGETS)
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_columns_and_channels_as_one_axis_give_the_result_of_the_reference(isa: str, rng: Random) -> None:
    image = f"n={rng.randint(1, 2)},ci={rng.choice((3, 5, 7))},co={rng.choice((8, 16, 48))}"
    image += f",h={rng.randint(3, 9)},w={rng.randint(3, 30)},epilogue={rng.choice(('bias+relu', 'residual'))}"
    window = f"k={rng.randint(1, 3)}x3,stride={rng.randint(1, 3)},pad={rng.choice(('0', '1', '1x0x2x1'))}"
    workload, target = parse(f"conv2d({image},{window},layout=NCHW8c,dtype=bfloat16)"), TARGETS[isa]
    template = template_for(workload, target)
    space = template.space(workload, target).pinned({"algorithm": "joined", "split_ci": 1, "order": "ci,kh,kw"})
    indices = space.sample(np.random.default_rng(rng.randint(0, 99)), 2000)
    legal = indices[~template.illegal(workload, target, space.columns(indices))]
    assert len(legal)
    for index in legal[:2].tolist():
        assert_right(workload, template.schedule(workload, target, space.config(index)), target)


def rounded(values: list[float], target: Target) -> list[float]:
    """``values`` as a kernel rounds them: a product with one."""
    workload = parse(f"dense(m=1,ci=1,co={len(values)},dtype=bfloat16,epilogue=bias)")
    steps = (Reorder("dense", ("m", "k", "n")), CacheWrite("dense", "m"), Vectorize("dense", "n"))
    kernel = compile_kernel(workload, Schedule(steps), target)
    zeros = np.zeros((1, 1), BFLOAT16), np.zeros((len(values), 1), BFLOAT16)
    result = kernel(*zeros, np.array(values, np.float32))
    assert result.dtype == BFLOAT16
    return [float(value) for value in result[0]]


@pytest.mark.parametrize("isa", TARGETS)
def test_results_are_rounded_to_the_nearest_and_ties_to_even(isa: str) -> None:
    step = 2.0**-7  # between neighbours above one
    values = [1.0, 1 + step / 2, 1 + 3 * step / 2, 1 + 0.51 * step, -1 - 0.49 * step, np.inf, -np.inf, 3.4e38]
    expected = [1.0, 1.0, 1 + 2 * step, 1 + step, -1.0, np.inf, -np.inf, np.inf]
    assert rounded(values, TARGETS[isa]) == expected
    quiet = np.array([0x7F800001], np.uint32).view(np.float32)[0]  # a NaN whose upper half alone would be infinity
    assert np.isnan(rounded([float(quiet), np.nan], TARGETS[isa])).all()


@pytest.mark.parametrize("isa", TARGETS)
def test_nan_and_infinity_flow_as_in_the_reference(isa: str) -> None:
    arrays = random_arrays(DENSE, seed=0)
    arrays["data"][1, 3], arrays["data"][2, 6] = np.inf, np.nan
    result = compile_kernel(DENSE, PACKED, TARGETS[isa])(*arrays.values())
    expected = reference(DENSE, arrays)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))
    assert np.isinf(expected).any()


def test_operands_of_float32_are_refused_by_name() -> None:
    arrays = random_arrays(DENSE, seed=0)
    kernel = compile_kernel(DENSE, PACKED, TARGETS[min(TARGETS)])
    wide = arrays["data"].astype(np.float32)
    with pytest.raises(
        ArgumentError, match=r"data: expected bfloat16 but got float32, use .astype\(ml_dtypes.bfloat16"
    ):
        kernel(wide, arrays["weight"], arrays["bias"])
    with pytest.raises(ArgumentError, match="out must be a writable, aligned, contiguous bfloat16 array"):
        kernel(*arrays.values(), out=np.zeros((5, 21), np.float32))


@pytest.mark.parametrize(
    ("key", "steps", "message"),
    [
        ("dense(m=2,ci=4,co=8)", (Split("dense", "k", (2,)), Dot("dense", "k.1")), "products of bfloat16 operands"),
        ("dense(m=2,ci=4,co=8,dtype=bfloat16)", (Dot("dense", "k"),), "a reduction of two turns"),
        ("dense(m=2,ci=2,co=2,dtype=bfloat16)", (Dot("dense", "n"),), "a reduction of two turns"),
        (
            "dense(m=2,ci=4,co=8,dtype=bfloat16)",
            (Split("dense", "k", (2, 2)), Dot("dense", "k.1")),
            "the last one of its axis",
        ),
        (
            "dense(m=2,ci=2,co=8,dtype=bfloat16)",
            (Reorder("dense", ("m", "k", "n")), CacheWrite("dense", "m"), Dot("dense", "k")),
            "loop n is inside a dot product",
        ),
        (
            "dense(m=2,ci=4,co=8,dtype=bfloat16)",
            (Reorder("dense", ("k", "m", "n")), CacheWrite("dense", "k")),
            "cannot be resumed from an output of bfloat16",
        ),
    ],
)
def test_what_cannot_be_a_dot_product_is_refused(key: str, steps: tuple[Step, ...], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        nest_of(parse(key), Schedule(steps))


@pytest.mark.parametrize("key", ["conv2d(ci=64,h=14,w=14,co=64,k=3,pad=1,layout=NCHW16c{})", "matmul(m=8,k=64,n=9{})"])
def test_the_reference_is_that_of_the_rounded_operands(key: str) -> None:
    wide, narrow = parse(key.format("")), parse(key.format(",dtype=bfloat16"))
    arrays = random_arrays(narrow, seed=0)
    exact = reference(wide, {name: array.astype(np.float32) for name, array in arrays.items()})
    np.testing.assert_array_equal(reference(narrow, arrays), exact)
