"""Matrix products: dense (the weight is a constant), matmul and batch_matmul (both operands are inputs)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tuner.expression import Axis, Expression, Stage
from tuner.operators.operator import (
    Arrays,
    Operand,
    Operator,
    Reference,
    apply_epilogue,
    epilogue_expression,
    epilogue_operands,
    tensors,
)
from tuner.operators.parameter import DTYPE, EPILOGUE, SIZE, Parameter

if TYPE_CHECKING:
    from tuner.workload import Workload

_DTYPE = Parameter("dtype", DTYPE, "float32")


def _any(workload: Workload) -> None:
    """Every combination of sizes is possible."""


def _flops(workload: Workload) -> int:
    sizes = (value for _, value in workload.arguments if isinstance(value, int))
    return 2 * prod(sizes)


def _dense_operands(workload: Workload) -> tuple[Operand, ...]:
    m, ci, co = workload.size("m"), workload.size("ci"), workload.size("co")
    dtype = workload.text("dtype")
    data, weight = Operand("data", (m, ci), "input", dtype), Operand("weight", (co, ci), "constant", dtype)
    return (data, weight, *epilogue_operands(workload, co, (m, co)))


def _dense_reference(workload: Workload, arrays: Arrays) -> Reference:
    result = arrays["data"].astype(np.float64) @ arrays["weight"].astype(np.float64).T
    bias = arrays["bias"].astype(np.float64) if "bias" in workload.epilogue else None
    residual = arrays["residual"].astype(np.float64) if "residual" in workload.epilogue else None
    return apply_epilogue(workload, result, bias, residual)


def _product_operands(workload: Workload) -> tuple[Operand, ...]:
    m, k, n = workload.size("m"), workload.size("k"), workload.size("n")
    batch, dtype = (workload.size("b"),) if workload.operator == "batch_matmul" else (), workload.text("dtype")
    return (
        Operand("a", (*batch, m, k), "input", dtype),
        Operand("b", (*batch, k, n), "input", dtype),
        Operand("output", (*batch, m, n), "output", dtype),
    )


def _product_reference(workload: Workload, arrays: Arrays) -> Reference:
    product: Reference = arrays["a"].astype(np.float64) @ arrays["b"].astype(np.float64)
    return product


def _dense_expression(workload: Workload) -> Expression:
    known = tensors(workload)
    m, n = Axis("m", workload.size("m")), Axis("n", workload.size("co"))
    k = Axis("k", workload.size("ci"), reduce=True)
    body = known["data"][m, k] * known["weight"][n, k]
    epilogue = epilogue_expression(workload, known, n, (m, n))
    return Expression((Stage("dense", known["output"], (m, n), (k,), body, epilogue),))


def _product_expression(workload: Workload) -> Expression:
    known = tensors(workload)
    m, n = Axis("m", workload.size("m")), Axis("n", workload.size("n"))
    k = Axis("k", workload.size("k"), reduce=True)
    batch = (Axis("b", workload.size("b")),) if workload.operator == "batch_matmul" else ()
    body = known["a"][(*batch, m, k)] * known["b"][(*batch, k, n)]
    return Expression((Stage(workload.operator, known["output"], (*batch, m, n), (k,), body),))


DENSE = Operator(
    name="dense",
    parameters=(
        Parameter("m", SIZE, 1),
        Parameter("ci", SIZE),
        Parameter("co", SIZE),
        Parameter("epilogue", EPILOGUE, ""),
        _DTYPE,
    ),
    check=_any,
    operands=_dense_operands,
    flops=_flops,
    reference=_dense_reference,
    expression=_dense_expression,
)

MATMUL = Operator(
    name="matmul",
    parameters=(Parameter("m", SIZE), Parameter("k", SIZE), Parameter("n", SIZE), _DTYPE),
    check=_any,
    operands=_product_operands,
    flops=_flops,
    reference=_product_reference,
    expression=_product_expression,
)

BATCH_MATMUL = Operator(
    name="batch_matmul",
    parameters=(Parameter("b", SIZE), *MATMUL.parameters),
    check=_any,
    operands=_product_operands,
    flops=_flops,
    reference=_product_reference,
    expression=_product_expression,
)
