"""Expression + schedule -> loop nest.

First the steps are applied to each stage's list of loops, from the last stage to the first: where a stage is computed,
and which part of it is needed there, follows from the stages that come after it. Then the nest of each stage is built:
its outer loops, the stages and operand copies that are computed at one of them, and inside a local tile that is set to
zero, accumulated over the reduction loops, and written back through the epilogue. Only arithmetic is done on extents,
so that factors may be columns with one entry a candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
from tuner.plan import LoopPlan, StagePlan, apply, nested
from tuner.schedule import Extent


@dataclass(frozen=True)
class _Range:
    """A part of an axis. ``open_ended``: the last such part may reach past the end of the axis."""

    start: Affine
    extent: Extent
    open_ended: bool = False


@dataclass
class _Placed:
    """A stage whose loops and place are known."""

    plan: StagePlan
    at: str  # the loop that it is computed in, "" = the kernel itself
    opened: tuple[str, ...]  # all loops around it: of later stages, outermost first
    region: Mapping[str, _Range]  # of each axis, what is computed in one go
    # How its body reads a tensor, when not as the tensor lies in memory.
    index_of: dict[str, tuple[Buffer, Affine]] = field(default_factory=dict)

    @property
    def stage(self) -> ex.Stage:
        return self.plan.stage

    @cached_property
    def position(self) -> dict[str, Affine]:
        """Where its loops stand along each axis."""
        plan = self.plan
        return {name: part.start + plan.counter(name, plan.order) for name, part in self.region.items()}

    def places(self) -> list[str]:
        """The loops that something may be computed in for it."""
        return [*self.opened, *self.plan.outer]


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
    nest = _NestBuilder(expression, schedule).build()
    verify(nest)
    return nest


class _NestBuilder:
    """Turns the plans of the stages, and what is computed inside them, into nodes."""

    def __init__(self, expression: ex.Expression, schedule: sc.Schedule) -> None:
        self.buffers: list[Buffer] = []
        self.packed: list[PackedOperand] = []
        self.at: dict[str, list[Node]] = {}  # nodes that open the body of a loop; "" = the kernel itself
        self.loops: dict[str, LoopPlan] = {}  # of all stages
        self.placed: list[_Placed] = []  # from the last stage to the first: each is read by the one before
        self.inlined: dict[str, ex.Stage] = {}  # by the tensors that nobody makes
        for stage in reversed(expression.stages):
            steps = [step for step in schedule.steps if step.stage == stage.name]
            if not any(isinstance(step, sc.Inline) for step in steps):
                self._place(stage, steps)
            elif len(steps) > 1:
                raise ScheduleError(f"{steps[0]}: a stage that is inlined has no loops of its own")
            else:
                self.inlined[stage.output.name] = stage

    def build(self) -> Nest:
        axes = {name: part.extent for placed in self.placed for name, part in placed.region.items()}
        for placed in reversed(self.placed):
            for pack in placed.plan.packs.values():
                self._pack(placed, pack)
            body = self._tiled(placed) if placed.stage.reduce else self._copied(placed)
            self.at.setdefault(placed.at, []).extend(body)
        return Nest(tuple(self.at[""]), tuple(axes.items()), tuple(self.buffers), tuple(self.packed))

    # Where stages are computed ------------------------------------------------------------------------------------

    def _place(self, stage: ex.Stage, steps: list[sc.Step]) -> None:
        moves = [step for step in steps if isinstance(step, sc.ComputeAt)]
        if len(moves) > 1:
            raise ScheduleError(f"{moves[1]}: the stage has a place already")
        at, opened = "", tuple[str, ...]()
        region = {axis.name: _Range(Affine(), axis.extent) for axis in stage.all_axes}
        if self.placed:
            reader = self.placed[-1]
            at = moves[0].loop if moves else ""
            opened = self._open_loops(reader, at, f"{stage.name}.compute_at({at})")
            region.update(self._needed(len(self.placed), stage, opened))
        plan = StagePlan(stage, {name: part.extent for name, part in region.items()})
        for step in steps:
            if isinstance(step, sc.Prefetch):
                _find(stage, step.tensor)
        apply(plan, [step for step in steps if not isinstance(step, sc.ComputeAt)])
        if opened and any(loop.kind is Kind.PARALLEL for loop in plan.loops.values()):
            raise ScheduleError(f"stage {stage.name} is computed inside a loop and cannot be parallel itself")
        self.loops.update(plan.loops)
        placed = _Placed(plan, at, opened, region)
        if self.placed:
            reader = self.placed[-1]
            scope, made, strides = Scope.THREAD if opened else Scope.WORKSPACE, stage.output, plan.strides
            size = strides[0] * region[stage.axes[0].name].extent
            buffer = Buffer(made.name, size, scope, dtype=made.dtype)
            self.buffers.append(buffer)
            # From the start of the region, which is where the loops around this stage stand.
            indices = [_inside(index, reader.position, opened) for index in _find(reader.stage, stage.output).indices]
            reader.index_of[stage.output.name] = (buffer, _dotted(indices, strides))
        self.placed.append(placed)

    def _open_loops(self, reader: _Placed, at: str, step: str) -> tuple[str, ...]:
        """The loops that are open inside ``at``, which is one around ``reader`` or one of its own."""
        if not at:
            return ()
        order = [*reader.opened, *reader.plan.order]
        if at not in order:
            raise ScheduleError(f"{step}: there is no loop {at}, only {', '.join(order)}")
        if at not in reader.places():
            raise ScheduleError(f"{step}: loop {at} is inside the local tile")
        opened = tuple(order[: order.index(at) + 1])
        parallel = [name for name in order if self.loops[name].kind is Kind.PARALLEL]
        if any(name not in opened for name in parallel):
            raise ScheduleError(f"{step}: loop {at} is inside the parallel task space, choose {parallel[-1]} or deeper")
        return opened

    def _needed(self, number: int, stage: ex.Stage, opened: tuple[str, ...]) -> dict[str, _Range]:
        """The part of ``stage`` that the ``number`` stages after it need in one turn of the loops ``opened``."""
        reader = self.placed[number - 1]
        parts = self._made(number - 1, opened)
        needed: dict[str, _Range] = {}
        for axis, index in zip(stage.axes, _find(reader.stage, stage.output).indices, strict=True):
            start = Affine.total(((parts[name].start, times) for name, times in index.terms), index.constant)
            extent: Extent = 1
            for name, coefficient in index.terms:
                extent = extent + coefficient * (parts[name].extent - 1)
            open_ended = any(parts[name].open_ended for name, _ in index.terms)
            needed[axis.name] = _Range(start, extent, open_ended)
        return needed

    def _made(self, number: int, opened: tuple[str, ...]) -> dict[str, _Range]:
        """The part of a stage that is computed in one turn of the loops ``opened``."""
        placed = self.placed[number]
        plan = placed.plan
        if len(opened) < len(placed.opened):
            whole = {axis.name: _Range(Affine(), axis.extent) for axis in placed.stage.reduce}
            return {**whole, **self._needed(number, placed.stage, opened)}
        parts: dict[str, _Range] = {}
        for name, part in placed.region.items():
            outside = [loop for loop in plan.loops_of(name) if loop in opened]
            divided = bool(outside) and outside[-1] != plan.loops_of(name)[-1]
            extent = plan.loops[outside[-1]].step if outside else part.extent
            parts[name] = _Range(part.start + plan.counter(name, outside), extent, part.open_ended or divided)
        return parts

    # Packed operands ----------------------------------------------------------------------------------------------

    def _pack(self, placed: _Placed, pack: sc.Pack) -> None:
        access = _find(placed.stage, pack.tensor)
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
            if sorted(loops) != sorted(pack.loops):
                raise ScheduleError(f"{pack}: the loops that walk through {pack.tensor} are {', '.join(loops)}")
            walks = [
                (next(d for d, index in enumerate(dimensions) if name in dict(index.terms)), name)
                for name in pack.loops
            ]
            self.packed.append(
                PackedOperand(
                    pack.tensor,
                    tuple((d, dimensions[d].coefficient(name), self.loops[name].extent) for d, name in walks),
                    access.tensor.maps,
                    access.tensor.dtype,
                    access.tensor.parts,
                    access.tensor.joined,
                )
            )
            buffer = Buffer(pack.tensor, self._turns(pack.loops), Scope.ARGUMENT, dtype=access.tensor.dtype)
            placed.index_of[pack.tensor] = (buffer, self._packed_index(pack.loops))
            return
        opened = self._open_loops(placed, pack.at, str(pack))
        inside = [name for name in loops if name not in opened]
        if sorted(inside) != sorted(pack.loops):
            raise ScheduleError(f"{pack}: the loops that walk through {pack.tensor} there are {', '.join(inside)}")
        nested(placed.plan, pack, pack.loops)
        scope = Scope.THREAD if opened else Scope.WORKSPACE
        buffer = Buffer(f"{pack.tensor}.packed", self._turns(pack.loops), scope, dtype=access.tensor.dtype)
        self.buffers.append(buffer)
        index = self._packed_index(pack.loops)
        copy = Store(buffer, index, Load(*_memory(access.tensor, dimensions)))
        outer, last = pack.loops[0], pack.loops[-1]
        kinds = dict.fromkeys(pack.loops, Kind.SERIAL)
        if self.loops[last].kind is Kind.VECTORIZED:
            kinds[last] = Kind.VECTORIZED
        if not opened and outer != last:
            kinds[outer] = Kind.PARALLEL
        self.at.setdefault(pack.at, []).extend(self._wrap(pack.loops, (copy,), kinds))
        placed.index_of[pack.tensor] = (buffer, index)

    def _turns(self, loops: Sequence[str]) -> Extent:
        return _product([self.loops[name].extent for name in loops])

    def _packed_index(self, loops: Sequence[str]) -> Affine:
        return _flatten([Affine(((name, 1),)) for name in loops], [self.loops[name].extent for name in loops])

    # The nests of the stages --------------------------------------------------------------------------------------

    def _output(self, placed: _Placed) -> tuple[Buffer, Affine, tuple[Condition, ...]]:
        """The element that a stage writes to, and the conditions under which it does."""
        stage, position = placed.stage, placed.position
        if placed is not self.placed[0]:
            reader = self.placed[self.placed.index(placed) - 1]
            buffer, _ = reader.index_of[stage.output.name]
            counters = [placed.plan.counter(axis.name, placed.plan.order) for axis in stage.axes]
            return buffer, _dotted(counters, placed.plan.strides), ()
        place = stage.place or stage.output[stage.axes]
        conditions: tuple[Condition, ...] = ()
        if isinstance(place, ex.Inside):
            conditions = tuple((_substitute(affine, position), bound) for affine, bound in place.conditions)
            place = place.access
        return *_memory(place.tensor, [_substitute(index, position) for index in place.indices]), conditions

    def _copied(self, placed: _Placed) -> tuple[Node, ...]:
        buffer, index, guards = self._output(placed)
        store = Store(buffer, index, self._expression(placed, placed.stage.body, placed.position), guards=guards)
        return self._wrap(placed.plan.order, (store,))

    def _tiled(self, placed: _Placed) -> tuple[Node, ...]:
        plan, stage = placed.plan, placed.stage
        outer = plan.outer
        inner = plan.order[len(outer) :]
        spatial = [name for name in inner if not plan.reduces(name)]
        outer_reductions = tuple(name for name in outer if plan.reduces(name))
        for name in outer:
            if plan.loops[name].kind is Kind.VECTORIZED:
                raise ScheduleError(f"the vectorized loop {name} is outside the local tile")
        for name in inner:
            if plan.loops[name].kind is Kind.PARALLEL:
                raise ScheduleError(f"the parallel loop {name} is inside the local tile")
        for name in spatial:
            if plan.loops[name].tail == "shift":
                raise ScheduleError(
                    f"loop {name} has a shifted tail inside the local tile and would be summed up twice"
                )
        if outer_reductions and any(plan.loops[name].tail == "shift" for name in outer):
            raise ScheduleError("a shifted tail needs all reduction loops inside the local tile")
        output, output_index, guards = self._output(placed)
        if output.dtype != "float32":  # too coarse to keep partial sums in
            if any(np.any(plan.loops[name].extent > 1) for name in outer_reductions):
                raise ScheduleError(f"sums cannot be resumed from an output of {output.dtype}: keep all in the tile")
            outer_reductions = ()
        extents = [self.loops[name].extent for name in spatial]
        if spatial and self.loops[spatial[-1]].kind is Kind.VECTORIZED:
            extents[-1] = _power_of_two(extents[-1])  # a row has room for a whole register
        name = "tile" if placed is self.placed[0] else f"{stage.name}.tile"
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
        self, placed: _Placed, node: ex.Scalar, position: Mapping[str, Affine], total: Expression | None = None
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
        if access.tensor.name in placed.index_of:
            load, made_here = Load(*placed.index_of[access.tensor.name], ahead), access.tensor.role == "intermediate"
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
            whole = tuple((d, 1, extent) for d, extent in enumerate(made.shape))
            self.packed.append(PackedOperand(made.name, whole, made.maps, made.dtype, made.parts, made.joined))
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


def _find(stage: ex.Stage, tensor: "ex.Tensor | str") -> ex.Access:
    """The access of a stage's body to a tensor. Raises ScheduleError when there is none."""
    name = tensor if isinstance(tensor, str) else tensor.name
    stack = [stage.body]
    while stack:
        node = stack.pop()
        if isinstance(node, ex.Binary):
            stack += [node.left, node.right]
        elif isinstance(node, ex.Inside):
            stack.append(node.access)
        elif isinstance(node, ex.Part):
            stack.append(node.value)
        elif isinstance(node, ex.Access) and node.tensor.name == name:
            return node
    raise ScheduleError(f"nothing reads an operand {name} there")


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
