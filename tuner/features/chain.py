"""The loops around a stage's multiply-add: how far each operand reaches inside each of them, and what it costs.

Footprints are exact for affine accesses: along each dimension of an operand the loops inside a level reach over
``1 + sum(coefficient * (span - 1))`` elements, the region that ``compute_at`` would compute there. Traffic is the usual
model of blocked loops (Lam, Rothberg, Wolf, ASPLOS 1991): what fits into a cache is read once for each time the loops
around it come back, and an operand that the next loops outside do not move stays where it is.

Extents are integers, or columns with one entry a candidate. What is known of every level is one matrix with a row a
level and a column a candidate, or a single column where all are alike: a few operations on matrices instead of many on
their rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, compress
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tuner import expression as ex
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Binary, Expression, Kind, Load, Loop, Nest, Node, Store, When, Within
from tuner.schedule import Extent

Number: TypeAlias = Any  # float, or a float64 column of N candidates
Levels: TypeAlias = npt.NDArray[np.float64]  # (levels, N), or (levels, 1) where all candidates are alike


@dataclass(frozen=True, eq=False)  # its indices may be columns, which do not compare
class Operand:
    """One access of the multiply-add: along each dimension the axes it moves with, and its index in memory."""

    name: str
    dimensions: tuple[tuple[tuple[str, Extent], ...], ...]  # (axis, coefficient) of each dimension
    index: Affine
    bytes: int  # of an element

    @cached_property
    def axes(self) -> frozenset[str]:
        """That it moves with."""
        return frozenset(name for dimension in self.dimensions for name, _ in dimension)

    def moves_with(self, axis: str) -> bool:
        return axis in self.axes


@dataclass(frozen=True)
class Pass:
    """A statement beside the multiply-add (padding, packing, setting to zero, writing back) and the loops around it."""

    loops: tuple[Loop, ...]
    store: Store


class Chain:
    """The loops around the multiply-add of ``stage``, outermost first. ``level`` k is what is inside ``loops[:k]``."""

    def __init__(self, nest: Nest, statements: Sequence[Pass], stage: ex.Stage) -> None:
        """``statements`` are those of ``nest``, which computes ``stage``.

        Raises ScheduleError when nothing is summed up in it.
        """
        sums = {found.store.buffer.name: found for found in statements if found.store.accumulate}
        main = sums.get(f"{stage.name}.tile", sums.get("tile"))  # the tile of the last stage has no other name
        if main is None:
            raise ScheduleError("there is no multiply-add in this loop nest")
        self.loops = main.loops
        self.passes = tuple(found for found in statements if not found.store.accumulate)
        self._footprints: dict[Operand, Levels] = {}
        self._strides: dict[Operand, Levels] = {}
        self.extents = stacked([loop.extent for loop in self.loops])
        self.axes: dict[str, Number] = {name: _number(extent) for name, extent in nest.axes}
        result = next(found for found in self.passes if found.store.buffer.name == stage.output.name)
        self.reduce = frozenset(axis.name for axis in stage.reduce)
        self.tile = _common(self.loops, result.loops)  # loops outside the local tile
        self.tasks = sum(loop.kind is Kind.PARALLEL for loop in self.loops)
        axes = tuple(((axis.name, 1),) for axis in stage.axes)
        self.output = Operand(stage.output.name, axes, result.store.index, item_bytes(stage.output.dtype))
        self.operands = tuple(
            Operand(
                access.tensor.name,
                tuple(index.terms for index in access.indices),
                load.index,
                item_bytes(load.buffer.dtype),
            )
            for access, load in zip(_accesses(stage.body), _loads(main.store.value), strict=True)
        )

    @property
    def depth(self) -> int:
        return len(self.loops)

    @cached_property
    def body(self) -> int:
        """The level of the straight-line code: only unrolled and vectorized loops are inside."""
        straight = (Kind.UNROLLED, Kind.VECTORIZED, Kind.DOT, Kind.MATRIX)
        rolled = [level for level, loop in enumerate(self.loops) if loop.kind not in straight]
        return rolled[-1] + 1 if rolled else 0

    @cached_property
    def lanes(self) -> Number:
        """Turns of the vectorized loop."""
        return self.turns(range(self.depth), lambda loop: loop.kind is Kind.VECTORIZED)

    def turns(self, levels: Iterable[int], chosen: Callable[[Loop], bool] = lambda _: True) -> Number:
        """The product of the extents of those loops at ``levels`` that are ``chosen``."""
        result: Number = 1.0
        for level in levels:
            if chosen(self.loops[level]):
                result = result * self.extents[level]
        return result

    @cached_property
    def work(self) -> Levels:
        """Multiply-adds inside each level, partial tiles counted as whole ones; ``depth + 1`` rows."""
        return _inwards(self.extents)

    @cached_property
    def trips(self) -> Levels:
        """How often each loop turns in all; ``depth`` rows."""
        return _inwards(self.extents[::-1])[-2::-1]

    @cached_property
    def turning(self) -> npt.NDArray[np.bool_]:
        """Which loops have more than one turn; ``depth`` rows."""
        return self.extents > 1

    @cached_property
    def _reaches(self) -> tuple[dict[str, Levels], dict[str, list[int]]]:
        """Of each axis, how far none, one, ... of its innermost loops reach, less one; and which row a level has."""
        reach: dict[str, list[Number]] = {loop.axis: [1.0] for loop in self.loops}
        for loop, extent in zip(reversed(self.loops), self.extents[::-1], strict=True):
            reach[loop.axis].append(np.minimum(reach[loop.axis][-1] * extent, self.axes[loop.axis]))
        axes = [loop.axis for loop in reversed(self.loops)]
        rows = {axis: [*accumulate((each == axis for each in axes), initial=0)][::-1] for axis in reach}
        return {axis: stacked(each) - 1 for axis, each in reach.items()}, rows

    def footprint(self, operand: Operand) -> Levels:
        """Elements of ``operand`` that are touched inside each level; ``depth + 1`` rows."""
        if operand not in self._footprints:
            reaches, rows = self._reaches
            moves = [operand.moves_with(loop.axis) for loop in self.loops]
            levels = [*compress(range(self.depth), moves), self.depth]  # between these it does not change
            region: Number = 1.0
            for dimension in operand.dimensions:
                reach: Number = 1.0
                for axis, coefficient in dimension:
                    reach = reach + coefficient * reaches[axis][[rows[axis][level] for level in levels]]
                region = region * reach
            inside = [*accumulate(moves, initial=0)]
            self._footprints[operand] = (region * np.ones((len(levels), self.extents.shape[1])))[inside]
        return self._footprints[operand]

    def fetches(self, operand: Operand) -> Levels:
        """How often the elements inside each level have to be fetched anew; ``depth + 1`` rows."""
        fetched = np.ones(self.work.shape)
        for level, loop in enumerate(self.loops):
            if operand.moves_with(loop.axis):
                fetched[level + 1] = np.where(self.turning[level], self.trips[level], fetched[level])
            else:
                fetched[level + 1] = fetched[level]
        return fetched

    def strides(self, operand: Operand) -> Levels:
        """How far each loop moves along ``operand`` in memory in one turn, in elements; ``depth`` rows."""
        if operand not in self._strides:
            known = dict(operand.index.terms)
            self._strides[operand] = np.abs(stacked([known.get(loop.name, 0) for loop in self.loops]))
        return self._strides[operand]


def statements_of(nest: Nest) -> list[Pass]:
    """All statements of a nest, with the loops around them, in their order."""
    found: list[Pass] = []
    _walk(nest.body, (), found)
    return found


def _walk(nodes: tuple[Node, ...], loops: tuple[Loop, ...], found: list[Pass]) -> None:
    for node in nodes:
        if isinstance(node, Loop):
            _walk(node.body, (*loops, node), found)
        elif isinstance(node, When):
            _walk(node.then, loops, found)
            _walk(node.otherwise, loops, found)
        else:
            found.append(Pass(loops, node))


def stacked(values: Sequence[Number]) -> Levels:
    """(len(values), N) of values that are numbers or columns of N."""
    result = np.empty((len(values), max((value.size for value in values if isinstance(value, np.ndarray)), default=1)))
    for row, value in enumerate(values):
        result[row] = value
    return result


def _common(first: tuple[Loop, ...], second: tuple[Loop, ...]) -> int:
    pairs = zip(first, second, strict=False)
    return next((level for level, (a, b) in enumerate(pairs) if a is not b), min(len(first), len(second)))


def _accesses(body: ex.Scalar) -> list[ex.Access]:
    if isinstance(body, ex.Binary):
        return [*_accesses(body.left), *_accesses(body.right)]
    if isinstance(body, ex.Inside):
        return [body.access]
    return [body] if isinstance(body, ex.Access) else []


def _loads(value: Expression) -> list[Load]:
    if isinstance(value, Binary):
        return [*_loads(value.left), *_loads(value.right)]
    if isinstance(value, Within):
        return [value.value]
    return [value] if isinstance(value, Load) else []


def _inwards(extents: Levels) -> Levels:
    """Products of (D, N) extents from each level to the innermost one, (D + 1, N)."""
    result = np.ones((len(extents) + 1, extents.shape[1]))
    for level in reversed(range(len(extents))):  # NumPy's own products along columns take several times as long
        np.multiply(result[level + 1], extents[level], out=result[level])
    return result


def _number(extent: Any) -> Number:
    return np.asarray(extent, dtype=np.float64)[()]
