"""Depthwise convolution on a CPU: lanes over channels where they lie side by side, else over the pixels of a row."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.operators.image import channel_block, output_size
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
from tuner.templates.template import (
    CODE_LIMIT,
    UNROLL_LIMIT,
    Template,
    bodies,
    ceil,
    logarithms,
    numeric,
    tiles,
    up_to,
)
from tuner.workload import Workload

STAGE = "depthwise_conv2d"
OUTERS = ("c,oh", "oh,c")
PADS = ("first", "task", "skip")  # copy all of the input first, copy a task's rows, or leave the border's work out


class _Shape:
    def __init__(self, workload: Workload, target: Target) -> None:
        self.n, self.c = workload.size("n"), workload.size("c")
        self.blocked = channel_block(workload.text("layout"), self.c)
        self.oh, self.ow = output_size(workload)
        self.kh, self.kw = workload.sizes("k")
        self.stride, self.dilation = workload.sizes("stride"), workload.sizes("dilation")
        self.lanes = min(target.lanes, self.blocked or self.ow)
        self.parts = ceil(self.blocked, self.lanes) if self.blocked else 1
        self.groups = self.c // self.blocked if self.blocked else self.c
        self.across = self.ow if self.blocked else ceil(self.ow, self.lanes)  # tiles of a row are counted in these
        self.padded = any(workload.sizes("pad"))
        self.width = workload.size("w") + workload.sizes("pad")[1] + workload.sizes("pad")[3]


def _space(workload: Workload, target: Target) -> Space:
    shape = _Shape(workload, target)
    knobs: list[Knob] = [
        Choice("tile_oh", tiles(shape.oh, 7)),
        Choice("tile_ow", tiles(shape.across, target.registers - 4)),
        Choice("block_oh", _blocks(shape)),
        Flag("unroll_kh"),
        Flag("unroll_kw"),
        Flag("fence"),
        Choice("outer", OUTERS),
    ]
    if shape.padded:
        knobs.append(Choice("pad", PADS))
    return Space(knobs)


def _blocks(shape: _Shape) -> tuple[int, ...]:
    """Numbers of tiles of rows that a task may do, up to all rows."""
    return up_to(shape.oh, (1, 2, 4, 7, 14, 28, 56, 112, shape.oh))


def _schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    shape = _Shape(workload, target)
    values: dict[str, Any] = dict(config)
    steps: list[Step] = [Split(STAGE, "oh", (values["block_oh"], values["tile_oh"]))]
    if shape.blocked:
        steps.append(Split(STAGE, "ow", (values["tile_ow"],), "shift"))
        group, tile = "cb", ["oh.2", "ow.1", "c"]
        if shape.parts > 1:
            steps.append(Split(STAGE, "c", (shape.lanes,)))
            tile = ["oh.2", "ow.1", "c.0", "c.1"]
    else:
        steps.append(Split(STAGE, "ow", (values["tile_ow"], shape.lanes)))
        group, tile = "c", ["oh.2", "ow.1", "ow.2"]
    tasks = ["n", group, "oh.0"] if values["outer"] == "c,oh" else ["n", "oh.0", group]
    window = tuple(name for name in ("kh", "kw") if values[f"unroll_{name}"])
    steps += [
        Reorder(STAGE, (*tasks, "oh.1", "ow.0", "kh", "kw", *tile)),
        CacheWrite(STAGE, "ow.0"),
        Parallel(STAGE, tuple(tasks)),
        Unroll(STAGE, (*tile[:-1], *window)),
        Vectorize(STAGE, tile[-1]),
    ]
    if values["fence"]:
        steps.append(Fence(STAGE, window))
    if shape.blocked:
        steps.append(Pack(STAGE, "weight", (group, "kh", "kw", *tile[2:])))
    if shape.padded and values["pad"] == "skip":
        steps.append(Inline("pad"))
    elif shape.padded:
        at = tasks[-1] if values["pad"] == "task" else ""
        last = "pb"
        if not shape.blocked:
            steps.append(Split("pad", "px", (min(target.lanes, shape.width),)))
            last = "px.1"
        steps += [ComputeAt("pad", at), Vectorize("pad", last)]
        if not at:
            steps.append(Parallel("pad", ("pn", "pc", "py")))
    return Schedule(tuple(steps))


def _quantities(workload: Workload, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    shape = _Shape(workload, target)
    tile_oh, tile_ow = columns["tile_oh"].astype(float), columns["tile_ow"].astype(float)
    block_oh = np.minimum(columns["block_oh"], ceil(shape.oh, columns["tile_oh"])).astype(float)
    sums = tile_oh * tile_ow * shape.parts
    unrolled = sums * np.where(columns["unroll_kh"] == 1, shape.kh, 1)
    unrolled *= np.where(columns["unroll_kw"] == 1, shape.kw, 1)
    copies = bodies(shape.oh, columns["block_oh"], columns["tile_oh"])
    if shape.padded:  # what is left out at the border makes three kinds of tiles in a row
        copies = copies * np.where(
            columns["pad"] == PADS.index("skip"), np.minimum(ceil(shape.across, columns["tile_ow"]), 3), 1
        )
        whole = (columns["pad"] == PADS.index("skip")) & (columns["tile_oh"] > 1)  # and so do rows of tiles
        copies = np.where(whole, copies * np.minimum(ceil(shape.oh, columns["tile_oh"]), 3), copies)
    tasks = shape.n * shape.groups * np.ceil(shape.oh / (block_oh * tile_oh))
    rows = (block_oh * tile_oh - 1) * shape.stride[0] + (shape.kh - 1) * shape.dilation[0] + 1
    fresh = ((tile_oh - 1) * shape.stride[0] + shape.kh) * ((tile_ow - 1) * shape.stride[1] + shape.kw)
    return {
        "sums": sums,
        "registers": (sums + 2) / target.registers,
        "loads": fresh / (sums * shape.kh * shape.kw),
        "unrolled": unrolled,
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": np.ceil(tasks / target.threads) * target.threads / tasks,
        "waste": np.ceil(shape.across / tile_ow) * tile_ow / shape.across,
        "rows": rows * shape.width * (shape.blocked or 1) * 4 / target.l1,
        "again": rows / (block_oh * tile_oh * shape.stride[0]),
    }


def _illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    shape = _Shape(workload, target)
    known = _quantities(workload, target, columns)
    # One pixel is always possible: the blocks of a layout may be too large for the registers of a target.
    result = (known["registers"] > 1) & (known["sums"] > shape.parts) | (known["unrolled"] > UNROLL_LIMIT)
    result |= known["unrolled"] * known["copies"] > CODE_LIMIT
    blocks = _blocks(shape)
    smaller = np.array(blocks)[np.maximum(np.searchsorted(blocks, columns["block_oh"]) - 1, 0)]
    result |= (columns["block_oh"] > 1) & (smaller * columns["tile_oh"] >= shape.oh)  # that does all rows as well
    result |= (columns["unroll_kw"] == 1) & (shape.kw == 1)
    result |= (columns["fence"] == 1) & (columns["unroll_kw"] == 0)
    result |= (columns["unroll_kh"] == 1) & ((shape.kh == 1) | (columns["unroll_kw"] == 0) & (shape.kw > 1))
    if shape.padded:
        # The border is decided where the code is written: along rows by unrolling, down the image by whole rows, or
        # by unrolling as well where the loop over the rows is not shared among the tasks.
        whole = columns["block_oh"] * columns["tile_oh"] >= shape.oh
        rows = (columns["tile_oh"] == 1) | whole & ((columns["unroll_kh"] == 1) | (shape.kh == 1))
        inner = rows & ((columns["unroll_kw"] == 1) | (shape.kw == 1))
        result |= (columns["pad"] == PADS.index("skip")) & ~inner
    return np.asarray(result)


def _features(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.float32]:
    return logarithms(_quantities(workload, target, columns), columns)


def _default(workload: Workload, target: Target) -> dict[str, Any]:
    shape, space = _Shape(workload, target), _space(workload, target)
    values: dict[str, Any] = {knob.name: knob.values for knob in space.knobs}
    widths = [w for w in values["tile_ow"] if w * shape.parts <= target.registers // 2 - 2] or [1]
    tile_ow = max(widths, key=lambda w: (w / (ceil(shape.across, w) * w), w))
    config: dict[str, Any] = {
        "tile_oh": 1,
        "tile_ow": tile_ow,
        "block_oh": max(b for b in values["block_oh"] if b <= max(1, shape.oh // 4)),
        "fence": 0,
        "outer": "c,oh",
    }
    if not shape.blocked and (rows := _rows(shape, values, target)):
        return config | rows
    # As much of the window is written out as the limits on code allow: all of it, a row of it, or nothing.
    for whole, row in ((shape.kh > 1, shape.kw > 1), (False, shape.kw > 1), (False, False)):
        config |= {"unroll_kh": int(whole), "unroll_kw": int(row)}
        if shape.padded:
            config["pad"] = "skip" if shape.blocked and (row or shape.kw == 1) else "task"
        if not _illegal(workload, target, numeric(config, space)).any():
            break
    return config


def _rows(shape: _Shape, values: dict[str, Any], target: Target) -> dict[str, Any]:
    """The part of the default that is another where lanes are pixels: rows of vectors share what they load.

    Of the tiles with few enough sums and copies the one that should be quickest by counting loads and multiply-adds;
    a task does all rows, so that the border is known where the code is written. Empty when there is none.
    """
    best, least_cycles, kinds = dict[str, Any](), float("inf"), 3 if shape.padded else 2
    for tile_oh in values["tile_oh"]:
        block = min(value for value in values["block_oh"] if value * tile_oh >= shape.oh)
        for tile_ow in values["tile_ow"]:
            sums, window = tile_oh * tile_ow, shape.kh * shape.kw
            copies = min(ceil(shape.oh, tile_oh), kinds) * min(ceil(shape.across, tile_ow), kinds)
            if sums > target.registers // 4 or sums * window * copies > CODE_LIMIT // 2:
                continue
            loads = ((tile_oh - 1) * shape.stride[0] + shape.kh) * shape.kw * tile_ow * min(shape.stride[1], 4)
            tiles = ceil(shape.oh, tile_oh) * ceil(shape.across, tile_ow)
            if (cycles := tiles * (max(sums * window, loads) / 2 + sums)) <= least_cycles:
                window_unrolled = {"unroll_kh": int(shape.kh > 1), "unroll_kw": int(shape.kw > 1)}
                best = {"tile_oh": tile_oh, "tile_ow": tile_ow, "block_oh": block, **window_unrolled}
                least_cycles = cycles
    return best | ({"pad": "skip"} if best and shape.padded else {})


DEPTHWISE = Template("depthwise_conv2d", 1, _space, _schedule, _illegal, _features, _default)
