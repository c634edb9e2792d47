"""Products of small matrices in the matrix registers of x86 (AMX).

There are eight registers of up to 16 rows of 64 bytes. A product takes ``left`` [rows, steps * 2] and ``right`` [steps,
columns * 2], whose rows hold a pair of bfloat16 for each column, and adds to ``sums`` [rows, columns] in float32. The
local tile of the stage lives in the first registers; what is left of them holds operands, half of them each.

Source: Intel, Architecture Instruction Set Extensions Programming Reference, chapter on AMX.
"""

from dataclasses import dataclass

from tuner.codegen.addresses import Counter
from tuner.codegen.text import identifier
from tuner.codegen.values import ValueWriter
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Binary, Condition, Load, Loop, Node, Scope, Store

REGISTERS = 8
LARGEST = 16  # rows of a register, and four-byte columns

_INTRINSICS = {
    "ldtilecfg": "ptr",
    "tilerelease": "",
    "tilezero": "i8",
    "tileloadd64": "i8, ptr, i64",
    "tilestored64": "i8, ptr, i64",
    "tdpbf16ps": "i8, i8, i8",
}


@dataclass(frozen=True)
class Shape:
    """Of all products of a region; ``sums`` is the number of registers that the local tile takes."""

    rows: int
    steps: int
    columns: int
    sums: int

    @property
    def lefts(self) -> range:
        """Registers for left operands."""
        return range(self.sums, self.sums + (REGISTERS - self.sums) // 2)

    @property
    def rights(self) -> range:
        """Registers for right operands."""
        return range(self.lefts.stop, REGISTERS)

    @property
    def configuration(self) -> bytes:
        """What ``ldtilecfg`` reads: palette 1, then the bytes of a row and the rows of each register."""
        widths, heights = [0] * LARGEST, [0] * LARGEST
        for number in range(REGISTERS):
            widths[number] = 4 * (self.steps if number in self.lefts else self.columns)
            heights[number] = self.steps if number in self.rights else self.rows
        return bytes([1, *[0] * 15]) + b"".join(w.to_bytes(2, "little") for w in widths) + bytes(heights)


class MatrixWriter(ValueWriter):
    """Writes loops of kind ``matrix`` in matrix registers."""

    shape: Shape | None = None
    settled: frozenset[Condition] = frozenset()  # guards that are known to hold here

    def _in_tiles(self, loop: Loop) -> bool:
        """Write what the loop of rows does, or the part of it that matrix registers do; whether that is all."""
        loops, store = _innermost(loop)
        for inner in {loop.axis: loop for loop in reversed(loops)}.values():  # the outermost of each axis
            if (left := self._turns_left(inner)) != inner.extent:
                there = f"{left:g} of its {inner.extent} turns are there"
                raise ScheduleError(f"loop {inner.name}: products of matrices are of whole tiles only, and {there}")
        if not self.settled.issuperset(store.guards):
            raise ScheduleError("what has conditions within a tile cannot be a product of matrices")
        self.vector = (loops[-1].name, int(loops[-1].extent))
        for inner in loops[:-1]:
            self.counters[inner.name] = Counter(0, 0)
        if len(loops) == 4:
            self._product(loops, store)
        elif store.buffer.scope is Scope.LOCAL:
            self._tile_operation("tilezero", self._number(Load(store.buffer, store.index), loops))
        else:
            self._spill(store, loops)
        self.vector = None
        return store.buffer.scope is Scope.LOCAL

    def _product(self, loops: list[Loop], store: Store) -> None:
        rows, steps, dot, lanes = loops
        height, depth, width = int(rows.extent), int(steps.extent), int(lanes.extent)
        if max(height, depth, width) > LARGEST:
            raise ScheduleError(f"products of matrices have at most {LARGEST} rows, steps and columns")
        sums = int(store.buffer.size) // (height * _row(store.index, rows))
        if sums > REGISTERS - 2:
            raise ScheduleError(f"the local tile takes {sums} matrix registers: at most {REGISTERS - 2} are allowed")
        self.shape = Shape(height, depth, width, sums)
        assert isinstance(store.value, Binary)
        left, right = store.value.left, store.value.right
        assert isinstance(left, Load)
        assert isinstance(right, Load)
        if left.index.coefficient(lanes.name):
            left, right = right, left
        strides = [int(left.index.coefficient(name)) for name in (steps.name, dot.name, lanes.name)]
        strides += [int(right.index.coefficient(name)) for name in (rows.name, dot.name, lanes.name)]
        if strides != [2, 1, 0, 0, 1, 2]:
            raise ScheduleError("a product of matrices needs pairs side by side: pack its operands so")
        number = self._number(Load(store.buffer, store.index), loops)
        first = self._operand(left, int(left.index.coefficient(rows.name)), self.shape.lefts)
        second = self._operand(right, int(right.index.coefficient(steps.name)), self.shape.rights)
        self._tile_operation("tdpbf16ps", number, first, second)

    def _operand(self, load: Load, stride: int, registers: range) -> int:
        """The register that holds a matrix whose rows begin ``stride`` elements apart; loaded unless one does."""
        pointer, constant = self._pointer(load.buffer, load.index)
        held = self.stretches[-1].tiles
        found = next((n for n in registers if held.get(n) == (pointer, constant)), None)
        if found is not None:
            return found
        free = next((n for n in registers if n not in held), None)
        number = min(registers, key=lambda n: list(held).index(n)) if free is None else free  # the one loaded first
        held.pop(number, None)
        held[number] = (pointer, constant)
        self._tile_operation(
            "tileloadd64", number, f"ptr {self._address(pointer, constant, 'i16')}", f"i64 {2 * stride}"
        )
        return number

    def _spill(self, store: Store, loops: list[Loop]) -> None:
        """Write the register whose sums ``store`` finishes to their place in the local tile."""
        sums = _sums(store)
        row, number = _row(sums.index, loops[0]), self._number(sums, loops)
        address = self._address(identifier(sums.buffer.name), number * int(loops[0].extent) * row, "float")
        self._tile_operation("tilestored64", number, f"ptr {address}", f"i64 {4 * row}")

    def _number(self, sums: Load, loops: list[Loop]) -> int:
        """The register of a part of the local tile."""
        dynamic, constant = self._split(sums.index)
        if dynamic:
            raise ScheduleError("the loops over the local tile of a product of matrices must be unrolled")
        return constant // (int(loops[0].extent) * _row(sums.index, loops[0]))

    def _turns_left(self, loop: Loop) -> float:
        """The turns that ``loop`` has here; the last one may be a part of one."""
        raise NotImplementedError

    def _tile_operation(self, name: str, *operands: int | str) -> None:
        self.declared.add(f"declare void @llvm.x86.{name}({_INTRINSICS[name]})")
        arguments = ", ".join(f"i8 {item}" if isinstance(item, int) else item for item in operands)
        self._line(f"call void @llvm.x86.{name}({arguments})")

    def _configuration(self) -> list[str]:
        """The lines that a region begins with."""
        if self.shape is None:
            return []
        self.declared |= {
            f"declare void @llvm.x86.{name}({_INTRINSICS[name]})" for name in ("ldtilecfg", "tilerelease")
        }
        words = [int.from_bytes(self.shape.configuration[i : i + 8], "little") for i in range(0, 64, 8)]
        lines = ["  %tiles = alloca [8 x i64], align 64"]
        for position, word in enumerate(words):
            lines.append(f"  %tiles{position} = getelementptr i64, ptr %tiles, i64 {position}")
            lines.append(f"  store i64 {word}, ptr %tiles{position}, align 8")
        return [*lines, "  call void @llvm.x86.ldtilecfg(ptr %tiles)"]

    def _release(self) -> list[str]:
        """The lines that a region ends with."""
        return ["  call void @llvm.x86.tilerelease()"] if self.shape else []


def _innermost(loop: Loop) -> tuple[list[Loop], Store]:
    """The loops from ``loop`` inwards, and the one statement inside them."""
    loops, body = [loop], loop.body
    while isinstance(node := _only(body), Loop):
        loops.append(node)
        body = node.body
    if not isinstance(node, Store):
        raise ScheduleError("sums in matrix registers cannot be interrupted: keep their loops in the local tile")
    return loops, node


def _row(index: Affine, rows: Loop) -> int:
    """The elements that a row of the local tile has."""
    return int(index.coefficient(rows.name))


def _only(nodes: tuple[Node, ...]) -> Node:
    (node,) = nodes
    return node


def _sums(store: Store) -> Load:
    """The access to the local tile in a statement that writes it back."""
    stack = [store.value]
    while True:
        value = stack.pop()
        if isinstance(value, Load) and value.buffer.scope is Scope.LOCAL:
            return value
        if isinstance(value, Binary):
            stack += [value.left, value.right]
