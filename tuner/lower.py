"""Expression + schedule -> loop nest.

First the steps are applied to each stage's list of loops; then the nest is built: the outer loops of the main stage,
the stages and operand copies that are computed at one of them, and inside a local tile that is set to zero,
accumulated over the reduction loops, and written back through the epilogue. Only arithmetic is done on extents, so that
factors may be columns with one entry a candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    Scope,
    Store,
    When,
    Within,
    verify,
)
from tuner.schedule import Extent


@dataclass
class _LoopPlan:
    axis: str
    extent: Extent
    step: Extent
    tail: str = "cut"
    kind: Kind = Kind.SERIAL
    fenced: bool = False


@dataclass
class _StagePlan:
    """The loops of one stage while steps are applied to it."""

    stage: ex.Stage
    extents: dict[str, Extent]  # of the axes; smaller than the stage's own when only a region is computed
    loops: dict[str, _LoopPlan] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    cache_write: str | None = None
    packs: dict[str, sc.Pack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for axis in self.stage.all_axes:
            self.loops[axis.name] = _LoopPlan(axis.name, self.extents[axis.name], 1)
            self.order.append(axis.name)

    def loops_of(self, axis: str) -> list[str]:
        return [name for name in self.order if self.loops[name].axis == axis]

    def reduces(self, loop: str) -> bool:
        return any(axis.name == self.loops[loop].axis for axis in self.stage.reduce)


def lower(expression: ex.Expression, schedule: sc.Schedule) -> Nest:
    """The loop nest of ``expression`` under ``schedule``. Raises ScheduleError naming the step that is not legal."""
    names = {stage.name for stage in expression.stages}
    for step in schedule.steps:
        if step.stage not in names:
            raise ScheduleError(f"{step}: there is no stage {step.stage}, only {', '.join(sorted(names))}")
    main = _StagePlan(expression.main, {axis.name: axis.extent for axis in expression.main.all_axes})
    for step in schedule.steps:
        is_main = step.stage == main.stage.name
        if isinstance(step, sc.ComputeAt | sc.Inline) if is_main else isinstance(step, sc.CacheWrite | sc.Pack):
            raise ScheduleError(f"{step}: {step.kind} is not for stage {step.stage}")
    _apply(main, [step for step in schedule.steps if step.stage == main.stage.name])
    nest = _NestBuilder(expression, schedule, main).build()
    verify(nest)
    return nest


# Applying steps ----------------------------------------------------------------------------------------------------


def _apply(plan: _StagePlan, steps: Sequence[sc.Step]) -> None:
    """Apply the steps of one stage: first its splits, then its reorder, then all that names the loops made so."""
    done = 0
    for step in steps:
        rank = 0 if isinstance(step, sc.Split) else 1 if isinstance(step, sc.Reorder) else 2
        if rank < done:
            raise ScheduleError(f"{step}: splits come first in a stage, then its reorder, then all other steps")
        done = rank
        if isinstance(step, sc.Split):
            _split(plan, step)
        elif isinstance(step, sc.Reorder):
            if sorted(step.loops) != sorted(plan.order):
                raise ScheduleError(f"{step}: the loops are {', '.join(plan.order)}; name each of them once")
            plan.order = list(step.loops)
            _nested(plan, step, step.loops)
        elif isinstance(step, sc.Parallel):
            if tuple(plan.order[: len(step.loops)]) != step.loops:
                raise ScheduleError(f"{step}: parallel loops must be the outermost ones, in order")
            if any(plan.reduces(name) for name in step.loops):
                raise ScheduleError(f"{step}: a reduction loop cannot be parallel")
            if len({plan.loops[name].axis for name in step.loops}) < len(step.loops):
                raise ScheduleError(f"{step}: two parallel loops of one axis")
            _annotate(plan, step, step.loops, Kind.PARALLEL)
        elif isinstance(step, sc.Unroll):
            _annotate(plan, step, step.loops, Kind.UNROLLED)
        elif isinstance(step, sc.Fence):
            _known(plan, step, *step.loops)
            for name in step.loops:
                if plan.loops[name].kind is not Kind.UNROLLED:
                    raise ScheduleError(f"{step}: loop {name} is not unrolled")
                plan.loops[name].fenced = True
        elif isinstance(step, sc.Vectorize):
            if plan.order[-1] != step.loop or plan.reduces(step.loop):
                raise ScheduleError(f"{step}: the vectorized loop must be the innermost one and not a reduction")
            _annotate(plan, step, (step.loop,), Kind.VECTORIZED)
        elif isinstance(step, sc.CacheWrite):
            _known(plan, step, step.loop)
            if plan.cache_write is not None:
                raise ScheduleError(f"{step}: the stage has a local tile already")
            plan.cache_write = step.loop
        elif isinstance(step, sc.Pack):
            _known(plan, step, step.at, *step.loops)
            if step.tensor in plan.packs:
                raise ScheduleError(f"{step}: {step.tensor} is packed already")
            plan.packs[step.tensor] = step


def _nested(plan: _StagePlan, step: sc.Step, loops: Sequence[str]) -> None:
    """Refuse loops of one axis that are not in their order: the bounds of the inner ones follow from the outer ones."""
    for axis in plan.stage.all_axes:
        own = [name for name in loops if plan.loops[name].axis == axis.name]
        if own != sorted(own, key=lambda name: int(name.rpartition(".")[2]) if "." in name else 0):
            raise ScheduleError(f"{step}: the loops of axis {axis.name} must be in the order {', '.join(sorted(own))}")


def _known(plan: _StagePlan, step: sc.Step, *loops: str) -> None:
    for name in loops:
        if name and name not in plan.loops:
            raise ScheduleError(f"{step}: there is no loop {name}, only {', '.join(plan.order)}")


def _annotate(plan: _StagePlan, step: sc.Step, loops: tuple[str, ...], kind: Kind) -> None:
    _known(plan, step, *loops)
    for name in loops:
        if plan.loops[name].kind is not Kind.SERIAL:
            raise ScheduleError(f"{step}: loop {name} is already {plan.loops[name].kind}")
        plan.loops[name].kind = kind


def _split(plan: _StagePlan, step: sc.Split) -> None:
    if step.axis not in plan.order or plan.loops[step.axis].axis != step.axis:
        raise ScheduleError(f"{step}: there is no axis {step.axis} left to split, only {', '.join(plan.order)}")
    if step.tail not in ("cut", "shift"):
        raise ScheduleError(f"{step}: the tail is cut or shift")
    for factor in step.factors:
        if not isinstance(factor, np.ndarray) and (not isinstance(factor, int | np.integer) or factor < 1):
            raise ScheduleError(f"{step}: factors are integers of at least 1")
    position = plan.order.index(step.axis)
    outer = plan.loops.pop(step.axis)
    extents: list[Extent] = []
    steps: list[Extent] = [1]
    for factor in reversed(step.factors):
        extents.insert(0, factor)
        steps.insert(0, steps[0] * factor)
    extents.insert(0, -(-outer.extent // steps[0]))
    names = [f"{step.axis}.{number}" for number in range(len(extents))]
    for number, name in enumerate(names):
        tail = step.tail if number == 0 else "cut"
        plan.loops[name] = _LoopPlan(step.axis, extents[number], steps[number], tail)
    plan.order[position : position + 1] = names


# Building the nest -------------------------------------------------------------------------------------------------


class _NestBuilder:
    """Turns the plan of the main stage, and what is computed inside it, into nodes."""

    def __init__(self, expression: ex.Expression, schedule: sc.Schedule, main: _StagePlan) -> None:
        self.expression = expression
        self.schedule = schedule
        self.main = main
        self.buffers: list[Buffer] = []
        self.packed: list[PackedOperand] = []
        self.at: dict[str, list[Node]] = {}  # nodes that open the body of a loop; "" = the kernel itself
        self.axes: dict[str, Extent] = dict(main.extents)
        # How an access of the main stage to a tensor is indexed, when not as the tensor lies in memory.
        self.index_of: dict[str, tuple[Buffer, Affine]] = {}
        self.inlined: dict[str, ex.Stage] = {}  # by the tensors that nobody makes

    def build(self) -> Nest:
        for producer in self.expression.stages[:-1]:
            steps = [step for step in self.schedule.steps if step.stage == producer.name]
            if any(isinstance(step, sc.Inline) for step in steps):
                if len(steps) > 1:
                    raise ScheduleError(f"{steps[0]}: a stage that is inlined has no loops of its own")
                self.inlined[producer.output.name] = producer
            else:
                self._compute_at(producer, steps)
        for pack in self.main.packs.values():
            self._pack(pack)
        body = self._main()
        axes = tuple((name, extent) for name, extent in self.axes.items())
        return Nest((*self.at.get("", []), *body), axes, tuple(self.buffers), tuple(self.packed))

    def _open_loops(self, at: str, step: str) -> tuple[str, ...]:
        """The loops of the main stage that are open inside ``at``."""
        if not at:
            return ()
        if at not in self.main.order:
            raise ScheduleError(f"{step}: there is no loop {at}, only {', '.join(self.main.order)}")
        opened = tuple(self.main.order[: self.main.order.index(at) + 1])
        parallel = [name for name in self.main.order if self.main.loops[name].kind is Kind.PARALLEL]
        if any(name not in opened for name in parallel):
            raise ScheduleError(f"{step}: loop {at} is inside the parallel task space, choose {parallel[-1]} or deeper")
        if len(opened) > self._tile_position():
            raise ScheduleError(f"{step}: loop {at} is inside the local tile")
        return opened

    def _tile_position(self) -> int:
        """How many loops are outside the local tile: given by cache_write, else all before the first reduction."""
        order = self.main.order
        if self.main.cache_write is None:
            return next((i for i, name in enumerate(order) if self.main.reduces(name)), len(order))
        return order.index(self.main.cache_write) + 1 if self.main.cache_write else 0

    def _compute_at(self, stage: ex.Stage, steps: list[sc.Step]) -> None:
        places = [step.loop for step in steps if isinstance(step, sc.ComputeAt)]
        if len(places) > 1:
            raise ScheduleError(f"{stage.name}.compute_at({places[1]}): the stage has a place already")
        at = places[0] if places else ""
        opened = self._open_loops(at, f"{stage.name}.compute_at({at})")
        access = _find(self.main.stage.body, stage.output)
        # The region that is needed: along each dimension a start that the open loops give, and an extent.
        starts: list[Affine] = []
        extents: list[Extent] = []
        inner = Affine()
        guarded = _guarded(stage)
        partial: set[int] = set()  # unguarded dimensions whose last region may reach past the end of the tensor
        for number, dimension in enumerate(access.indices):
            start = Affine(constant=dimension.constant)
            extent: Extent = 1
            for axis, coefficient in dimension.terms:
                outside = [name for name in opened if self.main.loops[name].axis == axis]
                span = self.main.loops[outside[-1]].step if outside else self.main.extents[axis]
                divided = outside and outside[-1] != self.main.loops_of(axis)[-1]
                if divided and stage.axes[number].name not in guarded:
                    partial.add(number)
                start = start + self._counter(axis, outside) * coefficient
                extent = extent + coefficient * (span - 1)
            starts.append(start)
            extents.append(extent)
        for number, dimension in enumerate(access.indices):
            stride = _product(extents[number + 1 :])
            for axis, coefficient in dimension.terms:
                inside = [name for name in self.main.loops_of(axis) if name not in opened]
                inner = inner + self._counter(axis, inside) * (coefficient * stride)
        buffer = Buffer(stage.output.name, _product(extents), Scope.THREAD if opened else Scope.WORKSPACE)
        self.buffers.append(buffer)
        self.index_of[stage.output.name] = (buffer, inner)
        plan = _StagePlan(stage, {axis.name: extent for axis, extent in zip(stage.axes, extents, strict=True)})
        _apply(plan, [step for step in steps if not isinstance(step, sc.ComputeAt)])
        if opened and any(loop.kind is Kind.PARALLEL for loop in plan.loops.values()):
            raise ScheduleError(f"stage {stage.name} is computed inside a loop and cannot be parallel itself")
        self.axes.update(plan.extents)
        origin = dict(zip((axis.name for axis in stage.axes), starts, strict=True))
        local = {axis.name: _counter(plan, axis.name, plan.loops_of(axis.name)) for axis in stage.axes}
        place = {name: origin[name] + local[name] for name in origin}
        index = _flatten([local[axis.name] for axis in stage.axes], extents)
        value = self._expression(stage.body, place)
        assert isinstance(value, Within)
        ends = tuple((place[stage.axes[d].name], stage.output.shape[d]) for d in sorted(partial))
        value = Within((*value.conditions, *ends), value.value)
        nest = _wrap(plan, plan.order, (Store(buffer, index, value),))
        self.at.setdefault(at, []).extend(nest)

    def _pack(self, pack: sc.Pack) -> None:
        access = _find(self.main.stage.body, pack.tensor)
        if access.tensor.role == "intermediate":
            raise ScheduleError(f"{pack}: {pack.tensor} is made by a stage of its own, use compute_at")
        dimensions = [self._place(index) for index in access.indices]
        for name in self.main.order:
            uses = any(not _is_zero(index.coefficient(name)) for index in dimensions)
            if self.main.loops[name].tail == "shift" and uses:
                raise ScheduleError(f"{pack}: loop {name} has a shifted tail and cannot index a packed operand")
        loops = [name for name in self.main.order if any(name in dict(index.terms) for index in dimensions)]
        if access.tensor.role == "constant":
            if sorted(loops) != sorted(pack.loops):
                raise ScheduleError(f"{pack}: the loops that walk through {pack.tensor} are {', '.join(loops)}")
            self.packed.append(self._packed_constant(pack, dimensions))
            size = _product([self.main.loops[name].extent for name in pack.loops])
            self.index_of[pack.tensor] = (Buffer(pack.tensor, size, Scope.ARGUMENT), self._packed_index(pack.loops))
            return
        opened = self._open_loops(pack.at, str(pack))
        inside = [name for name in loops if name not in opened]
        if sorted(inside) != sorted(pack.loops):
            raise ScheduleError(f"{pack}: the loops that walk through {pack.tensor} there are {', '.join(inside)}")
        _nested(self.main, pack, pack.loops)
        size = _product([self.main.loops[name].extent for name in pack.loops])
        buffer = Buffer(f"{pack.tensor}.packed", size, Scope.THREAD if opened else Scope.WORKSPACE)
        self.buffers.append(buffer)
        index = self._packed_index(pack.loops)
        copy = Store(buffer, index, Load(*self._memory(access.tensor, dimensions)))
        outer, last = pack.loops[0], pack.loops[-1]
        vectorized = self.main.loops[last].kind is Kind.VECTORIZED
        kinds = dict.fromkeys(pack.loops, Kind.SERIAL)
        if vectorized:
            kinds[last] = Kind.VECTORIZED
        if not opened and outer != last:
            kinds[outer] = Kind.PARALLEL
        self.at.setdefault(pack.at, []).extend(_wrap(self.main, pack.loops, (copy,), kinds))
        self.index_of[pack.tensor] = (buffer, index)

    def _packed_index(self, loops: Sequence[str]) -> Affine:
        index = Affine()
        for number, name in enumerate(loops):
            index = index + Affine(((name, _product([self.main.loops[n].extent for n in loops[number + 1 :]])),))
        return index

    def _packed_constant(self, pack: sc.Pack, dimensions: Sequence[Affine]) -> PackedOperand:
        walks = tuple(
            (next(d for d, index in enumerate(dimensions) if name in dict(index.terms)), name) for name in pack.loops
        )
        return PackedOperand(
            pack.tensor,
            tuple((d, dimensions[d].coefficient(name), self.main.loops[name].extent) for d, name in walks),
        )

    def _main(self) -> tuple[Node, ...]:
        plan, stage = self.main, self.main.stage
        position = self._tile_position()
        outer, inner = plan.order[:position], plan.order[position:]
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
        place = {axis.name: self._counter(axis.name, plan.loops_of(axis.name)) for axis in stage.all_axes}
        output, output_index = self._memory(stage.output, [place[axis.name] for axis in stage.axes])
        tile = Buffer("tile", _product([plan.loops[name].extent for name in spatial]), Scope.LOCAL)
        self.buffers.append(tile)
        tile_index = _flatten([Affine(((name, 1),)) for name in spatial], [plan.loops[name].extent for name in spatial])
        total = Load(tile, tile_index)

        start: tuple[Node, ...] = (Store(tile, tile_index, Constant(0.0)),)
        finish: tuple[Node, ...] = (Store(output, output_index, self._expression(stage.epilogue, place, total)),)
        if outer_reductions:
            resume = (Store(tile, tile_index, Load(output, output_index)),)
            start = (When(outer_reductions, "first", start, resume),)
            finish = (When(outer_reductions, "last", finish, (Store(output, output_index, total),)),)
        value, guards = _factored(self._expression(stage.body, place))
        accumulate = Store(tile, tile_index, value, accumulate=True, guards=guards)
        inside = (
            *_wrap(plan, spatial, start),
            *_wrap(plan, inner, (accumulate,)),
            *_wrap(plan, spatial, finish),
        )
        for name in reversed(outer):
            inside = (_loop(plan, name, (*self.at.get(name, []), *inside)),)
        return inside

    def _counter(self, axis: str, loops: Sequence[str]) -> Affine:
        return _counter(self.main, axis, loops)

    def _place(self, index: Affine) -> Affine:
        """An index over axes as one over the counters of the main stage's loops."""
        result = Affine(constant=index.constant)
        for axis, coefficient in index.terms:
            result = result + self._counter(axis, self.main.loops_of(axis)) * coefficient
        return result

    def _memory(self, tensor: ex.Tensor, dimensions: Sequence[Affine]) -> tuple[Buffer, Affine]:
        return Buffer(tensor.name, prod(tensor.shape), Scope.ARGUMENT), _flatten(dimensions, tensor.shape)

    def _expression(self, node: ex.Scalar, place: Mapping[str, Affine], total: Expression | None = None) -> Expression:
        if isinstance(node, ex.Total):
            assert total is not None
            return total
        if isinstance(node, ex.Number):
            return Constant(node.value)
        if isinstance(node, ex.Binary):
            left, right = (self._expression(side, place, total) for side in (node.left, node.right))
            return Binary(node.operator, left, right)
        if isinstance(node, ex.Inside):
            conditions = tuple((_substitute(affine, place), bound) for affine, bound in node.conditions)
            value = self._expression(node.access, place)
            assert isinstance(value, Load)
            return Within(conditions, value)
        if node.tensor.name in self.index_of:
            return Load(*self.index_of[node.tensor.name])
        if node.tensor.name in self.inlined:
            stage = self.inlined[node.tensor.name]
            indices = (_substitute(index, place) for index in node.indices)
            return self._expression(stage.body, dict(zip((a.name for a in stage.axes), indices, strict=True)))
        return Load(*self._memory(node.tensor, [_substitute(index, place) for index in node.indices]))


