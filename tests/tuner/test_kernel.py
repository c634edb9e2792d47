"""A kernel takes NumPy arrays and gives one, and refuses what it cannot take by the operand's name."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.kernels import run_once
from tuner.errors import ArgumentError
from tuner.kernel import Kernel, compile_kernel
from tuner.schedule import CacheWrite, Pack, Parallel, Reorder, Schedule, Split, Vectorize
from tuner.target import Target
from tuner.workload import Workload, parse, random_arrays, reference

WORKLOAD = parse("dense(m=5,ci=7,co=9,epilogue=bias+residual+relu)")
HOST = Target.host(threads=2)
Array = npt.NDArray[Any]


def packed_by(lanes: int) -> Schedule:
    """The weight in blocks of ``lanes`` columns, the data in a workspace."""
    return Schedule(
        (
            Split("dense", "n", (lanes,)),
            Reorder("dense", ("m", "n.0", "k", "n.1")),
            CacheWrite("dense", "n.0"),
            Parallel("dense", ("m",)),
            Vectorize("dense", "n.1"),
            Pack("dense", "weight", ("n.0", "k", "n.1")),
            Pack("dense", "data", ("m", "k")),
        )
    )


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return compile_kernel(WORKLOAD, packed_by(4), HOST)


@pytest.fixture
def arrays() -> dict[str, Array]:
    return dict(random_arrays(WORKLOAD, seed=1))


def assert_right(result: Array, arrays: dict[str, Array], workload: Workload = WORKLOAD) -> None:
    np.testing.assert_allclose(result, reference(workload, arrays), rtol=0, atol=1e-5)


def test_a_kernel_takes_its_operands_in_order(kernel: Kernel, arrays: dict[str, Array]) -> None:
    result = kernel(arrays["data"], arrays["weight"], arrays["bias"], arrays["residual"])
    assert result.dtype == np.float32
    assert result.shape == (5, 9)
    assert_right(result, arrays)
    np.testing.assert_array_equal(run_once(kernel, arrays), result)


def test_a_constant_is_packed_once_for_many_calls(kernel: Kernel, arrays: dict[str, Array]) -> None:
    weight, bias = kernel.pack(arrays["weight"]), kernel.pack(arrays["bias"], "bias")
    assert weight.data.size == 3 * 7 * 4
    for seed in (2, 3):
        data = random_arrays(WORKLOAD, seed)["data"]
        assert_right(kernel(data, weight, bias, arrays["residual"]), {**arrays, "data": data})


def test_the_output_goes_where_it_is_told(kernel: Kernel, arrays: dict[str, Array]) -> None:
    out = np.full((5, 9), np.nan, np.float32)
    assert run(kernel, arrays, out=out) is out
    assert_right(out, arrays)


def test_each_call_without_out_gives_an_array_of_its_own(kernel: Kernel, arrays: dict[str, Array]) -> None:
    first = run(kernel, arrays)
    kept = first.copy()
    second = run(kernel, {**arrays, "data": -arrays["data"]})
    assert not np.may_share_memory(first, second)
    np.testing.assert_array_equal(first, kept)


def test_arrays_that_are_not_contiguous_are_copied(kernel: Kernel, arrays: dict[str, Array]) -> None:
    transposed = np.asfortranarray(arrays["data"])
    wide = np.zeros((5, 18), np.float32)
    wide[:, ::2] = arrays["residual"]
    expected = run(kernel, arrays)
    result = kernel(transposed, np.asfortranarray(arrays["weight"]), arrays["bias"], wide[:, ::2])
    np.testing.assert_array_equal(result, expected)


def test_operands_are_left_as_they_were(kernel: Kernel, arrays: dict[str, Array]) -> None:
    before = {name: array.copy() for name, array in arrays.items()}
    run(kernel, arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_operands_need_no_alignment(kernel: Kernel, arrays: dict[str, Array]) -> None:
    shifted = {}
    for name, array in arrays.items():
        room = np.empty(array.size + 1, np.float32)
        room[1:] = array.reshape(-1)
        shifted[name] = room[1:].reshape(array.shape)
    np.testing.assert_array_equal(run(kernel, shifted), run(kernel, arrays))


def misaligned(array: Array) -> Array:
    """A copy that begins at an odd address."""
    room = np.empty(array.nbytes + 1, np.uint8)
    shifted = room[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert not shifted.flags.aligned
    return shifted


def test_operands_at_odd_addresses_are_copied(kernel: Kernel, arrays: dict[str, Array]) -> None:
    odd = {name: misaligned(array) for name, array in arrays.items()}
    np.testing.assert_array_equal(run(kernel, odd), run(kernel, arrays))


@pytest.mark.parametrize("value", [None, "text", [[1.0], [1.0, 2.0]], {}, object()])
def test_what_is_no_array_is_refused_by_name(kernel: Kernel, arrays: dict[str, Array], value: object) -> None:
    with pytest.raises(ArgumentError, match=r"^bias: expected an array of shape \(9,\)"):
        run(kernel, {**arrays, "bias": value})  # type: ignore[dict-item]


def run(kernel: Kernel, arrays: dict[str, Array], **options: Any) -> Array:
    return kernel(*(arrays[argument.name] for argument in kernel.inputs), **options)


@pytest.mark.parametrize("name", ["data", "weight", "bias", "residual"])
def test_a_wrong_shape_is_refused_by_name(kernel: Kernel, arrays: dict[str, Array], name: str) -> None:
    arrays[name] = np.zeros((2, 3), np.float32)
    with pytest.raises(ArgumentError, match=rf"^{name}: expected an array of shape \(.*\) but got \(2, 3\)$"):
        run(kernel, arrays)


@pytest.mark.parametrize("dtype", ["float64", "int32", ">f4", "object"])
def test_a_wrong_dtype_is_refused_by_name(kernel: Kernel, arrays: dict[str, Array], dtype: str) -> None:
    arrays["weight"] = arrays["weight"].astype(dtype)
    with pytest.raises(ArgumentError, match=r"^weight: expected float32 but got "):
        run(kernel, arrays)


def test_a_wrong_number_of_operands_is_refused_with_their_names(kernel: Kernel, arrays: dict[str, Array]) -> None:
    with pytest.raises(ArgumentError, match=r"expected 4 operands \(data, weight, bias, residual\) but got 1"):
        kernel(arrays["data"])


@pytest.mark.parametrize(
    "out",
    [
        np.empty((9, 5), np.float32),
        np.empty((5, 9), np.float64),
        np.empty((9, 5), np.float32).T,
        np.empty((5, 18), np.float32)[:, ::2],
        np.frombuffer(bytes(4 * 5 * 9), np.float32).reshape(5, 9),
        [[0.0] * 9] * 5,
        np.zeros(4 * 5 * 9 + 1, np.uint8)[1:].view(np.float32).reshape(5, 9),
    ],
    ids=["shape", "dtype", "transposed", "strided", "read-only", "a list", "odd address"],
)
def test_an_output_that_cannot_be_written_is_refused(kernel: Kernel, arrays: dict[str, Array], out: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^out must be a .*array of shape \(5, 9\)"):
        run(kernel, arrays, out=out)


def test_an_output_over_an_operand_is_refused(kernel: Kernel, arrays: dict[str, Array]) -> None:
    with pytest.raises(ArgumentError, match="out shares memory with an operand"):
        run(kernel, arrays, out=arrays["residual"])
    room = np.zeros(5 * 9 + 20, np.float32)
    arrays["data"] = room[10:45].reshape(5, 7)
    with pytest.raises(ArgumentError, match="out shares memory with an operand"):
        run(kernel, arrays, out=room[:45].reshape(5, 9))


def test_only_constants_are_packed(kernel: Kernel, arrays: dict[str, Array]) -> None:
    with pytest.raises(ArgumentError, match=r"data is not a constant operand of this kernel \(it has: weight, bias\)"):
        kernel.pack(arrays["data"], "data")
    with pytest.raises(ArgumentError, match=r"^weight: expected an array of shape"):
        kernel.pack(arrays["weight"].T)


def test_what_was_packed_for_another_kernel_is_refused(kernel: Kernel, arrays: dict[str, Array]) -> None:
    other = compile_kernel(WORKLOAD, packed_by(8), HOST)
    weight = other.pack(arrays["weight"])
    with pytest.raises(ArgumentError, match=r"^weight: packed for another kernel or operand"):
        kernel(arrays["data"], weight, arrays["bias"], arrays["residual"])
    with pytest.raises(ArgumentError, match=r"^bias: packed for another kernel or operand"):
        kernel(arrays["data"], arrays["weight"], kernel.pack(arrays["weight"]), arrays["residual"])


def test_two_kernels_live_side_by_side(kernel: Kernel, arrays: dict[str, Array]) -> None:
    product = parse("matmul(m=3,k=4,n=5)")
    other = compile_kernel(product, Schedule(), HOST)
    others = random_arrays(product, seed=4)
    for _ in range(2):
        assert_right(run(kernel, arrays), arrays)
        assert_right(run_once(other, others), others, product)
    del other
    assert_right(run(kernel, arrays), arrays)


def test_the_workspace_carries_nothing_from_call_to_call(kernel: Kernel, arrays: dict[str, Array]) -> None:
    expected = run(kernel, arrays)
    assert kernel.program.workspace_bytes >= 5 * 7 * 4
    run(kernel, {**arrays, "data": np.full((5, 7), np.nan, np.float32)})
    np.testing.assert_array_equal(run(kernel, arrays), expected)


@pytest.mark.parametrize("name", ["data", "weight", "bias", "residual"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf is meant
def test_nan_and_infinities_go_through_as_in_the_reference(
    kernel: Kernel, arrays: dict[str, Array], name: str, value: float
) -> None:
    arrays[name] = arrays[name].copy()
    arrays[name].flat[3] = value
    result, expected = run(kernel, arrays), reference(WORKLOAD, arrays)
    assert not np.isfinite(expected).all() or value == -np.inf
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_the_zeros_of_the_padding_are_numbers_too() -> None:
    """0 x inf is NaN: padding must not be skipped where the reference has it."""
    workload = parse("conv2d(ci=2,h=4,w=4,co=3,k=3,pad=1)")
    arrays = dict(random_arrays(workload, seed=0))
    arrays["weight"][1, 0, 0, 0] = np.inf
    result = run_once(compile_kernel(workload, Schedule(), HOST), arrays)
    expected = reference(workload, arrays)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
