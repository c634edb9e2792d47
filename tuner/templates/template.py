"""What a template is: an operator's space on a kind of target, and how a configuration becomes a schedule."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.dtype import item_bytes
from tuner.schedule import Schedule
from tuner.space import Columns, Config, Space
from tuner.target import Target
from tuner.workload import Workload

UNROLL_LIMIT = 512  # multiply-adds written out in the innermost straight code; beyond it the code outgrows its caches
CODE_LIMIT = 1024  # multiply-adds written out in all copies of that code together; beyond it compiling takes too long

WASTE = 0.25  # of the work, that partial tiles may leave idle

_DELAY = 0.15  # cycles, of a load beside multiply-adds

AHEAD = 16  # rows of a residual, or its channels in NCHW, that are asked for before they are read: few tiles have more

UNITS = ("matrices", "vectors")  # what multiplies bfloat16 operands, where the target has registers for matrices


@dataclass(frozen=True)
class Template:
    """``version`` changes when the meaning of a configuration does.

    ``space``: all configurations, numbered. ``schedule``: one of them as steps; integer values may be columns.
    ``illegal``: for columns of N candidates, which of them the target cannot run well or at all (bool, N).
    ``features``: for columns of N candidates, (N, F) float32 values that say more to a cost model than the knobs do.
    ``default``: the configuration to use before anything is measured.
    ``rivals``: others that may turn out to be quicker, one for each algorithm, the most promising first.
    """

    name: str
    version: int
    space: Callable[[Workload, Target], Space]
    schedule: Callable[[Workload, Target, Config], Schedule]
    illegal: Callable[[Workload, Target, Columns], npt.NDArray[np.bool_]]
    features: Callable[[Workload, Target, Columns], npt.NDArray[np.float32]]
    default: Callable[[Workload, Target], dict[str, Any]]
    rivals: Callable[[Workload, Target], Sequence[dict[str, Any]]] = lambda workload, target: ()

    @property
    def key(self) -> str:
        """``name/version``, as trials record it."""
        return f"{self.name}/{self.version}"


def up_to(limit: int, values: Iterable[int]) -> tuple[int, ...]:
    """The distinct ``values`` that are at most ``limit``; 1 is always among them."""
    return tuple(sorted({value for value in values if value <= limit} | {1}))


def tiles(extent: int, largest: int) -> tuple[int, ...]:
    """Tile sizes of a loop of ``extent`` turns whose last, partial tile leaves at most ``WASTE`` of the work idle."""
    sizes = range(1, min(extent, largest) + 1)
    return tuple(size for size in sizes if -(-extent // size) * size <= extent * (1 + WASTE))


def bodies(extent: Any, block: Any, tile: Any) -> Any:
    """How many copies of its body a loop over blocks of tiles gets: the whole ones, and those of partial tails."""
    whole, rest = extent // (block * tile), extent % (block * tile)
    return 0 + (whole > 0) + (rest // tile > 0) + (rest % tile > 0)


def ceil(value: Any, by: Any) -> Any:
    """Quotient rounded up; of integers or of columns."""
    return -(-value // by)


def least(left: Any, right: Any) -> Any:
    """The smaller one; of integers or of columns."""
    columns = isinstance(left, np.ndarray) or isinstance(right, np.ndarray)
    return np.minimum(left, right) if columns else min(left, right)


def register_tile(candidates: Iterable[tuple[int, int]], vectors: int, rows: int, registers: int) -> tuple[int, int]:
    """The (vectors, rows) tile that an outer-product kernel should be quickest with, by counting its instructions.

    For each step of the reduction a tile of ``v`` vectors by ``r`` rows takes ``v * r`` multiply-adds, ``v`` vector
    loads and ``r`` broadcasts; two of either kind start in a cycle, loads delay multiply-adds a little, and eight sums
    must be under way to hide the latency of the adder. ``vectors`` and ``rows`` are what there is to do; partial tiles
    count as what they are.
    """

    def cycles(tile: tuple[int, int]) -> float:
        (v, r), total = tile, 0.0
        for wide, columns in ((v, vectors // v), (vectors % v, 1)):
            for high, lines in ((r, rows // r), (rows % r, 1)):
                if wide and high:
                    step = max(wide * high / 2, (wide + high) / 2, 4) + _DELAY * (wide + high)
                    total += columns * lines * step
        return total

    legal = [tile for tile in candidates if tile[0] * (tile[1] + 1) + 1 <= registers]
    return min(legal or [(1, 1)], key=lambda tile: (cycles(tile), -tile[0] * tile[1]))


def by_matrices(columns: Columns) -> npt.NDArray[np.bool_]:
    """Which of N candidates multiply in matrix registers (bool, N)."""
    if "unit" not in columns:
        return np.zeros(len(next(iter(columns.values()))), np.bool_)
    return np.asarray(columns["unit"] == UNITS.index("matrices"))


def outgrows_l2(workload: Workload, target: Target) -> bool:
    """Whether the output, and so a residual, is larger than the second-level cache."""
    output = workload.operands[-1]
    return item_bytes(output.dtype) * prod(output.shape) > target.l2


def rows_of(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    """The columns of some of N candidates."""
    return {name: column[rows] for name, column in columns.items()}


def logarithms(known: Mapping[str, npt.NDArray[Any]], columns: Columns) -> npt.NDArray[np.float32]:
    """Features (N, F) of N candidates: what is ``known`` of them, above zero, and their knobs, all as logarithms."""
    derived = [np.log2(value) for value in known.values()]
    knobs = [np.log2(column + 1.0) for column in columns.values()]
    return np.stack([*derived, *knobs], axis=1).astype(np.float32)


def numeric(config: Mapping[str, Any], space: Space) -> Columns:
    """One configuration as columns of length one."""
    return space.columns(np.array([space.index(config)]))
