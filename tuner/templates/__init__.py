"""Templates: which schedules of an operator are worth searching on a kind of target."""

from tuner.errors import ScheduleError
from tuner.target import Target
from tuner.templates.conv2d import CONV2D
from tuner.templates.depthwise import DEPTHWISE
from tuner.templates.gemm import GEMM
from tuner.templates.template import Template
from tuner.workload import Workload

_CPU = {
    "conv2d": CONV2D,
    "depthwise_conv2d": DEPTHWISE,
    "dense": GEMM,
    "matmul": GEMM,
    "batch_matmul": GEMM,
}


def template_for(workload: Workload, target: Target) -> Template:
    """The template for ``workload`` on ``target``. Raises ScheduleError when there is none."""
    if target.kind != "cpu" or workload.operator not in _CPU:
        raise ScheduleError(f"there is no template for {workload.operator} on a target of kind {target.kind}")
    return _CPU[workload.operator]


__all__ = ["Template", "template_for"]
