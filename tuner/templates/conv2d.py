"""Convolution on a CPU. Direct: an outer product of output channels by pixels, held in registers.

Lanes run over output channels. The tile of ``tile_co`` vectors by ``tile_oh`` x ``tile_ow`` pixels stays in registers
for the whole reduction: each step broadcasts input values and multiplies them with vectors of weights, which are packed
in the order in which the loops read them. Around it: blocks of rows and of channels for the caches, and the task space.
Where Winograd's algorithm applies, the knob ``algorithm`` chooses between the two: see ``winograd``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.operators.image import channel_block, output_size
from tuner.operators.winograd import applies
from tuner.schedule import (
    CacheWrite,
    ComputeAt,
    Fence,
    Inline,
    Pack,
    Parallel,
    Reorder,
    Schedule,
    Split,
    Step,
    Unroll,
    Vectorize,
)
from tuner.space import Choice, Columns, Config, Flag, Knob, Space
from tuner.target import Target
from tuner.templates import winograd
from tuner.templates.template import CODE_LIMIT, UNROLL_LIMIT, Template, bodies, ceil, register_tile, tiles, up_to
from tuner.workload import Workload

ORDERS = ("ci,kh,kw", "kh,kw,ci", "kh,ci,kw")
OUTERS = ("co,oh", "oh,co", "oh")  # the task space; with "oh" a task makes all channels of its rows
PADS = ("first", "task", "skip")  # copy all of the input first, copy a task's rows, or leave the border's work out
STAGE = "conv2d"


class _Shape:
    """The numbers of a workload on a target that everything below needs."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.blocked = channel_block(workload.text("layout"), workload.size("co"))
        self.n, co, ci = workload.size("n"), workload.size("co"), workload.size("ci")
        self.lanes = min(target.lanes, self.blocked or co)
        self.parts = ceil(self.blocked, self.lanes) if self.blocked else 1  # registers for one block of the layout
        self.vectors = co // self.blocked if self.blocked else ceil(co, self.lanes)
        self.ci = (channel_block(workload.text("layout"), ci) or ci) if self.blocked else ci
        self.all_ci = ci
        self.oh, self.ow = output_size(workload)
        self.kh, self.kw = workload.sizes("k")
        self.stride = workload.sizes("stride")
        self.dilation = workload.sizes("dilation")
        self.padded = any(workload.sizes("pad"))
        self.width = workload.size("w") + workload.sizes("pad")[1] + workload.sizes("pad")[3]


