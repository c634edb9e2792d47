"""Runs programs in this process, between guards: a write beside an array is noticed, a value read there is NaN."""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import build
from tuner.codegen.cpu import Module, load
from tuner.codegen.program import Program
from tuner.dtype import DTYPES
from tuner.kernel import Kernel, aligned
from tuner.schedule import Schedule
from tuner.target import ISAS, Target
from tuner.workload import Workload, random_arrays, reference

_LEAST_EXACT = {"winograd6": 2e-5, "winograd7": 5e-5}  # of few channels, see docs/winograd.md
GUARD = 1024  # elements on either side of each array
TOLERANCES = {"float32": 1e-5, "bfloat16": 4e-3}  # of the largest value of the reference; 2^-8 is one rounding


def available_isas() -> list[str]:
    """The families of vector instructions that this machine can be limited to; its own alone when it is no x86."""
    own = Target.host().isa
    return list(ISAS[ISAS.index(own) :]) if own in ISAS else [own]


class Guarded:
    """An array that begins at a cache line and lies between two guards of NaN, of whatever type they are read as."""

    def __init__(self, size: int, dtype: np.dtype[Any] = DTYPES["float32"]) -> None:
        self.memory = aligned(size + 2 * GUARD, dtype)
        self.memory.view(np.uint8).fill(0xFF)
        self.array = self.memory[GUARD : GUARD + size]

    @property
    def intact(self) -> bool:
        return bool(np.isnan(self.memory[:GUARD]).all() and np.isnan(self.memory[-GUARD:]).all())


def allowed(workload: Workload, schedule: Schedule) -> float:
    """The largest error of a right result of that schedule, as ``error`` has it."""
    return max(_LEAST_EXACT.get(schedule.algorithm, 0.0), TOLERANCES[workload.text("dtype")])


def compute(
    program: Program,
    target: Target,
    arrays: dict[str, npt.NDArray[Any]],
    load: Callable[[str, Target], Module] = load,
) -> npt.NDArray[Any]:
    """The output of ``program``. All that it may write to starts as NaN, so nothing is right by chance."""
    guarded = {argument.name: Guarded(argument.size, argument.stored) for argument in program.arguments}
    guarded["workspace"] = Guarded(program.workspace_bytes // 4)
    for argument in program.arguments[:-1]:
        array = arrays[argument.name]
        guarded[argument.name].array[:] = (argument.packing.apply(array) if argument.packing else array).reshape(-1)
    module = load(program.ir, target)
    pointers = (ctypes.c_void_p * len(guarded))(*(item.array.ctypes.data for item in guarded.values()))
    module.function("kernel", ctypes.c_void_p)(pointers)
    damaged = [name for name, item in guarded.items() if not item.intact]
    assert not damaged, f"written beside {', '.join(damaged)}"
    output = program.arguments[-1]
    return guarded[output.name].array.reshape(output.shape)


def error(workload: Workload, schedule: Schedule, target: Target) -> float:
    """Largest difference from the reference, relative to the largest value. Raises ScheduleError.

    Operands count as well: the few outputs of a small workload may all be sums that cancel, or cut off by ReLU.
    """
    program = build(workload, schedule, target)
    arrays = random_arrays(workload, seed=0)
    expected = reference(workload, arrays)
    result = compute(program, target, arrays)
    difference = np.subtract(result, expected, dtype=np.float64)
    return float(np.abs(difference).max() / max(np.abs(array).max() for array in (expected, *arrays.values())))


def assert_right(workload: Workload, schedule: Schedule, target: Target) -> None:
    """``schedule`` gives the reference's result (a NaN is no result)."""
    assert error(workload, schedule, target) <= allowed(workload, schedule), f"{workload}\n{schedule}"


def run_once(kernel: Kernel, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Call ``kernel`` with operands by name."""
    return kernel(*(arrays[argument.name] for argument in kernel.inputs))
