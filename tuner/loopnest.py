"""The loop-nest IR: loops with extents and annotations, buffers, affine accesses, statements; printer and verifier.

A nest is a tree of frozen nodes. Extents, steps and coefficients are integers in a nest that is compiled. In a nest
that stands for many candidates at once they are NumPy columns, and everything but the code generator works the same.

An index is affine in the *counters* of the loops (0, 1, 2, ...): a loop that walks its axis in steps of 14 contributes
``14 * stride * counter``. Loops of extent one are kept, so that all candidates of one template have the same shape.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from tuner.errors import ScheduleError
from tuner.schedule import Extent


class Kind(StrEnum):
    """How a loop is executed."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    VECTORIZED = "vectorized"
    UNROLLED = "unrolled"
    DOT = "dot"  # two turns of a reduction in one operation
    MATRIX = "matrix"  # rows, and steps of a reduction, of a product of small matrices in one operation


@dataclass(frozen=True)
class Affine:
    """``constant + sum(coefficient * counter)``; terms with the same loop are merged, in the order of first use."""

    terms: tuple[tuple[str, Extent], ...] = ()
    constant: Extent = 0

    def __add__(self, other: "Affine") -> "Affine":
        return Affine.total(((self, 1), (other, 1)))

    def __mul__(self, factor: Extent) -> "Affine":
        return Affine(tuple((loop, coefficient * factor) for loop, coefficient in self.terms), self.constant * factor)

    @classmethod
    def total(cls, parts: "Iterable[tuple[Affine, Extent]]", constant: Extent = 0) -> "Affine":
        """The sum of ``affine * factor`` over the ``parts``, plus ``constant``."""
        merged: dict[str, Extent] = {}
        for affine, factor in parts:
            alone = _is(factor, 1)  # columns are multiplied for nothing otherwise
            for loop, coefficient in affine.terms:
                term = coefficient if alone else coefficient * factor
                merged[loop] = merged[loop] + term if loop in merged else term
            constant = constant + (affine.constant if alone else affine.constant * factor)
        return cls(tuple(merged.items()), constant)

    def coefficient(self, loop: str) -> Extent:
        """Change of the value when the counter of ``loop`` grows by one."""
        for name, coefficient in self.terms:
            if name == loop:
                return coefficient
        return 0

    def __str__(self) -> str:
        parts = [loop if _is(coefficient, 1) else f"{coefficient}*{loop}" for loop, coefficient in self.terms]
        parts += [] if _is(self.constant, 0) and parts else [str(self.constant)]
        return " + ".join(parts)


def _is(value: Extent, number: int) -> bool:
    return isinstance(value, int) and value == number


Condition = tuple[Affine, int]  # 0 <= affine < bound
Map = tuple[int, tuple[tuple[float, ...], ...]]  # this dimension of an array is multiplied with this matrix, by rows


class Scope(StrEnum):
    """Where a buffer lives."""

    ARGUMENT = "argument"  # behind a pointer that the kernel is given
    WORKSPACE = "workspace"  # scratch memory that all threads share
    THREAD = "thread"  # scratch memory, one copy a thread
    LOCAL = "local"  # registers, as far as they reach, or the stack
    TABLE = "table"  # constants in the code


@dataclass(frozen=True)
class Buffer:
    """A flat array of ``size`` elements of ``dtype``; those of a table are known."""

    name: str
    size: Extent
    scope: Scope
    values: tuple[float, ...] = ()
    dtype: str = "float32"


# Expressions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """The element of ``buffer`` at ``index``; what lies ``ahead`` elements further on is asked for, if not 0."""

    buffer: Buffer
    index: Affine
    ahead: int = 0

    def __str__(self) -> str:
        asked = f" ahead {self.ahead}" if self.ahead else ""
        return f"{self.buffer.name}[{self.index}{asked}]"


