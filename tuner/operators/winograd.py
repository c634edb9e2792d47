"""Convolution by Winograd's minimal filtering F(m x m, 3 x 3), on images in blocks of channels.

A tile of m x m outputs takes (m + 2)^2 products a channel instead of 9 m^2: 2.25 times fewer with m = 2, 4 times fewer
with m = 4. With the matrices A, B and G of A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks
(2015), and d the part of the input under a tile::

    output = A^T (sum over channels of (G g G^T) * (B^T d B)) A

The weights are transformed once, when they are packed. The transforms of the tiles are done one dimension at a time.
Images in NCHW are first packed into blocks; the output is written where it belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.errors import ScheduleError
from tuner.expression import Axis, Expression, Inside, Scalar, Stage, Tensor
from tuner.loopnest import Affine
from tuner.operators.image import channel_block, output_size
from tuner.operators.operator import epilogue_expression, tensors

if TYPE_CHECKING:
    from tuner.workload import Workload

Matrix = tuple[tuple[float, ...], ...]

# By tile size, each by its rows: B^T of the input, G of the weights, A^T of the output.
_INPUT: dict[int, Matrix] = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
_WEIGHT: dict[int, Matrix] = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
_OUTPUT: dict[int, Matrix] = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


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


def tile_counts(workload: Workload, m: int) -> tuple[int, int]:
    """How many tiles of m x m outputs there are along height and width; the last ones may be partial."""
    height, width = output_size(workload)
    return -(-height // m), -(-width // m)


def winograd(workload: Workload, m: int) -> Expression:
    """The expression of F(m x m, 3 x 3), m = 2 or 4. Raises ScheduleError when the workload is not one for it."""
    if not applies(workload):
        raise ScheduleError(
            "winograd is for 3x3 kernels with stride=1 and dilation=1, and in NCHW for channels in equal blocks of "
            f"{_PACKED_BLOCK // 2} to {_PACKED_BLOCK}"
        )
    known, points = tensors(workload), m + 2
    (height, width), (rows, columns) = output_size(workload), tile_counts(workload, m)
    n, all_ci, all_co = workload.size("n"), workload.size("ci"), workload.size("co")
    block_ci, block_co = blocks(workload)
    blocks_ci, blocks_co = all_ci // block_ci, all_co // block_co
    top, left, _, _ = workload.sizes("pad")
    from_data, to_output = _table("input.matrix", _INPUT[m]), _table("output.matrix", _OUTPUT[m])

    # Rows of points, (n, block of channels, row of tiles, point, column, channel); beyond the image there are zeros.
    axes = an, ac, ay, ap, ax, al = _axes(an=n, ac=blocks_ci, ay=rows, ap=points, ax=m * columns + 2, al=block_ci)
    ak = Axis("ak", points, reduce=True)
    half = _intermediate("input.half", axes)
    row, packing, data = ay * m + ak.affine, [], known["data"]
    if blocked := channel_block(workload.text("layout"), all_ci) is not None:
        y, x = row + Affine(constant=-top), ax - left
        pixel: Scalar = Inside(((y, workload.size("h")), (x, workload.size("w"))), data[an, ac, y, x, al])
    else:
        packing.append(_pack(workload, data, m * rows + 2, m * columns + 2))
        pixel = packing[0].output[an, ac, row, ax, al]
    input_rows = Stage("input_rows", half, axes, (ak,), from_data[ap, ak] * pixel)

    # The points of each tile: (point, point, n, block of channels, row, column, channel).
    axes = bp, bq, bn, bc, by, bx, bl = _axes(
        bp=points, bq=points, bn=n, bc=blocks_ci, by=rows, bx=columns, bl=block_ci
    )
    bk = Axis("bk", points, reduce=True)
    tiles = _intermediate("input.tiles", axes)
    body = from_data[bq, bk] * half[bn, bc, by, bp, bx * m + bk.affine, bl]
    input_tiles = Stage("input_tiles", tiles, axes, (bk,), body)

    # At each point a matrix product over the channels.
    axes = mp, mq, mn, mo, my, mx, ml = _axes(
        mp=points, mq=points, mn=n, mo=blocks_co, my=rows, mx=columns, ml=block_co
    )
    mc, mk = Axis("mc", blocks_ci, reduce=True), Axis("mk", block_ci, reduce=True)
    transform = ((2, _WEIGHT[m]), (3, _WEIGHT[m]))
    weight = Tensor("weight", (all_co, all_ci, points, points), "constant", maps=transform)
    products = _intermediate("products", axes)
    body = tiles[mp, mq, mn, mc, my, mx, mk] * weight[mo * block_co + ml.affine, mc * block_ci + mk.affine, mp, mq]
    product = Stage("product", products, axes, (mc, mk), body)

    # Rows of outputs, still in points along the width: (n, block of channels, row, column, output row, point, channel).
    axes = hn, ho, hy, hx, hi, hq, hl = _axes(hn=n, ho=blocks_co, hy=rows, hx=columns, hi=m, hq=points, hl=block_co)
    hk = Axis("hk", points, reduce=True)
    output_half = _intermediate("output.half", axes)
    body = to_output[hi, hk] * products[hk, hq, hn, ho, hy, hx, hl]
    output_rows = Stage("output_rows", output_half, axes, (hk,), body)

    # The outputs of each tile; a partial last tile has some that do not exist.
    axes = on, cob, ty, tx, i, j, co = _axes(n=n, cob=blocks_co, ty=rows, tx=columns, i=m, j=m, co=block_co)
    k = Axis("k", points, reduce=True)
    row, column = ty * m + i.affine, tx * m + j.affine
    conditions = tuple((index, size) for index, size in ((row, height), (column, width)) if size % m)

    channel = cob * block_co + co.affine
    place = (on, cob, row, column, co) if blocked else (on, channel, row, column)
    output = known["output"][place]
    written = Inside(conditions, output) if conditions else output
    body = to_output[j, k] * output_half[on, cob, ty, tx, i, k, co]
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
