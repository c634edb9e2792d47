"""The loop nest as a tree, for recurrent models (TreeGRU and context-encoded TreeGRU of the AutoTVM paper).

Trees are padded arrays, (N, nodes, width): one row a node, parents before their children, rows of zeros at the end. A
row is its level (1 is the root, 0 is padding), the position of its parent (-1 for the root), its token, and numbers.
Two kinds:

- ``tree_features``, of AutoTVM's published experiments: a node for each loop, whose numbers are its length and its
  annotation one-hot and which has a leaf for its variable; below the innermost loop around it, a node for each load and
  store, named after its buffer, with a leaf for each loop variable in its index. Loops that only initialise are absent.
- ``context_tree_features``, whose nodes have no names and so mean the same everywhere: the loops around the innermost
  statement, one inside the other, each with its length, annotation, iterations from the root, and for each operand of
  that statement how many elements the loop touches and how often each is reused.

Counts are on the scale log2(1 + x). Extents may be columns with one entry a candidate.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from tuner.features.context import ANNOTATIONS, LoopContext, loop_contexts
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

LEVEL, PARENT, TOKEN, NUMBERS = 0, 1, 2, 3  # columns; the numbers begin at the last one
VOCABULARY = 1024  # tokens; names are hashed into it, so that a model needs no list of them
OPERANDS = 3  # of the innermost statement: the sum and its two factors

_ROOT, _FOR = 1, 2
_FIRST_NAME = 3

Trees = npt.NDArray[np.float32]


def tree_features(nest: Nest) -> Trees:
    """(N, nodes, 3 + 12) of the N candidates that ``nest`` stands for."""
    grower = _Grower()
    grower.visit(nest.body, 0)
    return _array(grower.rows)


def context_tree_features(nest: Nest) -> Trees:
    """(N, loops + 1, 3 + 13 + 2 * OPERANDS): a chain under a root."""
    rows = [_Row(1, -1, _ROOT, [])]
    chain = _chain(loop_contexts(nest))
    operands = _operands(chain[-1])
    for loop in chain:
        numbers: list[Extent] = [loop.length, *_annotation(loop.kind), loop.topdown]
        for access in operands:
            numbers += [loop.touches[access].count, loop.touches[access].reuse]
        rows.append(_Row(len(rows) + 1, len(rows) - 1, _FOR, numbers + [0, 0] * (OPERANDS - len(operands))))
    return _array(rows)


def token(name: str) -> int:
    """The token of a loop variable or a buffer; two names share one by chance, once in about a thousand pairs."""
    return _FIRST_NAME + crc32(name.encode()) % (VOCABULARY - _FIRST_NAME)


@dataclass(frozen=True)
class _Row:
    level: int
    parent: int
    token: int
    numbers: list[Extent]


class _Grower:
    """Adds a row for each node in the order of a depth-first walk."""

    def __init__(self) -> None:
        self.rows = [_Row(1, -1, _ROOT, [])]

    def visit(self, nodes: tuple[Node, ...], parent: int) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                if _computes(node.body):
                    self.visit(node.body, self.loop(node, parent))
            elif isinstance(node, When):
                self.visit(_kept(node), parent)
            elif _computes((node,)):
                self.store(node, parent)

    def loop(self, loop: Loop, parent: int) -> int:
        position = self.add(parent, _FOR, [loop.extent, *_annotation(loop.kind)])
        self.add(position, token(loop.name))
        return position

    def store(self, store: Store, parent: int) -> None:
        self.access(store.buffer, store.index, parent)
        if store.accumulate:
            self.access(store.buffer, store.index, parent)
        self.expression(store.value, parent)

    def expression(self, value: Expression, parent: int) -> None:
        if isinstance(value, Load):
            self.access(value.buffer, value.index, parent)
        elif isinstance(value, Within):
            self.expression(value.value, parent)
        elif isinstance(value, Binary):
            self.expression(value.left, parent)
            self.expression(value.right, parent)

    def access(self, buffer: Buffer, index: Affine, parent: int) -> None:
        position = self.add(parent, token(buffer.name))
        for loop, _ in index.terms:
            self.add(position, token(loop))

    def add(self, parent: int, name: int, numbers: list[Extent] | None = None) -> int:
        self.rows.append(_Row(self.rows[parent].level + 1, parent, name, numbers or []))
        return len(self.rows) - 1


def _computes(nodes: tuple[Node, ...]) -> bool:
    """Whether there is anything but initialisation, which is no part of the features."""
    return any(
        _computes(node.body)
        if isinstance(node, Loop)
        else _computes(_kept(node))
        if isinstance(node, When)
        else node.accumulate or not isinstance(node.value, Constant)
        for node in nodes
    )


def _kept(node: When) -> tuple[Node, ...]:
    """The first turn of a reduction initialises; the last one finishes, and that counts."""
    return (*node.then, *node.otherwise) if node.at == "last" else node.otherwise


def _annotation(kind: Kind) -> list[Extent]:
    return [int(name == kind) for name in ANNOTATIONS]


def _chain(contexts: list[LoopContext]) -> list[LoopContext]:
    """The deepest loop that multiplies, else that touches something, and the loops around it, outermost first."""
    places = [number for number, loop in enumerate(contexts) if loop.touches]
    deepest = max(places, key=lambda number: (contexts[number].multiplies > 0, contexts[number].level))
    chain: list[LoopContext] = []
    for loop in reversed(contexts[: deepest + 1]):
        if not chain or loop.level == chain[-1].level - 1:
            chain.append(loop)
    return chain[::-1]


def _operands(innermost: LoopContext) -> list[str]:
    """One access of each buffer, in the order of the statement: the sum, then its factors."""
    first: dict[str, str] = {}
    for access in innermost.touches:
        first.setdefault(access.rpartition("_")[0], access)
    return list(first.values())[:OPERANDS]


def _array(rows: list[_Row]) -> Trees:
    width = max(len(row.numbers) for row in rows)
    columns = [np.atleast_1d(np.asarray(number)) for row in rows for number in row.numbers]
    candidates = max((len(column) for column in columns), default=1)
    result = np.zeros((candidates, len(rows), NUMBERS + width), dtype=np.float32)
    for position, row in enumerate(rows):
        result[:, position, LEVEL], result[:, position, PARENT], result[:, position, TOKEN] = (
            row.level,
            row.parent,
            row.token,
        )
        for place, number in enumerate(row.numbers):
            result[:, position, NUMBERS + place] = np.log2(1.0 + np.asarray(number))
    return result
