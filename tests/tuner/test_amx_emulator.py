"""The emulator of matrix registers does what the manual says, and hides nothing that a processor would refuse."""

import ctypes
import signal
import subprocess
import sys

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.amx_emulator import emulated
from tuner.codegen.cpu import Module
from tuner.codegen.matrix import Shape
from tuner.kernel import aligned
from tuner.target import Target

HOST = Target.host(threads=1)
pytestmark = pytest.mark.skipif(
    HOST.has_tiles or "-linux" not in HOST.triple or not HOST.triple.startswith("x86_64"),
    reason="the emulator is for x86-64 without AMX, and Linux",
)
SHAPE = Shape(rows=3, steps=2, columns=4, sums=2).configuration
MEMORY = 4096  # bytes; the configuration is at its beginning


def memory(shape: bytes = SHAPE) -> npt.NDArray[np.uint8]:
    array = aligned(MEMORY, np.dtype(np.uint8))
    array[:] = np.arange(MEMORY) % 251
    array[:64] = np.frombuffer(shape, np.uint8)
    return array


def execute(array: npt.NDArray[np.uint8], *lines: str) -> None:
    """Run assembly in which rbx is the address of ``array``, and r12 is 96."""
    llvm.initialize_native_asmparser()
    text = "\\0A".join(lines)
    ir = f"""define void @kernel(ptr %memory) {{
  call void asm sideeffect "{text}", "{{rbx}},{{r12}},~{{r13}},~{{memory}}"(ptr %memory, i64 96)
  ret void
}}
"""
    target = Target.from_json({**HOST.to_json(), "features": sorted({*HOST.features, "amx-tile", "amx-bf16"})})
    module = Module(ir, target)
    module.function("kernel", ctypes.c_void_p)(array.ctypes.data)


@pytest.mark.parametrize(
    ("place", "first", "stride"),
    [
        ("(%rbx,%r12)", 0, 96),
        ("(%rbx,%r12,4)", 0, 384),
        ("64(%rbx,%r12,2)", 64, 192),
        ("-8(%r13,%r12)", 504, 96),
        ("1024(%r13,%r12)", 1536, 96),
        ("(%r13,%r12)", 512, 96),
        ("100(%rbx)", 100, 0),
    ],
)
def test_rows_are_read_where_the_operand_says(place: str, first: int, stride: int) -> None:
    array = memory()
    before = array.copy()
    with emulated() as emulator:
        execute(
            array,
            "ldtilecfg (%rbx)",
            "leaq 512(%rbx), %r13",
            f"tileloadd {place}, %tmm0",
            "movl $$16, %r13d",
            "tilestored %tmm0, 2048(%rbx,%r13)",
            "tilerelease",
        )
    for row in range(3):
        expected = before[first + row * stride : first + row * stride + 16]
        assert array[2048 + 16 * row : 2064 + 16 * row].tolist() == expected.tolist()
    assert array[2048 + 16 * 3 :].tolist() == before[2048 + 16 * 3 :].tolist()
    assert emulator.executed == {"ldtilecfg": 1, "tileloadd": 1, "tilestored": 1, "tilerelease": 1}


def product(left: list[float], right: list[float]) -> float:
    """What the first element of a tile of zeros becomes by a row times a column of pairs."""
    array = memory(Shape(rows=3, steps=len(left) // 2, columns=4, sums=2).configuration)
    array[1024:] = 0
    array[1024 : 1024 + 2 * len(left)] = np.array(left, ml_dtypes.bfloat16).view(np.uint8)
    pairs = np.array(right, ml_dtypes.bfloat16).view(np.uint8).reshape(-1, 4)
    for step, pair in enumerate(pairs):
        array[2048 + 96 * step : 2052 + 96 * step] = pair
    with emulated():
        execute(
            array,
            "ldtilecfg (%rbx)",
            "tilezero %tmm0",
            "tileloadd 1024(%rbx,%r12), %tmm2",
            "tileloaddt1 2048(%rbx,%r12), %tmm5",
            "tdpbf16ps %tmm5, %tmm2, %tmm0",
            "tilestored %tmm0, 3072(%rbx,%r12)",
            "tilerelease",
        )
    return float(array[3072:3076].view(np.float32)[0])


def test_the_two_of_a_pair_are_summed_up_apart_and_each_sum_is_rounded() -> None:
    assert product([2.0**24, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]) == 2.0**24 + 2  # exactly 4 more; 0 one after the other
    assert product([3, 5, 7, 11], [1, 2, 3, 4]) == 3 + 10 + 21 + 44


def test_denormal_numbers_are_zero() -> None:
    assert product([2.0**-130, 0], [2.0**100, 0]) == 0
    assert product([2.0**-100, 0], [2.0**-30, 0]) == 0
    assert product([2.0**-100, 0], [2.0**-26, 0]) == 2.0**-126


LOADED = ("ldtilecfg (%rbx)", "tilezero %tmm0", "tileloadd (%rbx,%r12), %tmm2", "tileloadd (%rbx,%r12), %tmm5")


@pytest.mark.parametrize(
    ("shape", "lines", "fault"),
    [
        (SHAPE, ("tilezero %tmm1",), "tile 1 is not configured"),
        (SHAPE, ("ldtilecfg (%rbx)", "tilerelease", "tilezero %tmm1"), "tile 1 is not configured"),
        (bytes([1]) + bytes(63), ("ldtilecfg (%rbx)", "tilezero %tmm1"), "tile 1 is not configured"),
        (bytes([2]) + SHAPE[1:], ("ldtilecfg (%rbx)",), "not palette 1"),
        (SHAPE[:63] + b"\1", ("ldtilecfg (%rbx)",), "not palette 1"),
        (SHAPE[:48] + b"\x11" + SHAPE[49:], ("ldtilecfg (%rbx)",), "no palette has tiles"),
        (SHAPE, (*LOADED, "tdpbf16ps %tmm2, %tmm5, %tmm0", "tilerelease"), "tdpbf16ps: tiles 0, 5, 2"),
        (SHAPE, ("ldtilecfg (%rbx)",), "did not release"),
    ],
)
def test_what_a_processor_refuses_fails(shape: bytes, lines: tuple[str, ...], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault), emulated():
        execute(memory(shape), *lines)


def test_any_other_illegal_instruction_ends_the_process() -> None:
    code = "from tests.tuner.test_amx_emulator import *\nwith emulated(): execute(memory(), 'ud2')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGILL, ended.stderr
