"""Convolution of float32 by products of bfloat16: each operand as a sum of two bfloat16, three products of four.

With x = x0 + x1, where x0 is the bfloat16 nearest to x and x1 the one nearest to what is left, x holds 16 bits of its
24. Of the four products x1 * w1 is as small as what the parts leave out, and is left out too. Sums are kept in float32.
The parts of the weight are counted from the smallest: x0 * w1, x0 * w0, x1 * w0 share an operand each with the next.
It pays where a product of bfloat16 is more than three times as fast as one of float32: with matrix registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.errors import ScheduleError
from tuner.expression import Axis, Expression, Inside, Part, Stage, Tensor
from tuner.loopnest import Affine
from tuner.operators.image import channel_block, output_size
from tuner.operators.operator import epilogue_expression, tensors
from tuner.operators.views import JOINED, seen

if TYPE_CHECKING:
    from tuner.workload import Workload

PARTS = 2


def applies(workload: Workload) -> bool:
    """Whether ``split`` has an expression for a convolution."""
    return workload.text("dtype") == "float32" and workload.text("layout") != "NCHW"


def split(workload: Workload) -> Expression:
    """The expression with stages ``parts`` (of the padded data) and ``conv2d``. Raises ScheduleError."""
    if not applies(workload):
        raise ScheduleError("split is for operands of float32 in a blocked layout")
    view = seen(workload, "split")
    made, joined = _parts(view), view.sizes("k") != workload.sizes("k")
    return Expression((made, _products(view, made.output, JOINED if joined else ())))


def _parts(workload: Workload) -> Stage:
    """The data with zeros around it in parts [part, n, cib, row, column, ci], as far as it is read."""
    top, left, bottom, right = workload.sizes("pad")
    n, h, w, ci = (workload.size(name) for name in ("n", "h", "w", "ci"))
    (kh, kw), (height, width), (down, along) = workload.sizes("k"), output_size(workload), _apart(workload)
    rows, columns = height if kh == 1 else h + top + bottom, width if kw == 1 else w + left + right
    block = _block(workload, ci)
    shape = (PARTS, n, ci // block, rows, columns, block)
    axes = tuple(Axis(name, extent) for name, extent in zip(("pp", "pn", "pc", "py", "px", "pb"), shape, strict=True))
    part, image, channels, y, x, channel = axes
    row, column = y * down + Affine(constant=-top), x * along + Affine(constant=-left)
    pixel = tensors(workload)["data"][image, channels, row, column, channel]
    value = Inside(((row, h), (column, w)), pixel) if any(workload.sizes("pad")) else pixel
    return Stage(
        "parts", Tensor("data.parts", shape, "intermediate", dtype="bfloat16"), axes, (), Part(value, part.affine)
    )


def _products(workload: Workload, parts: Tensor, joined: tuple[tuple[int, ...], ...]) -> Stage:
    """The sums over parts of the data and of the weight; ``joined`` as a tensor has it is for the weight."""
    known, (height, width) = tensors(workload), output_size(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    all_co, all_ci, (down, along) = workload.size("co"), workload.size("ci"), _apart(workload)
    block_co, block_ci = _block(workload, all_co), _block(workload, all_ci)
    image, oh, ow = Axis("n", workload.size("n")), Axis("oh", height), Axis("ow", width)
    cob, co = Axis("cob", all_co // block_co), Axis("co", block_co)
    cib, ci = Axis("cib", all_ci // block_ci, reduce=True), Axis("ci", block_ci, reduce=True)
    ky, kx = Axis("kh", kh, reduce=True), Axis("kw", kw, reduce=True)
    p, q = Axis("p", PARTS, reduce=True), Axis("q", PARTS, reduce=True)
    weight = Tensor("weight", (PARTS, all_co, all_ci, kh, kw), "constant", dtype="bfloat16", parts=PARTS, joined=joined)
    place = (image, cob, oh, ow, co)
    out = cob * block_co + co.affine
    row, column = oh * (sh // down) + ky * dh, ow * (sw // along) + kx * dw
    body = (
        Inside(((q + p * -1, PARTS),), parts[p, image, cib, row, column, ci])
        * weight[q, out, cib * block_ci + ci.affine, ky, kx]
    )
    epilogue = epilogue_expression(workload, known, out, place)
    return Stage("conv2d", known["output"], place, (cib, ci, ky, kx, p, q), body, epilogue)


def _apart(workload: Workload) -> tuple[int, int]:
    """How far apart the rows and the columns are that have parts: a window of one leaves out what it strides over."""
    (kh, kw), (down, along) = workload.sizes("k"), workload.sizes("stride")
    return down if kh == 1 else 1, along if kw == 1 else 1


def _block(workload: Workload, channels: int) -> int:
    return channel_block(workload.text("layout"), channels) or 1
