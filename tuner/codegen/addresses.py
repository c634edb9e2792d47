"""Addresses: chains of pointers from the outermost loop inwards, each link in the body of the loop that it moves with.

So nothing needs to be hoisted out of a loop afterwards. What is known when the code is written is a constant.
"""

from dataclasses import dataclass
from math import gcd

from tuner.codegen.arithmetic import ArithmeticWriter
from tuner.codegen.instructions import Instructions
from tuner.codegen.text import identifier
from tuner.dtype import item_bytes
from tuner.loopnest import Affine, Buffer

ALIGNMENT = 64  # bytes; of the workspace and of everything the kernel allocates
ELEMENTS = {"float32": "float", "bfloat16": "i16"}  # of the types of buffers, as they are loaded and stored


@dataclass(frozen=True)
class Counter:
    """Where a loop stands: a known number, or an SSA value found in the stretch of text ``depth``.

    ``unit`` is 1 when the value counts turns, and the loop's step when it is already a distance along the axis.
    """

    value: int | str
    depth: int
    unit: int = 1


class AddressWriter(ArithmeticWriter):
    """Writes addresses. ``counters`` tells where each open loop stands, ``vector`` which loop is vectorized here."""

    def __init__(self, unaligned: frozenset[str], instructions: Instructions) -> None:
        super().__init__(instructions)
        self.unaligned = unaligned  # buffers that promise no alignment
        self.counters: dict[str, Counter] = {}
        self.vector: tuple[str, int] | None = None  # the vectorized loop and its lanes here

    def _stride(self, index: Affine) -> int:
        """Distance between neighbouring lanes; 0 when all lanes use the same element."""
        return int(index.coefficient(self.vector[0])) if self.vector else 0

    def _split(self, index: Affine) -> tuple[list[tuple[int, str, int]], int]:
        """The terms that are not known here as (depth, value, factor), outermost first, and the sum of the known."""
        constant = int(index.constant)
        dynamic: list[tuple[int, str, int]] = []
        lanes, counters = self.vector[0] if self.vector else None, self.counters
        for name, coefficient in index.terms:
            if name == lanes:
                continue
            counter = counters[name]
            value, factor = counter.value, int(coefficient)
            if counter.unit != 1:
                factor //= counter.unit
            if isinstance(value, int):
                constant += value * factor
            elif factor:
                dynamic.append((counter.depth, value, factor))
        if len(dynamic) > 1:
            dynamic.sort(key=lambda term: term[0])
        return dynamic, constant

    def _pointer(self, buffer: Buffer, index: Affine) -> tuple[str, int]:
        """The pointer to the start that the running loops give, and a constant distance from it in elements."""
        dynamic, constant = self._split(index)
        pointer, element = identifier(buffer.name), ELEMENTS[buffer.dtype]
        for depth, value, factor in dynamic:
            stretch = self.stretches[depth]
            key = (pointer, value, factor)
            if key not in stretch.known:
                offset, following = f"%{self._fresh('o')}", f"%{self._fresh('p')}"
                stretch.top.append(f"  {offset} = mul nsw i64 {value}, {factor}")
                stretch.top.append(f"  {following} = getelementptr {element}, ptr {pointer}, i64 {offset}")
                stretch.known[key] = following
            pointer = stretch.known[key]
        return pointer, constant

    def _address(self, pointer: str, constant: int, element: str) -> str:
        if not constant:
            return pointer
        address = f"%{self._fresh('p')}"
        self._line(f"{address} = getelementptr {element}, ptr {pointer}, i64 {constant}")
        return address

    def _integer(self, index: Affine) -> tuple[int | str, int]:
        """The value of an affine expression of the running loops, as a number or an SSA value, and its depth."""
        dynamic, constant = self._split(index)
        total: int | str = constant
        deepest = 0
        for depth, value, factor in dynamic:
            stretch = self.stretches[depth]
            key = (f"{total} +", value, factor)
            if key not in stretch.known:
                term, following = f"%{self._fresh('t')}", f"%{self._fresh('n')}"
                stretch.top.append(f"  {term} = mul nsw i64 {value}, {factor}")
                stretch.top.append(f"  {following} = add nsw i64 {total}, {term}")
                stretch.known[key] = following
            total, deepest = stretch.known[key], depth
        return total, deepest

    def _inside(self, index: Affine, bound: int) -> bool | str:
        """Whether ``0 <= index < bound``: known, or an SSA value; one unsigned comparison tests both sides."""
        value, depth = self._integer(index)
        if isinstance(value, int):
            return 0 <= value < bound
        stretch = self.stretches[depth]
        key = (f"{value} <", "", bound)
        if key not in stretch.known:
            stretch.known[key] = f"%{self._fresh('in')}"
            stretch.top.append(f"  {stretch.known[key]} = icmp ult i64 {value}, {bound}")
        return stretch.known[key]

    def _alignment(self, buffer: Buffer, index: Affine) -> int:
        """What is known of the address: operands that come from outside promise nothing, ours begin at a cache line."""
        size = item_bytes(buffer.dtype)
        if buffer.name in self.unaligned:
            return size
        common = ALIGNMENT // size
        dynamic, constant = self._split(index)
        for number in (constant, *(factor for _, _, factor in dynamic)):
            common = gcd(common, number)
        return size * common
