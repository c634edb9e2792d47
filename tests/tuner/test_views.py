"""A convolution seen as another one: as much memory, as many outputs, the same sums."""

import numpy as np
import numpy.typing as npt
import pytest

from tuner.operators.image import output_size
from tuner.operators.views import JOINED, is_flat, is_joined, seen
from tuner.workload import Workload, parse, random_arrays, reference

WINDOWS = ["k=3x2,stride=2x3,pad=1x0x2x1,dilation=2x1", "k=2x3,stride=1x2", "k=3,pad=1", "k=1x5,stride=3,pad=0x2"]
IMAGE = "n=2,ci=3,h=6,w=7,co=4,layout=NCHW16c,epilogue=bias"


def looked_at(workload: Workload, view: Workload) -> npt.NDArray[np.float64]:
    """The reference of ``view``, from the arrays of ``workload`` with the shapes that ``view`` gives them."""
    arrays = dict(random_arrays(workload, seed=1))
    weight = arrays["weight"]
    if view.sizes("k") != workload.sizes("k"):
        order = [dimension for group in JOINED for dimension in group]
        weight = weight.transpose(order).reshape([int(np.prod([weight.shape[d] for d in group])) for group in JOINED])
    shapes = {operand.name: operand.shape for operand in view.operands}
    excess = [(0, wanted - found) for wanted, found in zip(shapes["weight"], weight.shape, strict=True)]
    seen_as = {"data": arrays["data"].reshape(shapes["data"]), "weight": np.pad(weight, excess)}
    return reference(view, {**arrays, **seen_as}).ravel()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("algorithm", ["direct", "joined", "split"])
def test_columns_and_channels_as_columns_give_the_same_outputs(algorithm: str, window: str) -> None:
    workload = parse(f"conv2d({IMAGE},{window})")
    view = seen(workload, algorithm)
    assert (view.size("ci") == 1) == (algorithm != "direct")
    assert output_size(view) == output_size(workload)
    np.testing.assert_allclose(looked_at(workload, view), reference(workload, random_arrays(workload, 1)).ravel())


def test_rows_of_an_image_are_one_row_under_a_kernel_of_one_pixel() -> None:
    workload = parse("conv2d(n=2,ci=16,h=6,w=7,co=32,k=1,layout=NCHW16c,epilogue=bias)")
    assert is_flat(workload)
    for algorithm in ("flat", "split"):
        view = seen(workload, algorithm)
        assert output_size(view) == (1, 42)
        np.testing.assert_allclose(looked_at(workload, view), reference(workload, random_arrays(workload, 1)).ravel())


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("conv2d(ci=3,h=9,w=9,co=32,k=7,layout=NCHW32c)", 22),  # made even
        ("conv2d(ci=16,h=9,w=9,co=32,k=2,layout=NCHW32c)", 32),
        ("conv2d(ci=1,h=9,w=9,co=32,k=3,layout=NCHW16c)", 4),
        ("conv2d(ci=3,h=9,w=9,co=32,k=7,layout=NCHW16c)", 7),  # longer than a block
        ("conv2d(ci=32,h=9,w=9,co=32,k=3,layout=NCHW16c)", 3),  # two blocks
        ("conv2d(ci=3,h=9,w=9,co=32,k=3,dilation=2,layout=NCHW32c)", 3),  # columns that are apart
    ],
)
def test_split_joins_rows_of_the_kernel_that_are_no_longer_than_a_block(key: str, row: int) -> None:
    assert seen(parse(key), "split").sizes("k")[1] == row


def test_one_channel_alone_is_not_joined() -> None:
    assert not is_joined(parse("conv2d(ci=1,h=9,w=9,co=32,k=3,layout=NCHW16c)"))
    assert is_joined(parse("conv2d(ci=2,h=9,w=9,co=32,k=3,layout=NCHW16c)"))
