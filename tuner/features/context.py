"""Context features of a loop nest: what each loop iterates over and what it touches (supplement of the AutoTVM paper).

The rules are those of AutoTVM's published implementation ("itervar" features): for each loop, in the order of a
depth-first walk, its length, nest level, the iterations from the root to it and from it to the leaves, its annotation,
the arithmetic directly inside, and for each access the stride, the number of touched elements (``count``) and how often
each is reused. Extents and strides may be NumPy columns with one entry a candidate: one walk then gives the features of
all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.loopnest import (
    Affine,
    Binary,
    Buffer,
    Constant,
    Expression,
    Kind,
    Load,
    Loop,
    Nest,
    Node,
    Store,
    When,
    Within,
)
from tuner.schedule import Extent

Column: TypeAlias = npt.NDArray[np.int64]

# The order of the one-hot annotation; the CPU has no block, thread or virtual-thread loops.
ANNOTATIONS = (
    *("block.x", "block.y", "block.z", "thread.x", "thread.y", "thread.z"),
    *(Kind.UNROLLED, Kind.VECTORIZED, Kind.PARALLEL, Kind.SERIAL, "virtual"),
)


@dataclass
class Touch:
    """How one access behaves under one loop; ``thread_*`` are relative to the part of one thread."""

    stride: Column
    count: Column
    reuse: Column
    thread_count: Column
    thread_reuse: Column


@dataclass
class LoopContext:
    """The features of one loop, unscaled."""

    name: str
    kind: Kind
    length: Column
    level: int
    topdown: Column
    bottomup: Column
    adds: int = 0
    multiplies: int = 0
    divides: int = 0
    touches: dict[str, Touch] = field(default_factory=dict)


def loop_contexts(nest: Nest) -> list[LoopContext]:
    """The contexts of all loops, in the order in which a depth-first walk meets them. Columns have N or 1 entries."""
    walk = _Walk()
    walk.visit(nest.body)
    return walk.contexts


def context_features(nest: Nest, plain: Mapping[str, Column] | None = None) -> npt.NDArray[np.float32]:
    """The flattened contexts of N candidates (one, if no extent is a column), (N, F).

    A loop has 18 numbers and 6 more for each access in it, accesses sorted by name; all but nest level and annotation
    are on a symmetric log2 scale. ``plain`` are knobs that leave no trace in the nest; they are appended raw.
    """
    columns: list[npt.NDArray[np.generic]] = []
    for loop in loop_contexts(nest):
        one_hot = [np.array([name == loop.kind]) for name in ANNOTATIONS]
        columns += [_log(loop.length), np.array([loop.level]), _log(loop.topdown), _log(loop.bottomup), *one_hot]
        columns += [_log(np.array([number])) for number in (loop.adds, loop.multiplies, loop.divides)]
        for _, touch in sorted(loop.touches.items()):
            columns += [_log(touch.stride), np.array([-1]), _log(touch.count), _log(touch.reuse)]
            columns += [_log(touch.thread_count), _log(touch.thread_reuse)]
    columns += (plain or {}).values()
    rows = max(column.shape[0] for column in columns)
    result = np.empty((rows, len(columns)), dtype=np.float32)
    for number, column in enumerate(columns):
        result[:, number] = column
    return result


class _Walk:
    def __init__(self) -> None:
        self.contexts: list[LoopContext] = []
        self.open: list[LoopContext] = []
        self.accesses: dict[str, int] = {}

    def visit(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                self.enter(node)
                self.visit(node.body)
                self.leave()
            elif isinstance(node, When):
                # The first turn of a reduction initialises, and initialisation is no part of the features.
                if node.at == "last":
                    self.visit(node.then)
                self.visit(node.otherwise)
            elif node.accumulate or not isinstance(node.value, Constant):
                self.store(node)

    def enter(self, loop: Loop) -> None:
        length = _column(loop.extent)
        topdown = self.open[-1].topdown * length if self.open else length
        context = LoopContext(loop.name, loop.kind, length, len(self.open) + 1, topdown, np.array([-1]))
        self.open.append(context)
        self.contexts.append(context)

    def leave(self) -> None:
        loop = self.open[-1]
        for name, touch in loop.touches.items():
            moves = touch.stride != 0
            count, reuse = np.where(moves, loop.length, 1), np.where(moves, 1, loop.length)
            for outer in self.open:
                outer.touches[name].count = outer.touches[name].count * count
                outer.touches[name].reuse = outer.touches[name].reuse * reuse
        self.open.pop()
        for touch in loop.touches.values():
            loop.bottomup = np.maximum(loop.bottomup, touch.count * touch.reuse)
        if self.open and _level(self.open[-1].kind) == _level(loop.kind) + 1:
            # What one thread does is kept, negative, as the base until the parallel loop around it is left.
            for outer in (context for context in self.open if _level(context.kind) == _level(loop.kind) + 1):
                for name, touch in loop.touches.items():
                    outer.touches[name].thread_count = -touch.count
                    outer.touches[name].thread_reuse = -touch.reuse
        for touch in loop.touches.values():
            if (touch.thread_count < 0).all():
                touch.thread_count = touch.count // -touch.thread_count
                touch.thread_reuse = touch.reuse // -touch.thread_reuse

    def store(self, store: Store) -> None:
        self.access(store.buffer, store.index)
        if store.accumulate:
            self.access(store.buffer, store.index)
            self.arithmetic("add")
        self.expression(store.value)

    def expression(self, value: Expression) -> None:
        if isinstance(value, Load):
            self.access(value.buffer, value.index)
        elif isinstance(value, Within):
            self.expression(value.value)
        elif isinstance(value, Binary):
            self.arithmetic(value.operator)
            self.expression(value.left)
            self.expression(value.right)

    def arithmetic(self, operator: str) -> None:
        if self.open and operator == "add":
            self.open[-1].adds += 1
        elif self.open and operator == "mul":
            self.open[-1].multiplies += 1

    def access(self, buffer: Buffer, index: Affine) -> None:
        number = self.accesses.get(buffer.name, 0)
        self.accesses[buffer.name] = number + 1
        one, zero = np.array([1]), np.array([0])
        for loop in self.open:
            stride = _column(index.coefficient(loop.name))
            loop.touches[f"{buffer.name}_{number}"] = Touch(stride, one, one, zero, zero)


def _level(kind: Kind) -> int:
    return 1 if kind is Kind.PARALLEL else 0


def _column(value: Extent) -> Column:
    return np.atleast_1d(np.asarray(value, dtype=np.int64))


def _log(values: Column) -> npt.NDArray[np.float64]:
    scaled: npt.NDArray[np.float64] = np.sign(values) * np.log2(np.abs(values) + 1.0)
    return scaled
