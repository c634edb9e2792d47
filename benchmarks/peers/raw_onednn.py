"""oneDNN by its own interface, without a framework around it: direct convolution with packed weights."""

import ctypes
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.peers.quickest import quickest

_LIBRARY = ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libonednn_call.so"))
_LIBRARY.convolution.restype = _LIBRARY.product.restype = ctypes.c_void_p
_LIBRARY.describe.restype = _LIBRARY.library_version.restype = ctypes.c_char_p
_LIBRARY.run.restype = _LIBRARY.output.restype = None

_OWN_LAYOUT = 0
_PLAIN = {"NCHW primitive": 1, "reorders around": 2}

VERSION = f"oneDNN {_LIBRARY.library_version().decode()}"
NOTE = {}


def prepare(task, x, w, threads, opts):
    """The call and what reads its output. The threads are OMP_NUM_THREADS."""
    pointers = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(w.ctypes.data))
    if task["kind"] == "matmul":
        way, call = "", _made(_LIBRARY.product(task["M"], task["K"], task["N"], *pointers))
        y = np.empty((task["M"], task["N"]), np.float32)
    else:
        sizes = [task[name] for name in ("IC", "H", "W", "OC", "K", "S", "P", "G")]
        if opts["layout"] == "NCHW":
            calls = {way: _made(_LIBRARY.convolution(*sizes, mode, *pointers)) for way, mode in _PLAIN.items()}
            way, call = quickest(calls, _run)
        else:
            way, call = "", _made(_LIBRARY.convolution(*sizes, _OWN_LAYOUT, *pointers))
        y = np.empty((1, task["OC"], task["OH"], task["OW"]), np.float32)
    NOTE[task["name"]] = " ".join((_LIBRARY.describe(call).decode(), way)).strip()

    def get():
        _LIBRARY.output(call, ctypes.c_void_p(y.ctypes.data))
        return y

    return _run(call), get


def _made(address):
    if not address:
        raise RuntimeError(_LIBRARY.describe(None).decode())
    return ctypes.c_void_p(address)


def _run(call):
    return partial(_LIBRARY.run, call)
