"""Convolution on a CPU. Direct: an outer product of output channels by pixels, held in registers.

Lanes run over output channels. The tile of ``tile_co`` vectors by ``tile_oh`` x ``tile_ow`` pixels stays in registers
for the whole reduction: each step broadcasts input values and multiplies them with vectors of weights, which are packed
in the order in which the loops read them; of bfloat16 operands it takes two channels at a time. Around it: blocks of
rows and of channels for the caches, and the task space. Where Winograd's algorithm applies, the knob ``algorithm``
chooses between the two: see ``winograd``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.codegen.instructions import instructions_of
from tuner.codegen.matrix import LARGEST, REGISTERS
from tuner.dtype import item_bytes
from tuner.operators import split
from tuner.operators.image import channel_block, output_size
from tuner.operators.winograd import applies
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Dot,
    Fence,
    Inline,
    Matrix,
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
from tuner.templates.template import (
    CODE_LIMIT,
    UNITS,
    UNROLL_LIMIT,
    Template,
    bodies,
    ceil,
    logarithms,
    register_tile,
    tiles,
    up_to,
)
from tuner.workload import Workload

ORDERS = ("ci,kh,kw", "kh,kw,ci", "kh,ci,kw")
OUTERS = ("co,oh", "oh,co", "oh")  # the task space; with "oh" a task makes all channels of its rows
PADS = ("first", "task", "skip")  # copy all of the input first, copy a task's rows, or leave the border's work out
SPLIT_ERROR = 1e-5  # what the algorithm split keeps within, with room to spare
STAGE = "conv2d"


class _Shape:
    """The numbers of a workload on a target that everything below needs."""

    def __init__(self, workload: Workload, target: Target, algorithm: str = "direct") -> None:
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
        narrow = workload.text("dtype") == "bfloat16" or algorithm == "split"
        self.bytes = item_bytes("bfloat16" if narrow else "float32")
        # The axis that dot products of two are taken along, and the steps that remain of channels and columns.
        self.pairs = "" if not narrow else "ci" if self.ci > 1 else "kw" if self.kw > 1 else ""
        self.steps_ci = ceil(self.ci, 2) if self.pairs == "ci" else self.ci
        # Products of matrices are of whole tiles: rows of pixels, pairs of channels, 16 output channels.
        even = bool(self.blocked) and self.ci % 2 == 0 and (self.blocked or 0) % self.lanes == 0
        self.tiles = target.has_tiles and self.pairs == "ci" and even
        self.steps_kw = ceil(self.kw, 2) if self.pairs == "kw" else self.kw


def _space(workload: Workload, target: Target) -> Space:
    shape = _Shape(workload, target)
    knobs: list[Knob] = [
        Choice("tile_co", up_to(min(shape.vectors, target.registers // shape.parts // 2), (1, 2, 3, 4, 6, 8))),
        Choice("tile_oh", tiles(shape.oh, 7)),
        Choice("tile_ow", tiles(shape.ow, target.registers - 2)),
        Choice("block_co", up_to(shape.vectors, (1, 2, 4, 8))),
        Choice("block_oh", up_to(shape.oh, (1, 2, 4, 7, 14))),
        Choice("split_ci", up_to(shape.steps_ci, (1, 2, 3, 4, 8, 16))),
        Flag("unroll_kw"),
        Choice("order", ORDERS),
        Choice("outer", OUTERS),
        Flag("co_inside"),
    ]
    if shape.padded:
        knobs.append(Choice("pad", PADS))
    algorithms = _algorithms(workload, target)
    if shape.tiles or "split" in algorithms:
        knobs.append(Choice("unit", UNITS))
    if len(algorithms) > 1:
        knobs.append(Choice("algorithm", algorithms))
    return Space(knobs)


def _algorithms(workload: Workload, target: Target) -> tuple[str, ...]:
    """What there is to choose from, direct convolution first."""
    transformed = winograd.ALGORITHMS if applies(workload) else ("direct",)
    splits = split.applies(workload) and _Shape(workload, target, "split").tiles
    return (*transformed, "split") if splits else transformed


def _schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    algorithm = str(config.get("algorithm", "direct"))
    if algorithm.startswith("winograd"):
        return winograd.schedule(workload, target, config)
    shape = _Shape(workload, target, algorithm)
    values: dict[str, Any] = dict(config)
    steps: list[Step] = [Algorithm(STAGE, algorithm)] if algorithm == "split" else []
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
    steps.append(Split(STAGE, "ci", (values["split_ci"], 2) if shape.pairs == "ci" else (values["split_ci"],)))
    matrices = config.get("unit") == "matrices"
    kw, dot = "kw", {"ci": ["ci.2"], "kw": ["kw.1"], "": []}[shape.pairs]
    if shape.pairs == "kw":
        steps.append(Split(STAGE, "kw", (2,)))
        kw = "kw.0"

    channels = ["cib", "ci.0"] if shape.blocked else ["ci.0"]
    if values["order"] == "ci,kh,kw":
        reductions = [*channels, "kh", "ci.1", kw]
    elif values["order"] == "kh,kw,ci":
        reductions = ["kh", kw, *channels, "ci.1"]
    else:
        reductions = ["kh", *channels, kw, "ci.1"]
    if matrices:
        reductions.remove("ci.1")
    products = ["p", "q"] if algorithm == "split" else []
    tasks = {
        "co,oh": ["n", co[0], "oh.0"],
        "oh,co": ["n", "oh.0", co[0]],
        "oh": ["n", "oh.0"],
    }[values["outer"]]
    rest = [] if co[0] in tasks else [co[0]]
    rest += ["oh.1", "ow.0", co[1]] if values["co_inside"] else [co[1], "oh.1", "ow.0"]
    tile = ["oh.2", *([] if matrices else ["ow.1"]), co[2], *lanes[:-1]]
    fenced = [*([] if matrices else ["ci.1"]), *([kw] if values["unroll_kw"] else [])]
    inner = [*(["ow.1", "ci.1"] if matrices else []), *dot, lanes[-1]]
    reading = [*reductions, *products, co[2], *lanes[:-1], *(["ci.1"] if matrices else []), lanes[-1], *dot]
    steps += [
        Reorder(STAGE, (*tasks, *rest, *reductions, *products, *tile, *inner)),
        CacheWrite(STAGE, rest[-1]),
        Parallel(STAGE, tuple(tasks)),
        Unroll(STAGE, (*tile, *fenced, *products)),
        Fence(STAGE, tuple(fenced)),
        Vectorize(STAGE, lanes[-1]),
        Pack(STAGE, "weight", (co[0], co[1], *(loop for loop in reading if loop != "p"))),
    ]
    steps += [Dot(STAGE, loop) for loop in dot]
    if matrices:
        steps.append(Matrix(STAGE, "ow.1", "ci.1"))
    if algorithm == "split":
        steps += _parts(values.get("pad", "first"), tasks[-1])
    elif shape.padded:
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


def _parts(how: str, task: str) -> list[Step]:
    """Make the parts of the padded data, before everything or for a task, both of an element together."""
    at = task if how == "task" else ""
    steps: list[Step] = [ComputeAt("parts", at), Reorder("parts", ("pn", "pc", "py", "px", "pp", "pb"))]
    steps += [Unroll("parts", ("pp",)), Vectorize("parts", "pb")]
    return steps if at else [*steps, Parallel("parts", ("pn", "pc", "py"))]


def _quantities(shape: _Shape, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    """What a configuration amounts to, for columns of candidates: sizes, counts and ratios to the machine's."""
    tile_co, tile_oh, tile_ow = (columns[name].astype(float) for name in ("tile_co", "tile_oh", "tile_ow"))
    block_co = np.minimum(columns["block_co"], ceil(shape.vectors, columns["tile_co"])).astype(float)
    block_oh = np.minimum(columns["block_oh"], ceil(shape.oh, columns["tile_oh"])).astype(float)
    vectors = tile_co * shape.parts
    pixels = tile_oh * tile_ow
    tasks_oh = np.ceil(shape.oh / (block_oh * tile_oh))
    tasks_co = np.ceil(shape.vectors / (block_co * tile_co))
    outer = columns["outer"]
    tasks = shape.n * tasks_oh * np.where(outer == OUTERS.index("oh"), 1, tasks_co)
    unrolled = vectors * pixels * columns["split_ci"] * np.where(columns["unroll_kw"] == 1, shape.steps_kw, 1)
    copies = bodies(shape.oh, columns["block_oh"], columns["tile_oh"])
    copies = copies * bodies(shape.vectors, columns["block_co"], columns["tile_co"])
    if shape.padded:  # what is left out at the border makes three kinds of tiles in a row
        copies = copies * np.where(
            columns["pad"] == PADS.index("skip"), np.minimum(ceil(shape.ow, columns["tile_ow"]), 3), 1
        )
    lane_bytes = shape.bytes * shape.lanes
    rows = (block_oh * tile_oh - 1) * shape.stride[0] + (shape.kh - 1) * shape.dilation[0] + 1
    weights_tile = vectors * lane_bytes * shape.all_ci * shape.kh * shape.kw
    waste_w = np.ceil(shape.ow / tile_ow) * tile_ow / shape.ow
    rounds = np.ceil(tasks / target.threads) * target.threads / tasks
    registers = (vectors * pixels + vectors + 1) / target.registers
    if "unit" in columns:
        registers = np.where(columns["unit"] == 0, (vectors * tile_oh + 2) / REGISTERS, registers)
    return {
        "accumulators": vectors * pixels,
        "registers": registers,
        "loads": (vectors + pixels) / (vectors * pixels),
        "unrolled": unrolled,
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": rounds,
        "waste": waste_w,
        "weights": weights_tile / target.l2,
        "weights_block": weights_tile * block_co / target.l2,
        "rows": rows * shape.width * shape.all_ci * shape.bytes / target.l2,
        "row_slice": rows * shape.width * shape.ci * shape.bytes / target.l1,
    }


