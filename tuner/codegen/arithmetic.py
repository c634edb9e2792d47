"""Operations on values, with no word on memory: arithmetic in float32, and what bfloat16 needs to take part in it.

A bfloat16 is the upper half of a float32. As it lies in memory it is an ``i16`` here, and two of them side by side are
an ``i32`` with the first in the lower half: what instructions for dot products take, and without those a shift and a
mask away from two float32.
"""

import struct

from tuner.codegen.instructions import Instructions
from tuner.codegen.text import Value, Writer, vector_type


class ArithmeticWriter(Writer):
    """Writes operations on values; ``declared`` are the intrinsics that they need."""

    def __init__(self, instructions: Instructions) -> None:
        super().__init__()
        self.instructions = instructions
        self.declared: set[str] = set()
        self.converted: dict[tuple[str, str], Value] = {}  # by the name of what was converted, and how

    def _operation(self, stem: str, text: str, lanes: int, element: str = "float") -> Value:
        """The result of an instruction."""
        name = f"%{self._fresh(stem)}"
        self._line(f"{name} = {text}")
        return Value(name, lanes, element)

    def _arithmetic(self, operator: str, left: Value, right: Value) -> Value:
        lanes = max(left.lanes, right.lanes)
        left, right = self._widen(left, lanes), self._widen(right, lanes)
        if operator == "max":
            # The left side wins where it is not smaller, so a NaN there stays, as in NumPy.
            smaller = self._operation("lt", f"fcmp olt {left.type} {left.name}, {right.name}", lanes, "i1")
            return self._operation(
                "v", f"select {smaller.type} {smaller.name}, {left.type} {right.name}, {left.type} {left.name}", lanes
            )
        return self._operation("v", f"f{operator} {left.type} {left.name}, {right.name}", lanes)

    def _multiply_add(self, left: Value, right: Value, total: Value) -> Value:
        """``left * right + total``, with one rounding where the target has an instruction for that."""
        lanes = max(total.lanes, left.lanes, right.lanes)
        left, right, total = (self._widen(item, lanes) for item in (left, right, total))
        suffix = f"v{lanes}f32" if lanes else "f32"
        self.declared.add(f"declare {total.type} @llvm.fmuladd.{suffix}({total.type}, {total.type}, {total.type})")
        arguments = ", ".join(f"{item.type} {item.name}" for item in (left, right, total))
        return self._operation("f", f"call {total.type} @llvm.fmuladd.{suffix}({arguments})", lanes)

    def _dot_product(self, left: Value, right: Value, total: Value) -> Value:
        """``total`` plus both products of two pairs of bfloat16, in each lane."""
        lanes = total.lanes
        left, right = self._widen(left, lanes), self._widen(right, lanes)
        intrinsic = self.instructions.dots.get(lanes)
        if intrinsic is None:
            for half in (self._lower, self._upper):
                total = self._multiply_add(half(left), half(right), total)
            return total
        pairs = vector_type("bfloat", 2 * lanes)
        sides = [
            self._converted(side, f"bitcast {side.type} {side.name} to {pairs}", "bfloat") for side in (left, right)
        ]
        self.declared.add(f"declare {total.type} @{intrinsic}({total.type}, {pairs}, {pairs})")
        arguments = ", ".join(f"{pairs} {side.name}" for side in sides)
        return self._operation("f", f"call {total.type} @{intrinsic}({total.type} {total.name}, {arguments})", lanes)

    # Conversions -------------------------------------------------------------------------------------------------

    def _converted(self, value: Value, text: str, element: str) -> Value:
        """``text``, an operation on ``value`` alone; found again where it was written before."""
        key = (value.name, text)
        if key not in self.converted or not value.name.startswith("%"):
            self.converted[key] = self._operation("t", text, value.lanes, element)
        return self.converted[key]

    def _lower(self, pair: Value) -> Value:
        """The first bfloat16 of each pair as float32."""
        return self._from_bits(self._converted(pair, f"shl {pair.type} {pair.name}, {_number(pair, 16)}", "i32"))

    def _upper(self, pair: Value) -> Value:
        """The second bfloat16 of each pair as float32."""
        return self._from_bits(self._converted(pair, f"and {pair.type} {pair.name}, {_number(pair, -65536)}", "i32"))

    def _from_bits(self, bits: Value) -> Value:
        type_ = vector_type("float", bits.lanes)
        return self._converted(bits, f"bitcast {bits.type} {bits.name} to {type_}", "float")

    def _with_zero(self, value: Value) -> Value:
        """Pairs of a bfloat16 and zero."""
        type_ = vector_type("i32", value.lanes)
        return self._converted(value, f"zext {value.type} {value.name} to {type_}", "i32")

    def _with(self, first: Value, second: Value) -> Value:
        """Pairs of one bfloat16 and another."""
        lower, upper = self._with_zero(first), self._with_zero(second)
        upper = self._converted(upper, f"shl {upper.type} {upper.name}, {_number(upper, 16)}", "i32")
        return self._operation("t", f"or {lower.type} {lower.name}, {upper.name}", first.lanes, "i32")

    def _to_float(self, value: Value) -> Value:
        """``value`` as float32, which is exact."""
        return value if value.element == "float" else self._lower(self._with_zero(value))

    def _to_bfloat(self, value: Value) -> Value:
        """``value`` as bfloat16, rounded to the nearest, ties to even."""
        lanes, narrow = value.lanes, vector_type("i16", value.lanes)
        if self.instructions.rounds:
            type_ = vector_type("bfloat", lanes)
            rounded = self._operation("t", f"fptrunc {value.type} {value.name} to {type_}", lanes, "bfloat")
            return self._operation("h", f"bitcast {type_} {rounded.name} to {narrow}", lanes, "i16")
        wide = vector_type("i32", lanes)
        bits = self._operation("t", f"bitcast {value.type} {value.name} to {wide}", lanes, "i32")
        half = self._operation("t", f"lshr {wide} {bits.name}, {_number(bits, 16)}", lanes, "i32")
        odd = self._operation("t", f"and {wide} {half.name}, {_number(bits, 1)}", lanes, "i32")
        biased = self._operation("t", f"add {wide} {bits.name}, {_number(bits, 0x7FFF)}", lanes, "i32")
        biased = self._operation("t", f"add {wide} {biased.name}, {odd.name}", lanes, "i32")
        rounded = self._operation("t", f"lshr {wide} {biased.name}, {_number(bits, 16)}", lanes, "i32")
        # A NaN stays one, whatever its lower half is.
        quiet = self._operation("t", f"or {wide} {half.name}, {_number(bits, 64)}", lanes, "i32")
        unordered = self._operation("t", f"fcmp uno {value.type} {value.name}, {value.name}", lanes, "i1")
        chosen = f"select {unordered.type} {unordered.name}, {wide} {quiet.name}, {wide} {rounded.name}"
        result = self._operation("t", chosen, lanes, "i32")
        return self._operation("h", f"trunc {wide} {result.name} to {narrow}", lanes, "i16")

    def _widen(self, value: Value, lanes: int) -> Value:
        return self._splat(value, lanes) if lanes and not value.lanes else value

    def _splat(self, value: Value, lanes: int) -> Value:
        type_ = vector_type(value.element, lanes)
        if not value.name.startswith("%"):
            return Value(f"splat ({value.type} {value.name})", lanes, value.element)
        one, all_ = f"%{self._fresh('b')}", f"%{self._fresh('s')}"
        self._line(f"{one} = insertelement {type_} poison, {value.type} {value.name}, i64 0")
        self._line(f"{all_} = shufflevector {type_} {one}, {type_} poison, <{lanes} x i32> zeroinitializer")
        return Value(all_, lanes, value.element)


def _number(like: Value, number: int) -> str:
    """An integer constant for each lane of ``like``."""
    return f"splat (i32 {number})" if like.lanes else str(number)


def literal(value: float) -> str:
    """A float32 as LLVM writes it: the bits of the double of the same value."""
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    return f"0x{struct.pack('>d', single).hex().upper()}"
