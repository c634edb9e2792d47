"""Winograd convolution on a CPU, as choices in the space of the direct one.

The knobs of the direct template mean the same of another picture: ``tile_co`` vectors by ``tile_oh`` x ``tile_ow``
*tiles* stay in registers for one point's product over the channels, ``split_ci`` channels of it are unrolled. ``outer``
says what is a task: with "oh", ``block_oh`` such tiles of rows from input to output, so that all between stays in the
second-level cache; otherwise each of the three phases (transform the input, multiply, transform back) is done for
the whole image before the next, so that the weights are read once. ``co_inside`` walks through the channels inside of
the tiles. The other knobs change nothing, and are legal at every value: so a step of the search leads from a direct
configuration to Winograd ones and back, and the tuner does not try a schedule twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tuner.operators.image import channel_block, output_size
from tuner.operators.winograd import TILES, blocks, matrices, tile_counts
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Fence,
    Pack,
    Parallel,
    Prefetch,
    Reorder,
    Schedule,
    Split,
    Stagger,
    Step,
    Unroll,
    Vectorize,
)
from tuner.space import Columns, Config, Space, Value
from tuner.target import Target
from tuner.templates.template import UNROLL_LIMIT, bodies, ceil, least, rows_of
from tuner.workload import Workload

Members = npt.NDArray[np.int64]  # numbers of some of N candidates

ALGORITHMS = ("direct", *TILES)
_PLAIN = ("winograd2", "winograd4")  # their trials are older than the steps that the others have in addition
_BY_TASK = 2  # position of "oh" among the values of ``outer``
_OTHER_PHASES = "oh,co"  # the same schedules as "co,oh"

_TYPICAL_ERROR = {  # at most, seen on layers of up to 512 channels
    "winograd2": 1e-6,
    "winograd4": 2.5e-5,
    "winograd4x2": 5e-6,
    "winograd5": 2e-5,
    "winograd6": 3e-5,
    "winograd7": 1e-4,
}
_CODE_LIMIT = 640  # multiply-adds written out, transforms included; the fastest of 3,357 trials have 66 to 560
_TRANSFORM_CYCLES = 5.0  # for a vector between the transforms: made, read, and its loads and stores
_WAY = 4096  # bytes; in NCHW, what lies so far apart or a multiple of it in all channels finds no room in a cache
_PIECE_CYCLES = 10.0, 48.0  # for a piece of a row that is written there; more where a tile is written row by row
_FAR_CACHES = 8  # transformed weights of more than so many second-level caches are prefetched
_PREFETCH = 4096  # elements ahead, see docs/winograd.md
_FAR_BYTES = 16.0  # a cycle, from the third-level cache


class _Shape:
    """The numbers of a workload on a target, for the tiles of an algorithm."""

    def __init__(self, workload: Workload, target: Target, algorithm: str) -> None:
        tall, wide = tile = TILES[algorithm]
        self.plain = algorithm in _PLAIN
        self.transforms = _written_out(tile, self.plain)
        self.points = (tall + 2) * (wide + 2)
        self.n, self.ci, self.co = workload.size("n"), workload.size("ci"), workload.size("co")
        self.blocked = channel_block(workload.text("layout"), self.ci) is not None
        self.block_ci, self.block_co = blocks(workload)
        self.lanes = min(target.lanes, self.block_co)
        self.parts = ceil(self.block_co, self.lanes)
        self.vectors = self.co // self.block_co
        self.rows, self.columns = tile_counts(workload, tile)
        self.width = wide * self.columns + 2  # of the pixels under the tiles
        self.oh, self.ow = output_size(workload)
        self.l2 = target.l2
        self.far = not self.plain and self.weight_bytes > _FAR_CACHES * self.l2

    @property
    def weight_bytes(self) -> int:
        return 4 * self.points * self.ci * self.co

    @property
    def products(self) -> int:
        """Of all tiles, for one pair of channels."""
        return self.points * self.rows * self.columns

    @property
    def column_bytes(self) -> int:
        """What one tile takes between the transforms."""
        return 4 * self.points * (self.ci + self.co)

    def block(self, tile_oh: Any, tile_ow: Any, block_oh: Any) -> tuple[Any, Any]:
        """Rows and columns of tiles in a task: as many columns as fit into half of the second-level cache."""
        rows = least(block_oh * tile_oh, self.rows)
        fitting = self.l2 // 2 // (self.column_bytes * rows) // tile_ow * tile_ow
        return rows, least(-least(-fitting, -tile_ow), self.columns)


@cache
def _written_out(tile: tuple[int, int], plain: bool) -> int:
    """Multiply-adds that are written out for the transforms of a tile of outputs."""
    by_rows, by_columns = (matrices(size) for size in tile)
    rows_in, columns_in, rows_out, columns_out = (
        sum(value != 0 for row in matrix for value in row)
        for matrix in (by_rows.input, by_columns.input, by_rows.output, by_columns.output)
    )
    tall, points_x = tile[0], len(by_columns.input)
    return rows_in + columns_in + (rows_out * points_x + columns_out * tall if plain else rows_out + columns_out)


def schedule(workload: Workload, target: Target, config: Config) -> Schedule:
    """The schedule of a configuration whose algorithm is one of Winograd's."""
    values: Mapping[str, Any] = config
    shape = _Shape(workload, target, str(values["algorithm"]))
    by_task = values["outer"] == "oh"
    block = shape.block(values["tile_oh"], values["tile_ow"], values["block_oh"]) if by_task else (1, shape.columns)
    return Schedule(
        (
            Algorithm("conv2d", values["algorithm"]),
            *_output(shape, block, by_task),
            *_product(shape, values, by_task),
            *_input(shape, by_task),
            *([] if shape.blocked else _packing(target, shape.width)),
        )
    )


