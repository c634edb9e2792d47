"""Two-dimensional convolution: every output channel sees every input channel."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tuner.operators.image import (
    WINDOW,
    check_channels,
    check_window,
    finish,
    from_layout,
    image_shape,
    output_size,
    windows,
)
from tuner.operators.operator import Arrays, Operand, Operator, Reference, epilogue_operands
from tuner.operators.parameter import SIZE, Parameter

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
    weight = Operand("weight", (co, ci, *workload.sizes("k")), "constant")
    return (Operand("data", data, "input"), weight, *epilogue_operands(workload, co, output))


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
)
