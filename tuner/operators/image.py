"""What operators on images share: blocked layouts, the geometry of a sliding window, and the epilogue in a layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tuner.errors import WorkloadError
from tuner.expression import Axis, Inside, Stage, Tensor
from tuner.operators.operator import Arrays, Reference, apply_epilogue
from tuner.operators.parameter import DTYPE, EPILOGUE, LAYOUT, PADDING, PAIR, Parameter, block, value_text

if TYPE_CHECKING:
    from tuner.workload import Workload

WINDOW = (
    Parameter("k", PAIR),
    Parameter("stride", PAIR, (1, 1)),
    Parameter("pad", PADDING, (0, 0, 0, 0)),
    Parameter("dilation", PAIR, (1, 1)),
    Parameter("layout", LAYOUT, "NCHW"),
    Parameter("epilogue", EPILOGUE, ""),
    Parameter("dtype", DTYPE, "float32"),
)


def image_shape(layout: str, n: int, channels: int, height: int, width: int) -> tuple[int, ...]:
    """The shape of ``n`` images in ``layout``: [n, c, h, w], or [n, c / b, h, w, b] with blocks of b channels."""
    size = channel_block(layout, channels)
    return (n, channels, height, width) if size is None else (n, channels // size, height, width, size)


def channel_block(layout: str, channels: int) -> int | None:
    """Channels in a block; fewer channels than that are a block of their own. None when the layout has no blocks."""
    size = block(layout)
    return None if size is None else min(size, channels)


def output_size(workload: Workload) -> tuple[int, int]:
    """Height and width of the output of a convolution."""
    top, left, bottom, right = workload.sizes("pad")
    heights = _positions(workload, 0, workload.size("h") + top + bottom)
    return heights, _positions(workload, 1, workload.size("w") + left + right)


def _positions(workload: Workload, axis: int, padded: int) -> int:
    return (padded - _reach(workload, axis)) // workload.sizes("stride")[axis] + 1


def _reach(workload: Workload, axis: int) -> int:
    return (workload.sizes("k")[axis] - 1) * workload.sizes("dilation")[axis] + 1


def check_window(workload: Workload) -> None:
    """Refuse a kernel that does not fit into the padded input."""
    top, left, bottom, right = workload.sizes("pad")
    padded = (workload.size("h") + top + bottom, workload.size("w") + left + right)
    reach = (_reach(workload, 0), _reach(workload, 1))
    if reach[0] > padded[0] or reach[1] > padded[1]:
        kernel = f"k={value_text(workload.sizes('k'))} with dilation={value_text(workload.sizes('dilation'))}"
        raise WorkloadError(
            f"the kernel is larger than the padded input: {kernel} covers {reach[0]}x{reach[1]}, "
            f"the padded input is {padded[0]}x{padded[1]}"
        )


def check_channels(workload: Workload, name: str) -> None:
    """Refuse a number of channels that the blocks of the layout do not divide."""
    channels, layout = workload.size(name), workload.text("layout")
    size = channel_block(layout, channels)
    if size is not None and channels % size:
        raise WorkloadError(f"{name}={channels} is not divisible by the block of {size} channels of layout={layout}")


def from_layout(array: npt.NDArray[Any], layout: str) -> Reference:
    """Images in ``layout`` as float64 [n, c, h, w]."""
    values = array.astype(np.float64)
    if block(layout) is None:
        return values
    n, outer, height, width, inner = values.shape
    return values.transpose(0, 1, 4, 2, 3).reshape(n, outer * inner, height, width)


def to_layout(images: Reference, layout: str) -> Reference:
    """Images [n, c, h, w] in ``layout``."""
    n, channels, height, width = images.shape
    size = channel_block(layout, channels)
    if size is None:
        return images
    blocked = images.reshape(n, channels // size, size, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(blocked)


def windows(workload: Workload, images: Reference) -> Iterator[tuple[int, int, Reference]]:
    """For each kernel offset (row, column), the pixels [n, c, oh, ow] that it reads, as a view of the padded images."""
    top, left, bottom, right = workload.sizes("pad")
    padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (height, width), (kh, kw) = output_size(workload), workload.sizes("k")
    (down, along), (dh, dw) = workload.sizes("stride"), workload.sizes("dilation")
    for row in range(kh):
        for column in range(kw):
            rows = slice(row * dh, row * dh + (height - 1) * down + 1, down)
            columns = slice(column * dw, column * dw + (width - 1) * along + 1, along)
            yield row, column, padded[:, :, rows, columns]


def finish(workload: Workload, images: Reference, arrays: Arrays) -> Reference:
    """The epilogue of ``images`` [n, c, oh, ow], and the result in the workload's layout."""
    layout = workload.text("layout")
    bias = arrays["bias"].astype(np.float64)[:, None, None] if "bias" in workload.epilogue else None
    residual = from_layout(arrays["residual"], layout) if "residual" in workload.epilogue else None
    return to_layout(apply_epilogue(workload, images, bias, residual), layout)


def padded_data(workload: Workload, data: Tensor) -> tuple[tuple[Stage, ...], Tensor]:
    """The stage that puts zeros around ``data``, if there are to be any, and the tensor that the convolution reads."""
    top, left, bottom, right = workload.sizes("pad")
    if not any((top, left, bottom, right)):
        return (), data
    shape = (*data.shape[:2], data.shape[2] + top + bottom, data.shape[3] + left + right, *data.shape[4:])
    axes = tuple(Axis(name, extent) for name, extent in zip(("pn", "pc", "py", "px", "pb"), shape, strict=False))
    y, x = axes[2] - top, axes[3] - left
    body = Inside(((y, workload.size("h")), (x, workload.size("w"))), data[(*axes[:2], y, x, *axes[4:])])
    tensor = Tensor("padded", shape, "intermediate", dtype=data.dtype)
    return (Stage("pad", tensor, axes, (), body),), tensor
