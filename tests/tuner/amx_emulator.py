"""The matrix registers of x86 (AMX) for a machine that has none: machine code runs, and what traps is done by NumPy.

Such a machine raises SIGILL at each of their instructions. A handler reads the instruction that the program counter
points at, does to the registers of its thread and to memory what the manual says, counts it, and lets the program go on
behind it. What a processor would refuse (a tile that is not configured, shapes that do not fit) ends in ``faults``. Any
other illegal instruction goes the way it went before.

Source: Intel, Architecture Instruction Set Extensions Programming Reference, chapter on AMX.
"""

import ctypes
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

_TILES, _ROWS, _WIDTH = 8, 16, 64  # of palette 1: registers, and their rows and bytes of a row at most
_LEAST = np.finfo(np.float32).tiny  # the least normal number

# In struct ucontext_t of Linux on x86-64: where the general registers are, in which order, and the program counter.
_PLACES = {number: 40 + 8 * n for n, number in enumerate((8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4))}
_COUNTER = 168

# By opcode, prefix (0 none, 1 is 66, 2 is F3, 3 is F2) and whether the operand is in memory.
_NAMES = {
    (0x49, 0, True): "ldtilecfg",
    (0x49, 0, False): "tilerelease",
    (0x49, 3, False): "tilezero",
    (0x4B, 3, True): "tileloadd",
    (0x4B, 1, True): "tileloaddt1",
    (0x4B, 2, True): "tilestored",
    (0x5C, 2, False): "tdpbf16ps",
}


class FaultError(Exception):
    """What a processor refuses."""


class Tiles:
    """The matrix registers of one thread."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []  # rows and bytes of a row; none without configuration
        self.data = np.zeros((_TILES, _ROWS, _WIDTH), np.uint8)

    def configure(self, memory: bytes) -> None:
        widths = np.frombuffer(memory, np.uint16, 16, offset=16).tolist()
        rows = list(memory[48:])
        if memory[0] != 1 or any(memory[1:16]) or any(widths[_TILES:]) or any(rows[_TILES:]):
            raise FaultError("ldtilecfg: not palette 1, a row to start with, or reserved bytes that are not zero")
        self.release()
        self.shapes = list(zip(rows[:_TILES], widths[:_TILES], strict=True))
        if any(rows > _ROWS or width > _WIDTH or bool(rows) != bool(width) for rows, width in self.shapes):
            raise FaultError(f"ldtilecfg: no palette has tiles of {self.shapes} rows and bytes")

    def release(self) -> None:
        self.shapes = []
        self.data[:] = 0

    def shape(self, number: int) -> tuple[int, int]:
        if not self.shapes or number >= _TILES or not self.shapes[number][0]:
            raise FaultError(f"tile {number} is not configured")
        return self.shapes[number]

    def zero(self, number: int) -> None:
        self.shape(number)
        self.data[number] = 0

    def load(self, number: int, address: int, stride: int) -> None:
        rows, width = self.shape(number)
        self.data[number] = 0
        for row in range(rows):
            self.data[number, row, :width] = np.frombuffer(ctypes.string_at(address + row * stride, width), np.uint8)

    def store(self, number: int, address: int, stride: int) -> None:
        rows, width = self.shape(number)
        for row in range(rows):
            ctypes.memmove(address + row * stride, self.data[number, row].tobytes(), width)

    def product(self, total: int, left: int, right: int) -> None:
        (rows, width), (height, depth), (steps, across) = map(self.shape, (total, left, right))
        if len({total, left, right}) < 3 or (rows, width, depth) != (height, across, 4 * steps) or width % 4:
            raise FaultError(
                f"tdpbf16ps: tiles {total}, {left}, {right} of {rows, width}, {height, depth}, {steps, across}"
            )
        sums = np.zeros((rows, width // 4, 2), np.float32)  # the two of a pair are summed up apart
        with np.errstate(all="ignore"):
            # Elements [step, row, 1, of a pair] and [step, 1, column, of a pair].
            a = _wide(self.data[left, :rows, :depth]).reshape(rows, steps, 1, 2).swapaxes(0, 1)
            b = _wide(self.data[right, :steps, :width]).reshape(steps, 1, width // 4, 2)
            for product in a * b:
                sums = _normal(sums + product)
            result = self.data[total, :rows, :width].view(np.float32)
            result[:] = _normal(_normal(result) + _normal(sums[..., 0] + sums[..., 1]))


def _wide(narrow: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The values of bfloat16, denormal ones as zero."""
    return _normal((narrow.view(np.uint16).astype(np.uint32) << 16).view(np.float32))


