"""A convolution as an outer product of channels by pixels that is held in registers: what a configuration amounts to.

There are five pictures of it. Lanes are output channels, or in NCHW pixels of a row; where the kernel is one pixel, the
image may be seen as one row of pixels (the algorithm ``flat``); where all channels are neighbours, columns and channels
may be seen as columns (``joined``). ``tile_co`` counts vectors of lanes. ``tile_ow`` counts what each of them is
multiplied with, one after the other: pixels where lanes are channels, channels where they are pixels. ``tile_oh``
counts rows of either. With ``flat``, ``block_oh`` counts tiles of pixels and not of rows, and so does ``tile_oh`` where
products are of matrices, whose tiles are of a few pixels each.
"""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.codegen.matrix import LARGEST, REGISTERS
from tuner.dtype import item_bytes
from tuner.operators.image import channel_block, output_size
from tuner.operators.views import is_flat, seen
from tuner.space import Columns
from tuner.target import Target
from tuner.templates.template import CODE_LIMIT, UNROLL_LIMIT, WASTE, bodies, by_matrices, ceil, rows_of
from tuner.workload import Workload

ORDERS = ("ci,kh,kw", "kh,kw,ci", "kh,ci,kw")
OUTERS = ("co,oh", "oh,co", "oh")  # the task space; with "oh" a task makes all channels of its rows
PADS = ("first", "task", "skip")  # copy all of the input first, copy a task's rows, or leave the border's work out
LANES = ("channels", "pixels")


# Cycles: of a load beside multiply-adds, of a row that lies elsewhere, to begin a tile, and to copy a vector.
_DELAY, _ELSEWHERE, _START, _COPY = 0.1, 0.5, 20, 4


class Shape:
    """The numbers of a workload on a target, as an algorithm that is such a product sees it, with these lanes."""

    def __init__(self, workload: Workload, target: Target, algorithm: str = "direct", lanes: str = "channels") -> None:
        view = seen(workload, algorithm)
        layout, ci = view.text("layout"), view.size("ci")
        self.algorithm, self.pixels = algorithm, lanes == "pixels"
        self.flat = algorithm == "flat" or (algorithm == "split" and is_flat(workload))
        self.joined = view.sizes("k") != workload.sizes("k")
        self.padded = any(workload.sizes("pad"))
        self.blocked = channel_block(layout, view.size("co"))
        self.n, self.co = view.size("n"), view.size("co")
        self.oh, self.ow = output_size(view)
        self.lanes = min(target.lanes, self.ow if self.pixels else self.blocked or self.co)
        self.parts = ceil(self.blocked, self.lanes) if self.blocked else 1  # registers for one block of the layout
        if self.pixels:
            self.vectors, self.others = ceil(self.ow, self.lanes), self.co
        else:
            self.vectors = self.co // self.blocked if self.blocked else ceil(self.co, self.lanes)
            self.others = self.ow
        self.ci, self.all_ci = channel_block(layout, ci) or ci, ci
        self.kh, self.kw = view.sizes("k")
        self.stride, self.dilation = view.sizes("stride"), view.sizes("dilation")
        self.width = view.size("w") + view.sizes("pad")[1] + view.sizes("pad")[3]
        narrow = workload.text("dtype") == "bfloat16" or algorithm == "split"
        self.bytes = item_bytes("bfloat16" if narrow else "float32")
        # The axis that dot products of two are taken along, and the steps that remain of channels and columns.
        self.pairs = "" if not narrow else "ci" if self.ci > 1 else "kw" if self.kw > 1 else ""
        self.steps_ci = ceil(self.ci, 2) if self.pairs == "ci" else self.ci
        self.steps_kw = ceil(self.kw, 2) if self.pairs == "kw" else self.kw
        # Products of matrices are of whole tiles: rows of pixels, neighbouring pairs, 16 output channels.
        whole = {"ci": self.ci % 2 == 0, "kw": self.kw % 2 == 0 and self.dilation[1] == 1, "": False}[self.pairs]
        self.tiles = target.has_tiles and whole and bool(self.blocked) and (self.blocked or 0) % self.lanes == 0

    @property
    def depth(self) -> int:
        """The multiply-adds for an element of the output, those with the zeros of half pairs too."""
        pairs = self.all_ci // self.ci * self.steps_ci * self.kh * self.steps_kw
        return 2 * pairs if self.pairs else pairs


