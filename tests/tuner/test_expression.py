"""Expressions say what is computed: affine indices, and for every operator the same sums as its reference."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tuner import expression as ex
from tuner.build import expression_of
from tuner.errors import ScheduleError
from tuner.expression import Axis, Number, Tensor, relu
from tuner.loopnest import Affine
from tuner.operators.winograd import TILES, matrices
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


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize(
    "key",
    [
        "conv2d(ci=1,h=6,w=6,co=2,k=3,layout=NCHW4c)",
        "conv2d(ci=4,h=3,w=4,co=4,k=3,pad=1x0x2x1,layout=NCHW4c,epilogue=bias+residual+relu)",
        "conv2d(ci=2,h=4,w=3,co=3,k=3,pad=1x0x2x1,epilogue=bias+residual+relu)",
    ],
)
def test_winograd_computes_the_reference(key: str, algorithm: str) -> None:
    workload = parse(key)
    arrays = random_arrays(workload, seed=3)
    result = interpret(expression_of(workload, algorithm), dict(arrays))
    np.testing.assert_allclose(result, reference(workload, arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", ["NCHW", "NCHW4c"])
def test_an_image_as_one_row_computes_the_reference(layout: str) -> None:
    workload = parse(f"conv2d(n=2,ci=8,h=3,w=5,co=4,k=1,layout={layout},epilogue=bias+residual+relu)")
    arrays = random_arrays(workload, seed=3)
    rows = {name: arrays[name].reshape(2, -1, 1, 15, *arrays[name].shape[4:]) for name in ("data", "residual")}
    result = interpret(expression_of(workload, "flat"), {**arrays, **rows})
    np.testing.assert_allclose(result.ravel(), reference(workload, arrays).ravel(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", ["k=3,pad=1", "k=1,stride=2", "k=1,pad=1"])
def test_flat_refuses_what_it_is_not_for(window: str) -> None:
    with pytest.raises(ScheduleError, match="flat is for kernels of one pixel with stride=1 and pad=0"):
        expression_of(parse(f"conv2d(ci=4,h=6,w=6,co=4,{window})"), "flat")


def test_columns_and_channels_as_one_axis_compute_the_reference() -> None:
    key = "conv2d(n=2,ci=3,h=6,w=7,co=4,k=3x2,stride=2x3,pad=1x0x2x1,dilation=2x1,layout=NCHW4c,epilogue=bias+relu)"
    workload = parse(key)
    arrays = random_arrays(workload, seed=3)
    seen = {
        "data": arrays["data"].reshape(2, 1, 6, 21, 1),
        "weight": arrays["weight"].transpose(0, 2, 3, 1).reshape(4, 1, 3, 6),
    }
    result = interpret(expression_of(workload, "joined"), {**arrays, **seen})
    np.testing.assert_allclose(result, reference(workload, arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("image", ["ci=3", "ci=1,layout=NCHW4c", "ci=8,layout=NCHW4c", "ci=3,dilation=2,layout=NCHW4c"])
def test_joined_refuses_what_it_is_not_for(image: str) -> None:
    with pytest.raises(ScheduleError, match="joined is for 2 or more channels in one block of the layout"):
        expression_of(parse(f"conv2d({image},h=6,w=6,co=4,k=3)"), "joined")


@pytest.mark.parametrize("m", sorted({size for tile in TILES.values() for size in tile}))
def test_the_transforms_filter_a_row_of_any_values(m: int) -> None:
    by = matrices(m)
    rng = np.random.default_rng(m)
    data, weight = rng.uniform(-1, 1, m + 2), rng.uniform(-1, 1, 3)
    result = np.array(by.output) @ ((np.array(by.weight) @ weight) * (np.array(by.input) @ data))
    np.testing.assert_allclose(result, np.correlate(data, weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "key",
    [
        "conv2d(ci=34,h=6,w=6,co=4,k=3)",
        "conv2d(ci=4,h=6,w=6,co=4,k=3,stride=2,layout=NCHW4c)",
        "conv2d(ci=4,h=6,w=6,co=4,k=3,dilation=2,layout=NCHW4c)",
        "conv2d(ci=4,h=6,w=6,co=4,k=3x1,layout=NCHW4c)",
    ],
)
def test_winograd_refuses_what_it_is_not_for(key: str) -> None:
    with pytest.raises(ScheduleError, match="winograd is for 3x3 kernels with stride=1 and dilation=1, and in NCHW"):
        expression_of(parse(key), "winograd4")


def test_an_algorithm_that_is_not_there_is_refused() -> None:
    with pytest.raises(ScheduleError, match="no algorithm fft for conv2d, only direct, winograd2, winograd4"):
        expression_of(parse("conv2d(ci=1,h=6,w=6,co=2,k=3)"), "fft")
    with pytest.raises(ScheduleError, match="no algorithm winograd2 for matmul, only direct"):
        expression_of(parse("matmul(m=2,k=2,n=2)"), "winograd2")


def interpret(expression: ex.Expression, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Element by element, exactly as written."""
    for stage in expression.stages:
        result = np.zeros(stage.output.shape)
        for place in np.ndindex(*(axis.extent for axis in stage.axes)):
            at = dict(zip((axis.name for axis in stage.axes), place, strict=True))
            element = stage.place or stage.output[stage.axes]
            if isinstance(element, ex.Inside):
                if not holds(element.conditions, at):
                    continue
                element = element.access
            total = 0.0
            for turn in np.ndindex(*(axis.extent for axis in stage.reduce)):
                inner = dict(zip((axis.name for axis in stage.reduce), turn, strict=True))
                total += value(stage.body, {**at, **inner}, arrays, 0.0)
            result[indices(element, at)] = value(stage.epilogue, at, arrays, total)
        arrays[stage.output.name] = result
    return arrays[expression.main.output.name]


def number(index: Affine, at: dict[str, int]) -> int:
    return int(index.constant) + sum(int(factor) * at[axis] for axis, factor in index.terms)


def indices(access: ex.Access, at: dict[str, int]) -> tuple[int, ...]:
    result = tuple(number(index, at) for index in access.indices)
    assert all(0 <= index < extent for index, extent in zip(result, access.tensor.shape, strict=True))
    return result


def holds(conditions: tuple[tuple[Affine, int], ...], at: dict[str, int]) -> bool:
    return all(0 <= number(index, at) < bound for index, bound in conditions)


def operand(tensor: ex.Tensor, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if tensor.role == "table":
        return np.array(tensor.values).reshape(tensor.shape)
    array = arrays[tensor.name]
    for dimension, matrix in tensor.maps:
        array = np.moveaxis(np.tensordot(matrix, array, (1, dimension)), 0, dimension)
    return array


def value(node: ex.Scalar, at: dict[str, int], arrays: dict[str, npt.NDArray[Any]], total: float) -> float:
    match node:
        case ex.Total():
            return total
        case ex.Number():
            return node.value
        case ex.Access():
            return float(operand(node.tensor, arrays)[indices(node, at)])
        case ex.Inside():
            return value(node.access, at, arrays, total) if holds(node.conditions, at) else 0.0
        case ex.Binary():
            left, right = (value(side, at, arrays, total) for side in (node.left, node.right))
            return {"add": left + right, "mul": left * right, "max": max(left, right)}[node.operator]
