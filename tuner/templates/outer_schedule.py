"""A convolution as an outer product of channels by pixels: the steps of its schedule.

The tile of vectors by scalars (see ``outer_product``) stays in registers for the whole reduction: each step broadcasts
scalars and multiplies them with vectors. Weights are packed in the order in which the loops read them; of bfloat16
operands a step takes pairs, of channels or of columns of the kernel. Around it: blocks of rows and of channels for the
caches, and the task space.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    Prefetch,
    Reorder,
    Schedule,
    Split,
    Step,
    Unroll,
    Vectorize,
)
from tuner.space import Config
from tuner.target import Target
from tuner.templates.outer_product import Shape
from tuner.templates.template import AHEAD
from tuner.workload import Workload

STAGE = "conv2d"


class _Output(NamedTuple):
    """The splits of the loops over the output, and these loops by what they are for."""

    splits: list[Step]
    channels: list[str]  # of tasks, of blocks, and of the tile
    rows: list[str]  # and pixels: of tasks, and those around the tile
    tile: list[str]  # all but the last of ``lanes``
    pixels: str  # of the tile, which are the rows of a product of matrices
    lanes: list[str]  # the one that cuts a block of the layout into registers, if any, and the vectorized one


class _Reduction(NamedTuple):
    """The splits of the loops over channels and over columns of the kernel, and these loops by what they are for."""

    splits: list[Step]
    order: list[str]  # that the sums are taken along
    product: list[str]  # the one along a product of matrices, if these are used
    dot: list[str]  # the one of pairs, if there are any


def schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    """The schedule of a configuration whose algorithm is such a product; its integers may be columns."""
    algorithm = str(config.get("algorithm", "direct"))
    shape = Shape(workload, target, algorithm, str(config.get("lanes", "channels")))
    values: Mapping[str, Any] = config
    matrices = config.get("unit") == "matrices"
    out, sums = _output(shape, values, matrices), _reduction(shape, values, matrices)
    products = ["p", "q"] if algorithm == "split" else []
    tasks = {
        "co,oh": ["n", out.channels[0], out.rows[0]],
        "oh,co": ["n", out.rows[0], out.channels[0]],
        "oh": ["n", out.rows[0]],
    }[values["outer"]]
    rest = [] if out.channels[0] in tasks else [out.channels[0]]
    rest += [*out.rows[1:], out.channels[1]] if values["co_inside"] else [out.channels[1], *out.rows[1:]]
    kw = [loop for loop in sums.order if loop.startswith("kw")]
    fenced = [*([] if matrices else ["ci.1"]), *(kw if values["unroll_kw"] else [])]
    inner = [*([out.pixels, *sums.product] if matrices else []), *sums.dot, out.lanes[-1]]
    across = [] if shape.pixels else out.lanes
    reading = [*sums.order, *products, out.channels[2], *across[:-1], *sums.product, *across[-1:], *sums.dot]
    steps: list[Step] = [
        *([] if algorithm == "direct" else [Algorithm(STAGE, algorithm)]),
        *out.splits,
        *sums.splits,
        Reorder(STAGE, (*tasks, *rest, *sums.order, *products, *out.tile, *inner)),
        CacheWrite(STAGE, rest[-1]),
        Parallel(STAGE, tuple(tasks)),
        Unroll(STAGE, (*out.tile, *fenced, *products)),
        Fence(STAGE, tuple(fenced)),
        Vectorize(STAGE, out.lanes[-1]),
        Pack(STAGE, "weight", (*out.channels[:2], *(loop for loop in reading if loop != "p"))),
        *(Dot(STAGE, loop) for loop in sums.dot),
        *(Matrix(STAGE, out.pixels, loop) for loop in sums.product),
        *([Prefetch(STAGE, "residual", AHEAD * shape.oh * shape.ow)] if values.get("prefetch") else []),
    ]
    if algorithm == "split":
        steps += _parts(shape, values.get("pad", "first"), tasks[-1])
    elif shape.padded:
        steps += _pad(shape, target, values["pad"], tasks[-1])
    return Schedule(tuple(steps))


def _output(shape: Shape, values: Mapping[str, Any], matrices: bool) -> _Output:
    channel, pixel = ("tile_ow", "tile_co") if shape.pixels else ("tile_co", "tile_ow")
    lanes = ["co"]
    if shape.blocked:
        splits: list[Step] = [Split(STAGE, "cob", (values["block_co"], values[channel]))]
        co = ["cob.0", "cob.1", "cob.2"]
        if shape.parts > 1:
            splits.append(Split(STAGE, "co", (shape.lanes,)))
            lanes = ["co.0", "co.1"]
    else:
        splits = [Split(STAGE, "co", (values["block_co"], values[channel], *([] if shape.pixels else [shape.lanes])))]
        co = ["co.0", "co.1", "co.2"]
        lanes = ["co.3"]
    if shape.flat and matrices:
        block, rows, pixels, high = [values["block_oh"], values["tile_oh"]], ["ow.0", "oh", "ow.1"], "ow.3", ["ow.2"]
    elif shape.flat:
        block, rows, pixels, high = [values["block_oh"]], ["ow.0", "oh", "ow.1"], "ow.2", []
    else:
        splits.append(Split(STAGE, "oh", (values["block_oh"], values["tile_oh"])))
        block, rows, pixels, high = [], ["oh.0", "oh.1", "ow.0"], "ow.1", ["oh.2"]
    if shape.pixels:
        splits.append(Split(STAGE, "ow", (*block, values[pixel], shape.lanes)))
        return _Output(splits, co, rows, [co[2], *high, pixels], pixels, [f"ow.{3 if shape.flat else 2}"])
    splits.append(Split(STAGE, "ow", (*block, values[pixel]), "shift"))
    tile = [*high, *([] if matrices else [pixels]), co[2], *lanes[:-1]]
    return _Output(splits, co, rows, tile, pixels, lanes)


def _reduction(shape: Shape, values: Mapping[str, Any], matrices: bool) -> _Reduction:
    depth = values["split_ci"]
    if shape.pairs == "kw":
        splits: list[Step] = [Split(STAGE, "ci", (1 if matrices else depth,))]
        splits.append(Split(STAGE, "kw", (depth, 2) if matrices else (2,)))
        kw, product, dot = "kw.0", "kw.1", "kw.2" if matrices else "kw.1"
    else:
        splits = [Split(STAGE, "ci", (depth, 2) if shape.pairs else (depth,))]
        kw, product, dot = "kw", "ci.1", "ci.2"
    channels = ["cib", "ci.0"] if shape.blocked else ["ci.0"]
    if values["order"] == "ci,kh,kw":
        order = [*channels, "kh", "ci.1", kw]
    elif values["order"] == "kh,kw,ci":
        order = ["kh", kw, *channels, "ci.1"]
    else:
        order = ["kh", *channels, kw, "ci.1"]
    along = [product] if matrices else []
    return _Reduction(splits, [loop for loop in order if loop not in along], along, [dot] if shape.pairs else [])


def _pad(shape: Shape, target: Target, how: str, task: str) -> list[Step]:
    if how == "skip":
        return [Inline("pad")]
    at = task if how == "task" else ""
    steps: list[Step] = []
    last = "pb"
    if not shape.blocked or shape.joined:
        steps.append(Split("pad", "px", (min(target.lanes, shape.width),)))
        last = "px.1"
    if shape.joined:
        steps.append(Reorder("pad", ("pn", "pc", "py", "px.0", "pb", last)))
    steps += [ComputeAt("pad", at), Vectorize("pad", last)]
    if not at:
        steps.append(Parallel("pad", ("pn", "pc", "py")))
    return steps


def _parts(shape: Shape, how: str, task: str) -> list[Step]:
    """Make the parts of the padded data, before everything or for a task, both of an element together."""
    at = task if how == "task" else ""
    steps: list[Step] = [Split("parts", "px", (shape.lanes,))] if shape.all_ci == 1 else []
    inner = ("px.0", "pb", "pp", "px.1") if shape.all_ci == 1 else ("px", "pp", "pb")
    steps += [ComputeAt("parts", at), Reorder("parts", ("pn", "pc", "py", *inner))]
    steps += [Unroll("parts", ("pp",)), Vectorize("parts", inner[-1])]
    return steps if at else [*steps, Parallel("parts", ("pn", "pc", "py"))]
