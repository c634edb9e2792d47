"""OpenVINO: a model of one node, in plain float32, its input and output bound once.

In its own layout the model takes and gives channels last, which its convolutions work on without a conversion.
"""

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.peers.quickest import quickest

VERSION = f"OpenVINO {openvino.__version__.split('-')[0]}"
NOTE = {}

_CORE = openvino.Core()
_TO_CHANNELS_LAST, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def prepare(task, x, w, threads, opts):
    """The call and what reads its output."""
    if task["kind"] == "matmul":
        data = ops.parameter(x.shape, np.float32)
        model = openvino.Model([ops.matmul(data, w, False, False)], [data], "one")
        request = _request(model, x, threads)
        return request.infer, lambda: request.get_output_tensor(0).data
    ways = {"NCHW": _convolution(task, x, w, False, threads)}
    if opts["layout"] != "NCHW":
        ways["channels last"] = _convolution(task, x, w, True, threads)
    way, request = quickest(ways, lambda request: request.infer)
    NOTE[task["name"]] = way

    def get():
        output = request.get_output_tensor(0).data
        return output if way == "NCHW" else output.transpose(_TO_NCHW)

    return request.infer, get


def _convolution(task, x, w, channels_last, threads):
    shape = [x.shape[axis] for axis in _TO_CHANNELS_LAST] if channels_last else x.shape
    data = ops.parameter(shape, np.float32)
    plain = ops.transpose(data, _TO_NCHW) if channels_last else data
    geometry = ([task["S"]] * 2, [task["P"]] * 2, [task["P"]] * 2, [1, 1])
    if task["G"] == 1:
        result = ops.convolution(plain, w, *geometry)
    else:
        result = ops.group_convolution(plain, w[:, None], *geometry)
    if channels_last:
        result = ops.transpose(result, _TO_CHANNELS_LAST)
        x = np.ascontiguousarray(x.transpose(_TO_CHANNELS_LAST))
    return _request(openvino.Model([result], [data], "one"), x, threads)


def _request(model, x, threads):
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = _CORE.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x))
    return request
