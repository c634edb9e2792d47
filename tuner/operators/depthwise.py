"""Depthwise convolution with channel multiplier 1: every channel is convolved with its own kernel."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tuner.expression import Axis, Expression, Stage
from tuner.loopnest import Affine
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

if TYPE_CHECKING:
    from tuner.workload import Workload


def _check(workload: Workload) -> None:
    check_window(workload)
    check_channels(workload, "c")


def _operands(workload: Workload) -> tuple[Operand, ...]:
    layout, n, channels = workload.text("layout"), workload.size("n"), workload.size("c")
    data = image_shape(layout, n, channels, workload.size("h"), workload.size("w"))
    output = image_shape(layout, n, channels, *output_size(workload))
    dtype = workload.text("dtype")
    weight = Operand("weight", (channels, 1, *workload.sizes("k")), "constant", dtype)
    return (Operand("data", data, "input", dtype), weight, *epilogue_operands(workload, channels, output))


def _flops(workload: Workload) -> int:
    outputs = workload.size("n") * workload.size("c") * prod(output_size(workload))
    return 2 * outputs * prod(workload.sizes("k"))


def _reference(workload: Workload, arrays: Arrays) -> Reference:
    data, weight = from_layout(arrays["data"], workload.text("layout")), arrays["weight"].astype(np.float64)
    result = np.zeros((workload.size("n"), workload.size("c"), *output_size(workload)))
    for row, column, pixels in windows(workload, data):
        result += weight[:, 0, row, column, None, None] * pixels
    return finish(workload, result, arrays)


def _expression(workload: Workload) -> Expression:
    known = tensors(workload)
    (kh, kw), (sh, sw), (dh, dw) = (workload.sizes(name) for name in ("k", "stride", "dilation"))
    height, width = output_size(workload)
    stages, data = padded_data(workload, known["data"])
    weight, output, channels = known["weight"], known["output"], workload.size("c")
    n, y, x = Axis("n", workload.size("n")), Axis("oh", height), Axis("ow", width)
    ky, kx = Axis("kh", kh, reduce=True), Axis("kw", kw, reduce=True)
    row, column = y * sh + ky * dh, x * sw + kx * dw
    block = channel_block(workload.text("layout"), channels)
    if block is None:
        c = Axis("c", channels)
        place: tuple[Axis, ...] = (n, c, y, x)
        body, channel = data[n, c, row, column] * weight[c, Affine(), ky, kx], c.affine
    else:
        cb, c = Axis("cb", channels // block), Axis("c", block)
        place, channel = (n, cb, y, x, c), cb * block + c.affine
        body = data[n, cb, row, column, c] * weight[channel, Affine(), ky, kx]
    epilogue = epilogue_expression(workload, known, channel, place)
    return Expression((*stages, Stage("depthwise_conv2d", output, place, (ky, kx), body, epilogue)))


DEPTHWISE_CONV2D = Operator(
    name="depthwise_conv2d",
    parameters=(
        Parameter("n", SIZE, 1),
        Parameter("c", SIZE),
        Parameter("h", SIZE),
        Parameter("w", SIZE),
        *WINDOW,
    ),
    check=_check,
    operands=_operands,
    flops=_flops,
    reference=_reference,
    expression=_expression,
)
