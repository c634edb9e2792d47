"""Products of matrices: what the registers are told to do, done by NumPy, gives the reference's result.

The machine that runs the tests need not have such registers. The program is made for one that has, its instructions
become calls, and these do what the manual says of each instruction. Where there are registers, they are used as well.
"""

import ctypes
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.kernels import TOLERANCES, assert_right, compute, error
from tuner.build import build, nest_of
from tuner.codegen.cpu import assembly
from tuner.codegen.matrix import Shape
from tuner.codegen.program import Program
from tuner.errors import ScheduleError
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
from tuner.workload import Workload, parse, random_arrays, reference

HOST = Target.host(threads=1)
X86 = pytest.mark.skipif(HOST.isa != "avx512", reason="programs for AMX run on AVX-512 here")
CHANNELS = "conv2d(ci=64,h=9,w=14,co=64,k=3,pad=1,layout=NCHW32c,dtype=bfloat16,epilogue=bias+residual+relu)"
KEYS = [
    CHANNELS,
    "conv2d(ci=32,h=7,w=7,co=48,k=3,stride=2,pad=1,layout=NCHW16c,dtype=bfloat16)",
    "conv2d(ci=64,h=5,w=35,co=32,k=1,layout=NCHW32c,dtype=bfloat16,epilogue=bias)",
]
PRODUCTS = [
    "dense(m=35,ci=64,co=48,dtype=bfloat16,epilogue=bias+relu)",
    "matmul(m=24,k=70,n=64,dtype=bfloat16)",
    "batch_matmul(b=2,m=16,k=64,n=16,dtype=bfloat16)",
]
SPLIT = [  # of float32, by products of bfloat16
    "conv2d(ci=32,h=9,w=14,co=32,k=3,pad=1,layout=NCHW16c,epilogue=bias+residual+relu)",
    "conv2d(ci=64,h=5,w=9,co=32,k=1,layout=NCHW32c)",
    "conv2d(n=2,ci=16,h=9,w=7,co=48,k=3x2,stride=2,pad=0x1,layout=NCHW16c,epilogue=bias)",
]


def with_tiles() -> Target:
    features = tuple(sorted({*HOST.features, "amx-tile", "amx-bf16"}))
    return replace(HOST, cpu="sapphirerapids", features=features)


