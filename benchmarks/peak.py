"""The pseudo-contender: a loop of multiply-adds on registers, at the clock that the others have at the time."""

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tuner.codegen import cpu
from tuner.kernel import aligned
from tuner.measure.peak import peak_floats, peak_flops, peak_ir
from tuner.target import Target

VERSION = "multiply-adds on registers"


def flops(threads: int) -> int:
    """Floating-point operations of one run, whatever the task."""
    return peak_flops(Target.host(threads))


def prepare(
    task: Mapping[str, Any], x: Any, w: Any, threads: int, opts: Mapping[str, Any]
) -> tuple[Callable[[], object], None]:
    """The loop; it has no output to check."""
    target = Target.host(threads)
    module = cpu.load(peak_ir(target), target)
    operands = aligned(peak_floats(target))
    operands.fill(0.5)
    pointers = (ctypes.c_void_p * 1)(operands.ctypes.data)
    function = module.function("kernel", ctypes.c_void_p)
    function.keeps_alive = (module, operands)
    return partial(function, pointers), None
