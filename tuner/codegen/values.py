"""Values and addresses: expressions, loads and stores of a loop nest as LLVM IR.

Addresses are chains of pointers from the outermost loop inwards, each link in the body of the loop whose counter it
uses, so nothing needs to be hoisted afterwards. A vectorized loop has no code of its own: while it is open, an access
that moves with it is a vector access.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from tuner.codegen.arithmetic import ArithmeticWriter, literal
from tuner.codegen.instructions import Instructions
from tuner.codegen.text import Value, identifier, vector_type
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Binary, Buffer, Condition, Constant, Expression, Load, Part, Scope, Store, Within

ALIGNMENT = 64  # bytes; of the workspace and of everything the kernel allocates
_ELEMENTS = {"float32": "float", "bfloat16": "i16"}  # of the types of buffers, as they are loaded and stored
_SUFFIXES = {"float": "f32", "i16": "i16", "i32": "i32"}  # in the names of intrinsics
_SIZES = {"float": 4, "i16": 2, "i32": 4}  # bytes
_NEAR = 4  # elements: lanes that lie so far apart are taken out of whole vectors, others are loaded one by one
STATEMENT_LIMIT = 4096  # statements written out; more is never faster and takes seconds to compile


@dataclass(frozen=True)
class _Scattered:
    """A vector store whose lanes lie ``stride`` elements apart, held back to be joined with its neighbours.

    Only the first ``lanes`` of the value are stored.
    """

    buffer: str
    pointer: str
    constant: int
    stride: int
    lanes: int
    value: Value


@dataclass(frozen=True)
class Counter:
    """Where a loop stands: a known number, or an SSA value found in region ``depth``.

    ``unit`` is 1 when the value counts turns, and the loop's step when it is already a distance along the axis.
    """

    value: int | str
    depth: int
    unit: int = 1


class ValueWriter(ArithmeticWriter):
    """Writes statements. ``counters`` tells where each open loop stands, ``vector`` which loop is vectorized here."""

    def __init__(self, unaligned: frozenset[str], instructions: Instructions) -> None:
        super().__init__(instructions)
        self.unaligned = unaligned  # buffers that promise no alignment
        self.counters: dict[str, Counter] = {}
        self.vector: tuple[str, int] | None = None  # the vectorized loop and its lanes here
        self.pair: tuple[str, int] | None = None  # the loop of a dot product, and whether it has one turn here or two
        self.border: tuple[Condition, ...] = ()  # which lanes of an operand exist here; others are zero and not read
        self.scattered: list[_Scattered] = []
        self.statements = 0

    def _store(self, store: Store) -> None:
        self.statements += 1
        if self.statements > STATEMENT_LIMIT:
            raise ScheduleError(
                f"more than {STATEMENT_LIMIT} statements are unrolled: unroll less or use smaller tiles"
            )
        if store.accumulate:
            if self._adds_nothing(store.value):
                return
            old = self._load(Load(store.buffer, store.index))
            value = self._accumulated(old, store.value)
        else:
            value = self._stored(store)
        stride = self._stride(store.index)
        lanes = self._lanes(stride)
        value = self._widen(value, self._width(lanes))
        pointer, constant = self._pointer(store.buffer, store.index)
        if not lanes or stride == 1:
            address = self._address(pointer, constant, value.element)
            whole = value.lanes if store.buffer.scope is Scope.LOCAL else lanes  # a row of the tile has room for it
            self._store_part(value, whole, address, self._alignment(store.buffer, store.index))
        else:
            self.scattered.append(_Scattered(store.buffer.name, pointer, constant, stride, lanes, value))
        self.regions[-1].loads.pop(store.buffer.name, None)

    def _stored(self, store: Store) -> Value:
        """The value of ``store`` as it will lie in memory; what is only copied is not converted there and back."""
        if isinstance(store.value, Part):
            return self._part(store.value)
        narrow = store.buffer.dtype == "bfloat16"
        if narrow and isinstance(store.value, Load | Within) and _buffer(store.value).dtype == "bfloat16":
            return self._read(store.value)
        value = self._evaluate(store.value)
        return self._to_bfloat(value) if narrow else value

    def _close(self) -> None:
        """Write the scattered stores that were held back; those to neighbouring elements as transposed blocks."""
        held, self.scattered = self.scattered, []
        families: dict[tuple[str, int, int, int], dict[int, Value]] = {}
        for item in held:
            family = families.setdefault((item.pointer, item.stride, item.lanes, item.value.lanes), {})
            family[item.constant] = item.value
        for (pointer, stride, lanes, width), columns in families.items():
            for start, run in _runs(columns, 1 << (width.bit_length() - 1)):
                if len(run) > 2 and width & (width - 1) == 0:
                    self._transposed(pointer, start, stride, lanes, run)
                else:
                    for number, value in enumerate(run):
                        self._scatter(pointer, start + number, stride, lanes, value)

    def _scatter(self, pointer: str, constant: int, stride: int, lanes: int, value: Value) -> None:
        for lane in range(lanes):
            address = self._address(pointer, constant + lane * stride, value.element)
            element = f"%{self._fresh('e')}"
            self._line(f"{element} = extractelement {value.type} {value.name}, i64 {lane}")
            self._line(f"store {value.element} {element}, ptr {address}, align {_SIZES[value.element]}")

    def _transposed(self, pointer: str, start: int, stride: int, rows: int, columns: Sequence[Value]) -> None:
        """Store the first ``rows`` lanes of vectors, which are rows in memory, as such.

        ``log2`` rounds of interleaving halves transpose them.

        Seen as one array of ``width * lanes`` elements, each round turns the bits of the element's number by one.
        """
        lanes, width, element = columns[0].lanes, 1 << (len(columns) - 1).bit_length(), columns[0].element
        type_ = vector_type(element, lanes)
        vectors = [value.name for value in columns] + ["poison"] * (width - len(columns))
        for _ in range(width.bit_length() - 1):
            half, turned = width // 2, list[str]()
            for left, right in zip(vectors[:half], vectors[half:], strict=True):
                for first in (0, lanes // 2):
                    order = ", ".join(f"i32 {first + i // 2 + (i % 2) * lanes}" for i in range(lanes))
                    turned.append(f"%{self._fresh('x')}")
                    self._line(
                        f"{turned[-1]} = shufflevector {type_} {left}, {type_} {right}, <{lanes} x i32> <{order}>"
                    )
            vectors = turned
        count = len(columns)
        for row in range(rows):
            vector, first = vectors[row * width // lanes], row * width % lanes
            address = self._address(pointer, start + row * stride, element)
            if width == lanes:  # a row is a register; what lies behind a short one is not written
                self._store_part(Value(vector, lanes, element), count, address, _SIZES[element])
                continue
            part = f"%{self._fresh('r')}"
            order = ", ".join(f"i32 {first + i}" for i in range(count))
            self._line(f"{part} = shufflevector {type_} {vector}, {type_} poison, <{count} x i32> <{order}>")
            self._line(f"store <{count} x {element}> {part}, ptr {address}, align {_SIZES[element]}")

    def _known(self, value: Expression) -> float | None:
        """An element of a table whose place is known here."""
        if isinstance(value, Load) and value.buffer.values and not self._stride(value.index):
            dynamic, place = self._split(value.index)
            return None if dynamic else value.buffer.values[place]
        return None

    def _adds_nothing(self, value: Expression) -> bool:
        return isinstance(value, Binary) and value.operator == "mul" and self._known(value.left) == 0.0

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
        arguments = f"ptr {address}, i32 {align}, {mask_type} {self._all(masks, mask_type)}, {type_} zeroinitializer"
        return self._operation("l", f"call {type_} @llvm.masked.load.{suffix}({arguments})", lanes, element)

    def _accumulated(self, old: Value, value: Expression) -> Value:
        """``old + value`` with one rounding where the value is a product."""
        if isinstance(value, Binary) and value.operator == "mul":
            factor = self._known(value.left)
            if factor in (1.0, -1.0):
                return self._arithmetic("add" if factor == 1.0 else "sub", old, self._evaluate(value.right))
            if self.pair and isinstance(value.left, Load) and isinstance(value.right, Load):
                return self._dot_product(self._pairs(value.left), self._pairs(value.right), old)
            return self._multiply_add(self._evaluate(value.left), self._evaluate(value.right), old)
        return self._arithmetic("add", old, self._evaluate(value))

    def _evaluate(self, expression: Expression) -> Value:
        """The value in float32."""
        if isinstance(expression, Constant):
            return Value(literal(expression.value))
        if isinstance(expression, Binary):
            return self._arithmetic(
                expression.operator, self._evaluate(expression.left), self._evaluate(expression.right)
            )
        if isinstance(expression, Part):
            return self._to_float(self._part(expression))
        return self._to_float(self._read(expression))

    def _part(self, part: Part) -> Value:
        """One of the bfloat16 whose sum a value is."""
        number, _ = self._integer(part.number)
        if not isinstance(number, int):
            raise ScheduleError("the loop over the parts of a sum of bfloat16 must be unrolled")
        value = self._evaluate(part.value)
        for _ in range(number):
            value = self._arithmetic("sub", value, self._to_float(self._to_bfloat(value)))
        return self._to_bfloat(value)

    def _read(self, source: Load | Within) -> Value:
        """The value as it lies in memory."""
        return self._load(source) if isinstance(source, Load) else self._within(source.conditions, source.value)

    def _pairs(self, load: Load) -> Value:
        """What the two turns of the dot product's loop read, side by side; zero for the second where there is one."""
        assert self.pair
        name, turns = self.pair
        across, apart = self._stride(load.index), int(load.index.coefficient(name))
        lanes = self._lanes(across)
        whole = load.buffer.scope is Scope.ARGUMENT and load.buffer.name not in self.unaligned  # packed, with zeros
        if apart == 1 and (across == 0 or (across == 2 and lanes)) and (turns == 2 or (whole and lanes)):
            return self._fetch(load, lanes, 1, "i32")
        first = self._load(load)
        if turns == 1:
            return self._with_zero(first)
        return self._with(first, self._load(Load(load.buffer, load.index + Affine(constant=apart))))

    def _load(self, load: Load) -> Value:
        known_value = self._known(load)
        if known_value is not None:
            return Value(literal(known_value))
        stride = self._stride(load.index)
        return self._fetch(load, self._lanes(stride), stride, _ELEMENTS[load.buffer.dtype])

    def _fetch(self, load: Load, lanes: int, stride: int, element: str) -> Value:
        """``lanes`` of ``element``, ``stride`` of them apart, or what is known of that place."""
        if any(item.buffer == load.buffer.name for item in self.scattered):
            self._close()
        pointer, constant = self._pointer(load.buffer, load.index)
        known = self.regions[-1].loads.setdefault(load.buffer.name, {})
        border = self.border if lanes and load.buffer.scope is Scope.ARGUMENT else ()
        key = (pointer, constant, lanes * stride, element, border)
        if key in known and load.buffer.scope is not Scope.LOCAL:
            return known[key]
        if any(self._stride(affine) != stride for affine, _ in border):
            raise ScheduleError("what has conditions can be vectorized where they differ only along rows of an operand")
        if lanes and stride != 1:
            if (lanes <= 2 or stride > _NEAR) and not border:
                value = self._gather(pointer, constant, stride, lanes, element)
            else:
                value = self._strided(pointer, constant, stride, lanes, element, border)
        else:
            address = self._address(pointer, constant, _ELEMENTS[load.buffer.dtype])
            width = self._width(lanes)
            whole = width if load.buffer.scope is Scope.LOCAL else lanes
            align = self._alignment(load.buffer, load.index)
            value = self._load_part(whole, width, element, address, align, self._mask(border, 0, width, 1))
        known[key] = value
        return value

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
            sources.append(self._load_part(min(span, width), width, element, address, _SIZES[element], masks))
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
            self._line(f"{one} = load {element}, ptr {address}, align {_SIZES[element]}")
            self._line(f"{following} = insertelement {type_} {vector}, {element} {one}, i64 {lane}")
            vector = following
        return Value(vector, width, element)

    def _within(self, conditions: tuple[Condition, ...], load: Load) -> Value:
        """A guarded load. Where all lanes agree, the address is turned to a block of zeros; else lanes are masked."""
        if any(self._stride(affine) for affine, _ in conditions):
            return self._masked(conditions, load)
        element = _ELEMENTS[load.buffer.dtype]
        tests: list[str] = []
        for affine, bound in conditions:
            test = self._inside(affine, bound)
            if isinstance(test, str):
                tests.append(test)
            elif not test:
                return Value("zeroinitializer", self._width(self.vector[1]), element) if self.vector else _zero(element)
        stride = self._stride(load.index)
        if not tests:
            return self._load(load)
        lanes = self._lanes(stride)
        if (lanes and stride != 1) or lanes > 64:
            raise ScheduleError("a padded operand can be vectorized only along its last dimension, by up to 64 lanes")
        address = self._address(*self._pointer(load.buffer, load.index), element)
        safe = f"%{self._fresh('p')}"
        self._line(f"{safe} = select i1 {self._all(tests, 'i1')}, ptr {address}, ptr @zeros")
        return self._load_part(lanes, self._width(lanes), element, safe, _SIZES[element])

    def _masked(self, conditions: tuple[Condition, ...], load: Load) -> Value:
        lanes = self._lanes(stride := self._stride(load.index))
        if stride != 1:
            raise ScheduleError("a padded operand can be vectorized only along its last dimension")
        self._check_mask()
        element = _ELEMENTS[load.buffer.dtype]
        address, width = self._address(*self._pointer(load.buffer, load.index), element), self._width(lanes)
        return self._load_part(lanes, width, element, address, _SIZES[element], self._mask(conditions, 0, width, 1))

    def _check_mask(self) -> None:
        """Refuse what LLVM does wrong: it loses part of the mask when it cuts a masked load in two."""
        widest = self.instructions.lanes
        if self.vector and self.vector[1] > widest:
            raise ScheduleError(f"a padded row can be vectorized by at most the {widest} lanes of a register")

    def _mask(self, conditions: Sequence[Condition], first: int, lanes: int, apart: int) -> list[str]:
        """Where ``conditions`` hold for elements of a row of which the vectorized loop takes every ``apart``-th one.

        The elements are ``lanes`` from the ``first`` after the loop's own first one. No mask where all hold.
        """
        kind, masks = f"<{lanes} x i64>", list[str]()
        for affine, bound in conditions:
            assert self.vector
            step = self._stride(affine) // apart
            start, _ = self._integer(affine)
            offsets = [(first + lane) * step for lane in range(lanes)]
            if isinstance(start, int):
                inside = [0 <= start + offset < bound for offset in offsets]
                masks += [] if all(inside) else [_bits(inside)]
                continue
            one, all_, sum_, test = (f"%{self._fresh(stem)}" for stem in ("b", "s", "a", "in"))
            limit = ", ".join([f"i64 {bound}"] * lanes)
            self._line(f"{one} = insertelement {kind} poison, i64 {start}, i64 0")
            self._line(f"{all_} = shufflevector {kind} {one}, {kind} poison, <{lanes} x i32> zeroinitializer")
            self._line(f"{sum_} = add {kind} {all_}, <{', '.join(f'i64 {offset}' for offset in offsets)}>")
            self._line(f"{test} = icmp ult {kind} {sum_}, <{limit}>")
            masks.append(test)
        return masks

    # Lanes --------------------------------------------------------------------------------------------------------

    def _lanes(self, stride: int) -> int:
        """How many lanes an access has here that moves by ``stride`` from one to the next; 0 when it is a scalar."""
        return self.vector[1] if self.vector and stride else 0

    def _width(self, lanes: int) -> int:
        """The lanes of the values that stand for so many: a whole register, where LLVM would put pieces together."""
        whole = 1 << (lanes - 1).bit_length() if lanes else 0
        return whole if whole <= self.instructions.lanes else lanes

    # Addresses ---------------------------------------------------------------------------------------------------

    def _stride(self, index: Affine) -> int:
        """Distance between neighbouring lanes; 0 when all lanes use the same element."""
        return int(index.coefficient(self.vector[0])) if self.vector else 0

    def _split(self, index: Affine) -> tuple[list[tuple[int, str, int]], int]:
        """The terms that are not known here as (depth, value, factor), outermost first, and the sum of the known."""
        constant = int(index.constant)
        dynamic: list[tuple[int, str, int]] = []
        for name, coefficient in index.terms:
            if self.vector and name == self.vector[0]:
                continue
            counter = self.counters[name]
            factor = int(coefficient) // counter.unit
            if isinstance(counter.value, int):
                constant += counter.value * factor
            elif factor:
                dynamic.append((counter.depth, counter.value, factor))
        dynamic.sort(key=lambda term: term[0])
        return dynamic, constant

    def _pointer(self, buffer: Buffer, index: Affine) -> tuple[str, int]:
        """The pointer to the start that the running loops give, and a constant distance from it in elements."""
        dynamic, constant = self._split(index)
        pointer, element = identifier(buffer.name), _ELEMENTS[buffer.dtype]
        for depth, value, factor in dynamic:
            region = self.regions[depth]
            key = (pointer, value, factor)
            if key not in region.known:
                offset, following = f"%{self._fresh('o')}", f"%{self._fresh('p')}"
                region.top.append(f"  {offset} = mul nsw i64 {value}, {factor}")
                region.top.append(f"  {following} = getelementptr {element}, ptr {pointer}, i64 {offset}")
                region.known[key] = following
            pointer = region.known[key]
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
            region = self.regions[depth]
            key = (f"{total} +", value, factor)
            if key not in region.known:
                term, following = f"%{self._fresh('t')}", f"%{self._fresh('n')}"
                region.top.append(f"  {term} = mul nsw i64 {value}, {factor}")
                region.top.append(f"  {following} = add nsw i64 {total}, {term}")
                region.known[key] = following
            total, deepest = region.known[key], depth
        return total, deepest

    def _inside(self, index: Affine, bound: int) -> bool | str:
        """Whether ``0 <= index < bound``: known, or an SSA value; one unsigned comparison tests both sides."""
        value, depth = self._integer(index)
        if isinstance(value, int):
            return 0 <= value < bound
        region = self.regions[depth]
        key = (f"{value} <", "", bound)
        if key not in region.known:
            region.known[key] = f"%{self._fresh('in')}"
            region.top.append(f"  {region.known[key]} = icmp ult i64 {value}, {bound}")
        return region.known[key]

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


def _buffer(source: Load | Within) -> Buffer:
    return source.buffer if isinstance(source, Load) else source.value.buffer


def _first(count: int, lanes: int) -> str:
    """The mask of the first ``count`` lanes."""
    return _bits([lane < count for lane in range(lanes)])


def _bits(mask: Sequence[bool]) -> str:
    return f"<{', '.join(f'i1 {str(bit).lower()}' for bit in mask)}>"


def _zero(element: str) -> Value:
    return Value(literal(0.0)) if element == "float" else Value("0", 0, element)
