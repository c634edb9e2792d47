"""What an operator is: its parameters, its operands, its cost and its NumPy reference; and the epilogue they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.expression import Axis, Expression, Scalar, Tensor, Total, relu
from tuner.loopnest import Affine
from tuner.operators.parameter import Parameter

if TYPE_CHECKING:
    from tuner.workload import Workload

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Reference: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Operand:
    """An array of a call. A constant (a weight, a bias) keeps its value from call to call, so it may be packed once."""

    name: str
    shape: tuple[int, ...]
    role: Literal["input", "constant", "output"]
    dtype: str = "float32"


@dataclass(frozen=True)
class Operator:
    """An operator. Its functions take a workload of this operator.

    ``check`` raises WorkloadError for arguments that are fine one by one and impossible together. ``operands`` are in
    the order of the call, the output last. ``flops`` counts two a multiply-add and leaves the epilogue out.
    ``reference`` takes all operands but the output, by name, and computes the output in float64.
    ``expression`` says the same as index arithmetic, ``algorithms`` other ways to come to the same result: they raise
    ScheduleError for a workload that they are not for.
    """

    name: str
    parameters: tuple[Parameter, ...]
    check: Callable[[Workload], None]
    operands: Callable[[Workload], tuple[Operand, ...]]
    flops: Callable[[Workload], int]
    reference: Callable[[Workload, Arrays], Reference]
    expression: Callable[[Workload], Expression]
    algorithms: Mapping[str, Callable[[Workload], Expression]] = field(default_factory=dict)


def epilogue_operands(workload: Workload, channels: int, output: tuple[int, ...]) -> tuple[Operand, ...]:
    """The operands that the epilogue adds, followed by the output itself. A bias is float32 for any dtype."""
    steps, dtype = workload.epilogue, workload.text("dtype")
    bias = (Operand("bias", (channels,), "constant"),) if "bias" in steps else ()
    residual = (Operand("residual", output, "input", dtype),) if "residual" in steps else ()
    return (*bias, *residual, Operand("output", output, "output", dtype))


def apply_epilogue(
    workload: Workload, result: Reference, bias: Reference | None, residual: Reference | None
) -> Reference:
    """``result`` after bias, residual and ReLU. ``bias`` must broadcast against it; NaN passes through the ReLU."""
    if bias is not None:
        result = result + bias
    if residual is not None:
        result = result + residual
    return np.maximum(result, 0.0) if "relu" in workload.epilogue else result


def tensors(workload: Workload) -> dict[str, Tensor]:
    """The operands of ``workload`` as tensors, by name."""
    return {each.name: Tensor(each.name, each.shape, each.role, dtype=each.dtype) for each in workload.operands}


def epilogue_expression(
    workload: Workload, known: Mapping[str, Tensor], channel: Axis | Affine, place: tuple[Axis | Affine, ...]
) -> Scalar:
    """What becomes of the finished sum at ``place``, in output channel ``channel``."""
    result: Scalar = Total()
    if "bias" in workload.epilogue:
        result = result + known["bias"][channel]
    if "residual" in workload.epilogue:
        result = result + known["residual"][place]
    return relu(result) if "relu" in workload.epilogue else result
