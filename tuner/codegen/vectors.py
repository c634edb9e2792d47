"""Vectors in memory: whole ones, parts of a register, lanes that are apart, and lanes that do not exist.

A vector that fills no register is a value of the next power of two all the same, whose last lanes nobody looks at.
Stores of lanes that lie apart are held back, to be joined with those of their neighbours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.codegen.addresses import AddressWriter
from tuner.codegen.instructions import Instructions
from tuner.codegen.text import Value, vector_type
from tuner.errors import ScheduleError
from tuner.loopnest import Condition

NEAR = 4  # elements: lanes that lie so far apart are taken out of whole vectors, others are loaded one by one
SIZES = {"float": 4, "i16": 2, "i32": 4}  # bytes
_SUFFIXES = {"float": "f32", "i16": "i16", "i32": "i32"}  # in the names of intrinsics


@dataclass(frozen=True)
class Later:
    """An operation on what is stored, by a number or by the elements of an operand that lie as those stored do.

    ``ahead`` is how many elements further from its pointer than the stored ones they are; None for a number.
    """

    operator: str
    operand: str  # the literal, or the pointer
    ahead: int | None = None


@dataclass(frozen=True)
class Scattered:
    """A vector store whose lanes lie ``stride`` elements apart, held back to be joined with its neighbours.

    Only the first ``lanes`` of the value are stored, after the operations that are left to do.
    """

    buffer: str
    pointer: str
    constant: int
    stride: int
    lanes: int
    value: Value
    later: tuple[Later, ...] = ()


class VectorWriter(AddressWriter):
    """Writes loads and stores of vectors."""

    def __init__(self, unaligned: frozenset[str], instructions: Instructions) -> None:
        super().__init__(unaligned, instructions)
        self.scattered: list[Scattered] = []

    def _lanes(self, stride: int) -> int:
        """How many lanes an access has here that moves by ``stride`` from one to the next; 0 when it is a scalar."""
        return self.vector[1] if self.vector and stride else 0

    def _width(self, lanes: int) -> int:
        """The lanes of the values that stand for so many: a whole register, where LLVM would put pieces together."""
        whole = 1 << (lanes - 1).bit_length()
        return whole if 4 < whole <= self.instructions.lanes else lanes  # three lanes are two pieces: masks cost more

    def _store_part(self, vector: Value, count: int, address: str, align: int) -> None:
        """Store the first ``count`` lanes of a vector; a scalar as it is."""
        type_, lanes = vector.type, vector.lanes
        if count == lanes:
            self._line(f"store {type_} {vector.name}, ptr {address}, align {align}")
            return
        suffix, mask_type = f"v{lanes}{_SUFFIXES[vector.element]}.p0", f"<{lanes} x i1>"
        self.declared.add(f"declare void @llvm.masked.store.{suffix}({type_}, ptr, i32, {mask_type})")
        arguments = f"{type_} {vector.name}, ptr {address}, i32 {align}, {mask_type} {_first(count, lanes)}"
        self._line(f"call void @llvm.masked.store.{suffix}({arguments})")

    def _load_part(
        self, count: int, lanes: int, element: str, address: str, align: int, masks: Sequence[str] = ()
    ) -> Value:
        """The first ``count`` of ``lanes`` from memory where all ``masks`` hold, else zeros; nothing is read there."""
        type_, mask_type = vector_type(element, lanes), f"<{lanes} x i1>"
        masks = [*masks, *([_first(count, lanes)] if count < lanes else [])]
        if not masks:
            return self._operation("l", f"load {type_}, ptr {address}, align {align}", lanes, element)
        suffix = f"v{lanes}{_SUFFIXES[element]}.p0"
        self.declared.add(f"declare {type_} @llvm.masked.load.{suffix}(ptr, i32, {mask_type}, {type_})")
        known = self.stretches[-1].masks
        mask = known.get(tuple(masks)) or known.setdefault(tuple(masks), self._all(masks, mask_type))
        arguments = f"ptr {address}, i32 {align}, {mask_type} {mask}, {type_} zeroinitializer"
        return self._operation("l", f"call {type_} @llvm.masked.load.{suffix}({arguments})", lanes, element)

    def _strided(
        self, pointer: str, constant: int, stride: int, lanes: int, element: str, border: tuple[Condition, ...]
    ) -> Value:
        """Lanes that lie ``stride`` elements apart: whole vectors of all that lies between, and the lanes out of these.

        The last vector ends with the last lane, so nothing beside the array is read.
        """
        width, span = self._width(lanes), (lanes - 1) * stride + 1
        starts = [*range(0, span - width, width), max(span - width, 0)]
        sources = []
        for start in starts:
            address, masks = self._address(pointer, constant + start, element), self._mask(border, start, width, stride)
            sources.append(self._load_part(min(span, width), width, element, address, SIZES[element], masks))
        chosen, type_ = sources[0], vector_type(element, width)
        for number in range(1, max(len(sources), 2)):
            order = []
            for lane in range(width):
                source = next(n for n, start in enumerate(starts) if lane * stride < start + width or lane >= lanes)
                before = lane if number > 1 else lane * stride
                place = before if source < number else width + lane * stride - starts[number]
                order.append("i32 poison" if lane >= lanes or source > number else f"i32 {place}")
            other = sources[number].name if number < len(sources) else "poison"
            text = f"shufflevector {type_} {chosen.name}, {type_} {other}, <{width} x i32> <{', '.join(order)}>"
            chosen = self._operation("g", text, width, element)
        return chosen

    def _gather(self, pointer: str, constant: int, stride: int, lanes: int, element: str) -> Value:
        width = self._width(lanes)
        vector, type_ = "poison", vector_type(element, width)
        for lane in range(lanes):
            one, following = f"%{self._fresh('e')}", f"%{self._fresh('g')}"
            address = self._address(pointer, constant + lane * stride, element)
            self._line(f"{one} = load {element}, ptr {address}, align {SIZES[element]}")
            self._line(f"{following} = insertelement {type_} {vector}, {element} {one}, i64 {lane}")
            vector = following
        return Value(vector, width, element)

    def _mask(self, conditions: Sequence[Condition], first: int, lanes: int, apart: int) -> list[str]:
        """Where ``conditions`` hold for elements of a row of which the vectorized loop takes every ``apart``-th one.

        The elements are ``lanes`` from the ``first`` after the loop's own first one. No mask where all hold.
        """
        masks: list[str] = []
        for affine, bound in conditions:
            assert self.vector
            step = self._stride(affine) // apart
            start, _ = self._integer(affine)
            offsets = [(first + lane) * step for lane in range(lanes)]
            if isinstance(start, int):
                inside = [0 <= start + offset < bound for offset in offsets]
                masks += [] if all(inside) else [_bits(inside)]
                continue
            key = (start, *offsets, bound)
            known = self.stretches[-1].masks
            if key not in known:
                known[key] = self._test(start, offsets, bound)
            masks.append(known[key])
        return masks

    def _test(self, start: str, offsets: Sequence[int], bound: int) -> str:
        """In which lanes ``0 <= start + offset < bound``."""
        kind = f"<{len(offsets)} x i64>"
        one, all_, sum_, test = (f"%{self._fresh(stem)}" for stem in ("b", "s", "a", "in"))
        self._line(f"{one} = insertelement {kind} poison, i64 {start}, i64 0")
        self._line(f"{all_} = shufflevector {kind} {one}, {kind} poison, <{len(offsets)} x i32> zeroinitializer")
        self._line(f"{sum_} = add {kind} {all_}, <{', '.join(f'i64 {offset}' for offset in offsets)}>")
        self._line(f"{test} = icmp ult {kind} {sum_}, splat (i64 {bound})")
        return test

    def _check_mask(self) -> None:
        """Refuse what LLVM does wrong: it loses part of the mask when it cuts a masked load in two."""
        widest = self.instructions.lanes
        if self.vector and self.vector[1] > widest:
            raise ScheduleError(f"a padded row can be vectorized by at most the {widest} lanes of a register")

    def _close(self) -> None:
        """Write the scattered stores that were held back; those to neighbouring elements as transposed blocks."""
        held, self.scattered = self.scattered, []
        families: dict[tuple[str, int, int, int, tuple[Later, ...]], dict[int, Value]] = {}
        for item in held:
            family = families.setdefault((item.pointer, item.stride, item.lanes, item.value.lanes, item.later), {})
            family[item.constant] = item.value
        for (pointer, stride, lanes, width, later), columns in families.items():
            for start, run in _runs(columns, 1 << (width.bit_length() - 1)):
                if len(run) > 2 and width & (width - 1) == 0:
                    self._transposed(pointer, start, stride, lanes, run, later)
                else:
                    for number, value in enumerate(run):
                        self._scatter(pointer, start + number, stride, lanes, value, later)

    def _scatter(
        self, pointer: str, constant: int, stride: int, lanes: int, value: Value, later: Sequence[Later]
    ) -> None:
        for each in later:
            other = Value(each.operand)
            if each.ahead is not None:
                other = self._gather(each.operand, constant + each.ahead, stride, lanes, value.element)
            value = self._arithmetic(each.operator, value, other)
        for lane in range(lanes):
            address = self._address(pointer, constant + lane * stride, value.element)
            element = f"%{self._fresh('e')}"
            self._line(f"{element} = extractelement {value.type} {value.name}, i64 {lane}")
            self._line(f"store {value.element} {element}, ptr {address}, align {SIZES[value.element]}")

    def _transposed(
        self, pointer: str, start: int, stride: int, rows: int, columns: Sequence[Value], later: Sequence[Later]
    ) -> None:
        """Store the first ``rows`` lanes of vectors, which are rows in memory, as such."""
        lanes, width, element = columns[0].lanes, 1 << (len(columns) - 1).bit_length(), columns[0].element
        type_, count, whole = vector_type(element, lanes), len(columns), self._width(len(columns))
        vectors = self._interleaved(columns, width)
        for row in range(rows):
            vector, first = vectors[row * width // lanes], row * width % lanes
            place, value = start + row * stride, Value(vector, lanes, element)
            address = self._address(pointer, place, element)
            if width < lanes:  # else a row is a register; what lies behind a short one is not written
                order = ", ".join(f"i32 {first + i}" if i < count else "i32 poison" for i in range(whole))
                text = f"shufflevector {type_} {vector}, {type_} poison, <{whole} x i32> <{order}>"
                value = self._operation("r", text, whole, element)
            for each in later:
                other = Value(each.operand)
                if each.ahead is not None:
                    beside = self._address(each.operand, place + each.ahead, element)
                    other = self._load_part(count, value.lanes, element, beside, SIZES[element])
                value = self._arithmetic(each.operator, value, other)
            self._store_part(value, count, address, SIZES[element])

    def _interleaved(self, columns: Sequence[Value], width: int) -> list[str]:
        """Vectors that hold ``columns``, filled up to ``width`` of them, row by row.

        ``log2`` rounds of interleaving halves transpose them: seen as one array of ``width * lanes`` elements, each
        round turns the bits of the element's number by one.
        """
        lanes, element, type_ = columns[0].lanes, columns[0].element, columns[0].type
        vectors = [value.name for value in columns] + ["poison"] * (width - len(columns))
        for round_ in range(width.bit_length() - 1):
            half, turned = width // 2, list[str]()
            for left, right in zip(vectors[:half], vectors[half:], strict=True):
                for first in (0, lanes // 2):
                    order = ", ".join(f"i32 {first + i // 2 + (i % 2) * lanes}" for i in range(lanes))
                    turned.append(f"%{self._fresh('x')}")
                    self._line(
                        f"{turned[-1]} = shufflevector {type_} {left}, {type_} {right}, <{lanes} x i32> <{order}>"
                    )
            vectors = turned
            if round_ % 2 and element == "float" and lanes <= self.instructions.lanes:
                vectors = [self._apart(vector, type_, lanes) for vector in vectors]
        return vectors

    def _apart(self, vector: str, type_: str, lanes: int) -> str:
        """The same vector, but LLVM sees nothing of how it was made.

        It tries to join each shuffle with all that came before: half of the time of compiling a transposition.
        """
        self.declared.add(f"declare {type_} @llvm.arithmetic.fence.v{lanes}f32({type_})")
        text = f"call {type_} @llvm.arithmetic.fence.v{lanes}f32({type_} {vector})"
        return self._operation("x", text, lanes).name


def _runs(columns: Mapping[int, Value], longest: int) -> Iterator[tuple[int, list[Value]]]:
    """Stretches of consecutive keys, cut to at most ``longest``, with their values."""
    run: list[Value] = []
    start = 0
    for key in sorted(columns):
        if run and (key != start + len(run) or len(run) == longest):
            yield start, run
            run = []
        if not run:
            start = key
        run.append(columns[key])
    if run:
        yield start, run


def _first(count: int, lanes: int) -> str:
    """The mask of the first ``count`` lanes."""
    return _bits([lane < count for lane in range(lanes)])


def _bits(mask: Sequence[bool]) -> str:
    return f"<{', '.join(f'i1 {str(bit).lower()}' for bit in mask)}>"
