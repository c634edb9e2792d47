"""NaN and infinity go through what the templates make as they go through the reference, but where the docs say so."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.kernels import run_once
from tuner.kernel import compile_kernel
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, parse, random_arrays, reference

HOST = Target.host(threads=2)
KEYS = [
    "conv2d(ci=5,h=9,w=11,co=21,k=3,pad=1,epilogue=bias+residual+relu)",
    "conv2d(ci=16,h=9,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,epilogue=relu)",
    "depthwise_conv2d(c=16,h=9,w=11,k=3,pad=1,layout=NCHW16c)",
    "depthwise_conv2d(c=3,h=9,w=35,k=3,pad=1,epilogue=bias)",
    "dense(m=5,ci=13,co=35,epilogue=bias+relu)",
    "matmul(m=13,k=70,n=35)",
]
WINOGRAD = parse("conv2d(ci=16,h=13,w=13,co=16,k=3,pad=1,layout=NCHW16c)")

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf is meant


def computed(
    workload: Workload, arrays: dict[str, Any], pins: dict[str, object], algorithm: str = ""
) -> npt.NDArray[np.float32]:
    """The output of a random legal schedule with these values of knobs, or of the same by another ``algorithm``."""
    template = template_for(workload, HOST)
    space = template.space(workload, HOST).pinned(pins)
    indices = space.sample(np.random.default_rng(0), 2000)
    (index, *_) = indices[~template.illegal(workload, HOST, space.columns(indices))].tolist()
    config = {**space.config(index), **({"algorithm": algorithm} if algorithm else {})}
    return run_once(compile_kernel(workload, template.schedule(workload, HOST, config), HOST), arrays)


def pads(workload: Workload) -> list[dict[str, object]]:
    knobs = {knob.name: knob.values for knob in template_for(workload, HOST).space(workload, HOST).knobs}
    return [{"pad": value} for value in knobs.get("pad", ())] or [{}]


@pytest.mark.parametrize("values", [(np.nan,), (np.inf,), (np.inf, -np.inf), (np.nan, -np.inf, np.inf)])
@pytest.mark.parametrize("key", KEYS)
def test_special_values_in_the_inputs_go_through_as_in_the_reference(key: str, values: tuple[float, ...]) -> None:
    workload = parse(key)
    arrays = dict(random_arrays(workload, seed=0))
    data = arrays[workload.operands[0].name] = arrays[workload.operands[0].name].copy()
    data.flat[np.linspace(3, data.size - 7, len(values)).astype(int)] = values
    expected = reference(workload, arrays)
    assert np.isfinite(expected).any()
    for pins in pads(workload):
        np.testing.assert_allclose(computed(workload, arrays, pins), expected, rtol=0, atol=1e-5, err_msg=str(pins))


def test_a_border_that_is_left_out_makes_no_nan_of_an_infinite_weight_and_a_zero() -> None:
    workload = parse(KEYS[0])
    arrays = dict(random_arrays(workload, seed=0))
    arrays["weight"] = arrays["weight"].copy()
    arrays["weight"][2, 1, 0, 0] = np.inf
    expected = reference(workload, arrays)
    border = np.isnan(expected)
    assert border[0, 2, 0].all()  # the row above the image
    np.testing.assert_allclose(computed(workload, arrays, {"pad": "first"}), expected, rtol=0, atol=1e-5)
    skipped = computed(workload, arrays, {"pad": "skip", "lanes": "channels"})
    assert not np.isnan(skipped).any()
    np.testing.assert_allclose(skipped[~border], expected[~border], rtol=0, atol=1e-5)
    masked = computed(workload, arrays, {"pad": "skip", "lanes": "pixels"})  # only rows are left out, not columns
    assert not np.isnan(masked[0, 2, 0, 1:]).any()
    np.testing.assert_allclose(masked[~border], expected[~border], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("m", [2, 4, 5, 6, 7])
def test_winograd_spoils_the_tiles_that_read_a_special_value_and_no_others(m: int, value: float) -> None:
    arrays = dict(random_arrays(WINOGRAD, seed=0))
    data = arrays["data"] = arrays["data"].copy()
    row, column = 6, 3
    data[0, 0, row, column, 5] = value
    expected = reference(WINOGRAD, arrays)
    result = computed(WINOGRAD, arrays, {"algorithm": "winograd2"}, f"winograd{m}")
    # Tile t reads the m + 2 rows from t * m - 1 on, as there is one row of padding.
    near_rows = [y for y in range(13) if y // m * m - 1 <= row <= y // m * m + m]
    near_columns = [x for x in range(13) if x // m * m - 1 <= column <= x // m * m + m]
    near = np.zeros((13, 13), dtype=np.bool_)
    near[np.ix_(near_rows, near_columns)] = True
    assert np.isfinite(expected[0, 0, ~near]).all()
    largest = np.abs(expected[np.isfinite(expected)]).max()
    np.testing.assert_allclose(result[0, 0, ~near], expected[0, 0, ~near], rtol=0, atol=5e-5 * largest)
    special = ~np.isfinite(expected)
    assert not np.isfinite(result[special]).any()
