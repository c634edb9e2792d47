"""The loops of one stage while the steps of a schedule are applied to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner import expression as ex
from tuner import schedule as sc
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Kind
from tuner.schedule import Extent

LINE = 64  # bytes of a cache line


@dataclass
class LoopPlan:
    """A loop over ``axis`` that moves ``step`` along it each turn; ``extent`` are its turns."""

    axis: str
    extent: Extent
    step: Extent
    tail: str = "cut"
    kind: Kind = Kind.SERIAL
    fenced: bool = False


@dataclass
class StagePlan:
    """The loops of one stage while steps are applied to it."""

    stage: ex.Stage
    extents: dict[str, Extent]  # of the axes; smaller than the stage's own when only a region is computed
    loops: dict[str, LoopPlan] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    cache_write: str | None = None
    packs: dict[str, sc.Pack] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)  # how far to prefetch, by operand
    staggered: str = ""  # the axis between whose neighbours a cache line is free

    def __post_init__(self) -> None:
        for axis in self.stage.all_axes:
            self.loops[axis.name] = LoopPlan(axis.name, self.extents[axis.name], 1)
            self.order.append(axis.name)

    def loops_of(self, axis: str) -> list[str]:
        return [name for name in self.order if self.loops[name].axis == axis]

    def reduces(self, loop: str) -> bool:
        return any(axis.name == self.loops[loop].axis for axis in self.stage.reduce)

    def counter(self, axis: str, loops: Sequence[str]) -> Affine:
        """How far along ``axis`` those of ``loops`` that walk along it are."""
        return Affine(tuple((name, self.loops[name].step) for name in loops if self.loops[name].axis == axis))

    @property
    def strides(self) -> list[Extent]:
        """How far neighbours along each axis of what the stage makes lie apart, in elements."""
        strides: list[Extent] = [1]
        for axis in reversed(self.stage.axes[1:]):
            strides.insert(0, strides[0] * self.extents[axis.name])
            if self.stage.axes[-len(strides)].name == self.staggered:
                strides[0] = strides[0] + LINE // item_bytes(self.stage.output.dtype)
        return strides

    @property
    def outer(self) -> list[str]:
        """The loops outside the local tile: given by cache_write, else all before the first reduction."""
        if self.cache_write is None:
            position = next((i for i, name in enumerate(self.order) if self.reduces(name)), len(self.order))
        else:
            position = self.order.index(self.cache_write) + 1 if self.cache_write else 0
        return self.order[:position]


def apply(plan: StagePlan, steps: Sequence[sc.Step]) -> None:
    """Apply the steps of one stage: first its splits, then its reorder, then all that names the loops made so.

    Raises ScheduleError for a step that is not legal there.
    """
    done = 0
    for step in steps:
        rank = 0 if isinstance(step, sc.Split) else 1 if isinstance(step, sc.Reorder) else 2
        if rank < done:
            raise ScheduleError(f"{step}: splits come first in a stage, then its reorder, then all other steps")
        done = rank
        if isinstance(step, sc.Split):
            _split(plan, step)
        elif isinstance(step, sc.Reorder):
            _reorder(plan, step)
        elif isinstance(step, sc.CacheWrite | sc.Pack | sc.Prefetch | sc.Stagger):
            _lay_out(plan, step)
        else:
            _annotate(plan, step)


def nested(plan: StagePlan, step: sc.Step, loops: Sequence[str]) -> None:
    """Refuse loops of one axis that are not in their order: the bounds of the inner ones follow from the outer ones."""
    for axis in plan.stage.all_axes:
        own = [name for name in loops if plan.loops[name].axis == axis.name]
        ordered = sorted(own, key=lambda name: int(name.rpartition(".")[2]) if "." in name else 0)
        if own != ordered:
            raise ScheduleError(f"{step}: the loops of axis {axis.name} must be in the order {', '.join(ordered)}")


def _known(plan: StagePlan, step: sc.Step, *loops: str) -> None:
    for name in loops:
        if name and name not in plan.loops:
            raise ScheduleError(f"{step}: there is no loop {name}, only {', '.join(plan.order)}")


def _reorder(plan: StagePlan, step: sc.Reorder) -> None:
    if sorted(step.loops) != sorted(plan.order):
        raise ScheduleError(f"{step}: the loops are {', '.join(plan.order)}; name each of them once")
    plan.order = list(step.loops)
    nested(plan, step, step.loops)


def _annotate(plan: StagePlan, step: sc.Step) -> None:
    """Say how loops are executed."""
    if isinstance(step, sc.Parallel):
        if tuple(plan.order[: len(step.loops)]) != step.loops:
            raise ScheduleError(f"{step}: parallel loops must be the outermost ones, in order")
        if any(plan.reduces(name) for name in step.loops):
            raise ScheduleError(f"{step}: a reduction loop cannot be parallel")
        if len({plan.loops[name].axis for name in step.loops}) < len(step.loops):
            raise ScheduleError(f"{step}: two parallel loops of one axis")
        _execute(plan, step, step.loops, Kind.PARALLEL)
    elif isinstance(step, sc.Unroll):
        _execute(plan, step, step.loops, Kind.UNROLLED)
    elif isinstance(step, sc.Fence):
        _known(plan, step, *step.loops)
        for name in step.loops:
            if plan.loops[name].kind is not Kind.UNROLLED:
                raise ScheduleError(f"{step}: loop {name} is not unrolled")
            plan.loops[name].fenced = True
    elif isinstance(step, sc.Vectorize):
        if plan.order[-1] != step.loop or plan.reduces(step.loop):
            raise ScheduleError(f"{step}: the vectorized loop must be the innermost one and not a reduction")
        _execute(plan, step, (step.loop,), Kind.VECTORIZED)
    elif isinstance(step, sc.Dot):
        _known(plan, step, step.loop)
        extent = plan.loops[step.loop].extent
        if not plan.reduces(step.loop) or not isinstance(extent, int | np.integer) or extent != 2:
            raise ScheduleError(f"{step}: the loop of a dot product must be a reduction of two turns")
        if plan.loops_of(plan.loops[step.loop].axis)[-1] != step.loop:
            raise ScheduleError(f"{step}: the loop of a dot product must be the last one of its axis")
        _execute(plan, step, (step.loop,), Kind.DOT)
    elif isinstance(step, sc.Matrix):
        kinds = [plan.loops[name].kind for name in plan.order[-2:]]
        if plan.order[-4:-2] != [step.rows, step.steps] or kinds != [Kind.DOT, Kind.VECTORIZED]:
            raise ScheduleError(f"{step}: the two loops must stand around a dot product of vectors, steps inside")
        if plan.reduces(step.rows) or not plan.reduces(step.steps):
            raise ScheduleError(f"{step}: rows must be a loop of the output and steps one of the reduction")
        _execute(plan, step, (step.rows, step.steps), Kind.MATRIX)


def _execute(plan: StagePlan, step: sc.Step, loops: tuple[str, ...], kind: Kind) -> None:
    _known(plan, step, *loops)
    for name in loops:
        if plan.loops[name].kind is not Kind.SERIAL:
            raise ScheduleError(f"{step}: loop {name} is already {plan.loops[name].kind}")
        plan.loops[name].kind = kind


def _lay_out(plan: StagePlan, step: sc.CacheWrite | sc.Pack | sc.Prefetch | sc.Stagger) -> None:
    """Say where and how elements lie in memory."""
    if isinstance(step, sc.CacheWrite):
        _known(plan, step, step.loop)
        if plan.cache_write is not None:
            raise ScheduleError(f"{step}: the stage has a local tile already")
        plan.cache_write = step.loop
    elif isinstance(step, sc.Pack):
        _known(plan, step, step.at, *step.loops)
        if step.tensor in plan.packs:
            raise ScheduleError(f"{step}: {step.tensor} is packed already")
        plan.packs[step.tensor] = step
    elif isinstance(step, sc.Prefetch):
        if step.distance < 1:
            raise ScheduleError(f"{step}: the distance is an integer of at least 1")
        if step.tensor in plan.ahead:
            raise ScheduleError(f"{step}: {step.tensor} is prefetched already")
        plan.ahead[step.tensor] = step.distance
    else:
        axes = [axis.name for axis in plan.stage.axes]
        if step.axis not in axes[:-1]:
            raise ScheduleError(f"{step}: the axis must be one of {', '.join(axes[:-1])}")
        if plan.staggered:
            raise ScheduleError(f"{step}: the stage is staggered already")
        plan.staggered = step.axis


def _split(plan: StagePlan, step: sc.Split) -> None:
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
        plan.loops[name] = LoopPlan(step.axis, extents[number], steps[number], tail)
    plan.order[position : position + 1] = names
