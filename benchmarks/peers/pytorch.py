"""PyTorch: the calls that its compiler emits for frozen weights (oneDNN inside), and its ordinary ones."""

import re

import torch

from benchmarks.peers.quickest import quickest

torch.set_grad_enabled(False)

_ONEDNN = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+)", torch.__config__.show())
VERSION = f"PyTorch {torch.__version__}" + (f" (oneDNN {_ONEDNN[1]})" if _ONEDNN else "")
NOTE = {}


def prepare(task, x, w, threads, opts):
    """The call and what reads its output."""
    torch.set_num_threads(threads)
    x, w = torch.from_numpy(x), torch.from_numpy(w)
    ways = _products(task, x, w) if task["kind"] == "matmul" else _convolutions(task, x, w, opts["layout"])
    way, call = quickest(ways, lambda call: call)
    NOTE[task["name"]] = way
    result = None

    def run():
        nonlocal result
        result = call()

    return run, lambda: result.contiguous().numpy()


def _convolutions(task, x, w, layout):
    stride, pad, dilation, groups = [task["S"]] * 2, [task["P"]] * 2, [1, 1], task["G"]
    if layout != "NCHW":
        x, w = x.to(memory_format=torch.channels_last), w.to(memory_format=torch.channels_last)
    packed = torch.ops.mkldnn._reorder_convolution_weight(w, pad, stride, dilation, groups, list(x.shape))
    pointwise = torch.ops.mkldnn._convolution_pointwise.default
    return {
        "packed": lambda: pointwise(x, packed, None, pad, stride, dilation, groups, "none", [], ""),
        "eager": lambda: torch.conv2d(x, w, None, stride, pad, dilation, groups),
    }


def _products(task, x, w):
    packed = torch.ops.mkldnn._reorder_linear_weight(w.t().contiguous(), task["M"])
    pointwise = torch.ops.mkldnn._linear_pointwise.default
    return {
        "packed": lambda: pointwise(x, packed, None, "none", [], ""),
        "eager": lambda: torch.mm(x, w),
    }
