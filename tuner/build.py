"""(workload, schedule, target) -> program: the road from data to LLVM IR in one call."""

from contextlib import suppress
from functools import lru_cache

from tuner.codegen.instructions import instructions_of
from tuner.codegen.llvm import emit
from tuner.codegen.program import Argument, Packing, Program
from tuner.errors import ScheduleError
from tuner.expression import Expression
from tuner.loopnest import Nest, PackedOperand
from tuner.lower import lower
from tuner.operators import OPERATORS
from tuner.schedule import Algorithm, Schedule
from tuner.target import Target
from tuner.workload import Operand, Workload

LOCAL_LIMIT = 64 * 1024  # bytes of the local tile, which lives in registers or on the stack


@lru_cache(maxsize=64)
def expression_of(workload: Workload, algorithm: str = "direct") -> Expression:
    """The tensor expression of ``workload`` by ``algorithm``. Raises ScheduleError when that is not one for it."""
    operator = OPERATORS[workload.operator]
    expressions = {"direct": operator.expression, **operator.algorithms}
    if algorithm not in expressions:
        raise ScheduleError(f"there is no algorithm {algorithm} for {operator.name}, only {', '.join(expressions)}")
    return expressions[algorithm](workload)


@lru_cache(maxsize=64)
def algorithms_of(workload: Workload) -> tuple[Expression, ...]:
    """The expressions of all algorithms that compute ``workload``, the direct one first."""
    found = [expression_of(workload)]
    for name in OPERATORS[workload.operator].algorithms:
        with suppress(ScheduleError):  # not one for this workload
            found.append(expression_of(workload, name))
    return tuple(found)


def expression_by(workload: Workload, schedule: Schedule) -> Expression:
    """The expression that the steps of ``schedule`` are for. Raises ScheduleError when it names no algorithm."""
    chosen = [step for step in schedule.steps if isinstance(step, Algorithm)]
    if len(chosen) > 1 or (chosen and chosen[0].stage != workload.operator):
        raise ScheduleError(f"{chosen[-1]}: one algorithm is chosen at most, and for the stage {workload.operator}")
    return expression_of(workload, *(step.name for step in chosen))


def nest_of(workload: Workload, schedule: Schedule) -> Nest:
    """The loop nest of ``workload`` under ``schedule``. Raises ScheduleError when a step is not legal."""
    steps = tuple(step for step in schedule.steps if not isinstance(step, Algorithm))
    return lower(expression_by(workload, schedule), Schedule(steps))


def build(workload: Workload, schedule: Schedule, target: Target) -> Program:
    """The program that computes ``workload`` on ``target``. Raises ScheduleError when the schedule is not legal."""
    nest = nest_of(workload, schedule)
    for buffer in nest.buffers:
        if buffer.scope == "local" and 4 * int(buffer.size) > LOCAL_LIMIT:
            raise ScheduleError(f"the local tile has {buffer.size} elements: at most {LOCAL_LIMIT // 4} are allowed")
    operands = {operand.name: operand for operand in workload.operands}
    packings = {packed.tensor: _packing(packed, operands[packed.tensor]) for packed in nest.packed}
    arguments = tuple(
        Argument(operand.name, operand.role, operand.shape, packings.get(operand.name), operand.dtype)
        for operand in workload.operands
    )
    names = [argument.name for argument in arguments]
    ir, workspace_bytes = emit(nest, names, target.threads, instructions_of(target))
    return Program(ir, arguments, workspace_bytes, target.threads)


def _packing(packed: PackedOperand, operand: Operand) -> Packing:
    """The loops that walk through the operand as parts of its dimensions, largest stride first in each."""
    walks = [(number, d, int(step), int(turns)) for number, (d, step, turns) in enumerate(packed.walks)]
    parts: list[tuple[int, ...]] = []
    numbers: list[int] = []
    for dimension in range(len(packed.joined or operand.shape) + (packed.parts > 1)):
        own = sorted((walk for walk in walks if walk[1] == dimension), key=lambda walk: walk[2:], reverse=True)
        reach = 1
        for _, _, step, turns in reversed(own):
            if turns > 1:
                if step != reach:
                    raise ScheduleError(f"the loops over dimension {dimension} of {packed.tensor} do not tile it")
                reach = step * turns
        parts.append(tuple(turns for _, _, _, turns in own))
        numbers += [number for number, _, _, _ in own]
    # numbers[i] is the position in the packed order of the i-th part; the packing wants the inverse.
    order = tuple(sorted(range(len(numbers)), key=lambda part: numbers[part]))
    return Packing(operand.shape, tuple(parts), order, packed.maps, packed.dtype, packed.parts, packed.joined)
