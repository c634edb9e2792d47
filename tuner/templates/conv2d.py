"""Convolution on a CPU: the ways there are to choose from, and which of them are likely to be the quickest.

Most are an outer product of output channels by pixels that is held in registers, as ``outer_product`` counts it and
``outer_schedule`` writes it. Where Winograd's algorithm applies, the knob ``algorithm`` has that too: see ``winograd``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.codegen.instructions import instructions_of
from tuner.codegen.matrix import LARGEST
from tuner.operators import split
from tuner.operators.views import is_flat, is_joined
from tuner.operators.winograd import applies
from tuner.schedule import Schedule
from tuner.space import Choice, Columns, Config, Flag, Knob, Space
from tuner.target import Target
from tuner.templates import outer_product, outer_schedule, winograd
from tuner.templates.outer_product import LANES, ORDERS, OUTERS, PADS, Shape
from tuner.templates.template import (
    UNITS,
    UNROLL_LIMIT,
    Template,
    by_matrices,
    ceil,
    logarithms,
    numeric,
    outgrows_l2,
    rows_of,
    tiles,
    up_to,
)
from tuner.workload import Workload

SPLIT_ERROR = 1e-5  # what the algorithm split keeps within, with room to spare
RIVALS = 1.25  # times the least estimate: what is estimated to take longer is hardly ever the quickest


def _space(workload: Workload, target: Target) -> Space:
    shape, shapes = Shape(workload, target), _shapes(workload, target)
    vectors = max(each.vectors for each in shapes.values())
    others = {size for each in shapes.values() for size in tiles(each.others, target.registers - 2)}
    knobs: list[Knob] = [
        Choice("tile_co", up_to(min(vectors, target.registers // shape.parts // 2), (1, 2, 3, 4, 6, 8))),
        Choice("tile_oh", tiles(shape.oh, 7)),
        Choice("tile_ow", tuple(sorted(others))),
        Choice("block_co", up_to(shape.vectors, (1, 2, 4, 8))),
        Choice("block_oh", up_to(shape.oh, (1, 2, 4, 7, 14))),
        Choice("split_ci", _depths(shapes.values())),
        Flag("unroll_kw", (0, 1) if shape.kw > 1 else (0,)),
        Choice("order", ORDERS if shape.kh * shape.kw > 1 else ORDERS[:1]),
        Choice("outer", OUTERS),
        Flag("co_inside"),
    ]
    if shape.padded:
        knobs.append(Choice("pad", PADS))
    algorithms = _algorithms(workload, target)
    if any(each.tiles for each in shapes.values()):
        knobs.append(Choice("unit", UNITS))
    if len(algorithms) > 1:
        knobs.append(Choice("algorithm", algorithms, absent="direct"))
    if len(lanes := _lanes(workload)) > 1:
        knobs.append(Choice("lanes", lanes, absent="channels"))
        if "residual" in workload.epilogue:
            knobs.append(Flag("prefetch", absent=0))
    return Space(knobs)


def _depths(shapes: Iterable[Shape]) -> tuple[int, ...]:
    """Of the channels that are written out, or that a product of matrices takes; of columns it may take any number."""
    columns = {
        depth
        for each in shapes
        if each.tiles and each.pairs == "kw"
        for depth in range(1, min(each.steps_kw, LARGEST) + 1)
        if each.steps_kw % depth == 0
    }
    return tuple(sorted(columns.union(*(up_to(each.steps_ci, (1, 2, 3, 4, 8, 16)) for each in shapes))))


def _algorithms(workload: Workload, target: Target) -> tuple[str, ...]:
    """What there is to choose from, direct convolution first."""
    if is_flat(workload):
        others: tuple[str, ...] = ("flat",)
    else:
        others = winograd.ALGORITHMS[1:] if applies(workload) else ()
    splits = target.has_tiles and split.applies(workload) and Shape(workload, target, "split").tiles
    return ("direct", *others, *(("joined",) if _joins(workload, target) else ()), *(("split",) if splits else ()))


def _joins(workload: Workload, target: Target) -> bool:
    """Whether columns and channels as one axis take fewer dot products: odd channels leave half a pair each time."""
    if not is_joined(workload) or workload.text("dtype") != "bfloat16":
        return False
    return Shape(workload, target, "joined").depth < Shape(workload, target).depth


def _lanes(workload: Workload) -> tuple[str, ...]:
    """What vectors may be of: pixels lie side by side in NCHW; and of bfloat16, pairs of channels are multiplied."""
    pixels = workload.text("layout") == "NCHW" and workload.text("dtype") == "float32"
    return LANES if pixels else LANES[:1]


def _shapes(workload: Workload, target: Target) -> dict[tuple[int, int], Shape]:
    """By the positions of their algorithm and lanes among those there are, the outer products to choose from."""
    return {
        (number, side): Shape(workload, target, algorithm, lanes)
        for number, algorithm in enumerate(_algorithms(workload, target))
        for side, lanes in enumerate(_lanes(workload))
        if not algorithm.startswith("winograd")
    }


def _pictured(workload: Workload, target: Target, columns: Columns) -> list[tuple[npt.NDArray[np.bool_], Shape]]:
    """Each outer product that columns of N candidates have, and which of them have it."""
    zeros = np.zeros(len(columns["tile_co"]), dtype=np.int64)
    algorithm, lanes = columns.get("algorithm", zeros), columns.get("lanes", zeros)
    shapes = _shapes(workload, target).items()
    found = [((algorithm == number) & (lanes == side), shape) for (number, side), shape in shapes]
    return [(which, shape) for which, shape in found if which.any()]


def _schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    if str(config.get("algorithm", "direct")).startswith("winograd"):
        return winograd.schedule(workload, target, config)
    return outer_schedule.schedule(workload, target, config)


def _illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    result = np.zeros(len(columns["tile_co"]), dtype=np.bool_)
    for which, shape in _pictured(workload, target, columns):
        rows = np.flatnonzero(which)
        result[rows] = outer_product.illegal(shape, target, rows_of(columns, rows))
    if "algorithm" in columns and applies(workload):
        rows = np.flatnonzero(np.isin(columns["algorithm"], range(1, len(winograd.ALGORITHMS))))
        if len(rows):
            result[rows] = winograd.illegal(workload, target, rows_of(columns, rows))
            if "prefetch" in columns:
                result[rows] |= columns["prefetch"][rows] == 1
    algorithms = _algorithms(workload, target)
    if "unit" in columns and len(algorithms) > 1:  # vectors are for Winograd's sums, and never fast enough for split's
        transforms = np.array([name.startswith("winograd") for name in algorithms])
        result |= by_matrices(columns) & transforms[columns["algorithm"]]
    if "split" in algorithms:
        splits = columns["algorithm"] == algorithms.index("split")
        result |= splits & ~by_matrices(columns)
        if "pad" in columns:
            result |= splits & (columns["pad"] == PADS.index("skip"))
    return result


def _features(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.float32]:
    pictures = [
        (which, outer_product.quantities(shape, target, columns))
        for which, shape in _pictured(workload, target, columns)
    ]
    if "algorithm" in columns and applies(workload):
        transformed = np.isin(columns["algorithm"], range(1, len(winograd.ALGORITHMS)))
        pictures.append((transformed, winograd.quantities(workload, target, columns)))
    masks = [which for which, _ in pictures]
    known = {name: np.select(masks, [values[name] for _, values in pictures], 1.0) for name in pictures[0][1]}
    return logarithms(known, columns)


def _default(workload: Workload, target: Target) -> dict[str, Any]:
    """The quickest way by estimate that is exact enough beyond doubt."""
    exact = [way for way in _ways(workload, target) if way.error < workload.tolerance / 3]
    return min(exact, key=lambda way: way.cycles).config


def _rivals(workload: Workload, target: Target) -> list[dict[str, Any]]:
    """Of the other algorithms, those that may be the quickest, and exact enough."""
    ways = _ways(workload, target)
    least, default = min(way.cycles for way in ways), _default(workload, target)
    promising = [way for way in ways if way.cycles <= RIVALS * least and way.error <= workload.tolerance]
    return [way.config for way in sorted(promising, key=lambda way: way.cycles) if way.config != default]


def _ways(workload: Workload, target: Target) -> list[winograd.Way]:
    """What each algorithm should be quickest with; only one where the target has matrix registers."""
    space = _space(workload, target)
    values: dict[str, Any] = {knob.name: knob.values for knob in space.knobs}
    shape, tile_co, tile_oh, tile_ow = _default_tile(workload, target, values)
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
        "order": _default_order(shape),
        "outer": "oh,co" if shape.flat else "co,oh",
        "co_inside": 0,
    }
    if "lanes" in values:
        config["lanes"] = LANES[shape.pixels]
    if "prefetch" in values:
        config["prefetch"] = int(shape.pixels and outgrows_l2(workload, target))
    if "unit" in values:
        config["unit"] = "vectors"
    if "algorithm" in values:
        config["algorithm"] = shape.algorithm
    if shape.padded:
        config["pad"] = "first"
        skipping = config | {"pad": "skip", "unroll_kw": int(shape.kw > 1), "split_ci": 1}
        if not outer_product.illegal(shape, target, numeric(skipping, space)).any():
            config = skipping
    if "split" in values.get("algorithm", ()) and workload.tolerance >= SPLIT_ERROR:
        config |= {"algorithm": "split", **_matrices(Shape(workload, target, "split"), values)}
    elif shape.tiles:
        config |= _matrices(shape, values)
    elif "winograd4" in values.get("algorithm", ()):
        dots = 2 if shape.pairs and target.lanes in instructions_of(target).dots else 1  # multiply-adds in one
        direct = winograd.Way(winograd.direct_cycles(workload, target) / dots, 0.0, config)
        return [direct, *winograd.ways(workload, target, space)]
    return [winograd.Way(0.0, 0.0, config)]


def _default_tile(workload: Workload, target: Target, values: dict[str, Any]) -> tuple[Shape, int, int, int]:
    """The outer product and its tile that should be quickest by counting what they do."""
    sizes = np.meshgrid(*(values[name] for name in ("tile_co", "tile_oh", "tile_ow")), indexing="ij")
    tile_co, tile_oh, tile_ow = (size.ravel() for size in sizes)
    others = dict.fromkeys(values, 0) | dict.fromkeys(("block_co", "block_oh", "split_ci"), 1)
    others |= {"unit": UNITS.index("vectors")} if "unit" in values else {}
    columns = _constant(others, len(tile_co)) | {"tile_co": tile_co, "tile_oh": tile_oh, "tile_ow": tile_ow}
    best, least = (Shape(workload, target), 1, 1, 1), float("inf")
    for shape in _shapes(workload, target).values():
        if shape.algorithm == "split":  # which has a tile of its own
            continue
        cycles = outer_product.cycles(shape, columns)
        cycles[outer_product.illegal(shape, target, columns)] = np.inf
        if shape.padded:  # several rows would need a padded copy, which is worth it where a row is short
            cycles[(tile_oh > 1) & ((tile_ow < shape.ow) | (2 * shape.ow > target.registers))] = np.inf
        if shape.padded and shape.pixels:
            skipping = {"pad": PADS.index("skip"), "unroll_kw": int(shape.kw > 1)}
            cycles[outer_product.illegal(shape, target, columns | _constant(skipping, len(cycles)))] = np.inf
        number = int(np.argmin(cycles))
        if cycles[number] < least:
            best = shape, int(tile_co[number]), int(tile_oh[number]), int(tile_ow[number])
            least = float(cycles[number])
    return best


def _constant(values: Mapping[str, int], count: int) -> Columns:
    """Columns of ``count`` candidates that have the same values."""
    return {name: np.full(count, value) for name, value in values.items()}


def _matrices(shape: Shape, values: dict[str, Any]) -> dict[str, Any]:
    """The part of the default that is another with matrix registers: four of them for sums, two each for operands."""
    co = max(value for value in values["tile_co"] if value * shape.parts <= max(2, shape.parts))
    ow = min((value for value in values["tile_ow"] if value <= LARGEST), key=lambda v: (ceil(shape.ow, v), v))
    rows = shape.ow // ow if shape.flat else shape.oh
    oh = max(value for value in values["tile_oh"] if value <= rows and value * co * shape.parts <= 4)
    steps = shape.steps_kw if shape.pairs == "kw" else shape.steps_ci
    depth = max(value for value in values["split_ci"] if steps % value == 0 and value <= LARGEST)
    tile = {"unit": "matrices", "tile_co": co, "tile_oh": oh, "tile_ow": ow, "split_ci": depth, "unroll_kw": 0}
    return tile | {"order": _default_order(shape)} | ({"pad": "first"} if shape.padded else {})


def _default_order(shape: Shape) -> str:
    return "ci,kh,kw" if shape.kh * shape.kw == 1 or shape.joined else "kh,ci,kw"


CONV2D = Template("conv2d", 1, _space, _schedule, _illegal, _features, _default, _rivals)