def _illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    if "algorithm" not in columns:
        return _illegal_product(_Shape(workload, target), target, columns)
    result = np.empty(len(columns["algorithm"]), dtype=np.bool_)
    algorithms = _algorithms(workload, target)
    for number in np.unique(columns["algorithm"]):
        rows = np.flatnonzero(columns["algorithm"] == number)
        own = {name: each[rows] for name, each in columns.items()}
        result[rows] = _illegal_by(algorithms[number], workload, target, own)
    return result


def _illegal_by(algorithm: str, workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    if algorithm in winograd.ALGORITHMS[1:]:
        return winograd.illegal(workload, target, columns)
    result = _illegal_product(_Shape(workload, target, algorithm), target, columns)
    if algorithm == "split" and "pad" in columns:
        result |= columns["pad"] == PADS.index("skip")
    return result


def _illegal_product(shape: _Shape, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    """Of the algorithms that are products of channels by pixels."""
    known = _quantities(shape, target, columns)
    # A block with more tiles than there are is the same schedule as a smaller one.
    # One pixel of one block is always possible: the blocks of a layout may be too large for the registers of a target.
    result = (known["registers"] > 1) & (known["accumulators"] > shape.parts) | (known["unrolled"] > UNROLL_LIMIT)
    result |= known["unrolled"] * known["copies"] > CODE_LIMIT
    result |= (columns["block_co"] > 1) & (columns["block_co"] > ceil(shape.vectors, columns["tile_co"]))
    result |= (columns["block_oh"] > 1) & (columns["block_oh"] > ceil(shape.oh, columns["tile_oh"]))
    result |= shape.steps_ci % columns["split_ci"] != 0
    # Blocks of one are walked through in the same order either way.
    result |= (columns["co_inside"] == 1) & (columns["block_co"] == 1)
    result |= (columns["unroll_kw"] == 1) & (shape.kw == 1)
    if shape.kh * shape.kw == 1:
        result |= columns["order"] != 0
    if shape.padded:
        result |= (columns["pad"] == PADS.index("task")) & (columns["outer"] != OUTERS.index("oh"))
        # The border is decided where the code is written: along rows by unrolling, down the image by whole rows.
        inner = (columns["tile_oh"] == 1) & ((columns["unroll_kw"] == 1) | (shape.kw == 1)) & (shape.pairs != "kw")
        result |= (columns["pad"] == PADS.index("skip")) & ~inner
    if "unit" in columns:
        matrices = columns["unit"] == UNITS.index("matrices")
        result |= matrices & ((columns["tile_ow"] > LARGEST) | (columns["split_ci"] > LARGEST) | (not shape.tiles))
        if shape.padded:
            result |= matrices & (columns["pad"] == PADS.index("skip"))
    return np.asarray(result)


def _features(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.float32]:
    known, algorithms = _quantities(_Shape(workload, target), target, columns), _algorithms(workload, target)
    for number, algorithm in enumerate(algorithms[1:], 1):
        if algorithm == "split":
            other = _quantities(_Shape(workload, target, algorithm), target, columns)
        else:
            other = winograd.quantities(workload, target, columns)
        known = {name: np.where(columns["algorithm"] == number, other[name], known[name]) for name in known}
    return logarithms(known, columns)


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
    split_ci = max(value for value in values["split_ci"] if shape.steps_ci % value == 0 and value <= 4)
    while split_ci > 1 and split_ci * tile_co * shape.parts * tile_oh * tile_ow > UNROLL_LIMIT:
        split_ci = max(value for value in values["split_ci"] if value < split_ci and shape.steps_ci % value == 0)
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
        if shape.pairs != "kw" and tile_oh == 1 and 3 * tile_co * shape.parts * tile_ow * shape.kw <= CODE_LIMIT:
            config |= {"pad": "skip", "unroll_kw": int(shape.kw > 1), "split_ci": 1}
    if "unit" in values:
        config["unit"] = "vectors"
    if "algorithm" in values:
        config["algorithm"] = "direct"
    if "split" in values.get("algorithm", ()) and workload.tolerance >= SPLIT_ERROR:
        config |= {"algorithm": "split", **_matrices(_Shape(workload, target, "split"), values)}
    elif shape.tiles:
        config |= _matrices(shape, values)
    elif "winograd4" in values.get("algorithm", ()):
        other, cycles = winograd.default(workload, target, space)
        dots = 2 if shape.pairs and target.lanes in instructions_of(target).dots else 1  # multiply-adds in one
        if other is not None and cycles < winograd.direct_cycles(workload, target) / dots:
            return other
    return config


def _matrices(shape: _Shape, values: dict[str, Any]) -> dict[str, Any]:
    """The part of the default that is another with matrix registers: four of them for sums, two each for operands."""
    co = max(value for value in values["tile_co"] if value * shape.parts <= max(2, shape.parts))
    oh = max(value for value in values["tile_oh"] if value * co * shape.parts <= 4)
    ow = min((value for value in values["tile_ow"] if value <= LARGEST), key=lambda v: (ceil(shape.ow, v), v))
    depth = max(value for value in values["split_ci"] if shape.steps_ci % value == 0 and value <= LARGEST)
    tile = {"unit": "matrices", "tile_co": co, "tile_oh": oh, "tile_ow": ow, "split_ci": depth, "unroll_kw": 0}
    return tile | ({"pad": "first"} if shape.padded else {})


CONV2D = Template("conv2d", 1, _space, _schedule, _illegal, _features, _default)
