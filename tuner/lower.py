"""Expression + schedule -> loop nest.

The nest of each stage is built where it is placed: its outer loops, the stages and operand copies that are computed at
one of them, and inside a local tile that is set to zero, accumulated over the reduction loops, and written back through
the epilogue. Only arithmetic is done on extents, so that factors may be columns with one entry a candidate.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod

import numpy as np

from tuner import expression as ex
from tuner import schedule as sc
from tuner.errors import ScheduleError
from tuner.loopnest import (
    Affine,
    Binary,
    Buffer,
    Condition,
    Constant,
    Expression,
    Kind,
    Load,
    Loop,
    Nest,
    Node,
    PackedOperand,
    Part,
    Scope,
    Store,
    When,
    Within,
    verify,
)
from tuner.placement import Placed, access_to, place_stages
from tuner.plan import StagePlan, nested
from tuner.schedule import Extent


def lower(expression: ex.Expression, schedule: sc.Schedule) -> Nest:
    """The loop nest of ``expression`` under ``schedule``. Raises ScheduleError naming the step that is not legal."""
    stages = {stage.name: stage for stage in expression.stages}
    for step in schedule.steps:
        if step.stage not in stages:
            raise ScheduleError(f"{step}: there is no stage {step.stage}, only {', '.join(sorted(stages))}")
        stage = stages[step.stage]
        moves_main = isinstance(step, sc.ComputeAt | sc.Stagger) and stage is expression.main
        if moves_main or isinstance(step, sc.CacheWrite | sc.Pack if not stage.reduce else sc.Inline):
            raise ScheduleError(f"{step}: {step.kind} is not for stage {step.stage}")
    nest = _NestBuilder(*place_stages(expression, schedule)).build()
    verify(nest)
    return nest


class _NestBuilder:
    """Turns the plans of the stages, and what is computed inside them, into nodes."""

    def __init__(self, placed: list[Placed], inlined: Mapping[str, ex.Stage]) -> None:
        self.placed, self.inlined = placed, inlined
        self.loops = placed[-1].loops  # of all stages
        self.buffers: list[Buffer] = []
        self.packed: list[PackedOperand] = []
        self.at: dict[str, list[Node]] = {}  # nodes that open the body of a loop; "" = the kernel itself
        # How a stage, by its name, reads a tensor that does not lie in memory as it was given.
        self.index_of: dict[tuple[str, str], tuple[Buffer, Affine]] = {}
        for reader, producer in pairwise(placed):
            made, strides = producer.stage.output, producer.plan.strides
            size = strides[0] * producer.region[producer.stage.axes[0].name].extent
            buffer = Buffer(made.name, size, Scope.THREAD if producer.opened else Scope.WORKSPACE, dtype=made.dtype)
            self.buffers.append(buffer)
            # From the start of the region, which is where the loops around the producer stand.
            indices = access_to(reader.stage, made.name).indices
            inside = [_inside(index, reader.position, producer.opened) for index in indices]
            self.index_of[reader.stage.name, made.name] = (buffer, _dotted(inside, strides))

    def build(self) -> Nest:
        axes = {name: part.extent for placed in self.placed for name, part in placed.region.items()}
        for placed in reversed(self.placed):
            for pack in placed.plan.packs.values():
                self._pack(placed, pack)
            body = self._tiled(placed) if placed.stage.reduce else self._copied(placed)
            self.at.setdefault(placed.at, []).extend(body)
        return Nest(tuple(self.at[""]), tuple(axes.items()), tuple(self.buffers), tuple(self.packed))

    # Packed operands ----------------------------------------------------------------------------------------------

    def _pack(self, placed: Placed, pack: sc.Pack) -> None:
        access = access_to(placed.stage, pack.tensor)
        if access.tensor.role in ("intermediate", "table"):
            raise ScheduleError(f"{pack}: {pack.tensor} is made by a stage of its own, use compute_at")
        dimensions = [_substitute(index, placed.position) for index in access.indices]
        order = [*placed.opened, *placed.plan.order]
        for name in order:
            uses = any(not _is_zero(index.coefficient(name)) for index in dimensions)
            if self.loops[name].tail == "shift" and uses:
                raise ScheduleError(f"{pack}: loop {name} has a shifted tail and cannot index a packed operand")
        loops = [name for name in order if any(name in dict(index.terms) for index in dimensions)]
        if access.tensor.role == "constant":
            self._pack_outside(placed, pack, access.tensor, dimensions, loops)
        else:
            self._pack_inside(placed, pack, access.tensor, dimensions, loops)

    def _pack_outside(
        self, placed: Placed, pack: sc.Pack, tensor: ex.Tensor, dimensions: list[Affine], loops: list[str]
    ) -> None:
        """A constant, which the caller packs once."""
        if sorted(loops) != sorted(pack.loops):
            raise ScheduleError(f"{pack}: the loops that walk through {tensor.name} are {', '.join(loops)}")
        walks = []
        for name in pack.loops:
            d = next(d for d, index in enumerate(dimensions) if name in dict(index.terms))
            walks.append((d, dimensions[d].coefficient(name), self.loops[name].extent))
        self.packed.append(_packed(tensor, tuple(walks)))
        buffer = Buffer(tensor.name, self._turns(pack.loops), Scope.ARGUMENT, dtype=tensor.dtype)
        self.index_of[placed.stage.name, tensor.name] = (buffer, self._packed_index(pack.loops))

    def _pack_inside(
        self, placed: Placed, pack: sc.Pack, tensor: ex.Tensor, dimensions: list[Affine], loops: list[str]
    ) -> None:
        """An input, which the kernel copies inside a loop or before all of them."""
        opened = placed.open_loops(pack.at, str(pack))
        walking = [name for name in loops if name not in opened]
        if sorted(walking) != sorted(pack.loops):
            raise ScheduleError(f"{pack}: the loops that walk through {tensor.name} there are {', '.join(walking)}")
        nested(placed.plan, pack, pack.loops)
        scope = Scope.THREAD if opened else Scope.WORKSPACE
        buffer = Buffer(f"{tensor.name}.packed", self._turns(pack.loops), scope, dtype=tensor.dtype)
        self.buffers.append(buffer)
        index = self._packed_index(pack.loops)
        copy = Store(buffer, index, Load(*_memory(tensor, dimensions)))
        outer, last = pack.loops[0], pack.loops[-1]
        kinds = dict.fromkeys(pack.loops, Kind.SERIAL)
        if self.loops[last].kind is Kind.VECTORIZED:
            kinds[last] = Kind.VECTORIZED
        if not opened and outer != last:
            kinds[outer] = Kind.PARALLEL
        self.at.setdefault(pack.at, []).extend(self._wrap(pack.loops, (copy,), kinds))
        self.index_of[placed.stage.name, tensor.name] = (buffer, index)

    def _turns(self, loops: Sequence[str]) -> Extent:
        return _product([self.loops[name].extent for name in loops])

    def _packed_index(self, loops: Sequence[str]) -> Affine:
        return _flatten([Affine(((name, 1),)) for name in loops], [self.loops[name].extent for name in loops])

    # The nests of the stages --------------------------------------------------------------------------------------

    def _output(self, placed: Placed) -> tuple[Buffer, Affine, tuple[Condition, ...]]:
        """The element that a stage writes to, and the conditions under which it does."""
        stage, position = placed.stage, placed.position
        if placed.reader:
            buffer, _ = self.index_of[placed.reader.stage.name, stage.output.name]
            counters = [placed.plan.counter(axis.name, placed.plan.order) for axis in stage.axes]
            return buffer, _dotted(counters, placed.plan.strides), ()
        place = stage.place or stage.output[stage.axes]
        conditions: tuple[Condition, ...] = ()
        if isinstance(place, ex.Inside):
            conditions = tuple((_substitute(affine, position), bound) for affine, bound in place.conditions)
            place = place.access
        return *_memory(place.tensor, [_substitute(index, position) for index in place.indices]), conditions

    def _copied(self, placed: Placed) -> tuple[Node, ...]:
        buffer, index, guards = self._output(placed)
        store = Store(buffer, index, self._expression(placed, placed.stage.body, placed.position), guards=guards)
        return self._wrap(placed.plan.order, (store,))

    def _tiled(self, placed: Placed) -> tuple[Node, ...]:
        plan, stage = placed.plan, placed.stage
        outer = plan.outer
        inner = plan.order[len(outer) :]
        spatial = [name for name in inner if not plan.reduces(name)]
        outer_reductions = tuple(name for name in outer if plan.reduces(name))
        _check_tile(plan)
        output, output_index, guards = self._output(placed)
        if output.dtype != "float32":  # too coarse to keep partial sums in
            if any(np.any(plan.loops[name].extent > 1) for name in outer_reductions):
                raise ScheduleError(f"sums cannot be resumed from an output of {output.dtype}: keep all in the tile")
            outer_reductions = ()
        extents = [self.loops[name].extent for name in spatial]
        if spatial and self.loops[spatial[-1]].kind is Kind.VECTORIZED:
            extents[-1] = _power_of_two(extents[-1])  # a row has room for a whole register
        name = f"{stage.name}.tile" if placed.reader else "tile"
        tile = Buffer(name, _product(extents), Scope.LOCAL)
        self.buffers.append(tile)
        tile_index = _flatten([Affine(((name, 1),)) for name in spatial], extents)
        total = Load(tile, tile_index)

        start: tuple[Node, ...] = (Store(tile, tile_index, Constant(0.0)),)
        finished = self._expression(placed, stage.epilogue, placed.position, total)
        finish: tuple[Node, ...] = (Store(output, output_index, finished, guards=guards),)
        if outer_reductions:
            resume = (Store(tile, tile_index, Load(output, output_index), guards=guards),)
            start = (When(outer_reductions, "first", start, resume),)
            finish = (When(outer_reductions, "last", finish, (Store(output, output_index, total, guards=guards),)),)
        value, tests = _factored(self._expression(placed, stage.body, placed.position))
        if any(plan.loops[name].kind is Kind.DOT for name in inner) and not _is_narrow_product(value):
            raise ScheduleError(f"stage {stage.name} has a dot product, which is for products of bfloat16 operands")
        accumulate = Store(tile, tile_index, value, accumulate=True, guards=tests)
        inside = (
            *self._wrap(spatial, start),
            *self._wrap(inner, (accumulate,)),
            *self._wrap(spatial, finish),
        )
        for name in reversed(outer):
            inside = self._wrap([name], (*self.at.get(name, []), *inside))
        return inside

    def _expression(
        self, placed: Placed, node: ex.Scalar, position: Mapping[str, Affine], total: Expression | None = None
    ) -> Expression:
        """``node`` in the loops of ``placed``, which stand at ``position`` along the axes that it speaks of."""
        if isinstance(node, ex.Total):
            assert total is not None
            return total
        if isinstance(node, ex.Number):
            return Constant(node.value)
        if isinstance(node, ex.Binary):
            left, right = (self._expression(placed, side, position, total) for side in (node.left, node.right))
            return Binary(node.operator, left, right)
        if isinstance(node, ex.Part):
            value = self._expression(placed, node.value, position, total)
            assert isinstance(value, Load | Within)
            return Part(value, _substitute(node.number, position))
        access, tested = (node.access, node.conditions) if isinstance(node, ex.Inside) else (node, ())
        ahead = placed.plan.ahead.get(access.tensor.name, 0)
        if (reading := (placed.stage.name, access.tensor.name)) in self.index_of:
            load, made_here = Load(*self.index_of[reading], ahead), access.tensor.role == "intermediate"
            skipped = tuple((_substitute(affine, position), bound) for affine, bound in tested if made_here)
            return Within(skipped, load) if skipped else load
        indices = [_substitute(index, position) for index in access.indices]
        if access.tensor.name in self.inlined:
            stage = self.inlined[access.tensor.name]
            inner = {axis.name: index for axis, index in zip(stage.axes, indices, strict=True)}
            return self._expression(placed, stage.body, inner)
        conditions = [(_substitute(affine, position), bound) for affine, bound in tested]
        # A part that reaches past the end of its axis must not be read there.
        known = {axis for affine, _ in tested for axis, _ in affine.terms}
        used = {axis for index in access.indices for axis, _ in index.terms} - known
        conditions += [
            (position[axis.name], axis.extent)
            for axis in placed.stage.axes
            if axis.name in used and placed.region[axis.name].open_ended
        ]
        buffer, index = _memory(access.tensor, indices)
        if access.tensor.role == "table" and buffer not in self.buffers:
            self.buffers.append(buffer)
        made = access.tensor
        if made.maps or made.parts > 1 or made.joined:
            self.packed.append(_packed(made, tuple((d, 1, extent) for d, extent in enumerate(made.shape))))
        load = Load(buffer, index, ahead)
        return Within(tuple(conditions), load) if conditions else load

    def _wrap(
        self, loops: Sequence[str], body: tuple[Node, ...], kinds: Mapping[str, Kind] | None = None
    ) -> tuple[Node, ...]:
        for name in reversed(loops):
            loop = self.loops[name]
            kind = kinds[name] if kinds else loop.kind
            body = (Loop(name, loop.axis, loop.extent, loop.step, kind, loop.tail, body, loop.fenced),)
        return body


def _check_tile(plan: StagePlan) -> None:
    """Refuse loops that cannot be outside of the local tile, or inside it."""
    outer, inner = plan.outer, plan.order[len(plan.outer) :]
    for name in outer:
        if plan.loops[name].kind is Kind.VECTORIZED:
            raise ScheduleError(f"the vectorized loop {name} is outside the local tile")
    for name in inner:
        if plan.loops[name].kind is Kind.PARALLEL:
            raise ScheduleError(f"the parallel loop {name} is inside the local tile")
    for name in inner:
        if plan.loops[name].tail == "shift" and not plan.reduces(name):
            raise ScheduleError(f"loop {name} has a shifted tail inside the local tile and would be summed up twice")
    if any(map(plan.reduces, outer)) and any(plan.loops[name].tail == "shift" for name in outer):
        raise ScheduleError("a shifted tail needs all reduction loops inside the local tile")


def _factored(value: Expression) -> tuple[Expression, tuple[Condition, ...]]:
    """``value`` with the conditions of its factors apart: a product with the zero outside adds nothing to a sum."""
    if isinstance(value, Within):
        return value.value, value.conditions
    if isinstance(value, Binary) and value.operator == "mul":
        (left, first), (right, second) = _factored(value.left), _factored(value.right)
        return Binary("mul", left, right), (*first, *second)
    return value, ()


def _is_narrow_product(value: Expression) -> bool:
    sides = (value.left, value.right) if isinstance(value, Binary) and value.operator == "mul" else ()
    return bool(sides) and all(isinstance(side, Load) and side.buffer.dtype == "bfloat16" for side in sides)


def _packed(tensor: ex.Tensor, walks: tuple[tuple[int, Extent, Extent], ...]) -> PackedOperand:
    return PackedOperand(tensor.name, walks, tensor.maps, tensor.dtype, tensor.parts, tensor.joined)


def _memory(tensor: ex.Tensor, dimensions: Sequence[Affine]) -> tuple[Buffer, Affine]:
    """The element of an operand or of a table."""
    scope = Scope.TABLE if tensor.role == "table" else Scope.ARGUMENT
    buffer = Buffer(tensor.name, prod(tensor.shape), scope, tensor.values, tensor.dtype)
    return buffer, _flatten(dimensions, tensor.shape)


def _substitute(index: Affine, position: Mapping[str, Affine]) -> Affine:
    return Affine.total(((position[axis], coefficient) for axis, coefficient in index.terms), index.constant)


def _inside(index: Affine, position: Mapping[str, Affine], opened: Sequence[str]) -> Affine:
    """How far from the start of its region, which the loops ``opened`` and the constants give, an index is."""
    terms = _substitute(index, position).terms
    return Affine(tuple((loop, coefficient) for loop, coefficient in terms if loop not in opened))


def _flatten(dimensions: Sequence[Affine], extents: Sequence[Extent]) -> Affine:
    return _dotted(dimensions, [_product(extents[number + 1 :]) for number in range(len(extents))])


def _dotted(dimensions: Sequence[Affine], strides: Sequence[Extent]) -> Affine:
    return Affine.total(zip(dimensions, strides, strict=True))


def _power_of_two(extent: Extent) -> Extent:
    """The smallest one that is not below ``extent``."""
    if isinstance(extent, np.ndarray):
        return np.left_shift(1, np.ceil(np.log2(extent)).astype(np.int64))
    return 1 << (extent - 1).bit_length()


def _product(extents: Sequence[Extent]) -> Extent:
    result: Extent = 1
    for extent in extents:
        result = result * extent
    return result


def _is_zero(value: Extent) -> bool:
    return isinstance(value, int) and value == 0
