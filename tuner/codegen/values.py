"""Values: expressions, loads and stores of a loop nest as LLVM IR.

A vectorized loop has no code of its own: while it is open, an access that moves with it is a vector access. Stores to
known places of the local tile are held back to the end of a straight stretch of text: only the last one of each counts.
"""

from math import gcd

from tuner.codegen.addresses import ALIGNMENT, ELEMENTS
from tuner.codegen.arithmetic import literal
from tuner.codegen.instructions import Instructions
from tuner.codegen.text import Value, identifier
from tuner.codegen.vectors import NEAR, SIZES, Later, Scattered, VectorWriter
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Binary, Buffer, Condition, Constant, Expression, Load, Part, Scope, Store, Within

STATEMENT_LIMIT = 4096  # statements written out; more is never faster and takes seconds to compile


class ValueWriter(VectorWriter):
    """Writes statements."""

    def __init__(self, unaligned: frozenset[str], instructions: Instructions) -> None:
        super().__init__(unaligned, instructions)
        self.pair: tuple[str, int] | None = None  # the loop of a dot product, and whether it has one turn here or two
        self.border: tuple[Condition, ...] = ()  # which lanes of an operand exist here; others are zero and not read
        self.held: dict[str, dict[int, Value]] = {}  # of local buffers, by place: values that are not written yet
        self.statements = 0

    def _store(self, store: Store) -> None:
        self.statements += 1
        if self.statements > STATEMENT_LIMIT:
            raise ScheduleError(
                f"more than {STATEMENT_LIMIT} statements are unrolled: unroll less or use smaller tiles"
            )
        if store.accumulate:
            factor = self._factor(store.value)
            if factor == 0.0:
                return
            old = self._load(Load(store.buffer, store.index))
            value = self._accumulated(old, store.value, factor)
            later: tuple[Later, ...] = ()
        else:
            rest, later = self._postponed(store)
            value = self._stored(store, rest)
        stride = self._stride(store.index)
        lanes = self._lanes(stride)
        value = self._widen(value, self._width(lanes))
        pointer, constant = self._pointer(store.buffer, store.index)
        local = store.buffer.scope is Scope.LOCAL
        if local and self._is_known(store.buffer, pointer, value.lanes, stride):
            self.held.setdefault(store.buffer.name, {})[constant] = value
        elif not lanes or stride == 1:
            address = self._address(pointer, constant, value.element)
            whole = value.lanes if local else lanes  # a row of the tile has room for it
            self._store_part(value, whole, address, self._alignment(store.buffer, store.index))
        else:
            self.scattered.append(Scattered(store.buffer.name, pointer, constant, stride, lanes, value, later))
        self.stretches[-1].loads.pop(store.buffer.name, None)

    def _is_known(self, buffer: Buffer, pointer: str, lanes: int, stride: int) -> bool:
        """Whether a local buffer is used at a known place, in the pieces that are held; if not, those are written."""
        known = pointer == identifier(buffer.name) and (not lanes or stride == 1)
        held = self.held.get(buffer.name)
        if held and not (known and next(iter(held.values())).lanes == lanes):  # all of them have as many
            self._write_held(buffer.name)
        return known

    def _write_held(self, name: str) -> None:
        for place, value in self.held.pop(name, {}).items():
            align = SIZES[value.element] * gcd(ALIGNMENT // SIZES[value.element], place)
            self._store_part(value, value.lanes, self._address(identifier(name), place, value.element), align)

    def _close(self) -> None:
        super()._close()
        for name in list(self.held):
            self._write_held(name)

    def _postponed(self, store: Store) -> tuple[Expression, tuple[Later, ...]]:
        """The value of a store without its last operations, where these need operands whose lanes lie apart as its own.

        They are done when the lanes have become rows in memory, where nothing has to be gathered.
        """
        rest, later = store.value, tuple[Later, ...]()
        if self._stride(store.index) <= 1 or store.buffer.scope is Scope.LOCAL or store.buffer.dtype != "float32":
            return rest, later
        while isinstance(rest, Binary) and self._is_apart(rest):
            operation = self._beside(store, rest.operator, rest.right)
            if operation is None:
                return store.value, ()
            rest, later = rest.left, (operation, *later)
        return rest, later

    def _beside(self, store: Store, operator: str, operand: Expression) -> Later | None:
        """An operation on the rows that ``store`` is part of; None where the operand does not lie as they do."""
        if isinstance(operand, Constant):
            return Later(operator, literal(operand.value))
        if not isinstance(operand, Load) or self._stride(operand.index) != self._stride(store.index):
            return None
        given = operand.buffer.scope is Scope.ARGUMENT and operand.buffer.name != store.buffer.name
        if not given or operand.buffer.dtype != "float32" or operand.ahead:
            return None
        pointer, constant = self._pointer(operand.buffer, operand.index)
        return Later(operator, pointer, constant - self._pointer(store.buffer, store.index)[1])

    def _is_apart(self, value: Expression) -> bool:
        """Whether some of what ``value`` is made of has lanes that lie apart."""
        if isinstance(value, Binary):
            return self._is_apart(value.left) or self._is_apart(value.right)
        return isinstance(value, Load) and self._stride(value.index) > 1

    def _stored(self, store: Store, expression: Expression) -> Value:
        """``expression`` as ``store`` puts it in memory; what is only copied is not converted there and back."""
        if isinstance(expression, Part):
            return self._part(expression)
        narrow = store.buffer.dtype == "bfloat16"
        if narrow and isinstance(expression, Load | Within) and _buffer(expression).dtype == "bfloat16":
            return self._read(expression)
        value = self._evaluate(expression)
        return self._to_bfloat(value) if narrow else value

    def _known(self, value: Expression) -> float | None:
        """An element of a table whose place is known here."""
        if isinstance(value, Load) and value.buffer.values and not self._stride(value.index):
            dynamic, place = self._split(value.index)
            return None if dynamic else value.buffer.values[place]
        return None

    def _factor(self, value: Expression) -> float | None:
        """The left side of a product, where that is known here."""
        return self._known(value.left) if isinstance(value, Binary) and value.operator == "mul" else None

    def _accumulated(self, old: Value, value: Expression, factor: float | None) -> Value:
        """``old + value``: a multiply-add where the value is a product, whose left side may be a known ``factor``."""
        if isinstance(value, Binary) and value.operator == "mul":
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
        return self._fetch(load, self._lanes(stride), stride, ELEMENTS[load.buffer.dtype])

    def _fetch(self, load: Load, lanes: int, stride: int, element: str) -> Value:
        """``lanes`` of ``element``, ``stride`` of them apart, or what is known of that place."""
        if any(item.buffer == load.buffer.name for item in self.scattered):
            self._close()
        pointer, constant = self._pointer(load.buffer, load.index)
        if load.buffer.scope is Scope.LOCAL and self._is_known(load.buffer, pointer, self._width(lanes), stride):
            held = self.held.get(load.buffer.name, {}).get(constant)
            if held is not None:
                return held
        known = self.stretches[-1].loads.setdefault(load.buffer.name, {})
        border = self.border if lanes and load.buffer.scope is Scope.ARGUMENT else ()
        # Where a row ends and the next one begins, vectors of both lie at one address, and other lanes of each exist.
        existing = tuple((self._integer(affine)[0], bound) for affine, bound in border)
        key = (pointer, constant, lanes * stride, element, existing)
        if key in known and load.buffer.scope is not Scope.LOCAL:
            return known[key]
        if any(self._stride(affine) != stride for affine, _ in border):
            raise ScheduleError("what has conditions can be vectorized where they differ only along rows of an operand")
        if lanes and stride != 1:
            if (lanes <= 2 or stride > NEAR) and not border:
                value = self._gather(pointer, constant, stride, lanes, element)
            else:
                value = self._strided(pointer, constant, stride, lanes, element, border)
        else:
            address = self._address(pointer, constant, ELEMENTS[load.buffer.dtype])
            width = self._width(lanes)
            whole = width if load.buffer.scope is Scope.LOCAL else lanes
            align = self._alignment(load.buffer, load.index)
            value = self._load_part(whole, width, element, address, align, self._mask(border, 0, width, 1))
        known[key] = value
        size = item_bytes(load.buffer.dtype)
        if load.ahead and constant * size % ALIGNMENT == 0:  # once for a cache line
            self._prefetch(self._address(pointer, constant + load.ahead, ELEMENTS[load.buffer.dtype]))
        return value

    def _prefetch(self, address: str) -> None:
        """Ask for a cache line that will be read soon, into all levels; an address beyond the end does no harm."""
        self.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self._line(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 3, i32 1)")

    def _within(self, conditions: tuple[Condition, ...], load: Load) -> Value:
        """A guarded load. Where all lanes agree, the address is turned to a block of zeros; else lanes are masked."""
        if any(self._stride(affine) for affine, _ in conditions):
            return self._masked(conditions, load)
        element = ELEMENTS[load.buffer.dtype]
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
        return self._load_part(lanes, self._width(lanes), element, safe, SIZES[element])

    def _masked(self, conditions: tuple[Condition, ...], load: Load) -> Value:
        lanes = self._lanes(stride := self._stride(load.index))
        if stride != 1:
            raise ScheduleError("a padded operand can be vectorized only along its last dimension")
        self._check_mask()
        element = ELEMENTS[load.buffer.dtype]
        address, width = self._address(*self._pointer(load.buffer, load.index), element), self._width(lanes)
        return self._load_part(lanes, width, element, address, SIZES[element], self._mask(conditions, 0, width, 1))


def _buffer(source: Load | Within) -> Buffer:
    return source.buffer if isinstance(source, Load) else source.value.buffer


def _zero(element: str) -> Value:
    return Value(literal(0.0)) if element == "float" else Value("0", 0, element)