def _normal(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Denormal values as zero. A product of two bfloat16 is exact unless it is one."""
    return np.where(np.abs(values) < _LEAST, values * np.float32(0), values)


class Emulator:
    """The registers of all threads. ``executed`` counts instructions, ``faults`` are what a processor would refuse."""

    def __init__(self) -> None:
        self.executed: Counter[str] = Counter()
        self.threads: dict[int, Tiles] = {}
        self.faults: list[str] = []

    def step(self, context: int) -> bool:
        """Do the instruction at which a thread stopped, and go behind it; whether it is one of ours."""
        at = _word(context + _COUNTER)
        if _byte(at) != 0xC4 or _byte(at + 1) & 0x1F != 2:  # a prefix of three bytes, and the second table of opcodes
            return False
        more, wide, opcode, operands = (_byte(at + n) for n in (1, 2, 3, 4))
        mode, register, low = _fields(operands)
        name = _NAMES.get((opcode, wide & 3, mode != 3))
        if name is None or wide & 0x84 or (opcode == 0x4B and low != 4):  # W and L are zero, rows have a stride
            return False
        length, address, stride = 5, 0, 0
        if mode != 3:
            length, address, stride = _memory(context, at, mode, low, more)
        ctypes.c_int64.from_address(context + _COUNTER).value = at + length
        self.executed[name] += 1
        try:
            self._execute(name, register, low, ~wide >> 3 & 15, address, stride)
        except Exception as error:  # which must not leave the handler of a signal: the same instruction would follow
            self.faults.append(str(error))
        return True

    def _execute(self, name: str, register: int, left: int, right: int, address: int, stride: int) -> None:
        tiles = self.threads.setdefault(threading.get_ident(), Tiles())
        match name:
            case "ldtilecfg":
                tiles.configure(ctypes.string_at(address, 64))
            case "tilerelease":
                tiles.release()
            case "tilezero":
                tiles.zero(register)
            case "tileloadd" | "tileloaddt1":
                tiles.load(register, address, stride)
            case "tilestored":
                tiles.store(register, address, stride)
            case "tdpbf16ps":
                tiles.product(register, left, right)


def _memory(context: int, at: int, mode: int, low: int, more: int) -> tuple[int, int, int]:
    """The length of the instruction ``at``, the address that it names, and the index apart: the stride of rows."""

    def value(number: int) -> int:
        return _word(context + _PLACES[number])

    length, stride, indexed = 5, 0, low == 4
    if indexed:
        scale, index, low = _fields(_byte(at + 5))
        length, index = 6, index + 8 * (not more & 0x40)
        stride = value(index) << scale if index != 4 else 0
    free = mode == 0 and low == 5  # of a base: an address in the code, or as it stands
    size = 4 if free else (0, 1, 4)[mode]
    displacement = int.from_bytes(ctypes.string_at(at + length, size), "little", signed=True)
    length += size
    base = (0 if indexed else at + length) if free else value(low + 8 * (not more & 0x20))
    return length, base + displacement, stride


def _fields(byte: int) -> tuple[int, int, int]:
    """The parts of two, three and three bits that describe operands."""
    return byte >> 6, byte >> 3 & 7, byte & 7


def _byte(address: int) -> int:
    return ctypes.c_uint8.from_address(address).value


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


class _Action(ctypes.Structure):
    """struct sigaction of the C library of Linux on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_SA_SIGINFO = 4


@contextmanager
def emulated() -> Iterator[Emulator]:
    """Instructions of matrix registers are emulated in all threads of this process. A fault fails the test."""
    emulator, before = Emulator(), _Action()
    sigaction: Any = ctypes.CDLL(None).sigaction

    def handle(number: int, info: int, context: int) -> None:
        if not emulator.step(context):
            sigaction(number, ctypes.byref(before), None)  # the instruction is met again, and goes the old way

    handler = _HANDLER(handle)
    ours = _Action(handler=ctypes.cast(handler, ctypes.c_void_p), flags=_SA_SIGINFO)
    assert sigaction(signal.SIGILL, ctypes.byref(ours), ctypes.byref(before)) == 0
    try:
        yield emulator
    finally:
        sigaction(signal.SIGILL, ctypes.byref(before), None)
    assert not emulator.faults, emulator.faults[0]
    assert not any(tiles.shapes for tiles in emulator.threads.values()), "a thread did not release its registers"
