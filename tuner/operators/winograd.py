"""Convolution by Winograd's minimal filtering F(m x n, 3 x 3), on images in blocks of channels.

A tile of m x n outputs takes (m + 2) (n + 2) products a channel instead of 9 m n: 2.25 times fewer with m = n = 2, 4
times fewer with 4, 5.4 times fewer with 7. With the matrices A, B and G of A. Lavin and S. Gray, Fast Algorithms for
Convolutional Neural Networks (2015), and d the part of the input under a tile::

    output = A^T (sum over channels of (G g G^T) * (B^T d B)) A

The weights are transformed once, when they are packed. The transforms of the tiles are done one dimension at a time.
Images in NCHW are first packed into blocks; the output is written where it belongs.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from tuner.errors import ScheduleError
from tuner.expression import Axis, Expression, Inside, Scalar, Stage, Tensor
from tuner.loopnest import Affine
from tuner.operators.image import channel_block, output_size
from tuner.operators.operator import epilogue_expression, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.workload import Workload

TILES: dict[str, tuple[int, int]] = {
    "winograd2": (2, 2),
    "winograd4": (4, 4),
    "winograd4x2": (4, 2),
    "winograd5": (5, 5),
    "winograd6": (6, 6),
    "winograd7": (7, 7),
}
"""Rows and columns of outputs of a tile, by the name of the algorithm."""

_WINDOW = 3  # rows and columns of weights

# The m + 1 numbers where polynomials are evaluated and interpolated again, beside infinity. What the transforms add to
# the error follows from them: docs/winograd.md says how these were found.
_POINTS: dict[int, str] = {
    2: "0 1 -1",
    4: "0 1 -1 2 -2",
    5: "0 1 -1 3/5 -3/5 -3",
    6: "0 1 -1 2 -2 1/2 -1/2",
    7: "0 2 -2 3/4 -3/4 6/5 -6/5 -1/3",
}

Matrix = tuple[tuple[float, ...], ...]


class Matrices(NamedTuple):
    """Those of F(m, 3), each by its rows: B^T of the input, G of the weights, A^T of the output."""

    input: Matrix
    weight: Matrix
    output: Matrix


@cache
def matrices(m: int) -> Matrices:
    """The transforms of F(m, 3), by the construction of Toom and Cook from its points.

    See A. Toom (1963), and for these matrices B. Barabasz and others, Error Analysis and Improving the Accuracy of
    Winograd Convolution for Deep Neural Networks (2020).
    """
    points = [Fraction(text) for text in _POINTS[m].split()]
    others = [[other for other in points if other != point] for point in points]
    scales = [_product([point - other for other in rest]) for point, rest in zip(points, others, strict=True)]
    by_input = [*([*_coefficients(rest), Fraction(0)] for rest in others), _coefficients(points)]
    by_weight = [[p**power / scale for power in range(_WINDOW)] for p, scale in zip(points, scales, strict=True)]
    at_infinity = [Fraction(power == _WINDOW - 1) for power in range(_WINDOW)]
    by_output = [[*(point**power for point in points), Fraction(power == m - 1)] for power in range(m)]
    return Matrices(_floats(by_input), _floats([*by_weight, at_infinity]), _floats(by_output))


def _coefficients(roots: list[Fraction]) -> list[Fraction]:
    """Of the monic polynomial with these roots, the constant first."""
    result = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *result]
        result = [high - root * low for high, low in zip(shifted, [*result, Fraction(0)], strict=True)]
    return result


def _product(factors: list[Fraction]) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(map(float, row)) for row in rows)


_PACKED_BLOCK = 16  # channels, of images that come in none: a vector of AVX-512, two of AVX2, four of NEON


def applies(workload: Workload) -> bool:
    """Whether ``winograd`` has an expression for a convolution."""
    window = (workload.sizes("k"), workload.sizes("stride"), workload.sizes("dilation"))
    channels = workload.size("ci"), workload.size("co")
    filled = all(2 * block >= min(_PACKED_BLOCK, size) for size, block in zip(channels, blocks(workload), strict=True))
    return window == ((3, 3), (1, 1), (1, 1)) and filled


def blocks(workload: Workload) -> tuple[int, int]:
    """The sizes of the blocks of input and output channels: those of the layout, or of the packed copy of NCHW."""
    layout = workload.text("layout")
    channels = workload.size("ci"), workload.size("co")
    ci, co = (channel_block(layout, number) or _packed(number) for number in channels)
    return ci, co


def _packed(channels: int) -> int:
    """The largest block that divides the channels of images that come in none."""
    return max(block for block in range(1, _PACKED_BLOCK + 1) if channels % block == 0)


def tile_counts(workload: Workload, tile: tuple[int, int]) -> tuple[int, int]:
    """How many tiles of m x n outputs there are along height and width; the last ones may be partial."""
    height, width = output_size(workload)
    return -(-height // tile[0]), -(-width // tile[1])


def algorithms() -> dict[str, Callable[[Workload], Expression]]:
    """The expressions of all tile sizes, by name."""
    return {name: partial(winograd, tile=tile) for name, tile in TILES.items()}


def winograd(workload: Workload, tile: tuple[int, int]) -> Expression:
    """The expression of F(m x n, 3 x 3) for one of ``TILES``. Raises ScheduleError when the workload is not for it."""
    if not applies(workload):
        raise ScheduleError(
            "winograd is for 3x3 kernels with stride=1 and dilation=1, and in NCHW for channels in equal blocks of "
            f"{_PACKED_BLOCK // 2} to {_PACKED_BLOCK}"
        )
    rows, columns = tile_counts(workload, tile)
    packing: list[Stage] = []
    if channel_block(workload.text("layout"), workload.size("ci")) is None:
        packing.append(_pack(workload, tile[0] * rows + 2, tile[1] * columns + 2))
    to_points = _to_points(workload, tile, packing[0].output if packing else None)
    product = _product_of_points(workload, tile, to_points[-1].output)
    return Expression((*packing, *to_points, product, *_from_points(workload, tile, product.output)))


def _to_points(workload: Workload, tile: tuple[int, int], packed: Tensor | None) -> tuple[Stage, Stage]:
    """The transforms of the input, B^T d B: first along its columns, then along its rows."""
    (tall, wide), (rows, columns), (block, _) = tile, tile_counts(workload, tile), blocks(workload)
    n, channels, (top, left, _, _) = workload.size("n"), workload.size("ci") // block, workload.sizes("pad")
    by_rows, by_columns = _table("input.rows", matrices(tall).input), _table("input.columns", matrices(wide).input)
    points_y, points_x = tall + _WINDOW - 1, wide + _WINDOW - 1

    # Rows of points, (n, block of channels, row of tiles, point, column, channel); beyond the image there are zeros.
    axes = an, ac, ay, ap, ax, al = _axes(an=n, ac=channels, ay=rows, ap=points_y, ax=wide * columns + 2, al=block)
    ak = Axis("ak", points_y, reduce=True)
    row = ay * tall + ak.affine
    if packed is None:
        y, x = row + Affine(constant=-top), ax - left
        data = tensors(workload)["data"]
        pixel: Scalar = Inside(((y, workload.size("h")), (x, workload.size("w"))), data[an, ac, y, x, al])
    else:
        pixel = packed[an, ac, row, ax, al]
    half = _intermediate("input.half", axes)
    along_columns = Stage("input_rows", half, axes, (ak,), by_rows[ap, ak] * pixel)

    # The points of each tile: (point, point, n, block of channels, row, column, channel).
    axes = bp, bq, bn, bc, by, bx, bl = _axes(
        bp=points_y, bq=points_x, bn=n, bc=channels, by=rows, bx=columns, bl=block
    )
    bk = Axis("bk", points_x, reduce=True)
    body = by_columns[bq, bk] * half[bn, bc, by, bp, bx * wide + bk.affine, bl]
    return along_columns, Stage("input_tiles", _intermediate("input.tiles", axes), axes, (bk,), body)


def _product_of_points(workload: Workload, tile: tuple[int, int], tiles: Tensor) -> Stage:
    """At each point a matrix product over the channels: (point, point, n, block of channels, row, column, channel)."""
    (rows, columns), (block_ci, block_co) = tile_counts(workload, tile), blocks(workload)
    ci, co, points_y, points_x = workload.size("ci"), workload.size("co"), *(size + _WINDOW - 1 for size in tile)
    axes = mp, mq, mn, mo, my, mx, ml = _axes(
        mp=points_y, mq=points_x, mn=workload.size("n"), mo=co // block_co, my=rows, mx=columns, ml=block_co
    )
    mc, mk = Axis("mc", ci // block_ci, reduce=True), Axis("mk", block_ci, reduce=True)
    transform = ((2, matrices(tile[0]).weight), (3, matrices(tile[1]).weight))
    weight = Tensor("weight", (co, ci, points_y, points_x), "constant", maps=transform)
    body = tiles[mp, mq, mn, mc, my, mx, mk] * weight[mo * block_co + ml.affine, mc * block_ci + mk.affine, mp, mq]
    return Stage("product", _intermediate("products", axes), axes, (mc, mk), body)


def _from_points(workload: Workload, tile: tuple[int, int], products: Tensor) -> tuple[Stage, Stage]:
    """The transforms of the output, A^T p A: first along its columns, then along its rows to where it belongs."""
    (tall, wide), (rows, columns), (_, block) = tile, tile_counts(workload, tile), blocks(workload)
    n, channels, known = workload.size("n"), workload.size("co") // block, tensors(workload)
    by_rows, by_columns = _table("output.rows", matrices(tall).output), _table("output.columns", matrices(wide).output)
    points_y, points_x = tall + _WINDOW - 1, wide + _WINDOW - 1

    # Rows of outputs, still in points along the width: (n, block of channels, row, column, output row, point, channel).
    axes = hn, ho, hy, hx, hi, hq, hl = _axes(hn=n, ho=channels, hy=rows, hx=columns, hi=tall, hq=points_x, hl=block)
    hk = Axis("hk", points_y, reduce=True)
    half = _intermediate("output.half", axes)
    body = by_rows[hi, hk] * products[hk, hq, hn, ho, hy, hx, hl]
    along_columns = Stage("output_rows", half, axes, (hk,), body)

    # The outputs of each tile; a partial last tile has some that do not exist.
    axes = on, cob, ty, tx, i, j, co = _axes(n=n, cob=channels, ty=rows, tx=columns, i=tall, j=wide, co=block)
    k = Axis("k", points_x, reduce=True)
    row, column = ty * tall + i.affine, tx * wide + j.affine
    height, width = output_size(workload)
    reached = ((row, height, tall), (column, width, wide))
    conditions = tuple((index, size) for index, size, step in reached if size % step)
    channel = cob * block + co.affine
    blocked = channel_block(workload.text("layout"), workload.size("ci")) is not None
    place = (on, cob, row, column, co) if blocked else (on, channel, row, column)
    output = known["output"][place]
    written = Inside(conditions, output) if conditions else output
    body = by_columns[j, k] * half[on, cob, ty, tx, i, k, co]
    epilogue = epilogue_expression(workload, known, channel, place)
    return along_columns, Stage("conv2d", known["output"], axes, (k,), body, epilogue, written)


def _pack(workload: Workload, height: int, width: int) -> Stage:
    """All pixels under the tiles of images in NCHW, zeros around them: (n, block of channels, row, column, channel)."""
    block, _ = blocks(workload)
    axes = kn, kc, ky, kx, kl = _axes(
        kn=workload.size("n"), kc=workload.size("ci") // block, ky=height, kx=width, kl=block
    )
    top, left, _, _ = workload.sizes("pad")
    y, x = ky - top, kx - left
    pixel = tensors(workload)["data"][kn, kc * block + kl.affine, y, x]
    body = Inside(((y, workload.size("h")), (x, workload.size("w"))), pixel)
    return Stage("pack", _intermediate("packed", axes), axes, (), body)


def _table(name: str, matrix: Matrix) -> Tensor:
    values = tuple(float(value) for row in matrix for value in row)
    return Tensor(name, (len(matrix), len(matrix[0])), "table", values)


def _axes(**extents: int) -> tuple[Axis, ...]:
    return tuple(Axis(name, extent) for name, extent in extents.items())


def _intermediate(name: str, axes: tuple[Axis, ...]) -> Tensor:
    return Tensor(name, tuple(axis.extent for axis in axes), "intermediate")
