"""A kernel that runs in this process: NumPy in, NumPy out."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import build
from tuner.codegen.addresses import ALIGNMENT
from tuner.codegen.cpu import load
from tuner.codegen.program import Argument, Program
from tuner.dtype import DTYPES
from tuner.errors import ArgumentError
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import Workload


class Packed:
    """A constant operand in the layout of one kernel; made by ``Kernel.pack``."""

    def __init__(self, argument: Argument, data: npt.NDArray[Any]) -> None:
        self.argument = argument
        self.data = data


class Kernel:
    """A compiled schedule. Not safe for calls from several threads at once: they would share its workspace."""

    def __init__(self, program: Program, target: Target) -> None:
        """Raises CompileError when LLVM refuses the program."""
        self.program = program
        self.inputs: tuple[Argument, ...] = program.arguments[:-1]
        self.output: Argument = program.arguments[-1]
        self._module = load(program.ir, target)
        self._function = self._module.function("kernel", ctypes.c_void_p)
        self._workspace = aligned(max(program.workspace_bytes // 4, 1))
        self._pointers = (ctypes.c_void_p * (len(program.arguments) + 1))()
        self._pointers[len(program.arguments)] = self._workspace.ctypes.data

    def pack(self, array: npt.ArrayLike, name: str = "weight") -> Packed:
        """A constant operand in this kernel's own layout, to be packed once and used for many calls.

        Raises ArgumentError when ``name`` is not a constant operand or the shape or dtype is wrong.
        """
        argument = next((item for item in self.inputs if item.name == name and item.role == "constant"), None)
        if argument is None:
            constants = ", ".join(item.name for item in self.inputs if item.role == "constant") or "none"
            raise ArgumentError(f"{name} is not a constant operand of this kernel (it has: {constants})")
        data = self._laid_out(argument, _checked(argument, array))
        return Packed(argument, data if argument.packing else data.copy())

    def __call__(self, *operands: "npt.ArrayLike | Packed", out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """The output for ``operands`` in the order of the workload's; a constant may be given packed or as it is.

        Arrays that are not contiguous, or begin at an address that no element has, are copied; ``out``, if given, must
        be neither, writable, and of the output's shape and dtype.
        Raises ArgumentError naming the operand that has a wrong shape or dtype.
        """
        if len(operands) != len(self.inputs):
            names = ", ".join(item.name for item in self.inputs)
            raise ArgumentError(f"expected {len(self.inputs)} operands ({names}) but got {len(operands)}")
        arrays: list[npt.NDArray[Any]] = []
        for argument, value in zip(self.inputs, operands, strict=True):
            if isinstance(value, Packed):
                if value.argument != argument:
                    raise ArgumentError(f"{argument.name}: packed for another kernel or operand, pack it with this one")
                arrays.append(value.data)
            else:
                arrays.append(self._laid_out(argument, _checked(argument, value)))
        if out is None:
            out = aligned(self.output.size, self.output.stored).reshape(self.output.shape)
        elif not _is_output(out, self.output):
            wanted = f"{self.output.dtype} array of shape {self.output.shape}"
            raise ArgumentError(f"out must be a writable, aligned, contiguous {wanted}")
        elif any(np.may_share_memory(out, array) for array in arrays):
            raise ArgumentError("out shares memory with an operand, give it memory of its own")
        self.run(arrays, out)
        return out

    def run(self, arrays: Sequence[npt.NDArray[Any]], out: npt.NDArray[Any]) -> None:
        """The bare call, unchecked and without allocation: contiguous arrays as the kernel lays them out."""
        pointers = self._pointers
        for number, array in enumerate(arrays):
            pointers[number] = array.ctypes.data
        pointers[len(arrays)] = out.ctypes.data
        self._function(pointers)

    def _laid_out(self, argument: Argument, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if argument.packing is None:
            return array
        packed = aligned(argument.size, argument.stored)
        packed[:] = argument.packing.apply(array)
        return packed


def _is_output(value: object, argument: Argument) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype != argument.stored or value.shape != argument.shape:
        return False
    return value.flags.carray  # contiguous, aligned and writable


def compile_kernel(workload: Workload, schedule: Schedule, target: Target) -> Kernel:
    """The kernel of ``workload`` under ``schedule``. Raises ScheduleError or CompileError."""
    return Kernel(build(workload, schedule, target), target)


def aligned(size: int, dtype: np.dtype[Any] = DTYPES["float32"]) -> npt.NDArray[Any]:
    """An uninitialised array of ``size`` elements that begins at a cache line. Raises MemoryError."""
    count = dtype.itemsize * size
    try:
        raw = np.empty(count + ALIGNMENT, np.uint8)
    except ValueError as error:  # more than NumPy can count
        raise MemoryError(f"{count} bytes in one array: {error}") from error
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count].view(dtype)


def _checked(argument: Argument, value: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ArgumentError(f"{argument.name}: expected an array of shape {argument.shape}: {error}") from error
    if array.shape != argument.shape:
        raise ArgumentError(f"{argument.name}: expected an array of shape {argument.shape} but got {array.shape}")
    if array.dtype != DTYPES[argument.dtype]:
        cast = "'float32'" if argument.dtype == "float32" else f"ml_dtypes.{argument.dtype}"
        raise ArgumentError(f"{argument.name}: expected {argument.dtype} but got {array.dtype}, use .astype({cast})")
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy()