def _find(body: ex.Scalar, tensor: "ex.Tensor | str") -> ex.Access:
    """The access of ``body`` to a tensor. Raises ScheduleError when there is none."""
    name = tensor if isinstance(tensor, str) else tensor.name
    stack = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, ex.Binary):
            stack += [node.left, node.right]
        elif isinstance(node, ex.Inside):
            stack.append(node.access)
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


def _guarded(stage: ex.Stage) -> set[str]:
    """The axes of a stage whose range its body tests before it reads."""
    assert isinstance(stage.body, ex.Inside)
    return {axis for affine, _ in stage.body.conditions for axis, _ in affine.terms}


def _counter(plan: _StagePlan, axis: str, loops: Sequence[str]) -> Affine:
    return Affine(tuple((name, plan.loops[name].step) for name in loops if plan.loops[name].axis == axis))


def _substitute(index: Affine, place: Mapping[str, Affine]) -> Affine:
    result = Affine(constant=index.constant)
    for axis, coefficient in index.terms:
        result = result + place[axis] * coefficient
    return result


def _flatten(dimensions: Sequence[Affine], extents: Sequence[Extent]) -> Affine:
    result = Affine()
    for number, index in enumerate(dimensions):
        result = result + index * _product(extents[number + 1 :])
    return result


def _product(extents: Sequence[Extent]) -> Extent:
    result: Extent = 1
    for extent in extents:
        result = result * extent
    return result


def _is_zero(value: Extent) -> bool:
    return isinstance(value, int) and value == 0


def _loop(plan: _StagePlan, name: str, body: tuple[Node, ...], kind: Kind | None = None) -> Loop:
    loop = plan.loops[name]
    return Loop(name, loop.axis, loop.extent, loop.step, kind or loop.kind, loop.tail, body, loop.fenced)


def _wrap(
    plan: _StagePlan, loops: Sequence[str], body: tuple[Node, ...], kinds: Mapping[str, Kind] | None = None
) -> tuple[Node, ...]:
    for name in reversed(loops):
        body = (_loop(plan, name, body, kinds[name] if kinds else None),)
    return body
