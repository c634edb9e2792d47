"""Float32 convolution by three products of bfloat16: its error, where it is offered, and what was stored of it."""

from typing import Any

import numpy as np
import pytest

from tests.tuner.kernels import assert_right, error
from tests.tuner.tiles import HOST, SPLIT, X86, compute, with_tiles
from tuner.build import build, nest_of
from tuner.errors import ScheduleError
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    Dot,
    Matrix,
    Pack,
    Reorder,
    Schedule,
    Split,
    Unroll,
    Vectorize,
)
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse, random_arrays, reference


@X86
@pytest.mark.parametrize("unit", ["matrices", "vectors"])
@pytest.mark.parametrize("key", SPLIT)
def test_float32_by_three_products_of_bfloat16_keeps_its_error(key: str, unit: str) -> None:
    workload, target = parse(key), with_tiles()
    template = template_for(workload, target)
    config = template.default(workload, target) | {"unit": unit, "split_ci": 1}
    schedule = template.schedule(workload, target, config)
    assert "where 0 <= q + -1*p < 2" in str(nest_of(workload, schedule))  # three of four products
    assert error(workload, schedule, HOST) <= 1e-5, config


@X86
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("key", "spoiled"), [(SPLIT[0], 0), (SPLIT[3], 1)])
def test_split_spoils_the_sums_of_a_special_value_and_of_one_before_a_stretch(
    key: str, spoiled: int, value: float
) -> None:
    workload, target = parse(key.replace("+relu", "")), with_tiles()  # which makes zero of an infinity
    template = template_for(workload, target)
    arrays = dict(random_arrays(workload, seed=0))
    arrays["data"] = arrays["data"].copy()
    arrays["data"][0, 0, 4, 6, 0] = value
    with np.errstate(invalid="ignore"):
        special = ~np.isfinite(reference(workload, arrays))
    program = build(workload, template.schedule(workload, target, template.default(workload, target)), target)
    result, _ = compute(program, target, arrays)
    assert not np.isfinite(result[special]).any()
    columns = {column for *_, column, _ in np.argwhere(~np.isfinite(result) & ~special).tolist()}
    assert len(columns) == spoiled


def test_float32_is_split_only_where_there_are_registers_for_matrices() -> None:
    workload = parse(SPLIT[0])

    def algorithms(target: Target) -> tuple[Any, ...]:
        knobs = template_for(workload, target).space(workload, target).knobs
        return next(knob.values for knob in knobs if knob.name == "algorithm")

    assert ("split" in algorithms(HOST)) == HOST.has_tiles
    assert "split" in algorithms(with_tiles())
    strict = parse(SPLIT[0].replace(")", ",tolerance=1e-6)"))
    by_default = [template_for(w, with_tiles()).default(w, with_tiles())["algorithm"] for w in (workload, strict)]
    assert by_default == ["split", "direct"]


def stored_pairs_of_channels(depth: int) -> Schedule:
    """What the template wrote before columns and channels, or rows and columns, were seen as one axis by ``split``."""
    inside = ("kh", "cib", "ci.0", "kw", "p", "q", "oh.1", "ow.1", "ci.1", "ci.2", "co")
    return Schedule(
        (
            Algorithm("conv2d", "split"),
            Split("conv2d", "oh", (3,)),
            Split("conv2d", "ow", (9,), "shift"),
            Split("conv2d", "ci", (depth, 2)),
            Reorder("conv2d", ("n", "cob", "oh.0", "ow.0", *inside)),
            CacheWrite("conv2d", "ow.0"),
            Unroll("conv2d", ("oh.1", "p", "q")),
            Vectorize("conv2d", "co"),
            Pack("conv2d", "weight", ("cob", "kh", "cib", "ci.0", "kw", "q", "ci.1", "co", "ci.2")),
            Dot("conv2d", "ci.2"),
            Matrix("conv2d", "ow.1", "ci.1"),
            Reorder("parts", ("pn", "pc", "py", "px", "pp", "pb")),
            Unroll("parts", ("pp",)),
            Vectorize("parts", "pb"),
        )
    )


@X86
@pytest.mark.parametrize(
    ("key", "depth", "refused"),
    [
        ("conv2d(ci=2,h=5,w=9,co=16,k=3,pad=1,layout=NCHW16c)", 1, True),
        ("conv2d(ci=2,h=5,w=9,co=16,k=3,pad=1,layout=NCHW16c)", 3, True),  # columns and channels were named ci
        ("conv2d(ci=16,h=5,w=9,co=16,k=3,pad=1,layout=NCHW16c)", 8, False),
        ("conv2d(ci=16,h=5,w=9,co=16,k=1,layout=NCHW16c,epilogue=bias)", 8, False),
    ],
)
def test_a_stored_schedule_of_split_is_refused_or_right(key: str, depth: int, refused: bool) -> None:
    workload, schedule, target = parse(key), stored_pairs_of_channels(depth), with_tiles()
    assert_right(workload, schedule, Target.host(threads=1, isa="avx512"))  # by vectors, which need no whole tiles
    if refused:
        with pytest.raises(ScheduleError, match=r"^loop ci\.1: products of matrices are of whole tiles only.*$"):
            build(workload, schedule, target)
        return
    arrays = random_arrays(workload, seed=0)
    expected = reference(workload, arrays)
    result, _ = compute(build(workload, schedule, target), target, arrays)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("key", ["conv2d(ci=4,h=5,w=5,co=4,k=1)", SPLIT[0].replace(")", ",dtype=bfloat16)")])
def test_what_cannot_be_split_is_refused(key: str) -> None:
    with pytest.raises(ScheduleError, match="split is for operands of float32 in a blocked layout"):
        nest_of(parse(key), Schedule((Algorithm("conv2d", "split"),)))
