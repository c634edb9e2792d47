"""Two-dimensional convolution: every output channel sees every input channel."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tuner.errors import ScheduleError
from tuner.expression import Axis, Expression, Stage
from tuner.operators import winograd
from tuner.operators.image import (
    WINDOW,
    channel_block,
    check_channels,
    check_window,
    finish,
    from_layout,
    image_shape,
    output_size,
    padded_data,
    windows,
)
from tuner.operators.operator import (
    Arrays,
    Operand,
    Operator,
    Reference,
    epilogue_expression,
    epilogue_operands,
    tensors,
)
from tuner.operators.parameter import SIZE, Parameter
from tuner.operators.split import split
from tuner.operators.views import JOINED, is_flat, is_joined, seen

if TYPE_CHECKING:
    from tuner.workload import Workload


def _check(workload: Workload) -> None:
    check_window(workload)
    check_channels(workload, "ci")
    check_channels(workload, "co")


def _operands(workload: Workload) -> tuple[Operand, ...]:
    layout, n = workload.text("layout"), workload.size("n")
    ci, co = workload.size("ci"), workload.size("co")
    data = image_shape(layout, n, ci, workload.size("h"), workload.size("w"))
    output = image_shape(layout, n, co, *output_size(workload))
    dtype = workload.text("dtype")
    weight = Operand("weight", (co, ci, *workload.sizes("k")), "constant", dtype)
    return (Operand("data", data, "input", dtype), weight, *epilogue_operands(workload, co, output))


def _flops(workload: Workload) -> int:
    outputs = workload.size("n") * workload.size("co") * prod(output_size(workload))
    return 2 * outputs * workload.size("ci") * prod(workload.sizes("k"))


def _reference(workload: Workload, arrays: Arrays) -> Reference:
    """One matrix product over the channels for each kernel offset, which needs no im2col copy of the input."""
    data, weight = from_layout(arrays["data"], workload.text("layout")), arrays["weight"].astype(np.float64)
    n, (height, width) = workload.size("n"), output_size(workload)
    result = np.zeros((n, workload.size("co"), height * width))
    for row, column, pixels in windows(workload, data):
        result += np.ascontiguousarray(weight[:, :, row, column]) @ pixels.reshape(n, workload.size("ci"), -1)
    return finish(workload, result.reshape(n, -1, height, width), arrays)


def _expression(workload: Workload, joined: tuple[tuple[int, ...], ...] = ()) -> Expression:
    """Blocks of channels are axes of their own: the index of a blocked layout would not be affine otherwise.

    ``joined`` says which dimensions of the weight make those of the weight of ``workload``, when it is not that.
    """
    known = tensors(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    height, width = output_size(workload)
    stages, data = padded_data(workload, known["data"])
    weight, output = replace(known["weight"], joined=joined), known["output"]
    n, y, x = Axis("n", workload.size("n")), Axis("oh", height), Axis("ow", width)
    ky, kx = Axis("kh", kh, reduce=True), Axis("kw", kw, reduce=True)
    row, column = y * sh + ky * dh, x * sw + kx * dw
    layout, all_co, all_ci = workload.text("layout"), workload.size("co"), workload.size("ci")
    block_co, block_ci = channel_block(layout, all_co), channel_block(layout, all_ci)
    if block_co is None or block_ci is None:
        co, ci = Axis("co", all_co), Axis("ci", all_ci, reduce=True)
        place: tuple[Axis, ...] = (n, co, y, x)
        sums: tuple[Axis, ...] = (ci, ky, kx)
        body, channel = data[n, ci, row, column] * weight[co, ci, ky, kx], co.affine
    else:
        cob, co = Axis("cob", all_co // block_co), Axis("co", block_co)
        cib, ci = Axis("cib", all_ci // block_ci, reduce=True), Axis("ci", block_ci, reduce=True)
        place, sums, channel = (n, cob, y, x, co), (cib, ci, ky, kx), cob * block_co + co.affine
        body = data[n, cib, row, column, ci] * weight[channel, cib * block_ci + ci.affine, ky, kx]
    epilogue = epilogue_expression(workload, known, channel, place)
    return Expression((*stages, Stage("conv2d", output, place, sums, body, epilogue)))


def flat(workload: Workload) -> Expression:
    """The direct expression of a kernel of one pixel, with the image as one row. Raises ScheduleError for others."""
    if not is_flat(workload):
        raise ScheduleError("flat is for kernels of one pixel with stride=1 and pad=0")
    return _expression(seen(workload, "flat"))


def joined(workload: Workload) -> Expression:
    """The direct expression with columns and channels as one axis. Raises ScheduleError where that cannot be."""
    if not is_joined(workload):
        raise ScheduleError("joined is for 2 or more channels in one block of the layout, and dilation=1 along rows")
    return _expression(seen(workload, "joined"), JOINED)


CONV2D = Operator(
    name="conv2d",
    parameters=(
        Parameter("n", SIZE, 1),
        Parameter("ci", SIZE),
        Parameter("h", SIZE),
        Parameter("w", SIZE),
        Parameter("co", SIZE),
        *WINDOW,
    ),
    check=_check,
    operands=_operands,
    flops=_flops,
    reference=_reference,
    expression=_expression,
    algorithms={**winograd.algorithms(), "split": split, "flat": flat, "joined": joined},
)
