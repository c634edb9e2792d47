"""Matrix products on a CPU: an outer product of columns by rows, held in registers; dense, matmul and batch_matmul."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.codegen.matrix import LARGEST, REGISTERS
from tuner.schedule import (
    CacheWrite,
    Dot,
    Fence,
    Matrix,
    Pack,
    Parallel,
    Prefetch,
    Reorder,
    Schedule,
    Split,
    Step,
    Unroll,
    Vectorize,
)
from tuner.space import Choice, Columns, Config, Flag, Knob, Space
from tuner.target import Target
from tuner.templates.template import (
    AHEAD,
    CODE_LIMIT,
    UNITS,
    UNROLL_LIMIT,
    Template,
    bodies,
    by_matrices,
    ceil,
    logarithms,
    outgrows_l2,
    register_tile,
    tiles,
    up_to,
)
from tuner.workload import Workload

OUTERS = ("n,m", "m,n", "m")  # the task space; with "m" a task makes all columns of its rows


class _Shape:
    def __init__(self, workload: Workload, target: Target) -> None:
        self.dense = workload.operator == "dense"
        self.m = workload.size("m")
        self.k = workload.size("ci" if self.dense else "k")
        self.n = workload.size("co" if self.dense else "n")
        self.batch = workload.size("b") if workload.operator == "batch_matmul" else 1
        self.rows_of, self.columns_of = ("data", "weight") if self.dense else ("a", "b")
        self.residual = "residual" in workload.epilogue
        self.lanes = min(target.lanes, self.n)
        self.vectors = ceil(self.n, self.lanes)
        self.pairs = workload.text("dtype") == "bfloat16"  # steps of the reduction are dot products of two
        self.steps = ceil(self.k, 2) if self.pairs else self.k
        # Products of matrices are of whole tiles.
        self.tiles = self.pairs and target.has_tiles and self.k % 2 == 0 and self.n % self.lanes == 0


def _space(workload: Workload, target: Target) -> Space:
    shape = _Shape(workload, target)
    knobs: list[Knob] = [
        Choice("tile_n", up_to(min(shape.vectors, target.registers // 2), (1, 2, 3, 4, 6, 8))),
        Choice("tile_m", tiles(shape.m, target.registers - 2)),
        Choice("block_n", up_to(shape.vectors, (1, 2, 4, 8))),
        Choice("block_m", up_to(shape.m, (1, 2, 4, 8, 16))),
        # What has been summed up is kept in the output between chunks: a bfloat16 would lose most of it.
        Choice("chunk_k", (*(() if shape.pairs else up_to(shape.k - 1, (64, 128, 256, 512, 1024))[1:]), shape.steps)),
        Choice("unroll_k", up_to(shape.steps, (1, 2, 4, 8, LARGEST) if shape.tiles else (1, 2, 4, 8))),
        Choice("outer", OUTERS),
        Flag("pack_rows"),
    ]
    if not shape.dense:
        knobs.append(Flag("pack_columns"))
    if shape.residual and shape.m > AHEAD:
        knobs.append(Flag("prefetch", absent=0))
    if shape.tiles:
        knobs.append(Choice("unit", UNITS))
    return Space(knobs)


def _schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    shape, stage = _Shape(workload, target), workload.operator
    values: dict[str, Any] = dict(config)
    batch = ["b"] if workload.operator == "batch_matmul" else []
    tasks = {
        "n,m": [*batch, "n.0", "m.0"],
        "m,n": [*batch, "m.0", "n.0"],
        "m": [*batch, "m.0"],
    }[values["outer"]]
    rest = [] if "n.0" in tasks else ["n.0"]
    dot = ["k.3"] if shape.pairs else []
    matrices = values.get("unit") == "matrices"
    if matrices:  # a block of rows is what is held in registers
        outer, unrolled = ["k.0", "n.1"], ["m.1", "n.2"]
        inner = ["k.1", *unrolled, "m.2", "k.2", *dot, "n.3"]
        columns, rows = ("k.1", "n.2", "k.2", "n.3"), ("k.1", "m.2", "k.2")
    else:
        outer, unrolled = ["k.0", "m.1", "n.1"], ["k.2", "m.2", "n.2"]
        inner = ["k.1", *unrolled, *dot, "n.3"]
        columns, rows = ("k.1", "k.2", "n.2", "n.3"), ("k.1", "k.2", "m.2")
    chunk = ceil(values["chunk_k"], values["unroll_k"])
    steps: list[Step] = [
        Split(stage, "n", (values["block_n"], values["tile_n"], shape.lanes)),
        Split(stage, "m", (values["block_m"], values["tile_m"])),
        Split(stage, "k", (chunk, values["unroll_k"], 2) if shape.pairs else (chunk, values["unroll_k"])),
        Reorder(stage, (*tasks, *rest, *outer, *inner)),
        CacheWrite(stage, "n.1"),
        Parallel(stage, tuple(tasks)),
        Unroll(stage, tuple(unrolled)),
        *([] if matrices else [Fence(stage, ("k.2",))]),
        Vectorize(stage, "n.3"),
        *(Dot(stage, loop) for loop in dot),
        *([Matrix(stage, "m.2", "k.2")] if matrices else []),
        *([Prefetch(stage, "residual", AHEAD * shape.n)] if values.get("prefetch") else []),
    ]
    if shape.dense:
        steps.append(Pack(stage, "weight", ("n.0", "k.0", "n.1", *columns, *dot)))
    elif values["pack_columns"]:
        steps.append(Pack(stage, "b", (*batch, "n.0", "k.0", "n.1", *columns, *dot)))
    if values["pack_rows"]:
        steps.append(Pack(stage, shape.rows_of, ("k.0", "m.1", *rows, *dot), tasks[-1]))
    return Schedule(tuple(steps))


def _quantities(workload: Workload, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    shape = _Shape(workload, target)
    tile_n, tile_m = columns["tile_n"].astype(float), columns["tile_m"].astype(float)
    block_n = np.minimum(columns["block_n"], ceil(shape.vectors, columns["tile_n"])).astype(float)
    block_m = np.minimum(columns["block_m"], ceil(shape.m, columns["tile_m"])).astype(float)
    chunk = columns["chunk_k"].astype(float)
    tasks = shape.batch * np.ceil(shape.m / (tile_m * block_m))
    tasks *= np.where(columns["outer"] == OUTERS.index("m"), 1, np.ceil(shape.vectors / (tile_n * block_n)))
    lane_bytes = 4 * shape.lanes  # of a float32, or of a pair of bfloat16
    copies = bodies(shape.m, columns["block_m"], columns["tile_m"])
    copies = copies * bodies(shape.vectors, columns["block_n"], columns["tile_n"])
    copies = copies * bodies(shape.steps, ceil(columns["chunk_k"], columns["unroll_k"]), columns["unroll_k"])
    registers = (tile_n * tile_m + tile_n + 1) / target.registers
    registers = np.where(by_matrices(columns), (tile_n * columns["block_m"] + 2) / REGISTERS, registers)
    return {
        "sums": tile_n * tile_m,
        "registers": registers,
        "loads": (tile_n + tile_m) / (tile_n * tile_m),
        "unrolled": np.where(by_matrices(columns), tile_n * columns["block_m"], tile_n * tile_m * columns["unroll_k"]),
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": np.ceil(tasks / target.threads) * target.threads / tasks,
        "waste": np.ceil(shape.m / tile_m) * tile_m / shape.m,
        "chunks": np.ceil(shape.steps / chunk),
        "panel": tile_n * lane_bytes * chunk / target.l1,
        "block": block_n * tile_n * lane_bytes * chunk / target.l2,
        "rows": block_m * tile_m * chunk * 4 / target.l2,
    }


def _illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    shape = _Shape(workload, target)
    known = _quantities(workload, target, columns)
    result = (known["registers"] > 1) | (known["unrolled"] > UNROLL_LIMIT)
    result |= known["unrolled"] * known["copies"] > CODE_LIMIT
    result |= (columns["block_n"] > 1) & (columns["block_n"] > ceil(shape.vectors, columns["tile_n"]))
    result |= (columns["block_m"] > 1) & (columns["block_m"] > ceil(shape.m, columns["tile_m"]))
    result |= columns["chunk_k"] % columns["unroll_k"] != 0
    if "unit" in columns:
        partial = (shape.m % columns["tile_m"] != 0) | (columns["tile_m"] > LARGEST)
        if not shape.dense:
            partial |= columns["pack_columns"] == 0  # pairs of rows do not lie side by side
        result |= by_matrices(columns) & partial
        result |= ~by_matrices(columns) & (columns["unroll_k"] == LARGEST)
    return np.asarray(result)


def _features(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.float32]:
    return logarithms(_quantities(workload, target, columns), columns)


def _default(workload: Workload, target: Target) -> dict[str, Any]:
    shape, space = _Shape(workload, target), _space(workload, target)
    values: dict[str, Any] = {knob.name: knob.values for knob in space.knobs}
    pairs = [(n, m) for n in values["tile_n"] for m in values["tile_m"]]
    tile_n, tile_m = register_tile(pairs, shape.vectors, shape.m, target.registers)
    unroll = (u for u in values["unroll_k"] if shape.steps % u == 0 and u <= 4 and u * tile_n * tile_m <= UNROLL_LIMIT)
    config: dict[str, Any] = {
        "tile_n": tile_n,
        "tile_m": tile_m,
        "block_n": 1,
        "block_m": 1,
        "chunk_k": shape.steps,
        "unroll_k": max(unroll),
        "outer": "n,m",
        "pack_rows": 0,
    }
    if not shape.dense:
        config["pack_columns"] = int(shape.m > tile_m)
    if "prefetch" in values:
        config["prefetch"] = int(outgrows_l2(workload, target))
    if shape.tiles:
        config |= _matrices(shape, values)
    return config


def _matrices(shape: _Shape, values: dict[str, Any]) -> dict[str, Any]:
    """The part of the default that is another with matrix registers: up to four of them for sums."""
    rows = max(m for m in values["tile_m"] if shape.m % m == 0 and m <= LARGEST)
    blocks = max(block for block in values["block_m"] if block <= min(2, shape.m // rows))
    depth = max(u for u in values["unroll_k"] if shape.steps % u == 0)
    tile = {"unit": "matrices", "tile_n": min(2, shape.vectors), "tile_m": rows, "block_m": blocks, "unroll_k": depth}
    return tile | ({} if shape.dense else {"pack_columns": 1})


GEMM = Template("gemm", 1, _space, _schedule, _illegal, _features, _default)
