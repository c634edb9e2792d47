"""Features that mean the same for every operator, template and machine: what a candidate amounts to, as ratios.

Each is a property of a multiply-add and the loops around it, seen against the target: registers needed against those
there are, footprints against caches, traffic against work, lanes and threads that idle. Where a program is a chain of
sums, such as Winograd's, they are those of its largest sum, and the others are seen against that. A model trained on
them for one layer can judge another layer, another operator, or another machine. docs/features.md explains every one.
"""

from collections.abc import Container, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tuner import expression as ex
from tuner.dtype import item_bytes
from tuner.features.chain import Chain, Levels, Number, Operand, stacked, statements_of
from tuner.loopnest import Kind, Loop, Nest, Scope
from tuner.lower import lower
from tuner.schedule import Schedule
from tuner.target import Target

VERSION = "invariant/3"
"""Names the meaning of the vector. A stored model is used with features of its own version only."""

_TINY = 2.0**-20
_RATES = (("l1", 16.0), ("l2", 8.0), ("l3", 4.0))
"""Elements a cycle that a core gets from a cache; of the third level what tuner.templates.winograd counts with."""


def invariant_features(
    nest: Nest, expression: ex.Expression, target: Target, known: Sequence[ex.Expression] = ()
) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) for the N candidates that the columns of ``nest`` stand for, (1, len(NAMES)) without columns.

    ``known`` are the expressions of all algorithms that there are for this, the operator's definition first.
    """
    values = list(_vector(nest, expression, target, known).values())
    differ = [isinstance(value, np.ndarray) and value.size > 1 for value in values]
    own = [column for column, each in enumerate(differ) if each]
    same = [column for column, each in enumerate(differ) if not each]
    rows = stacked([values[column] for column in own])
    result = np.empty((rows.shape[1], len(values)), dtype=np.float32)
    for columns, numbers in ((own, rows), (same, stacked([values[column] for column in same]))):
        np.maximum(numbers, _TINY, out=numbers)  # in place: new memory of this size costs more than the logarithms
        np.log2(numbers, out=numbers)
        result[:, columns] = numbers.T
    return result


def _algorithm(own: float, *others: float) -> dict[str, Number]:
    """Multiply-adds, with nothing computed twice, over those of the definition, and over the fewest that will do."""
    return {"algorithm": own / others[0] if others else 1.0, "algorithm_excess": own / min(others, default=own)}


def _vector(
    nest: Nest, expression: ex.Expression, target: Target, known: Sequence[ex.Expression] = ()
) -> dict[str, Number]:
    """The features by name, counts and ratios, before they are put on a log2 scale."""
    # By the expression alone: so it is the same for all candidates.
    main = max(expression.stages, key=lambda stage: stage.multiply_adds)
    statements = statements_of(nest)
    chain = Chain(nest, statements, main)
    others = [Chain(nest, statements, stage) for stage in expression.stages if stage.reduce and stage is not main]
    first, second = _roles(chain)
    operands = (first, second, chain.output)
    sizes = [operand.bytes * chain.footprint(operand) for operand in operands]
    total = sizes[0] + sizes[1] + sizes[2]
    adds = [sum(stage.multiply_adds for stage in each.stages) for each in (expression, *known)]
    values = {
        **_registers(chain, target, first, second),
        **_straight_line(chain, first, second),
        **_rolled(chain, first, second),
        **_footprints(chain, target, sizes, total),
        **_traffic(chain, target, operands, total),
        **_shares(chain, target),
        **_passes(chain, target),
        **_whole(chain),
        **_neighbours(chain, target, first, second),
        **_stages(chain, others),
        **_algorithm(*adds),
    }
    return values | _bounds(chain, target, values, min(adds), adds[min(len(known), 1)])


def _roles(chain: Chain) -> tuple[Operand, Operand]:
    """The operand that is broadcast (conv2d's data, matmul's rows), and the one that fills vectors.

    When both fill vectors, as in a depthwise convolution, the first one in the expression counts as the broadcast one.
    """
    axes = [loop.axis for loop in chain.loops if loop.kind is Kind.VECTORIZED]
    ordered = sorted(chain.operands, key=lambda operand: any(map(operand.moves_with, axes)))
    return ordered[0], ordered[-1]


def _registers(chain: Chain, target: Target, first: Operand, second: Operand) -> dict[str, Number]:
    """One step of the reduction in the local tile: sums that are kept, and the vectors and scalars that feed them."""
    inside = range(chain.tile, chain.depth)

    def turns(*operands: Operand) -> Number:
        """Vectors of the local tile that these operands tell apart."""
        return chain.turns(
            inside,
            lambda loop: (
                loop.kind is not Kind.VECTORIZED
                and chain.output.moves_with(loop.axis)
                and any(operand.moves_with(loop.axis) for operand in operands)
            ),
        )

    parts = np.ceil(chain.lanes / target.lanes)  # registers that one vector of the nest takes
    sums, scalars, vectors = parts * turns(chain.output), turns(first), parts * turns(second)
    rolled = chain.turns(
        inside, lambda loop: loop.kind is Kind.SERIAL and chain.output.moves_with(loop.axis)
    )  # more than one: the sums are no registers, for the tile is walked through by a loop
    return {
        "sums": sums,
        "registers": (sums + np.minimum(scalars, vectors) + 1) / target.registers,
        "loads": (scalars + vectors) / sums,
        "loads_first": scalars / sums,
        "loads_second": vectors / sums,
        "rolled_tile": rolled,
        "lanes": chain.lanes / target.lanes,
        "partial_vector": parts * target.lanes / chain.lanes,
    }


def _straight_line(chain: Chain, first: Operand, second: Operand) -> dict[str, Number]:
    """The innermost code without a branch, and all that is written out."""
    code = chain.work[chain.body] / chain.lanes
    loads = sum(chain.footprint(operand)[chain.body] / _vector_reach(chain, operand) for operand in (first, second))
    return {
        "body": code,
        "body_loads": loads / code,
        "unrolled": chain.turns(range(chain.depth), lambda loop: loop.kind is Kind.UNROLLED),
    }


def _vector_reach(chain: Chain, operand: Operand) -> Number:
    """Elements of an operand that one vector load fetches."""
    vectorized = [loop.axis for loop in chain.loops if loop.kind is Kind.VECTORIZED]
    return chain.lanes if any(map(operand.moves_with, vectorized)) else 1.0


def _rolled(chain: Chain, first: Operand, second: Operand) -> dict[str, Number]:
    """The innermost loops that turn more than once and are not written out: the first three, and their strides."""
    inwards = slice(chain.body - 1, None, -1) if chain.body else slice(0)  # from the innermost one outwards
    turning = chain.turning[inwards]
    seen = np.empty((4, len(turning) + 1, turning.shape[1]))
    seen[0, :-1] = chain.extents[inwards]
    seen[1, :-1] = 1 + chain.strides(first)[inwards]
    seen[2, :-1] = 1 + chain.strides(second)[inwards]
    seen[3, :-1] = stacked([2.0 if loop.axis in chain.reduce else 1.0 for loop in chain.loops])[inwards]
    seen[:, -1] = [[1.0], [0.0], [0.0], [0.0]]  # where there is none
    met = np.cumsum(turning, axis=0)
    result: dict[str, Number] = {}
    for position, name in enumerate(("inner", "middle", "outer")):
        values = seen[:, np.sum(met <= position, axis=0), np.arange(turning.shape[1])]
        result |= {
            name + suffix: each for suffix, each in zip(("", "_first", "_second", "_reduces"), values, strict=True)
        }
    return result


def _footprints(chain: Chain, target: Target, sizes: Sequence[Levels], total: Levels) -> dict[str, Number]:
    """What the local tile, the loop around it and one task touch, against the caches."""
    # The innermost loop outside the tile that turns more than once; where there is none, the tile.
    turned = np.logical_or.accumulate(chain.turning[chain.tasks : chain.tile][::-1], axis=0)
    around = chain.tile - np.where(turned.any(axis=0), np.sum(~turned, axis=0) + 1, 0)
    wider = [_at(each, around) for each in (*sizes, total)]
    body, tile, task = chain.body, chain.tile, chain.tasks
    l3 = target.l3 or 8 * target.l2
    return {
        "body_l1": total[body] / target.l1,
        "tile_l1": total[tile] / target.l1,
        "tile_l2": total[tile] / target.l2,
        "tile_first_l1": sizes[0][tile] / target.l1,
        "tile_second_l1": sizes[1][tile] / target.l1,
        "around_l1": wider[3] / target.l1,
        "around_l2": wider[3] / target.l2,
        "around_first_l2": wider[0] / target.l2,
        "around_second_l2": wider[1] / target.l2,
        "task_l2": total[task] / target.l2,
        "task_first_l2": sizes[0][task] / target.l2,
        "task_second_l2": sizes[1][task] / target.l2,
        "task_l3": total[task] / l3,
        "whole_l2": total[0] / target.l2,
        "whole_l3": total[0] / l3,
    }


def _traffic(chain: Chain, target: Target, operands: Sequence[Operand], total: Levels) -> dict[str, Number]:
    """For each cache: elements fetched into it for each multiply-add, and the work done on what fits into it."""
    parts = [chain.fetches(operand) * chain.footprint(operand) for operand in operands]
    result: dict[str, Number] = {}
    for name, size in (("l1", target.l1), ("l2", target.l2), ("l3", target.l3 or 8 * target.l2)):
        level = np.sum(total[: chain.body] > size, axis=0)  # the outermost one that fits, for they shrink inwards
        moved = [_at(each, level) for each in parts]
        result[f"traffic_{name}"] = sum(moved) / chain.work[0]
        result[f"traffic_{name}_first"] = moved[0] / chain.work[0]
        result[f"traffic_{name}_second"] = moved[1] / chain.work[0]
        result[f"fits_{name}"] = _at(chain.work, level)
    return result


def _at(levels: Levels, level: npt.NDArray[np.int64]) -> Number:
    """The entry of each column of (L, N) at its own (N,) level."""
    return levels[level, np.arange(len(level))]


def _shares(chain: Chain, target: Target) -> dict[str, Number]:
    """Work that is done twice or for nothing, and threads that have none."""
    covered: dict[str, Number] = {}
    for loop, extent in zip(chain.loops, chain.extents, strict=True):
        covered[loop.axis] = covered.get(loop.axis, 1.0) * extent
    waste = {axis: cover / chain.axes[axis] for axis, cover in covered.items()}
    shifted = {loop.axis for loop in chain.loops if loop.tail == "shift"}
    vectors = [loop.axis for loop in chain.loops if loop.kind is Kind.VECTORIZED]
    tasks = chain.turns(range(chain.tasks))
    return {
        "waste": _product(waste, waste),
        "waste_shifted": _product(waste, shifted),
        "waste_vector": _product(waste, vectors),
        "tasks": tasks / target.threads,
        "idle": np.ceil(tasks / target.threads) * target.threads / tasks,
        "task_work": chain.work[chain.tasks],
    }


def _product(values: dict[str, Number], names: Container[str]) -> Number:
    result: Number = 1.0
    for name in values:
        if name in names:
            result = result * values[name]
    return result


def _passes(chain: Chain, target: Target) -> dict[str, Number]:
    """Copies and passes over the tile beside the multiply-adds, for each of these; and the memory they need."""
    tile: Number = 0.0
    alone: Number = 0.0
    inside: Number = 0.0
    scratch: Number = 0.0
    shared: Number = 0.0
    for extra in chain.passes:
        turns: Number = 1.0
        for loop in extra.loops:
            if loop.kind is not Kind.VECTORIZED:
                turns = turns * np.asarray(loop.extent, dtype=np.float64)
        buffer = extra.store.buffer
        size = item_bytes(buffer.dtype) * np.asarray(buffer.size, dtype=np.float64)
        if buffer.scope is Scope.WORKSPACE:
            alone, shared = alone + turns, shared + size
        elif buffer.scope is Scope.THREAD:
            inside, scratch = inside + turns, scratch + size
        else:
            tile = tile + turns
    work = chain.work[0] / chain.lanes
    return {
        "tile_passes": tile / work,
        "copies_before": alone / work,
        "copies_inside": inside / work,
        "copy_before_l2": shared / target.l2,
        "copy_inside_l2": scratch / target.l2,
    }


def _whole(chain: Chain) -> dict[str, Number]:
    """The workload itself: how long its sums are, and the multiply-adds for each element that has to be moved once."""

    def reduces(loop: Loop) -> bool:
        return loop.axis in chain.reduce

    touched = sum(chain.footprint(operand)[0] for operand in (*chain.operands, chain.output))
    return {
        "sum_inside": chain.turns(range(chain.tile, chain.depth), reduces),
        "sum_outside": chain.turns(range(chain.tile), reduces),
        "intensity": chain.work[0] / touched,
        "work": chain.work[0],
        "work_per_output": chain.work[0] / chain.footprint(chain.output)[0],
    }


def _neighbours(chain: Chain, target: Target, first: Operand, second: Operand) -> dict[str, Number]:
    """Whether lanes lie side by side in memory, and whether the threads that made the operands also use them."""
    vectorized = [level for level, loop in enumerate(chain.loops) if loop.kind is Kind.VECTORIZED]
    shared = [extra for extra in chain.passes if extra.store.buffer.scope is Scope.WORKSPACE]
    return {
        "vector_first": 1 + chain.strides(first)[vectorized].sum(axis=0),
        "vector_second": 1 + chain.strides(second)[vectorized].sum(axis=0),
        "outer_tasks": _outermost(chain.loops) / target.threads,
        "copy_outer_tasks": _least([_outermost(extra.loops) / target.threads for extra in shared]),
    }


def _outermost(loops: Sequence[Loop]) -> Number:
    """Turns of the outermost parallel loop that has more than one: each thread gets neighbours of these."""
    result: Number = 1.0
    for loop in reversed(loops):
        if loop.kind is Kind.PARALLEL:
            extent = np.asarray(loop.extent, dtype=np.float64)
            result = np.where(extent > 1, extent, result)
    return result


def _least(values: Sequence[Number]) -> Number:
    result: Number = np.inf
    for value in values:
        result = np.minimum(result, value)
    return result if len(values) else 0.0


def _stages(chain: Chain, others: Sequence[Chain]) -> dict[str, Number]:
    """The smaller sums of a chain: arithmetic, loads and stores for each vector multiply-add of the largest."""
    arithmetic: Number = 0.0
    moves: Number = 0.0
    largest: Number = 0.0
    for other in others:
        arithmetic = arithmetic + other.work[0] / other.lanes
        touched: Number = 0.0
        for operand in (*other.operands, other.output):
            if any(map(operand.moves_with, other.axes)):
                touched = touched + other.footprint(operand)[other.body] / _vector_reach(other, operand)
        moves = moves + touched * other.work[0] / other.work[other.body]
        largest = np.maximum(largest, other.work[other.body] / other.lanes)
    work = chain.work[0] / chain.lanes
    return {"other_arithmetic": arithmetic / work, "other_moves": moves / work, "other_body": largest}


def _bounds(
    chain: Chain, target: Target, values: dict[str, Number], least: float, definition: float
) -> dict[str, Number]:
    """The roofline: times that arithmetic and each level of memory would need, over that of the least arithmetic.

    ``bound_time`` is over that of the definition's arithmetic: so it is comparable between workloads.
    """
    work = chain.work[0] * values["partial_vector"] / least
    arithmetic = work * (1 + values["other_arithmetic"])
    moves = work * (values["loads"] + values["other_moves"]) / 2
    peak = 2 * target.lanes
    levels = {f"bound_{name}": work * values[f"traffic_{name}"] * peak / rate for name, rate in _RATES}
    result = {"bound_arithmetic": arithmetic, "bound_moves": moves, **levels}
    worst: Number = 0.0
    for value in result.values():
        worst = np.maximum(worst, value)
    # A core computes and loads at once, but waits for what comes from far away.
    time = np.maximum(arithmetic, moves) + levels["bound_l2"] + levels["bound_l3"]
    return {**result, "bound": worst, "bound_time": time * least / definition}


def _names() -> Iterator[str]:
    """The names of the vector, from a nest of its own."""
    m, n, k = ex.Axis("m", 2), ex.Axis("n", 2), ex.Axis("k", 2, reduce=True)
    a, b, c = (ex.Tensor(name, (2, 2), role) for name, role in (("a", "input"), ("b", "input"), ("c", "output")))
    expression = ex.Expression((ex.Stage("matmul", c, (m, n), (k,), a[m, k] * b[k, n]),))
    target = Target("cpu", "", "", (), "", 128, 16, 2**15, 2**20, 0, 1, 1)
    yield from _vector(lower(expression, Schedule()), expression, target)


NAMES = tuple(_names())
"""What each column of the vector is."""

BOUND = NAMES.index("bound_time")
"""The estimated time, log2, which a global model starts from."""