def _output(shape: _Shape, block: tuple[Any, Any], by_task: bool) -> list[Step]:
    outer = ["n", "ty.0", "tx.0", "cob"] if by_task else ["n", "cob", "ty.0", "tx.0"]
    # Of large tiles the outputs are summed up row by row: all at once would not fit into the registers.
    sums = ["k", "i", "j"] if shape.plain else ["i", "k", "j"]
    return [
        Split("conv2d", "ty", (block[0],)),
        Split("conv2d", "tx", (block[1],)),
        Reorder("conv2d", (*outer, "ty.1", "tx.1", *sums, "co")),
        CacheWrite("conv2d", "tx.1" if shape.plain else "i"),
        Parallel("conv2d", tuple(outer[:3])),
        Unroll("conv2d", ("k", "i", "j") if shape.plain else ("k", "j")),
        Vectorize("conv2d", "co"),
        ComputeAt("output_rows", "tx.1"),
        Reorder("output_rows", ("hn", "ho", "hy", "hx", "hq", "hk", "hi", "hl")),
        CacheWrite("output_rows", "hq"),
        Unroll("output_rows", ("hq", "hk", "hi") if shape.plain else ("hk", "hi")),
        Vectorize("output_rows", "hl"),
    ]


def _product(shape: _Shape, values: Mapping[str, Any], by_task: bool) -> list[Step]:
    steps: list[Step] = [
        Split("product", "mo", (values["tile_co"],)),
        Split("product", "my", (values["tile_oh"],)),
        Split("product", "mx", (values["tile_ow"],)),
        Split("product", "mk", (values["split_ci"],)),
    ]
    lanes = ["ml"]
    if shape.parts > 1:
        steps.append(Split("product", "ml", (shape.lanes,)))
        lanes = ["ml.0", "ml.1"]
    outer = ["mp", "mq", "mn", *(["my.0", "mx.0", "mo.0"] if values["co_inside"] else ["mo.0", "my.0", "mx.0"])]
    tile = ["my.1", "mx.1", "mo.1", *lanes]
    return [
        *steps,
        Reorder("product", (*outer, "mc", "mk.0", "mk.1", *tile)),
        CacheWrite("product", outer[-1]),
        Unroll("product", ("mk.1", *tile[:-1])),
        Fence("product", ("mk.1",)),
        Vectorize("product", tile[-1]),
        Pack("product", "weight", ("mp", "mq", "mo.0", "mc", "mk.0", "mk.1", "mo.1", *lanes)),
        *([] if shape.plain else [Stagger("product", "mq")]),
        *([Prefetch("product", "weight", _PREFETCH)] if shape.far else []),
        ComputeAt("product", "tx.0") if by_task else Parallel("product", tuple(outer[:4])),
    ]


def _input(shape: _Shape, by_task: bool) -> list[Step]:
    return [
        Reorder("input_tiles", ("bn", "bc", "by", "bp", "bx", "bk", "bq", "bl")),
        CacheWrite("input_tiles", "bx"),
        Unroll("input_tiles", ("bk", "bq")),
        Vectorize("input_tiles", "bl"),
        ComputeAt("input_tiles", "tx.0") if by_task else Parallel("input_tiles", ("bn", "bc", "by")),
        *([] if shape.plain else [Stagger("input_tiles", "bq")]),
        ComputeAt("input_rows", "by"),
        Reorder("input_rows", ("an", "ac", "ay", "ax", "ak", "ap", "al")),
        CacheWrite("input_rows", "ax"),
        Unroll("input_rows", ("ak", "ap")),
        Vectorize("input_rows", "al"),
    ]


