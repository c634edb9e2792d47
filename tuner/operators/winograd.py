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
    known, (tall, wide) = tensors(workload), tile
    by_rows, by_columns = matrices(tall), matrices(wide)
    points_y, points_x = tall + _WINDOW - 1, wide + _WINDOW - 1
    (height, width), (rows, columns) = output_size(workload), tile_counts(workload, tile)
    n, all_ci, all_co = workload.size("n"), workload.size("ci"), workload.size("co")
    block_ci, block_co = blocks(workload)
    blocks_ci, blocks_co = all_ci // block_ci, all_co // block_co
    top, left, _, _ = workload.sizes("pad")
    rows_in, columns_in = _table("input.rows", by_rows.input), _table("input.columns", by_columns.input)
    rows_out, columns_out = _table("output.rows", by_rows.output), _table("output.columns", by_columns.output)

    # Rows of points, (n, block of channels, row of tiles, point, column, channel); beyond the image there are zeros.
    axes = an, ac, ay, ap, ax, al = _axes(an=n, ac=blocks_ci, ay=rows, ap=points_y, ax=wide * columns + 2, al=block_ci)
    ak = Axis("ak", points_y, reduce=True)
    half = _intermediate("input.half", axes)
    row, packing, data = ay * tall + ak.affine, [], known["data"]
    if blocked := channel_block(workload.text("layout"), all_ci) is not None:
        y, x = row + Affine(constant=-top), ax - left
        pixel: Scalar = Inside(((y, workload.size("h")), (x, workload.size("w"))), data[an, ac, y, x, al])
    else:
        packing.append(_pack(workload, data, tall * rows + 2, wide * columns + 2))
        pixel = packing[0].output[an, ac, row, ax, al]
    input_rows = Stage("input_rows", half, axes, (ak,), rows_in[ap, ak] * pixel)

    # The points of each tile: (point, point, n, block of channels, row, column, channel).
    axes = bp, bq, bn, bc, by, bx, bl = _axes(
        bp=points_y, bq=points_x, bn=n, bc=blocks_ci, by=rows, bx=columns, bl=block_ci
    )
    bk = Axis("bk", points_x, reduce=True)
    tiles = _intermediate("input.tiles", axes)
    body = columns_in[bq, bk] * half[bn, bc, by, bp, bx * wide + bk.affine, bl]
    input_tiles = Stage("input_tiles", tiles, axes, (bk,), body)

    # At each point a matrix product over the channels.
    axes = mp, mq, mn, mo, my, mx, ml = _axes(
        mp=points_y, mq=points_x, mn=n, mo=blocks_co, my=rows, mx=columns, ml=block_co
    )
    mc, mk = Axis("mc", blocks_ci, reduce=True), Axis("mk", block_ci, reduce=True)
    transform = ((2, by_rows.weight), (3, by_columns.weight))
    weight = Tensor("weight", (all_co, all_ci, points_y, points_x), "constant", maps=transform)
    products = _intermediate("products", axes)
    body = tiles[mp, mq, mn, mc, my, mx, mk] * weight[mo * block_co + ml.affine, mc * block_ci + mk.affine, mp, mq]
    product = Stage("product", products, axes, (mc, mk), body)

    # Rows of outputs, still in points along the width: (n, block of channels, row, column, output row, point, channel).
    axes = hn, ho, hy, hx, hi, hq, hl = _axes(
        hn=n, ho=blocks_co, hy=rows, hx=columns, hi=tall, hq=points_x, hl=block_co
    )
    hk = Axis("hk", points_y, reduce=True)
    output_half = _intermediate("output.half", axes)
    body = rows_out[hi, hk] * products[hk, hq, hn, ho, hy, hx, hl]
    output_rows = Stage("output_rows", output_half, axes, (hk,), body)

    # The outputs of each tile; a partial last tile has some that do not exist.
    axes = on, cob, ty, tx, i, j, co = _axes(n=n, cob=blocks_co, ty=rows, tx=columns, i=tall, j=wide, co=block_co)
    k = Axis("k", points_x, reduce=True)
    row, column = ty * tall + i.affine, tx * wide + j.affine
    reached = ((row, height, tall), (column, width, wide))
    conditions = tuple((index, size) for index, size, step in reached if size % step)
    channel = cob * block_co + co.affine
    place = (on, cob, row, column, co) if blocked else (on, channel, row, column)
    output = known["output"][place]
    written = Inside(conditions, output) if conditions else output
    body = columns_out[j, k] * output_half[on, cob, ty, tx, i, k, co]
    epilogue = epilogue_expression(workload, known, channel, place)
    main = Stage("conv2d", known["output"], axes, (k,), body, epilogue, written)
    return Expression((*packing, input_rows, input_tiles, product, output_rows, main))


def _pack(workload: Workload, data: Tensor, height: int, width: int) -> Stage:
    """All pixels under the tiles of images in NCHW, zeros around them: (n, block of channels, row, column, channel)."""
    block, _ = blocks(workload)
    axes = kn, kc, ky, kx, kl = _axes(
        kn=workload.size("n"), kc=workload.size("ci") // block, ky=height, kx=width, kl=block
    )
    top, left, _, _ = workload.sizes("pad")
    y, x = ky - top, kx - left
    pixel = data[kn, kc * block + kl.affine, y, x]
    body = Inside(((y, workload.size("h")), (x, workload.size("w"))), pixel)
    return Stage("pack", _intermediate("packed", axes), axes, (), body)


def _table(name: str, matrix: Matrix) -> Tensor:
    values = tuple(float(value) for row in matrix for value in row)
    return Tensor(name, (len(matrix), len(matrix[0])), "table", values)


def _axes(**extents: int) -> tuple[Axis, ...]:
    return tuple(Axis(name, extent) for name, extent in extents.items())


def _intermediate(name: str, axes: tuple[Axis, ...]) -> Tensor:
    return Tensor(name, tuple(axis.extent for axis in axes), "intermediate")
