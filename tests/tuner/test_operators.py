"""The references of the operators, against loops that are too plain to be wrong."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tuner.operators import OPERATORS
from tuner.workload import Workload, parse, random_arrays, reference

Array = npt.NDArray[np.float64]
Inputs = dict[str, npt.NDArray[np.float32]]


def plain(array: npt.NDArray[Any], workload: Workload) -> Array:
    """Blocked images as [n, c, h, w], one element at a time."""
    if workload["layout"] == "NCHW":
        return array.astype(np.float64)
    n, outer, height, width, inner = array.shape
    result = np.empty((n, outer * inner, height, width))
    for i, o, y, x, b in np.ndindex(array.shape):
        result[i, o * inner + b, y, x] = array[i, o, y, x, b]
    return result


def naive_convolution(workload: Workload, arrays: Inputs) -> Array:
    """conv2d and depthwise_conv2d by their definition; the result is [n, c, h, w]."""
    data, weight = plain(arrays["data"], workload), arrays["weight"].astype(np.float64)
    depthwise = workload.operator == "depthwise_conv2d"
    top, left, bottom, right = workload.sizes("pad")
    (down, along), (dh, dw) = workload.sizes("stride"), workload.sizes("dilation")
    n, _, height, width = data.shape
    co, ci, kh, kw = weight.shape
    rows = range(0, height + top + bottom - dh * (kh - 1), down)
    columns = range(0, width + left + right - dw * (kw - 1), along)
    result = np.zeros((n, co, len(rows), len(columns)))
    for i, o, (y, row), (x, column) in product(range(n), range(co), enumerate(rows), enumerate(columns)):
        for c, r, s in product(range(ci), range(kh), range(kw)):
            source = (row + r * dh - top, column + s * dw - left)
            if 0 <= source[0] < height and 0 <= source[1] < width:
                result[i, o, y, x] += data[i, o if depthwise else c, source[0], source[1]] * weight[o, c, r, s]
        if "bias" in workload.epilogue:
            result[i, o, y, x] += arrays["bias"][o]
    if "residual" in workload.epilogue:
        result += plain(arrays["residual"], workload)
    return np.where(result < 0, 0, result) if "relu" in workload.epilogue else result


def naive_product(workload: Workload, arrays: Inputs) -> Array:
    left, right = (arrays["data"], arrays["weight"].T) if workload.operator == "dense" else (arrays["a"], arrays["b"])
    result = np.zeros(workload.operands[-1].shape)
    for *batch, row, column in np.ndindex(result.shape):
        for k in range(left.shape[-1]):
            result[(*batch, row, column)] += float(left[(*batch, row, k)]) * float(right[(*batch, k, column)])
        if "bias" in workload.epilogue:
            result[(*batch, row, column)] += arrays["bias"][column]
    if "residual" in workload.epilogue:
        result += arrays["residual"]
    return np.where(result < 0, 0, result) if "relu" in workload.epilogue else result


@pytest.mark.parametrize(
    "key",
    [
        "conv2d(ci=3,h=5,w=6,co=2,k=1)",
        "conv2d(n=2,ci=3,h=5,w=6,co=4,k=3,pad=1)",
        "conv2d(ci=3,h=7,w=8,co=2,k=3x2,stride=2x3,pad=1x2)",
        "conv2d(ci=2,h=6,w=7,co=2,k=3,stride=2,pad=0x1x2x3)",
        "conv2d(ci=2,h=9,w=8,co=2,k=3x2,dilation=2x3,pad=1x0x0x2)",
        "conv2d(ci=2,h=3,w=3,co=2,k=5,pad=1)",
        "conv2d(ci=2,h=3,w=3,co=2,k=1,stride=5)",
        "conv2d(ci=2,h=2,w=2,co=2,k=2,pad=4x3x2x1,stride=2)",
        "conv2d(n=2,ci=3,h=5,w=6,co=4,k=3,pad=1,epilogue=bias+residual+relu)",
        "conv2d(n=2,ci=8,h=5,w=6,co=12,k=3,pad=1,layout=NCHW4c)",
        "conv2d(n=2,ci=3,h=5,w=6,co=8,k=3,pad=0x0x1x1,stride=2,layout=NCHW4c,epilogue=bias+residual+relu)",
        "conv2d(ci=4,h=5,w=6,co=3,k=3x1,layout=NCHW4c,epilogue=residual)",
        "depthwise_conv2d(n=2,c=3,h=7,w=6,k=3,stride=2,pad=1)",
        "depthwise_conv2d(c=3,h=9,w=8,k=2x3,dilation=2,pad=0x1x2x3,epilogue=bias+relu)",
        "depthwise_conv2d(n=2,c=8,h=5,w=6,k=3,pad=1,layout=NCHW4c,epilogue=bias+residual+relu)",
        "depthwise_conv2d(c=3,h=5,w=6,k=3,pad=1,layout=NCHW4c,epilogue=residual)",
    ],
)
def test_a_convolution_is_its_definition(key: str) -> None:
    workload = parse(key)
    arrays = random_arrays(workload, seed=1)
    result = reference(workload, arrays)
    assert result.dtype == np.float64
    assert result.shape == workload.operands[-1].shape
    np.testing.assert_allclose(plain(result, workload), naive_convolution(workload, arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "key",
    [
        "dense(ci=5,co=4)",
        "dense(m=3,ci=5,co=4,epilogue=bias+residual+relu)",
        "dense(m=3,ci=5,co=4,epilogue=relu)",
        "matmul(m=3,k=5,n=4)",
        "batch_matmul(b=2,m=3,k=5,n=4)",
    ],
)
def test_a_matrix_product_is_its_definition(key: str) -> None:
    workload = parse(key)
    arrays = random_arrays(workload, seed=2)
    np.testing.assert_allclose(reference(workload, arrays), naive_product(workload, arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("key", "multiply_adds"),
    [
        ("conv2d(n=2,ci=3,h=7,w=8,co=5,k=3x2,stride=2,pad=1)", 2 * 5 * 4 * 5 * 3 * 3 * 2),
        ("conv2d(ci=4,h=7,w=8,co=4,k=1,layout=NCHW4c,epilogue=bias+relu)", 4 * 7 * 8 * 4),
        ("depthwise_conv2d(n=2,c=3,h=7,w=8,k=3,dilation=2)", 2 * 3 * 3 * 4 * 9),
        ("dense(m=2,ci=3,co=4,epilogue=bias)", 2 * 3 * 4),
        ("matmul(m=2,k=3,n=4)", 2 * 3 * 4),
        ("batch_matmul(b=5,m=2,k=3,n=4)", 5 * 2 * 3 * 4),
    ],
)
def test_a_multiply_add_is_two_operations(key: str, multiply_adds: int) -> None:
    assert parse(key).flops == 2 * multiply_adds


@pytest.mark.filterwarnings("error")
def test_infinities_and_nan_go_through() -> None:
    workload = parse("dense(m=3,ci=2,co=1,epilogue=relu)")
    data = np.array([[np.inf, 0], [np.nan, 0], [-np.inf, 0]], np.float32)
    result = reference(workload, {"data": data, "weight": np.ones((1, 2), np.float32)})
    np.testing.assert_array_equal(result[:, 0], [np.inf, np.nan, 0])


def test_an_operator_is_registered_under_its_name_and_documents_its_order() -> None:
    assert all(operator.name == name for name, operator in OPERATORS.items())
    assert [p.name for p in OPERATORS["conv2d"].parameters] == [
        *("n", "ci", "h", "w", "co", "k", "stride", "pad", "dilation", "layout", "epilogue", "dtype")
    ]