def quantities(shape: Shape, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    """What a configuration amounts to, for columns of candidates: sizes, counts and ratios to the machine's."""
    wide, rows, narrow = (columns[name].astype(float) for name in ("tile_co", "tile_oh", "tile_ow"))
    # In channels, or vectors of them, and in pixels; then the registers of the tile and what they are multiplied with.
    channels, pixels = (narrow, wide * shape.lanes) if shape.pixels else (wide, narrow)
    vectors, scalars = (wide * rows, narrow) if shape.pixels else (wide * shape.parts, narrow * rows)
    all_channels = shape.co if shape.pixels else shape.vectors
    block_co = np.minimum(columns["block_co"], ceil(all_channels, channels)).astype(float)
    block_rows = 1.0 if shape.flat else np.minimum(columns["block_oh"], ceil(shape.oh, rows)).astype(float)
    tasks = shape.n * np.where(columns["outer"] == OUTERS.index("oh"), 1, np.ceil(all_channels / (block_co * channels)))
    copies = bodies(shape.oh, 1 if shape.flat else columns["block_oh"], columns["tile_oh"])
    copies = copies * bodies(all_channels, columns["block_co"], channels.astype(np.int64))
    if shape.flat:
        tasks = tasks * np.ceil(shape.ow / (columns["block_oh"] * rows * pixels))
    else:
        tasks = tasks * np.ceil(shape.oh / (block_rows * rows))
    if shape.pixels:
        copies = copies * bodies(shape.ow, columns["block_oh"] if shape.flat else 1, pixels.astype(np.int64))
    if shape.padded:  # what is left out at the border makes three kinds of tiles in a row
        copies = copies * np.where(columns["pad"] == PADS.index("skip"), np.minimum(ceil(shape.ow, pixels), 3), 1)
    # A product of matrices is one instruction for a register of sums.
    written = np.where(by_matrices(columns), wide * shape.parts * rows, vectors * scalars * columns["split_ci"])
    unrolled = written * np.where(columns["unroll_kw"] == 1, _steps(shape, columns)[1], 1)
    reach = (block_rows * rows - 1) * shape.stride[0] + (shape.kh - 1) * shape.dilation[0] + 1
    width = columns["block_oh"] * pixels if shape.flat else shape.width
    weights_tile = channels * (1 if shape.pixels else shape.parts * shape.lanes) * shape.bytes
    weights_tile = weights_tile * shape.all_ci * shape.kh * shape.kw
    registers = (vectors * scalars + vectors + 1) / target.registers
    registers = np.where(by_matrices(columns), (vectors * rows + 2) / REGISTERS, registers)
    return {
        "accumulators": vectors * scalars,
        "registers": registers,
        "loads": (vectors + scalars) / (vectors * scalars),
        "unrolled": unrolled,
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": np.ceil(tasks / target.threads) * target.threads / tasks,
        "waste": np.ceil(shape.others / narrow) * narrow / shape.others,
        "weights": weights_tile / target.l2,
        "weights_block": weights_tile * block_co / target.l2,
        "rows": reach * width * shape.all_ci * shape.bytes / target.l2,
        "row_slice": reach * width * shape.ci * shape.bytes / target.l1,
    }


def _steps(shape: Shape, columns: Columns) -> tuple[Any, Any]:
    """The steps of the reduction that ``split_ci`` cuts, and the turns of the loop over columns of the kernel.

    Products of matrices take several pairs at a time, which may be of columns. Integers, or columns of N candidates.
    """
    if shape.pairs != "kw":
        return shape.steps_ci, shape.steps_kw
    turns = np.where(by_matrices(columns), shape.steps_kw // columns["split_ci"], shape.steps_kw)
    return np.where(by_matrices(columns), shape.steps_kw, shape.steps_ci), turns


def cycles(shape: Shape, columns: Columns) -> npt.NDArray[np.float64]:
    """An estimate by counting what the tiles of N candidates do, partial ones as they are. To choose a default by.

    A step of the reduction takes multiply-adds, loads of vectors and broadcasts. Two of either kind start in a cycle,
    and eight sums must be under way to hide the latency of the adder. What is loaded delays the multiply-adds a little,
    and more so where each row of an image in NCHW lies elsewhere. Then the sums are stored, after a transposition where
    lanes are channels and the output is in NCHW.
    """
    wide = _pieces(shape.vectors, columns["tile_co"])
    rows = _pieces(shape.oh, columns["tile_oh"])
    narrow = _pieces(shape.others, columns["tile_ow"], shifted=not shape.pixels)
    loads = min(shape.stride[1], 4) if shape.pixels else 1  # for a vector of pixels
    store = 2 if shape.pixels or shape.blocked else 5
    copied = shape.oh * shape.stride[0] * shape.width if shape.padded and shape.joined else 0
    total = np.full(len(columns["tile_co"]), _COPY * copied / shape.lanes)
    for (n_wide, v), (n_rows, r), (n_narrow, s) in product(wide, rows, narrow):
        vectors, scalars = (v * r * loads, s) if shape.pixels else (v * shape.parts, s * r)
        sums = vectors * scalars // loads if shape.pixels else vectors * scalars
        step = np.maximum(np.maximum(sums / 2, (vectors + scalars) / 2), 4)
        step += _DELAY * (vectors + scalars) + (0 if shape.blocked else _ELSEWHERE * r)
        total += n_wide * n_rows * n_narrow * (shape.depth * step + store * sums + _START)
    return total


def _pieces(
    extent: int, tile: npt.NDArray[np.int64], shifted: bool = False
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """How many tiles there are of which size: whole ones, and what is left of the last one, unless it is shifted."""
    if shifted:
        return [(ceil(extent, tile), tile)]
    return [(extent // tile, tile), (np.minimum(extent % tile, 1), extent % tile)]


def illegal(shape: Shape, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    """For columns of N candidates, which of them are no such product, or another one's double, or never fast."""
    result = _misfits(shape, columns)
    left = np.flatnonzero(~result)  # few: most are ruled out by what costs least to know
    result[left] = _too_large(shape, target, rows_of(columns, left))
    return result


def _too_large(shape: Shape, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    """Which of N candidates need more registers than there are, or write out too much."""
    known = quantities(shape, target, columns)
    # One pixel of one block is always possible: the blocks of a layout may be too large for the registers of a target.
    result = (known["registers"] > 1) & (known["accumulators"] > shape.parts) | (known["unrolled"] > UNROLL_LIMIT)
    return np.asarray(result | (known["unrolled"] * known["copies"] > CODE_LIMIT))


def _misfits(shape: Shape, columns: Columns) -> npt.NDArray[np.bool_]:
    """Which of N candidates have values that do not go together, or mean what others mean as well."""
    matrices, (steps, turns) = by_matrices(columns), _steps(shape, columns)
    # A knob has the values for all pictures.
    result = (columns["tile_co"] > shape.vectors) | (columns["tile_ow"] > shape.others)
    result |= ceil(shape.others, columns["tile_ow"]) * columns["tile_ow"] > shape.others * (1 + WASTE)
    result |= steps % columns["split_ci"] != 0
    # A block with more tiles than there are is the same schedule as a smaller one.
    channels = ceil(shape.co, columns["tile_ow"]) if shape.pixels else ceil(shape.vectors, columns["tile_co"])
    rows, high = ceil(shape.oh, columns["tile_oh"]), np.full(len(result), shape.oh)
    if shape.flat:
        tiles = ceil(shape.ow, columns["tile_co"] * shape.lanes if shape.pixels else columns["tile_ow"])
        rows, high = ceil(tiles, columns["tile_oh"]), np.where(matrices, tiles, high)  # rows of tiles of pixels
        result |= matrices & (columns["block_oh"] * columns["tile_oh"] * columns["tile_ow"] > shape.ow)  # not whole
    result |= columns["tile_oh"] > high
    result |= (columns["block_co"] > 1) & (columns["block_co"] > channels)
    result |= (columns["block_oh"] > 1) & (columns["block_oh"] > rows)
    if "prefetch" in columns and not shape.pixels:  # neighbouring tiles of channels read on where the last one stopped
        result |= columns["prefetch"] == 1
    # Blocks of one are walked through in the same order either way.
    result |= (columns["co_inside"] == 1) & (columns["block_co"] == 1)
    result |= (columns["unroll_kw"] == 1) & (turns == 1)
    if shape.kh * shape.kw == 1 or shape.joined:
        result |= columns["order"] != 0
    if shape.padded:
        result |= (columns["pad"] == PADS.index("task")) & (columns["outer"] != OUTERS.index("oh"))
        # The border is decided where the code is written: along rows by unrolling, down the image by whole rows.
        inner = (columns["tile_oh"] == 1) & ((columns["unroll_kw"] == 1) | (shape.kw == 1)) & (shape.pairs != "kw")
        result |= (columns["pad"] == PADS.index("skip")) & ~inner
        result |= matrices & (columns["pad"] == PADS.index("skip"))
    result |= matrices & ((columns["tile_ow"] > LARGEST) | (columns["split_ci"] > LARGEST) | (not shape.tiles))
    return np.asarray(result)