def _packing(target: Target, width: int) -> list[Step]:
    """Rows of pixels are read, and turned into blocks of channels in registers.

    The last pixels of a row are a tile of their own only if they are few: two tiles are much code.
    """
    lanes = min(target.lanes, width)
    return [
        ComputeAt("pack", ""),
        Split("pack", "kx", (lanes,), "shift" if 2 * (width % lanes) > lanes else "cut"),
        Reorder("pack", ("kn", "kc", "ky", "kx.0", "kl", "kx.1")),
        Parallel("pack", ("kn", "kc", "ky")),
        Unroll("pack", ("kl",)),
        Vectorize("pack", "kx.1"),
    ]


def quantities(workload: Workload, target: Target, columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    """The same as for direct convolution, by name, for columns of N candidates; of no meaning for direct ones."""
    parts = [(members, _quantities(shape, target, own)) for members, shape, own in _parts(workload, target, columns)]
    return {name: _combined(columns, [(members, known[name]) for members, known in parts]) for name in parts[0][1]}


def _parts(workload: Workload, target: Target, columns: Columns) -> Iterator[tuple[Members, _Shape, Columns]]:
    """N candidates by their algorithms; direct ones count as those of the first."""
    number = np.clip(columns["algorithm"] - 1, 0, len(TILES) - 1)
    for position in np.unique(number):
        members = np.flatnonzero(number == position)
        yield members, _Shape(workload, target, ALGORITHMS[position + 1]), rows_of(columns, members)


def _combined(columns: Columns, parts: Sequence[tuple[Members, npt.NDArray[Any]]]) -> npt.NDArray[Any]:
    """One column of N from those of parts."""
    result = np.empty(len(columns["algorithm"]), dtype=np.result_type(*(values for _, values in parts)))
    for members, values in parts:
        result[members] = values
    return result


def _quantities(shape: _Shape, target: Target, columns: Columns) -> dict[str, Any]:
    tile_co, tile_oh, tile_ow = columns["tile_co"], columns["tile_oh"], columns["tile_ow"]
    by_task = columns["outer"] == _BY_TASK
    block_rows, block_columns = shape.block(tile_oh, tile_ow, columns["block_oh"])
    block_rows, block_columns = (
        np.where(by_task, block_rows, shape.rows),
        np.where(by_task, block_columns, shape.columns),
    )
    vectors, tiles = tile_co * shape.parts, tile_oh * tile_ow
    panels = ceil(shape.vectors, tile_co)
    blocks = ceil(shape.rows, block_rows) * ceil(shape.columns, block_columns)
    tasks = shape.n * np.where(by_task, blocks, shape.points * panels).astype(float)
    computed = shape.points * ceil(shape.rows, tile_oh) * tile_oh * ceil(shape.columns, tile_ow) * tile_ow
    panel = 4.0 * vectors * shape.lanes * shape.ci
    copies = bodies(shape.vectors, 1, tile_co) * bodies(block_rows, 1, tile_oh) * bodies(block_columns, 1, tile_ow)
    copies = copies * _task_copies(shape, columns)
    in_task = block_rows * block_columns * np.where(by_task, 1, shape.n)
    return {
        "accumulators": vectors * tiles,
        "registers": (vectors * tiles + vectors + 1) / target.registers,
        "loads": (vectors + tiles) / (vectors * tiles),
        "unrolled": vectors * tiles * columns["split_ci"],
        "copies": copies.astype(float),
        "tasks": tasks,
        "idle": np.ceil(tasks / target.threads) * target.threads / tasks,
        "waste": computed / (9 * shape.oh * shape.ow),
        "weights": panel / target.l2,
        "weights_block": panel * panels * np.where(by_task, shape.points, 1) / target.l2,
        "rows": in_task * shape.column_bytes / target.l2,
        "row_slice": in_task * 4.0 * shape.ci / target.l1,
    }


def _task_copies(shape: _Shape, columns: Columns) -> Any:
    """How often all that a task does is written out: for whole blocks of tiles, and for the last ones."""
    rows, across = shape.block(columns["tile_oh"], columns["tile_ow"], columns["block_oh"])
    return np.where(columns["outer"] == _BY_TASK, bodies(shape.rows, 1, rows) * bodies(shape.columns, 1, across), 1)


def illegal(workload: Workload, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    """For columns of N candidates; of no meaning for direct ones."""
    shapes = [_Shape(workload, target, name) for name in TILES]
    parts = [
        (members, np.ones(len(members), np.bool_) if _useless(shape, shapes) else _illegal(shape, target, own))
        for members, shape, own in _parts(workload, target, columns)
    ]
    return _combined(columns, parts)


def _useless(shape: _Shape, others: Sequence[_Shape]) -> bool:
    """Whether a smaller tile leaves as few products: where partial tiles eat up what larger ones save."""
    return not shape.plain and any(other.points < shape.points and other.products <= shape.products for other in others)


class Way(NamedTuple):
    """The configuration that an algorithm should be quickest with."""

    cycles: float
    error: float  # relative to the largest output; hardly ever more
    config: dict[str, Value]


def ways(workload: Workload, target: Target, space: Space) -> list[Way]:
    """For each algorithm that has a legal configuration, the one to use before anything is measured."""
    shape = _Shape(workload, target, "winograd2")
    allowed: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("tile_oh", "tile_ow"), lambda value: True),
        # one register of weights at a time waits for its broadcasts
        "tile_co": lambda value: value * shape.parts > 1 or shape.vectors == 1,
        "split_ci": lambda value: value <= 4,
        "outer": lambda value: value != _OTHER_PHASES,
        "algorithm": lambda value: value in TILES,
    }
    choices = [
        [i for i, value in enumerate(knob.values) if knob.name in allowed and allowed[knob.name](value)] or [0]
        for knob in space.knobs
    ]
    digits = np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, len(choices))
    indices = space.indices(digits)
    columns = space.columns(indices)
    wrong = illegal(workload, target, columns)
    found = []
    for members, each, own in _parts(workload, target, columns):
        cycles = np.where(wrong[members], np.inf, _cycles(each, target, own))
        best = int(np.argmin(cycles))
        if cycles[best] < np.inf:
            config = space.config(int(indices[members[best]]))
            found.append(Way(float(cycles[best]), _TYPICAL_ERROR[str(config["algorithm"])], config))
    return found


