"""tunedb as a contender, for this benchmark or any harness that calls ``prepare``.

The kernel is the fastest verified schedule that the database has for the task on this machine with as many threads, or
else the default schedule; ``NOTE`` says which. Constant weights are packed and the layout of the data is changed in
``prepare``, outside of what is timed.
"""

import ctypes
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

import tunedb
from tunedb.errors import NotFoundError
from tuner.build import build
from tuner.codegen import cpu
from tuner.kernel import aligned
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, conv2d, dense, depthwise_conv2d

Array = npt.NDArray[np.float32]

VERSION = f"tunedb {tunedb.__version__}"
NOTE: dict[str, str] = {}  # name of a task -> which schedule it was run with


def prepare(
    task: Mapping[str, Any], x: Array, w: Array, threads: int, opts: Mapping[str, Any]
) -> tuple[Callable[[], object], Callable[[], Array]]:
    """The call to time and what reads its output in plain layout.

    ``task`` has a name and a kind: "conv" with IC, H, W, OC, K, S (stride), P (padding) and G (groups: 1 or IC), where
    ``x`` is [1, IC, H, W] and ``w`` [OC, IC / G, K, K]; "matmul" with M, K, N, where ``x`` is [M, K] and the constant
    ``w`` [K, N].
    With a tolerance in the task the error stays within it; with dtype "bfloat16" in it the operands and the output are
    rounded to that; ``x`` and ``w`` are float32.
    ``opts`` may have layout ("own" if not given: see ``layout_of``) and db (a
    URL; the usual database if not given).

    Raises TunedbError for a task that has no kernel.
    """
    # Without it both threads may wait for each other on one processor. Read when the OpenMP library is loaded: below.
    # Not sooner: who only imports this module, to tune, must not be bound to one processor.
    os.environ.setdefault("OMP_PROC_BIND", "true")
    target = Target.host(threads)
    workload = workload_of(task, layout_of(task, opts.get("layout", "own"), target))
    schedule, NOTE[task["name"]] = choose(workload, target, opts.get("db"))
    program = build(workload, schedule, target)
    module = cpu.load(program.ir, target)

    given = {"data": x, "weight": w.T if task["kind"] == "matmul" else w}
    buffers = []
    for argument in program.arguments:
        buffer = aligned(argument.size, argument.stored)
        if argument.role != "output":
            values = blocked(given[argument.name], argument.shape)
            buffer[:] = argument.packing.apply(values) if argument.packing else values.ravel()
        buffers.append(buffer)
    output = buffers[-1].reshape(program.arguments[-1].shape)
    buffers.append(aligned(max(program.workspace_bytes // 4, 1)))

    pointers = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
    function = module.function("kernel", ctypes.c_void_p)
    function.keeps_alive = (module, buffers)
    return partial(function, pointers), lambda: plain(output).astype(np.float32)


def layout_of(task: Mapping[str, Any], name: str, target: Target) -> str:
    """The layout that ``name`` stands for: "own" is the one in which ``task`` should be quickest on ``target``.

    That has blocks of channels, where these divide. Blocks of 32 are for matrix registers, which they fill; a vector of
    float32 is one of 16.
    """
    if name != "own" or task["kind"] != "conv":
        return name
    blocks = [32] if target.has_tiles and task["G"] == 1 else []
    for block in (*blocks, 16):
        if all(channels < block or channels % block == 0 for channels in (task["IC"], task["OC"])):
            return f"NCHW{block}c"
    return "NCHW"


def workload_of(task: Mapping[str, Any], layout: str) -> Workload:
    """The workload of ``task``, with images in ``layout`` if it has any. Raises WorkloadError when there is none."""
    workload = _workload(task, layout)
    return workload.within(task["tolerance"]) if "tolerance" in task else workload


def _workload(task: Mapping[str, Any], layout: str) -> Workload:
    dtype = task.get("dtype", "float32")
    if task["kind"] == "matmul":
        return dense(m=task["M"], ci=task["K"], co=task["N"], dtype=dtype)
    image = {
        "dtype": dtype,
        "h": task["H"],
        "w": task["W"],
        "k": task["K"],
        "stride": task["S"],
        "pad": task["P"],
        "layout": layout,
    }
    if task["G"] > 1:
        return depthwise_conv2d(c=task["IC"], **image)
    return conv2d(ci=task["IC"], co=task["OC"], **image)


def choose(workload: Workload, target: Target, url: str | None) -> tuple[Schedule, str]:
    """The schedule to run, and where it comes from."""
    try:
        return _database(url).best(workload, target).schedule, "tuned"
    except NotFoundError:
        template = template_for(workload, target)
        return template.schedule(workload, target, template.default(workload, target)), "default"


@cache
def _database(url: str | None) -> tunedb.Database:
    return tunedb.open(url)


def blocked(array: Array, shape: tuple[int, ...]) -> Array:
    """``array`` in NCHW as [n, c / block, h, w, block] when ``shape`` says so."""
    if array.shape == shape:
        return array
    n, blocks, h, w, block = shape
    return array.reshape(n, blocks, block, h, w).transpose(0, 1, 3, 4, 2)


def plain(array: Array) -> Array:
    """The inverse of ``blocked``."""
    if array.ndim != 5:
        return array
    n, blocks, h, w, block = array.shape
    return array.transpose(0, 1, 4, 2, 3).reshape(n, blocks * block, h, w)