@dataclass(frozen=True)
class Constant:
    """A float32 number."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Binary:
    """``add``, ``mul`` or ``max`` of two expressions."""

    operator: str
    left: "Expression"
    right: "Expression"

    def __str__(self) -> str:
        if self.operator == "max":
            return f"max({self.left}, {self.right})"
        return f"({self.left} {'+' if self.operator == 'add' else '*'} {self.right})"


@dataclass(frozen=True)
class Within:
    """``value`` where every ``0 <= affine < bound`` holds, else zero. Nothing is read where one does not."""

    conditions: tuple[Condition, ...]
    value: Load

    def __str__(self) -> str:
        return f"({self.value} if {_conditions(self.conditions)} else 0)"


def _conditions(conditions: tuple[Condition, ...]) -> str:
    return " and ".join(f"0 <= {affine} < {bound}" for affine, bound in conditions)


@dataclass(frozen=True)
class Part:
    """A part, 0 or 1, of ``value`` as a sum of two bfloat16."""

    value: Load | Within
    number: Affine

    def __str__(self) -> str:
        return f"part({self.value}, {self.number})"


Expression = Load | Constant | Binary | Within | Part

# Statements --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """``buffer[index] = value``, or ``+=`` when it accumulates; only where all ``guards`` hold."""

    buffer: Buffer
    index: Affine
    value: Expression
    accumulate: bool = False
    guards: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        guarded = f" where {_conditions(self.guards)}" if self.guards else ""
        return f"{self.buffer.name}[{self.index}] {'+=' if self.accumulate else '='} {self.value}{guarded}"


@dataclass(frozen=True)
class Loop:
    """A loop over ``axis``: its counter runs to ``extent``, and each turn moves ``step`` along the axis.

    ``tail`` says what is done about the last turn when the axis is not a multiple of ``step``: see ``schedule.Split``.
    """

    name: str
    axis: str
    extent: Extent
    step: Extent
    kind: Kind
    tail: str
    body: tuple["Node", ...] = field(repr=False)
    fenced: bool = False  # nothing loaded in one turn is kept for the next


@dataclass(frozen=True)
class When:
    """``then`` in the turn in which all these reduction loops are at their first (last) value, else ``otherwise``."""

    loops: tuple[str, ...]
    at: str  # "first" or "last"
    then: tuple["Node", ...]
    otherwise: tuple["Node", ...]


Node = Loop | Store | When


@dataclass(frozen=True)
class PackedOperand:
    """A constant operand that is packed outside the kernel.

    ``walks``, outermost first: the dimension that the loop walks along, how far one turn goes, and the number of turns.
    ``joined``, ``maps`` and ``parts`` come first; the dimensions are those of the result. ``dtype`` is that of packed
    elements.
    """

    tensor: str
    walks: tuple[tuple[int, Extent, Extent], ...]
    maps: tuple[Map, ...] = ()
    dtype: str = "float32"
    parts: int = 1
    joined: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Nest:
    """A whole kernel: statements one after the other, the axes they run over, and the buffers they use."""

    body: tuple[Node, ...]
    axes: tuple[tuple[str, Extent], ...]  # extent of each axis
    buffers: tuple[Buffer, ...]  # workspace, thread and local ones
    packed: tuple[PackedOperand, ...] = ()

    def __str__(self) -> str:
        lines = [f"{buffer.scope} {buffer.name}[{buffer.size}]" for buffer in self.buffers]
        return "\n".join([*lines, *_lines(self.body, 0)])


def _lines(nodes: tuple[Node, ...], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for node in nodes:
        if isinstance(node, Store):
            yield f"{pad}{node}"
        elif isinstance(node, When):
            yield f"{pad}when {', '.join(node.loops)} at {node.at}:"
            yield from _lines(node.then, depth + 1)
            if node.otherwise:
                yield f"{pad}otherwise:"
                yield from _lines(node.otherwise, depth + 1)
        else:
            step = "" if _is(node.step, 1) else f" step {node.step}"
            tail = "" if node.tail == "cut" else f" {node.tail}"
            fenced = " fenced" if node.fenced else ""
            yield f"{pad}{node.kind} {node.name} < {node.extent}{step}{tail}{fenced}:"
            yield from _lines(node.body, depth + 1)


# Questions about a body -------------------------------------------------------------------------------------------


def guarded(nodes: tuple[Node, ...]) -> dict[Condition, tuple[Loop, ...]]:
    """The guards of all stores in ``nodes``, each with the loops of ``nodes`` around its store, outermost first."""
    paths: dict[Condition, tuple[Loop, ...]] = {}
    for node in nodes:
        if isinstance(node, Loop):
            paths.update({guard: (node, *loops) for guard, loops in guarded(node.body).items()})
        elif isinstance(node, When):
            paths.update(guarded((*node.then, *node.otherwise)))
        else:
            paths.update(dict.fromkeys(node.guards, ()))
    return paths


def shared_guards(nodes: tuple[Node, ...]) -> frozenset[Condition]:
    """The guards that every store in ``nodes`` has: where one fails, nothing happens there."""
    shared: frozenset[Condition] | None = None
    for store in _stores(nodes):
        shared = frozenset(store.guards) if shared is None else shared & frozenset(store.guards)
        if not shared:
            break
    return shared or frozenset()


def _stores(nodes: tuple[Node, ...]) -> Iterator[Store]:
    for node in nodes:
        if isinstance(node, Loop):
            yield from _stores(node.body)
        elif isinstance(node, When):
            yield from _stores((*node.then, *node.otherwise))
        else:
            yield node


# Verifier ----------------------------------------------------------------------------------------------------------


def verify(nest: Nest) -> None:
    """Check what the code generator relies on. Raises ScheduleError for the first rule that is broken."""
    _verify(nest.body, {})


def _verify(nodes: tuple[Node, ...], opened: dict[str, Kind]) -> None:
    """``opened`` are the loops around ``nodes``, which it is left with."""
    for node in nodes:
        if isinstance(node, Loop):
            inside = opened.values()
            if node.name in opened:
                raise ScheduleError(f"loop {node.name} is nested in itself")
            if not isinstance(node.extent, np.ndarray) and node.extent < 1:
                raise ScheduleError(f"loop {node.name} has no iterations")
            if node.kind is Kind.PARALLEL and any(kind is not Kind.PARALLEL for kind in inside):
                raise ScheduleError(f"parallel loop {node.name} is not outermost")
            if Kind.MATRIX in inside and node.kind not in (Kind.MATRIX, Kind.DOT, Kind.VECTORIZED):
                raise ScheduleError(f"loop {node.name} is inside a product of matrices")
            if Kind.DOT in inside and node.kind is not Kind.VECTORIZED:
                raise ScheduleError(f"loop {node.name} is inside a dot product, where only the vectorized loop may be")
            if Kind.VECTORIZED in inside:
                raise ScheduleError(f"loop {node.name} is inside a vectorized loop")
            if node.kind is Kind.VECTORIZED and not _is(node.step, 1):
                raise ScheduleError(f"vectorized loop {node.name} has a step of {node.step}")
            opened[node.name] = node.kind
            _verify(node.body, opened)
            del opened[node.name]
        elif isinstance(node, When):
            for name in node.loops:
                if name not in opened:
                    raise ScheduleError(f"a condition reads loop {name}, which is not open there")
            _verify(node.then, opened)
            _verify(node.otherwise, opened)
        else:
            for name in _loops_of(node):
                if name not in opened:
                    raise ScheduleError(f"{node.buffer.name} is indexed by loop {name}, which is not open there")


def _loops_of(store: Store) -> Iterator[str]:
    yield from (loop for loop, _ in store.index.terms)
    yield from (loop for affine, _ in store.guards for loop, _ in affine.terms)
    stack: list[Expression] = [store.value]
    while stack:
        expression = stack.pop()
        if isinstance(expression, Load):
            yield from (loop for loop, _ in expression.index.terms)
        elif isinstance(expression, Binary):
            stack += [expression.left, expression.right]
        elif isinstance(expression, Part):
            stack.append(expression.value)
            yield from (loop for loop, _ in expression.number.terms)
        elif isinstance(expression, Within):
            stack.append(expression.value)
            yield from (loop for affine, _ in expression.conditions for loop, _ in affine.terms)
