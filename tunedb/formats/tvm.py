"""Which workloads of TVM's templates are workloads of ours.

Two are equal when the same is computed on operands in the same layouts. TVM gives the layouts in the arguments of the
task; how a template packs its operands inside is no part of what is computed. What has no equal (int8, transposed
convolutions, groups, NHWC, different blocks at input and output) has none here.
"""

from collections.abc import Sequence
from typing import Any

from tuner.errors import WorkloadError
from tuner.workload import Workload, make

_CONV2D = frozenset(("conv2d_nchw", "conv2d_NCHWc", "conv2d_nchw_spatial_pack", "conv2d_nchw_winograd"))
_DEPTHWISE = frozenset(("depthwise_conv2d_nchw", "depthwise_conv2d_NCHWc", "depthwise_conv2d_nchw_spatial_pack"))
_DENSE = frozenset(("dense", "dense_nopack", "dense_pack", "dense_small_batch", "dense_large_batch"))


def workload_of(task: str, arguments: Any, keywords: Any) -> Workload | None:
    """The workload of an AutoTVM task, or None when this project has no key for it."""
    name = task.partition(".")[0]
    if keywords or not isinstance(arguments, list):
        return None
    try:
        if name in _CONV2D or name in _DEPTHWISE:
            found = _convolution(arguments, depthwise=name in _DEPTHWISE)
        elif name in _DENSE:
            found = _dense(arguments)
        else:
            return None
    except (WorkloadError, ValueError, TypeError, IndexError):  # arguments of another form than these templates take
        return None
    return found if found is not None and found.flops < 2**63 else None


def _convolution(arguments: Sequence[Any], *, depthwise: bool) -> Workload | None:
    data, weight, stride, pad, dilation, *rest = arguments
    image, kernel = _shape(data), _shape(weight)
    layouts = {text for text in rest if isinstance(text, str) and text.startswith("N")}
    others = [text for text in rest if text not in layouts]
    if image is None or kernel is None or len(layouts) > 1 or any(text not in ("float32", None) for text in others):
        return None
    layout = layouts.pop() if layouts else "NCHW"
    if layout == "NCHW":
        n, channels, h, w = image
        co, ci, *window = kernel
    else:  # data [n, C/b, h, w, b] and weight [co/b, ci/b, kh, kw, b, b], depthwise [c/b, 1, kh, kw, 1, b]
        n, outer, h, w, block = image
        outer_co, outer_ci, kh, kw, inner_ci, inner_co = kernel
        if layout != f"NCHW{block}c" or inner_co != block:
            return None
        channels, co, ci, window = outer * block, outer_co * inner_co, outer_ci * inner_ci, [kh, kw]
    options = {"n": n, "h": h, "w": w, "k": tuple(window), "layout": layout}
    options |= {"stride": _numbers(stride), "pad": _numbers(pad), "dilation": _numbers(dilation)}
    if depthwise:
        return make("depthwise_conv2d", c=channels, **options) if (co, ci) == (channels, 1) else None
    return make("conv2d", ci=channels, co=co, **options) if ci == channels else None


def _dense(arguments: Sequence[Any]) -> Workload | None:
    """data [m, ci], weight [co, ci], perhaps a bias [co]."""
    data, weight, bias, dtype, *rest = arguments
    of_data, of_weight = _shape(data), _shape(weight)
    if of_data is None or of_weight is None:
        return None
    (m, ci), (co, same) = of_data, of_weight
    if ci != same or rest or dtype not in ("float32", None) or (bias is not None and _shape(bias) != [co]):
        return None
    return make("dense", m=m, ci=ci, co=co, epilogue="" if bias is None else "bias")


def _shape(tensor: Any) -> list[int] | None:
    """The shape of ``["TENSOR", [1, 64, 56, 56], "float32"]``; None for another type of number."""
    kind, shape, dtype, *rest = tensor
    return shape if kind == "TENSOR" and dtype == "float32" and not rest and isinstance(shape, list) else None


def _numbers(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def target_text(target: str) -> str:
    """A target with its options in alphabetical order: ``llvm -mcpu=... -model=...``, for that is the same one."""
    kind, *options = target.split()
    return " ".join((kind, *sorted(options)))
