"""oneDNN by its own interface, without a framework around it, with packed weights.

With ``opts["version"]`` 2 it is the last major version that has Winograd convolutions, which are then tried as well.
"""

import ctypes
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.peers.quickest import quickest

_VERSION = json.loads(sys.argv[4]).get("version", 3)  # the library is loaded before there is a task
_HOME = Path(sys.prefix) / ("onednn-2" if _VERSION == 2 else "")
_LIBRARY = ctypes.CDLL(str(_HOME / "lib" / "libonednn_call.so"))
_LIBRARY.convolution.restype = _LIBRARY.product.restype = ctypes.c_void_p
_LIBRARY.describe.restype = _LIBRARY.library_version.restype = ctypes.c_char_p
_LIBRARY.run.restype = _LIBRARY.output.restype = None

_MODES = {"own": {"": 0}, "NCHW": {"NCHW primitive": 1, "reorders around": 2}}

VERSION = f"oneDNN {_LIBRARY.library_version().decode()}"
NOTE = {}


def prepare(task, x, w, threads, opts):
    """The call and what reads its output. The threads are OMP_NUM_THREADS."""
    pointers = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(w.ctypes.data))
    if task["kind"] == "matmul":
        way, call = "", _made(_LIBRARY.product(task["M"], task["K"], task["N"], *pointers))
        y = np.empty((task["M"], task["N"]), np.float32)
    else:
        way, call = quickest(_convolutions(task, pointers, opts["layout"]), _run)
        y = np.empty((1, task["OC"], task["OH"], task["OW"]), np.float32)
    NOTE[task["name"]] = " ".join((_LIBRARY.describe(call).decode(), way)).strip()

    def get():
        _LIBRARY.output(call, ctypes.c_void_p(y.ctypes.data))
        return y

    return _run(call), get


def _convolutions(task, pointers, layout):
    """The primitives that there are for the task. Raises RuntimeError when there is none."""
    sizes = [task[name] for name in ("IC", "H", "W", "OC", "K", "S", "P", "G")]
    calls, problem = {}, None
    for way, mode in _MODES[layout].items():
        for winograd in (False, True) if _VERSION == 2 else (False,):
            try:
                calls[way, winograd] = _made(_LIBRARY.convolution(*sizes, mode, winograd, *pointers))
            except RuntimeError as error:
                problem = problem or error
    if not calls:
        raise problem
    return {f"{way} Winograd" if winograd else way: call for (way, winograd), call in calls.items()}


def _made(address):
    if not address:
        raise RuntimeError(_LIBRARY.describe(None).decode())
    return ctypes.c_void_p(address)


def _run(call):
    return partial(_LIBRARY.run, call)
