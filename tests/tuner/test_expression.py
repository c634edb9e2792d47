"""Expressions say what is computed: affine indices, and for every operator the same sums as its reference."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tuner import expression as ex
from tuner.build import expression_of
from tuner.expression import Axis, Number, Tensor, relu
from tuner.loopnest import Affine
from tuner.workload import parse, random_arrays, reference

m, k = Axis("m", 4), Axis("k", 16, reduce=True)


def test_indices_are_affine_in_the_axes() -> None:
    assert m * 2 + k * 3 == Affine((("m", 2), ("k", 3)))
    assert m + k == Affine((("m", 1), ("k", 1)))
    assert m - 5 == Affine((("m", 1),), -5)
    assert m * 2 + m.affine == Affine((("m", 3),))
    assert str(m * 2 + k.affine) == "2*m + k"


def test_an_element_of_a_tensor_takes_axes_and_affine_indices() -> None:
    a = Tensor("a", (4, 16), "input")
    assert a[m, k * 2].indices == (Affine((("m", 1),)), Affine((("k", 2),)))
    assert a[m].indices == (Affine((("m", 1),)),)


def test_sums_and_products_are_trees() -> None:
    a, b = Tensor("a", (4,), "input")[m], Tensor("b", (4,), "input")[m]
    assert a * b + Number(1.0) == ex.Binary("add", ex.Binary("mul", a, b), Number(1.0))
    assert relu(a) == ex.Binary("max", a, Number(0.0))


@pytest.mark.parametrize(
    "key",
    [
        "conv2d(n=2,ci=3,h=4,w=5,co=2,k=3x2,stride=2x1,pad=0x1x2x1,epilogue=bias+residual+relu)",
        "conv2d(ci=3,h=5,w=5,co=2,k=2,dilation=2x3)",
        "conv2d(ci=8,h=3,w=4,co=4,k=3,pad=1,layout=NCHW4c,epilogue=bias)",
        "depthwise_conv2d(c=2,h=4,w=5,k=3,pad=1,stride=2,epilogue=relu)",
        "depthwise_conv2d(c=8,h=4,w=5,k=3,pad=1,layout=NCHW4c,epilogue=bias+relu)",
        "dense(m=2,ci=5,co=3,epilogue=bias+relu)",
        "matmul(m=2,k=3,n=4)",
        "batch_matmul(b=2,m=2,k=3,n=4)",
    ],
)
def test_an_expression_computes_the_reference(key: str) -> None:
    workload = parse(key)
    arrays = random_arrays(workload, seed=3)
    result = interpret(expression_of(workload), dict(arrays))
    np.testing.assert_allclose(result, reference(workload, arrays), rtol=1e-12, atol=1e-12)


def interpret(expression: ex.Expression, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Element by element, exactly as written."""
    for stage in expression.stages:
        result = np.zeros(stage.output.shape)
        for place in np.ndindex(*(axis.extent for axis in stage.axes)):
            at = dict(zip((axis.name for axis in stage.axes), place, strict=True))
            total = 0.0
            for turn in np.ndindex(*(axis.extent for axis in stage.reduce)):
                inner = dict(zip((axis.name for axis in stage.reduce), turn, strict=True))
                total += value(stage.body, {**at, **inner}, arrays, 0.0)
            result[place] = value(stage.epilogue, at, arrays, total)
        arrays[stage.output.name] = result
    return arrays[expression.main.output.name]


def value(node: ex.Scalar, at: dict[str, int], arrays: dict[str, npt.NDArray[Any]], total: float) -> float:
    def number(index: Affine) -> int:
        return int(index.constant) + sum(int(factor) * at[axis] for axis, factor in index.terms)

    match node:
        case ex.Total():
            return total
        case ex.Number():
            return node.value
        case ex.Access():
            indices = tuple(map(number, node.indices))
            assert all(0 <= index < extent for index, extent in zip(indices, node.tensor.shape, strict=True))
            return float(arrays[node.tensor.name][indices])
        case ex.Inside():
            inside = all(0 <= number(index) < bound for index, bound in node.conditions)
            return value(node.access, at, arrays, total) if inside else 0.0
        case ex.Binary():
            left, right = (value(side, at, arrays, total) for side in (node.left, node.right))
            return {"add": left + right, "mul": left * right, "max": max(left, right)}[node.operator]
