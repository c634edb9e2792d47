"""ONNX Runtime: a model of one node, its input and output bound once.

In its own layout (blocks of channels, as between the nodes of a whole network) the node is the one that its optimiser
puts in place of Conv, in the domain com.microsoft.nchwc; weights and data are then handed over blocked.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

VERSION = f"ONNX Runtime {onnxruntime.__version__}"
NOTE = {}

_CPUS = sorted(os.sched_getaffinity(0))
_BLOCKED = "com.microsoft.nchwc"
_BLOCK = 16 if "avx512f" in Path("/proc/cpuinfo").read_text() else 8  # as its kernel library chooses it


def prepare(task, x, w, threads, opts):
    """The call and what reads its output."""
    if task["kind"] == "matmul":
        return _bound("MatMul", "", x, w, (task["M"], task["N"]), threads)
    shape = (1, task["OC"], task["OH"], task["OW"])
    attributes = {
        "kernel_shape": [task["K"]] * 2,
        "strides": [task["S"]] * 2,
        "pads": [task["P"]] * 4,
        "dilations": [1, 1],
        "group": task["G"],
    }
    whole = task["OC"] % _BLOCK == 0 and (task["IC"] < _BLOCK or task["IC"] % _BLOCK == 0)
    if opts["layout"] == "NCHW" or not whole:
        return _bound("Conv", "", x, w, shape, threads, **attributes)
    NOTE[task["name"]] = f"NCHW{_BLOCK}c"
    run, get = _bound("Conv", _BLOCKED, _blocked(x), _blocked_weight(w), shape, threads, **attributes)
    return run, lambda: _plain(get())


def _bound(operator, domain, x, w, shape, threads, **attributes):
    node = helper.make_node(operator, ["x", "w"], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w, "w")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if threads > 1:  # left to itself the scheduler keeps two spinning threads on one processor for whole blocks
        options.add_session_config_entry("session.intra_op_thread_affinities", ";".join(str(c + 1) for c in _CPUS[1:]))
        os.sched_setaffinity(0, _CPUS[:1])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    data = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", data)
    binding.bind_ortvalue_output("y", result)
    return lambda: session.run_with_iobinding(binding), result.numpy


def _blocked(x):
    """NCHW data as [n, c / block, h, w, block] under the shape of the former; few channels stay as they are."""
    n, c, h, w = x.shape
    if c < _BLOCK:
        return x
    return np.ascontiguousarray(x.reshape(n, c // _BLOCK, _BLOCK, h, w).transpose(0, 1, 3, 4, 2)).reshape(x.shape)


def _blocked_weight(weight):
    """OIHW with blocks of outputs innermost, and blocks of inputs around them where the inputs are blocked."""
    o, i, kh, kw = weight.shape
    if i < _BLOCK:  # few inputs, or depthwise
        blocks = weight.reshape(o // _BLOCK, _BLOCK, i, kh, kw).transpose(0, 2, 3, 4, 1)
    else:
        blocks = weight.reshape(o // _BLOCK, _BLOCK, i // _BLOCK, _BLOCK, kh, kw).transpose(0, 2, 4, 5, 3, 1)
    return np.ascontiguousarray(blocks).reshape(weight.shape)


def _plain(y):
    n, c, h, w = y.shape
    return y.reshape(n, c // _BLOCK, h, w, _BLOCK).transpose(0, 1, 4, 2, 3).reshape(y.shape)
