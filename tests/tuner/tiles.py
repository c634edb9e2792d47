"""Targets with matrix registers, and programs for them, on a machine that need not have any."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import pytest

from tests.tuner import kernels
from tests.tuner.amx_emulator import emulated
from tuner.codegen.cpu import Module
from tuner.codegen.program import Program
from tuner.target import Target

HOST = Target.host(threads=1)
X86 = pytest.mark.skipif(HOST.isa not in ("avx512", "amx"), reason="programs for AMX run on AVX-512 here")
SPLIT = [  # of float32, by products of bfloat16
    "conv2d(ci=32,h=9,w=14,co=32,k=3,pad=1,layout=NCHW16c,epilogue=bias+residual+relu)",
    "conv2d(ci=64,h=5,w=9,co=32,k=1,layout=NCHW32c)",
    "conv2d(n=2,ci=16,h=9,w=7,co=48,k=3x2,stride=2,pad=0x1,layout=NCHW16c,epilogue=bias)",
    "conv2d(n=2,ci=3,h=21,w=35,co=32,k=7,stride=2,pad=3,layout=NCHW32c,epilogue=bias+relu)",
]


def with_tiles(threads: int = 1) -> Target:
    """This machine with matrix registers: only their instructions are emulated, no others that it lacks."""
    features = tuple(sorted({*HOST.features, "amx-tile", "amx-bf16"}))
    return replace(HOST, features=features, threads=threads)


def compute(
    program: Program, target: Target, arrays: dict[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[Any], Counter[str]]:
    """The output of ``program``, and how often it executed which instruction; unknown where the registers are real."""
    if HOST.has_tiles:
        return kernels.compute(program, target, arrays), Counter()
    with emulated() as emulator:  # without load, which asks the system for the registers
        return kernels.compute(program, target, arrays, Module), emulator.executed
