"""Runs programs in this process, between guards: a write beside an array is noticed, a value read there is NaN."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import build
from tuner.codegen.cpu import load
from tuner.codegen.program import Program
from tuner.kernel import aligned
from tuner.schedule import Schedule
from tuner.target import ISAS, Target
from tuner.workload import Workload, random_arrays, reference

GUARD = 1024  # elements on either side of each array
TOLERANCE = 1e-5  # of the largest value of the reference


def available_isas() -> list[str]:
    """The families of vector instructions that this machine can be limited to; its own alone when it is no x86."""
    own = Target.host().isa
    return list(ISAS[ISAS.index(own) :]) if own in ISAS else [own]


class Guarded:
    """A float32 array that begins at a cache line and lies between two guards of NaN."""

    def __init__(self, size: int) -> None:
        self.memory = aligned(size + 2 * GUARD)
        self.memory[:] = np.nan
        self.array = self.memory[GUARD : GUARD + size]

    @property
    def intact(self) -> bool:
        return bool(np.isnan(self.memory[:GUARD]).all() and np.isnan(self.memory[-GUARD:]).all())


def compute(program: Program, target: Target, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """The output of ``program``. All that it may write to starts as NaN, so nothing is right by chance."""
    guarded = {argument.name: Guarded(argument.size) for argument in program.arguments}
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
    """Largest difference from the reference, relative to its largest value. Raises ScheduleError."""
    program = build(workload, schedule, target)
    arrays = random_arrays(workload, seed=0)
    expected = reference(workload, arrays)
    result = compute(program, target, arrays)
    return float(np.abs(result - expected).max() / (np.abs(expected).max() or 1.0))


def assert_right(workload: Workload, schedule: Schedule, target: Target) -> None:
    """``schedule`` gives the reference's result (a NaN is no result)."""
    assert error(workload, schedule, target) <= TOLERANCE, f"{workload}\n{schedule}"