def _cycles(shape: _Shape, target: Target, columns: Columns) -> npt.NDArray[np.float64]:
    """An estimate by counting: products from registers, transforms, and what comes from beyond the second-level cache.

    Only good enough to choose a default by; see docs/winograd.md for how good.
    """
    known = _quantities(shape, target, columns)
    vectors, tiles = columns["tile_co"] * shape.parts, columns["tile_oh"] * columns["tile_ow"]
    step = np.maximum(np.maximum(vectors * tiles / 2, (vectors + tiles) / 2), 4)
    placed = known["waste"] * 9 * shape.oh * shape.ow / tiles * ceil(shape.vectors, columns["tile_co"])
    step = step + np.where(known["weights"] * target.l2 > target.l1, vectors, 0)  # read from the second-level cache
    steps = shape.n * placed * (shape.ci + 4 / columns["split_ci"])
    between = shape.n * shape.rows * shape.columns * shape.column_bytes
    pieces = 0 if shape.blocked or 4 * shape.oh * shape.ow % _WAY else shape.n * shape.oh * shape.columns * shape.co
    weights = float(shape.weight_bytes)
    by_task = columns["outer"] == _BY_TASK
    far = np.where(by_task, weights * known["tasks"], weights + 2 * between)
    transforms = between / 4 / shape.lanes * _TRANSFORM_CYCLES
    transforms = transforms + pieces * (_PIECE_CYCLES[0] if shape.plain else _PIECE_CYCLES[1])
    return np.asarray((steps * step * known["idle"] + transforms + far / _FAR_BYTES) / target.threads)


def direct_cycles(workload: Workload, target: Target) -> float:
    """The same for direct convolution, which takes its multiply-adds and its weights."""
    weights = 4.0 * 9 * workload.size("ci") * workload.size("co")
    return (workload.flops / 2 / target.lanes / 2 + weights / _FAR_BYTES) / target.threads


def _illegal(shape: _Shape, target: Target, columns: Columns) -> npt.NDArray[np.bool_]:
    vectors, tiles = columns["tile_co"] * shape.parts, columns["tile_oh"] * columns["tile_ow"]
    result = (vectors * tiles + vectors + 1 > target.registers) | (vectors * tiles * columns["split_ci"] > UNROLL_LIMIT)
    result |= (columns["tile_oh"] > shape.rows) | (columns["tile_ow"] > shape.columns)
    result |= shape.block_ci % columns["split_ci"] != 0
    result |= shape.block_co % shape.lanes != 0
    left = np.flatnonzero(~result)  # few, and what they write out takes longest to count
    own = rows_of(columns, left)
    known = _quantities(shape, target, own)
    code = known["unrolled"] * known["copies"] + shape.transforms * _task_copies(shape, own)
    result[left] = code > _CODE_LIMIT
    return np.asarray(result)
