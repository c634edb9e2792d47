"""The loops around a stage's multiply-add: how far each operand reaches inside each of them, and what it costs.

Footprints are exact for affine accesses: along each dimension of an operand the loops inside a level reach over
``1 + sum(coefficient * (span - 1))`` elements, the region that ``compute_at`` would compute there. Traffic is the usual
model of blocked loops (Lam, Rothberg, Wolf, ASPLOS 1991): what fits into a cache is read once for each time the loops
around it come back, and an operand that the next loops outside do not move stays where it is.

Extents are integers, or columns with one entry a candidate; all results broadcast alike.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tuner import expression as ex
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Binary, Expression, Kind, Load, Loop, Nest, Node, Store, When, Within
from tuner.schedule import Extent

Number: TypeAlias = Any  # float, or a float64 column of N candidates


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

    def __init__(self, nest: Nest, stage: ex.Stage) -> None:
        """``stage`` is one that ``nest`` computes. Raises ScheduleError when nothing is summed up in it."""
        statements = list(_statements(nest.body, ()))
        sums = {found.store.buffer.name: found for found in statements if found.store.accumulate}
        main = sums.get(f"{stage.name}.tile", sums.get("tile"))  # the tile of the last stage has no other name
        if main is None:
            raise ScheduleError("there is no multiply-add in this loop nest")
        self.loops = main.loops
        self.passes = tuple(found for found in statements if not found.store.accumulate)
        self._footprints: dict[Operand, list[Number]] = {}
        self.extents: list[Number] = [_number(loop.extent) for loop in self.loops]
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
        inner = [loop.kind in straight for loop in self.loops]
        return next((level for level in range(self.depth) if all(inner[level:])), self.depth)

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
    def work(self) -> list[Number]:
        """Multiply-adds inside each level, partial tiles counted as whole ones; ``depth + 1`` entries."""
        return _products(self.extents)

    @cached_property
    def spans(self) -> list[dict[str, Number]]:
        """How far the loops inside each level reach along each axis; ``depth + 1`` entries."""
        spans: dict[str, Number] = dict.fromkeys((loop.axis for loop in self.loops), 1.0)
        result = [spans]
        for loop, extent in zip(reversed(self.loops), reversed(self.extents), strict=True):
            spans = {**spans, loop.axis: np.minimum(spans[loop.axis] * extent, self.axes[loop.axis])}
            result.append(spans)
        return result[::-1]

    def footprint(self, operand: Operand) -> list[Number]:
        """Elements of ``operand`` that are touched inside each level; ``depth + 1`` entries."""
        if operand not in self._footprints:
            self._footprints[operand] = self._footprint(operand)
        return self._footprints[operand]

    def _footprint(self, operand: Operand) -> list[Number]:
        result: list[Number] = [1.0]
        for level in reversed(range(self.depth)):
            if operand.moves_with(self.loops[level].axis):
                result.append(_region(operand, self.spans[level]))
            else:
                result.append(result[-1])
        return result[::-1]

    def fetches(self, operand: Operand) -> list[Number]:
        """How often the elements inside each level have to be fetched anew; ``depth + 1`` entries."""
        trips: Number = 1.0
        fetched: Number = 1.0
        result = [fetched]
        for loop, extent in zip(self.loops, self.extents, strict=True):
            trips = trips * extent
            if operand.moves_with(loop.axis):
                fetched = np.where(extent > 1, trips, fetched)
            result.append(fetched)
        return result


def _statements(nodes: tuple[Node, ...], loops: tuple[Loop, ...]) -> Iterator[Pass]:
    for node in nodes:
        if isinstance(node, Loop):
            yield from _statements(node.body, (*loops, node))
        elif isinstance(node, When):
            yield from _statements(node.then, loops)
            yield from _statements(node.otherwise, loops)
        else:
            yield Pass(loops, node)


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


def _region(operand: Operand, spans: dict[str, Number]) -> Number:
    result: Number = 1.0
    for dimension in operand.dimensions:
        reach: Number = 1.0
        for axis, coefficient in dimension:
            reach = reach + coefficient * (spans[axis] - 1)
        result = result * reach
    return result


def _products(extents: Sequence[Number]) -> list[Number]:
    """Products of the extents from each position to the end."""
    result: list[Number] = [1.0]
    for extent in reversed(extents):
        result.append(result[-1] * extent)
    return result[::-1]


def _number(extent: Any) -> Number:
    return np.asarray(extent, dtype=np.float64)[()]
