"""Convolution of float32 by products of bfloat16: each operand as a sum of two bfloat16, three products of four.

With x = x0 + x1, where x0 is the bfloat16 nearest to x and x1 the one nearest to what is left, x holds 16 bits of its
24. Of the four products x1 * w1 is as small as what the parts leave out, and is left out too. Sums are kept in float32.
The parts of the weight are counted from the smallest: x0 * w1, x0 * w0, x1 * w0 share an operand each with the next.
It pays where a product of bfloat16 is more than three times as fast as one of float32: with matrix registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.errors import ScheduleError
from tuner.expression import Access, Axis, Expression, Inside, Part, Stage, Tensor
from tuner.loopnest import Affine
from tuner.operators.image import channel_block, output_size
from tuner.operators.operator import epilogue_expression, tensors

if TYPE_CHECKING:
    from tuner.workload import Workload

PARTS = 2


def applies(workload: Workload) -> bool:
    """Whether ``split`` has an expression for a convolution."""
    return workload.text("dtype") == "float32" and workload.text("layout") != "NCHW"


def stretch(workload: Workload) -> int:
    """How many neighbouring elements, of columns and channels, a product takes at once where channels are few.

    That is a row of the window, made even. 0 where such a row is no stretch of memory, or is larger than a block.
    """
    layout, channels, columns = workload.text("layout"), workload.size("ci"), workload.sizes("k")[1]
    elements = columns * channels + columns * channels % 2
    apart = workload.sizes("dilation")[1] > 1 or channel_block(layout, channels) != channels
    return 0 if apart or columns == 1 or channel_block(layout, elements) != elements else elements


def split(workload: Workload) -> Expression:
    """The expression with stages ``parts`` (of the padded data) and ``conv2d``. Raises ScheduleError."""
    if not applies(workload):
        raise ScheduleError("split is for operands of float32 in a blocked layout")
    known, (height, width) = tensors(workload), output_size(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    top, left, bottom, right = workload.sizes("pad")
    layout, all_co, all_ci = workload.text("layout"), workload.size("co"), workload.size("ci")
    block_co, block_ci = (channel_block(layout, channels) or 1 for channels in (all_co, all_ci))
    n, h, w = (workload.size(name) for name in ("n", "h", "w"))
    data, joined = known["data"], tuple[tuple[int, ...], ...]()
    # A window of one row or column leaves out what it strides over.
    (rows, down) = (height, sh) if kh == 1 else (h + top + bottom, 1)
    (columns, along) = (width, sw) if kw == 1 else (w + left + right, 1)
    shape = (PARTS, n, all_ci // block_ci, rows, columns, block_ci)
    if elements := stretch(workload):  # in place of columns and channels; the weights of one that is too much are zero
        w, left, sw = w * all_ci, left * all_ci, sw * all_ci
        data = Tensor(data.name, (n, 1, h, w, 1), data.role)
        shape = (PARTS, n, 1, rows, (width - 1) * sw + elements, 1)
        all_ci, block_ci, kw, joined = elements, elements, 1, ((0,), (3, 1), (2,), ())

    axes = tuple(Axis(name, extent) for name, extent in zip(("pp", "pn", "pc", "py", "px", "pb"), shape, strict=True))
    part, image, channels, y, x, channel = axes
    row, column = y * down + Affine(constant=-top), x * along + Affine(constant=-left)
    pixel: Access | Inside = data[image, channels, row, column, channel]
    if elements or any(workload.sizes("pad")):
        pixel = Inside(((row, h), (column, w)), data[image, channels, row, column, channel])
    parts = Tensor("data.parts", shape, "intermediate", dtype="bfloat16")
    made = Stage("parts", parts, axes, (), Part(pixel, part.affine))

    image, oh, ow = Axis("n", n), Axis("oh", height), Axis("ow", width)
    cob, co = Axis("cob", all_co // block_co), Axis("co", block_co)
    cib, ci = Axis("cib", all_ci // block_ci, reduce=True), Axis("ci", block_ci, reduce=True)
    ky, kx = Axis("kh", kh, reduce=True), Axis("kw", kw, reduce=True)
    p, q = Axis("p", PARTS, reduce=True), Axis("q", PARTS, reduce=True)
    weight = Tensor("weight", (PARTS, all_co, all_ci, kh, kw), "constant", dtype="bfloat16", parts=PARTS, joined=joined)
    place = (image, cob, oh, ow, co)
    out = cob * block_co + co.affine
    row, column = oh * (sh // down) + ky * dh, ow * (sw // along) + kx * dw
    seen = (
        parts[p, image, cib, row, column + ci.affine, Affine()] if elements else parts[p, image, cib, row, column, ci]
    )
    body = Inside(((q + p * -1, PARTS),), seen) * weight[q, out, cib * block_ci + ci.affine, ky, kx]
    epilogue = epilogue_expression(workload, known, out, place)
    return Expression((made, Stage("conv2d", known["output"], place, (cib, ci, ky, kx, p, q), body, epilogue)))
