"""Where the stages of a schedule are computed, and which part of each is needed there.

The steps are applied to each stage's list of loops, from the last stage to the first: where a stage is computed, and
which part of it is needed in one turn of the loops around it, follows from the stages that come after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tuner import expression as ex
from tuner import schedule as sc
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Kind
from tuner.plan import LoopPlan, StagePlan, apply
from tuner.schedule import Extent


@dataclass(frozen=True)
class Range:
    """A part of an axis. ``open_ended``: the last such part may reach past the end of the axis."""

    start: Affine
    extent: Extent
    open_ended: bool = False


@dataclass(eq=False)
class Placed:
    """A stage whose loops and place are known."""

    plan: StagePlan
    reader: "Placed | None"  # the stage after it
    at: str  # the loop that it is computed in, "" = the kernel itself
    opened: tuple[str, ...]  # all loops around it: of later stages, outermost first
    region: Mapping[str, Range]  # of each axis, what is computed in one go
    loops: Mapping[str, LoopPlan]  # its own, and those of the stages after it

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

    def open_loops(self, at: str, step: str) -> tuple[str, ...]:
        """The loops that are open inside ``at``, one of its own or around it. Raises ScheduleError about ``step``."""
        if not at:
            return ()
        order = [*self.opened, *self.plan.order]
        if at not in order:
            raise ScheduleError(f"{step}: there is no loop {at}, only {', '.join(order)}")
        if at not in self.places():
            raise ScheduleError(f"{step}: loop {at} is inside the local tile")
        opened = tuple(order[: order.index(at) + 1])
        parallel = [name for name in order if self.loops[name].kind is Kind.PARALLEL]
        if any(name not in opened for name in parallel):
            raise ScheduleError(f"{step}: loop {at} is inside the parallel task space, choose {parallel[-1]} or deeper")
        return opened


def place_stages(expression: ex.Expression, schedule: sc.Schedule) -> tuple[list[Placed], dict[str, ex.Stage]]:
    """The stages from the last to the first, each read by the one before; and by their tensors those nobody makes.

    Raises ScheduleError naming the step that is not legal.
    """
    placed: list[Placed] = []
    inlined: dict[str, ex.Stage] = {}
    for stage in reversed(expression.stages):
        steps = [step for step in schedule.steps if step.stage == stage.name]
        if not any(isinstance(step, sc.Inline) for step in steps):
            placed.append(_placed(stage, steps, placed[-1] if placed else None))
        elif len(steps) > 1:
            raise ScheduleError(f"{steps[0]}: a stage that is inlined has no loops of its own")
        else:
            inlined[stage.output.name] = stage
    return placed, inlined


def _placed(stage: ex.Stage, steps: list[sc.Step], reader: Placed | None) -> Placed:
    moves = [step for step in steps if isinstance(step, sc.ComputeAt)]
    if len(moves) > 1:
        raise ScheduleError(f"{moves[1]}: the stage has a place already")
    at, opened = "", tuple[str, ...]()
    region = {axis.name: Range(Affine(), axis.extent) for axis in stage.all_axes}
    if reader:
        at = moves[0].loop if moves else ""
        opened = reader.open_loops(at, f"{stage.name}.compute_at({at})")
        region.update(_needed(stage, reader, opened))
    plan = StagePlan(stage, {name: part.extent for name, part in region.items()})
    for step in steps:
        if isinstance(step, sc.Prefetch):
            _access(step.tensor, stage.body, stage.epilogue)
    apply(plan, [step for step in steps if not isinstance(step, sc.ComputeAt)])
    if opened and any(loop.kind is Kind.PARALLEL for loop in plan.loops.values()):
        raise ScheduleError(f"stage {stage.name} is computed inside a loop and cannot be parallel itself")
    return Placed(plan, reader, at, opened, region, {**(reader.loops if reader else {}), **plan.loops})


def _needed(stage: ex.Stage, reader: Placed, opened: tuple[str, ...]) -> dict[str, Range]:
    """The part of ``stage`` that is needed in one turn of the loops ``opened``, by ``reader`` and those after it."""
    parts = _made(reader, opened)
    needed: dict[str, Range] = {}
    for axis, index in zip(stage.axes, access_to(reader.stage, stage.output.name).indices, strict=True):
        start = Affine.total(((parts[name].start, times) for name, times in index.terms), index.constant)
        extent: Extent = 1
        for name, coefficient in index.terms:
            extent = extent + coefficient * (parts[name].extent - 1)
        open_ended = any(parts[name].open_ended for name, _ in index.terms)
        needed[axis.name] = Range(start, extent, open_ended)
    return needed


def _made(placed: Placed, opened: tuple[str, ...]) -> dict[str, Range]:
    """The part of a stage that is computed in one turn of the loops ``opened``."""
    plan = placed.plan
    if placed.reader and len(opened) < len(placed.opened):
        whole = {axis.name: Range(Affine(), axis.extent) for axis in placed.stage.reduce}
        return {**whole, **_needed(placed.stage, placed.reader, opened)}
    parts: dict[str, Range] = {}
    for name, part in placed.region.items():
        outside = [loop for loop in plan.loops_of(name) if loop in opened]
        divided = bool(outside) and outside[-1] != plan.loops_of(name)[-1]
        extent = plan.loops[outside[-1]].step if outside else part.extent
        parts[name] = Range(part.start + plan.counter(name, outside), extent, part.open_ended or divided)
    return parts


def access_to(stage: ex.Stage, tensor: str) -> ex.Access:
    """The access of a stage's body to a tensor. Raises ScheduleError when there is none."""
    return _access(tensor, stage.body)


def _access(tensor: str, *within: ex.Scalar) -> ex.Access:
    stack = [*within]
    while stack:
        node = stack.pop()
        if isinstance(node, ex.Binary):
            stack += [node.left, node.right]
        elif isinstance(node, ex.Inside):
            stack.append(node.access)
        elif isinstance(node, ex.Part):
            stack.append(node.value)
        elif isinstance(node, ex.Access) and node.tensor.name == tensor:
            return node
    raise ScheduleError(f"nothing reads an operand {tensor} there")