class Registers:
    """The state of the matrix registers, and the instructions that change it."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []  # rows and bytes of a row
        self.rows: dict[int, npt.NDArray[np.uint8]] = {}

    def ldtilecfg(self, address: int) -> None:
        data = ctypes.string_at(address, 64)
        assert data[0] == 1
        assert not any(data[1:16])
        widths = [int.from_bytes(data[16 + 2 * n : 18 + 2 * n], "little") for n in range(8)]
        self.shapes = list(zip(data[48:56], widths, strict=True))
        assert all(0 < rows <= 16 and 0 < width <= 64 for rows, width in self.shapes)

    def tilerelease(self) -> None:
        self.shapes, self.rows = [], {}

    def tilezero(self, number: int) -> None:
        self.rows[number] = np.zeros(self.shapes[number], np.uint8)

    def tileloadd64(self, number: int, address: int, stride: int) -> None:
        rows, width = self.shapes[number]
        data = [ctypes.string_at(address + row * stride, width) for row in range(rows)]
        self.rows[number] = np.frombuffer(b"".join(data), np.uint8).reshape(rows, width)

    def tilestored64(self, number: int, address: int, stride: int) -> None:
        for row, data in enumerate(self.rows[number]):
            ctypes.memmove(address + row * stride, data.tobytes(), len(data))

    def tdpbf16ps(self, total: int, left: int, right: int) -> None:
        a, b = (self.rows[n].view(ml_dtypes.bfloat16).astype(np.float32) for n in (left, right))
        pairs = b.reshape(len(b), -1, 2)
        assert a.shape[1] == 2 * len(b)
        product = np.einsum("mkp,knp->mn", a.reshape(len(a), -1, 2), pairs)
        self.rows[total] = (self.rows[total].view(np.float32) + product).astype(np.float32).view(np.uint8)


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ldtilecfg": (ctypes.c_void_p,),
    "tilerelease": (),
    "tilezero": (ctypes.c_uint8,),
    "tileloadd64": (ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64),
    "tilestored64": (ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64),
    "tdpbf16ps": (ctypes.c_uint8, ctypes.c_uint8, ctypes.c_uint8),
}


def emulated(program: Program, workload: Workload) -> npt.NDArray[Any]:
    """The output of ``program``, with calls instead of the instructions."""
    registers, kept = Registers(), list[Callable[..., None]]()
    for name, types in _ARGUMENTS.items():
        function = ctypes.CFUNCTYPE(None, *types)(getattr(registers, name))
        llvm.add_symbol(f"emulated.{name}", ctypes.cast(function, ctypes.c_void_p).value)
        kept.append(function)
    ir, count = re.subn(r"@llvm\.x86\.(\w+)\(", r"@emulated.\1(", program.ir.replace("@llvm.x86.avx512bf16", "@keep"))
    assert count
    return compute(replace(program, ir=ir.replace("@keep", "@llvm.x86.avx512bf16")), HOST, random_arrays(workload, 0))


def chosen(workload: Workload, target: Target, **wanted: str) -> list[dict[str, Any]]:
    """The default, and two legal configurations in which knobs have the values that are wanted."""
    template = template_for(workload, target)
    space = template.space(workload, target)
    drawn = space.sample(np.random.default_rng(1), 20000)
    legal = drawn[~template.illegal(workload, target, space.columns(drawn))].tolist()
    configs = (space.config(index) for index in legal)
    found = [config for config in configs if all(config.get(name, value) == value for name, value in wanted.items())]
    assert len(found) >= 2
    default = template.default(workload, target)
    return [{**default, **{name: value for name, value in wanted.items() if name in default}}, *found[:2]]


@X86
@pytest.mark.parametrize("key", [*KEYS, *PRODUCTS, *SPLIT])
def test_the_instructions_give_the_result_of_the_reference(key: str) -> None:
    workload, target = parse(key), with_tiles()
    algorithm = "split" if key in SPLIT else "direct"
    expected = reference(workload, random_arrays(workload, seed=0))
    for config in chosen(workload, target, unit="matrices", algorithm=algorithm):
        program = build(workload, template_for(workload, target).schedule(workload, target, config), target)
        difference = np.subtract(emulated(program, workload), expected, dtype=np.float64)
        assert np.abs(difference).max() <= TOLERANCES[workload.text("dtype")] * np.abs(expected).max(), config


@X86
@pytest.mark.parametrize("unit", ["matrices", "vectors"])
@pytest.mark.parametrize("key", SPLIT)
def test_float32_by_three_products_of_bfloat16_keeps_its_error(key: str, unit: str) -> None:
    workload, target = parse(key), with_tiles()
    for config in chosen(workload, target, algorithm="split", unit=unit)[unit == "vectors" :]:
        schedule = template_for(workload, target).schedule(workload, target, config)
        assert "where 0 <= p + q < 2" in str(nest_of(workload, schedule))  # three of four products
        assert error(workload, schedule, HOST) <= 1e-5, config


def test_float32_is_split_only_where_there_are_registers_for_matrices() -> None:
    workload = parse(SPLIT[0])

    def algorithms(target: Target) -> tuple[Any, ...]:
        knobs = template_for(workload, target).space(workload, target).knobs
        return next(knob.values for knob in knobs if knob.name == "algorithm")

    assert ("split" in algorithms(HOST)) == HOST.has_tiles
    assert "split" in algorithms(with_tiles())
    strict = parse(SPLIT[0].replace(")", ",tolerance=1e-6)"))
    by_default = [template_for(w, with_tiles()).default(w, with_tiles())["algorithm"] for w in (workload, strict)]
    assert by_default == ["split", "direct"]


@pytest.mark.parametrize("key", ["conv2d(ci=4,h=5,w=5,co=4,k=1)", CHANNELS])
def test_what_cannot_be_split_is_refused(key: str) -> None:
    with pytest.raises(ScheduleError, match="split is for operands of float32 in a blocked layout"):
        nest_of(parse(key), Schedule((Algorithm("conv2d", "split"),)))


@X86
@pytest.mark.parametrize("key", [*KEYS, *PRODUCTS])
def test_without_such_registers_the_same_schedule_is_done_by_vectors(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, with_tiles())
    assert_right(workload, template.schedule(workload, with_tiles(), template.default(workload, with_tiles())), HOST)


@pytest.mark.skipif(not HOST.has_tiles, reason="this machine has no AMX")
@pytest.mark.parametrize("key", [*KEYS, *PRODUCTS, *SPLIT])
def test_the_registers_of_this_machine_give_the_result_of_the_reference(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, HOST)
    assert_right(workload, template.schedule(workload, HOST, template.default(workload, HOST)), HOST)


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
