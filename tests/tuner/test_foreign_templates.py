"""AutoTVM's configurations become nests that are as large as what they compute, together as alone."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.tuner.test_invariant_features import TARGET
from tuner.errors import ScheduleError
from tuner.features.invariant import NAMES
from tuner.features.stored import stored_features
from tuner.foreign_templates import Knobs, knobs_of, program, wrong
from tuner.lower import lower
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, parse

CONV2D, DEPTHWISE = "autotvm:conv2d_NCHWc.x86/0.2", "autotvm:depthwise_conv2d_NCHWc.x86/0.2"
WIDE = parse("conv2d(ci=32,h=14,w=14,co=64,k=3,pad=1)")
POINT = parse("conv2d(ci=32,h=14,w=14,co=64,k=1,stride=2)")
DEEP = parse("depthwise_conv2d(c=64,h=14,w=14,k=3,pad=1)")
KINDS: list[tuple[str, Workload, list[Knobs]]] = [
    (
        CONV2D,
        WIDE,
        [
            {"tile_ic": ic, "tile_oc": oc, "tile_ow": ow, "unroll_kw": unroll}
            for ic, oc, ow, unroll in ((1, 4, 7, 0), (16, 8, 2, 1), (32, 64, 14, 1))
        ],
    ),
    (CONV2D, POINT, [{"tile_ic": 8, "tile_oc": 16, "tile_ow": 7, "tile_oh": oh} for oh in (1, 2)]),
    (
        DEPTHWISE,
        DEEP,
        [
            {"tile_ic": ic, "tile_oc": oc, "tile_ow": 7, "unroll_kw": unroll}
            for ic, oc, unroll in ((4, 16, 0), (16, 4, 1), (8, 8, 0))
        ],
    ),
]


@dataclass(frozen=True)
class Example:
    workload: Workload
    template: str
    schedule: Knobs | Schedule
    target: Target = TARGET
    seconds: float = 1.0


def row(template: str, workload: Workload, knobs: Knobs) -> dict[str, float]:
    return dict(zip(NAMES, stored_features([Example(workload, template, knobs)])[0].tolist(), strict=True))


@pytest.mark.parametrize(("template", "workload", "configs"), KINDS)
def test_many_configurations_give_what_each_gives_alone(
    template: str, workload: Workload, configs: list[Knobs]
) -> None:
    together = stored_features([Example(workload, template, knobs) for knobs in configs])
    assert np.isfinite(together).all()
    for found, knobs in zip(together, configs, strict=True):
        np.testing.assert_array_equal(found, list(row(template, workload, knobs).values()))


@pytest.mark.parametrize(("template", "workload", "configs"), KINDS)
def test_a_configuration_does_the_work_of_its_workload(template: str, workload: Workload, configs: list[Knobs]) -> None:
    for knobs in configs:
        found = row(template, workload, knobs)
        assert found["work"] - found["waste"] == pytest.approx(np.log2(workload.flops / 2))


def test_blocks_of_channels_are_seen() -> None:
    _, workload, configs = KINDS[2]
    wide_data, wide_result, equal = (row(DEPTHWISE, workload, knobs) for knobs in (configs[1], configs[0], configs[2]))
    assert wide_data["lanes"] == wide_result["lanes"] == np.log2(4 / TARGET.lanes)
    assert equal["lanes"] == np.log2(8 / TARGET.lanes)
    assert wide_result["sums"] > wide_data["sums"]
    assert wide_data["copy_outer_tasks"] < wide_result["copy_outer_tasks"]


def test_the_loops_are_those_of_the_template() -> None:
    knobs = {name: np.array([value]) for name, value in KINDS[0][2][1].items()}
    made = program(CONV2D, WIDE, knobs)
    text = str(lower(made.expression, made.schedule))
    order = ("parallel cob", "parallel oh", "ow.0", "cib", "kh", "serial ci", "unrolled kw", "unrolled ow.1")
    places = [text.rindex(f"{loop} <") for loop in order]
    assert places == sorted(places)


def test_own_and_foreign_examples_are_described_in_one_matrix_and_strange_ones_are_nan() -> None:
    own = template_for(WIDE, TARGET)
    schedule = own.schedule(WIDE, TARGET, own.default(WIDE, TARGET))
    strange = {"tile_ic": 5, "tile_oc": 4, "tile_ow": 7, "unroll_kw": 0}
    found = stored_features(
        [
            Example(WIDE, own.key, schedule),
            Example(WIDE, CONV2D, KINDS[0][2][0]),
            Example(WIDE, CONV2D, strange),
            Example(WIDE, CONV2D, {"tile_x": 1}),
            Example(DEEP, CONV2D, KINDS[0][2][0]),
            Example(WIDE, "autotvm:conv2d_nchw.cuda/0.2", KINDS[0][2][0]),
        ]
    )
    assert np.isfinite(found).all(axis=1).tolist() == [True, True, False, False, False, False]
    assert wrong(CONV2D, WIDE, strange) == "of blocks that do not divide the channels"


def test_the_knobs_of_a_record_are_its_innermost_factors() -> None:
    entity = [["tile_ic", "sp", [-1, 4]], ["tile_oh", "ot", 2], ["unroll_kw", "ot", True]]
    assert knobs_of({"entity": entity}) == {"tile_ic": 4, "tile_oh": 2, "unroll_kw": 1}
    for bad in (None, {}, {"entity": [["tile_ic", "sp", []]]}, {"entity": [["a", "re", ["x"]]]}):
        with pytest.raises(ScheduleError, match="not a configuration"):
            knobs_of(bad)