def _space(workload: Workload, target: Target) -> Space:
    shape = _Shape(workload, target)
    knobs: list[Knob] = [
        Choice("tile_co", up_to(min(shape.vectors, target.registers // shape.parts // 2), (1, 2, 3, 4, 6, 8))),
        Choice("tile_oh", tiles(shape.oh, 7)),
        Choice("tile_ow", tiles(shape.ow, target.registers - 2)),
        Choice("block_co", up_to(shape.vectors, (1, 2, 4, 8))),
        Choice("block_oh", up_to(shape.oh, (1, 2, 4, 7, 14))),
        Choice("split_ci", up_to(shape.ci, (1, 2, 3, 4, 8, 16))),
        Flag("unroll_kw"),
        Choice("order", ORDERS),
        Choice("outer", OUTERS),
        Flag("co_inside"),
    ]
    if shape.padded:
        knobs.append(Choice("pad", PADS))
    if applies(workload):
        knobs.append(Choice("algorithm", winograd.ALGORITHMS))
    return Space(knobs)


def _schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    if config.get("algorithm", "direct") != "direct":
        return winograd.schedule(workload, target, config)
    shape = _Shape(workload, target)
    values: dict[str, Any] = dict(config)
    steps: list[Step] = []
    if shape.blocked:
        steps.append(Split(STAGE, "cob", (values["block_co"], values["tile_co"])))
        co = ["cob.0", "cob.1", "cob.2"]
        lanes = ["co"]
        if shape.parts > 1:
            steps.append(Split(STAGE, "co", (shape.lanes,)))
            lanes = ["co.0", "co.1"]
    else:
        steps.append(Split(STAGE, "co", (values["block_co"], values["tile_co"], shape.lanes)))
        co = ["co.0", "co.1", "co.2"]
        lanes = ["co.3"]
    steps.append(Split(STAGE, "oh", (values["block_oh"], values["tile_oh"])))
    steps.append(Split(STAGE, "ow", (values["tile_ow"],), "shift"))
    steps.append(Split(STAGE, "ci", (values["split_ci"],)))

    channels = ["cib", "ci.0"] if shape.blocked else ["ci.0"]
    if values["order"] == "ci,kh,kw":
        reductions = [*channels, "kh", "ci.1", "kw"]
    elif values["order"] == "kh,kw,ci":
        reductions = ["kh", "kw", *channels, "ci.1"]
    else:
        reductions = ["kh", *channels, "kw", "ci.1"]
    tasks = {
        "co,oh": ["n", co[0], "oh.0"],
        "oh,co": ["n", "oh.0", co[0]],
        "oh": ["n", "oh.0"],
    }[values["outer"]]
    rest = [] if co[0] in tasks else [co[0]]
    rest += ["oh.1", "ow.0", co[1]] if values["co_inside"] else [co[1], "oh.1", "ow.0"]
    tile = ["oh.2", "ow.1", co[2], *lanes]
    unrolled = [*tile[:-1], "ci.1", *(["kw"] if values["unroll_kw"] else [])]
    steps += [
        Reorder(STAGE, (*tasks, *rest, *reductions, *tile)),
        CacheWrite(STAGE, rest[-1]),
        Parallel(STAGE, tuple(tasks)),
        Unroll(STAGE, tuple(unrolled)),
        Fence(STAGE, ("ci.1", "kw") if values["unroll_kw"] else ("ci.1",)),
        Vectorize(STAGE, lanes[-1]),
        Pack(STAGE, "weight", (co[0], co[1], *reductions, co[2], *lanes)),
    ]
    if shape.padded:
        steps += _pad(shape, target, values["pad"], tasks[-1])
    return Schedule(tuple(steps))


def _pad(shape: _Shape, target: Target, how: str, task: str) -> list[Step]:
    if how == "skip":
        return [Inline("pad")]
    at = task if how == "task" else ""
    steps: list[Step] = []
    last = "pb"
    if not shape.blocked:
        steps.append(Split("pad", "px", (min(target.lanes, shape.width),)))
        last = "px.1"
    steps += [ComputeAt("pad", at), Vectorize("pad", last)]
    if not at:
        steps.append(Parallel("pad", ("pn", "pc", "py")))
    return steps


def _quantities(workload: Workload, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    """What a configuration amounts to, for columns of candidates: sizes, counts and ratios to the machine's."""
    shape = _Shape(workload, target)
    tile_co, tile_oh, tile_ow = (columns[name].astype(float) for name in ("tile_co", "tile_oh", "tile_ow"))
    block_co = np.minimum(columns["block_co"], ceil(shape.vectors, columns["tile_co"])).astype(float)
    block_oh = np.minimum(columns["block_oh"], ceil(shape.oh, columns["tile_oh"])).astype(float)
    vectors = tile_co * shape.parts
    pixels = tile_oh * tile_ow
    tasks_oh = np.ceil(shape.oh / (block_oh * tile_oh))
    tasks_co = np.ceil(shape.vectors / (block_co * tile_co))
    outer = columns["outer"]
    tasks = shape.n * tasks_oh * np.where(outer == OUTERS.index("oh"), 1, tasks_co)
    unrolled = vectors * pixels * columns["split_ci"] * np.where(columns["unroll_kw"] == 1, shape.kw, 1)
    copies = bodies(shape.oh, columns["block_oh"], columns["tile_oh"])
    copies = copies * bodies(shape.vectors, columns["block_co"], columns["tile_co"])
    if shape.padded:  # what is left out at the border makes three kinds of tiles in a row
        copies = copies * np.where(
            columns["pad"] == PADS.index("skip"), np.minimum(ceil(shape.ow, columns["tile_ow"]), 3), 1
        )
    lane_bytes = 4 * shape.lanes
    rows = (block_oh * tile_oh - 1) * shape.stride[0] + (shape.kh - 1) * shape.dilation[0] + 1
    weights_tile = vectors * lane_bytes * shape.all_ci * shape.kh * shape.kw
    waste_w = np.ceil(shape.ow / tile_ow) * tile_ow / shape.ow
    rounds = np.ceil(tasks / target.threads) * target.threads / tasks
    return {
        "accumulators": vectors * pixels,
        "registers": (vectors * pixels + vectors + 1) / target.registers,
        "loads": (vectors + pixels) / (vectors * pixels),
        "unrolled": unrolled,
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": rounds,
        "waste": waste_w,
        "weights": weights_tile / target.l2,
        "weights_block": weights_tile * block_co / target.l2,
        "rows": rows * shape.width * shape.all_ci * 4 / target.l2,
        "row_slice": rows * shape.width * shape.ci * 4 / target.l1,
    }


def _illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    shape = _Shape(workload, target)
    known = _quantities(workload, target, columns)
    # A block with more tiles than there are is the same schedule as a smaller one.
    result = (known["registers"] > 1) | (known["unrolled"] > UNROLL_LIMIT)
    result |= known["unrolled"] * known["copies"] > CODE_LIMIT
    result |= (columns["block_co"] > 1) & (columns["block_co"] > ceil(shape.vectors, columns["tile_co"]))
    result |= (columns["block_oh"] > 1) & (columns["block_oh"] > ceil(shape.oh, columns["tile_oh"]))
    result |= shape.ci % columns["split_ci"] != 0
    # Blocks of one are walked through in the same order either way.
    result |= (columns["co_inside"] == 1) & (columns["block_co"] == 1)
    result |= (columns["unroll_kw"] == 1) & (shape.kw == 1)
    if shape.kh * shape.kw == 1:
        result |= columns["order"] != 0
    if shape.padded:
        result |= (columns["pad"] == PADS.index("task")) & (columns["outer"] != OUTERS.index("oh"))
        # The border is decided where the code is written: along rows by unrolling, down the image by whole rows.
        inner = (columns["tile_oh"] == 1) & ((columns["unroll_kw"] == 1) | (shape.kw == 1))
        result |= (columns["pad"] == PADS.index("skip")) & ~inner
    if "algorithm" in columns:
        result = np.where(columns["algorithm"] == 0, result, winograd.illegal(workload, target, columns))
    return np.asarray(result)


def _features(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.float32]:
    known = _quantities(workload, target, columns)
    if "algorithm" in columns:
        other = winograd.quantities(workload, target, columns)
        known = {name: np.where(columns["algorithm"] == 0, value, other[name]) for name, value in known.items()}
    derived = [np.log2(value) for value in known.values()]
    knobs = [np.log2(column + 1.0) for column in columns.values()]
    return np.stack([*derived, *knobs], axis=1).astype(np.float32)


def _default(workload: Workload, target: Target) -> dict[str, Any]:
    shape, space = _Shape(workload, target), _space(workload, target)
    values: dict[str, Any] = {knob.name: knob.values for knob in space.knobs}
    heights = {1, *(h for h in values["tile_oh"] if shape.ow <= target.registers // 2)}
    candidates = {
        (co, oh * ow): (co, oh, ow)
        for co in values["tile_co"]
        for oh in sorted(heights)
        for ow in values["tile_ow"]
        if oh == 1 or ow == shape.ow
    }
    tile = register_tile(candidates, shape.vectors, shape.oh * shape.ow, target.registers, shape.parts)
    tile_co, tile_oh, tile_ow = candidates.get(tile, (1, 1, 1))
    split_ci = max(value for value in values["split_ci"] if shape.ci % value == 0 and value <= 4)
    while split_ci > 1 and split_ci * tile_co * shape.parts * tile_oh * tile_ow > UNROLL_LIMIT:
        split_ci = max(value for value in values["split_ci"] if value < split_ci and shape.ci % value == 0)
    config: dict[str, Any] = {
        "tile_co": tile_co,
        "tile_oh": tile_oh,
        "tile_ow": tile_ow,
        "block_co": 1,
        "block_oh": 1,
        "split_ci": split_ci,
        "unroll_kw": 0,
        "order": "ci,kh,kw" if shape.kh * shape.kw == 1 else "kh,ci,kw",
        "outer": "co,oh",
        "co_inside": 0,
    }
    if shape.padded:
        config["pad"] = "first"
        if tile_oh == 1 and 3 * tile_co * shape.parts * tile_ow * shape.kw <= CODE_LIMIT:
            config |= {"pad": "skip", "unroll_kw": int(shape.kw > 1), "split_ci": 1}
    if "algorithm" in values:
        config["algorithm"] = "direct"
        other, cycles = winograd.default(workload, target, space)
        if other is not None and cycles < winograd.direct_cycles(workload, target):
            return other
    return config


CONV2D = Template("conv2d", 1, _space, _schedule, _illegal, _features, _default)
