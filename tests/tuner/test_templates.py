"""Every template: its default is legal, and whatever configuration it calls legal computes the reference's result."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuner.kernels import assert_right, available_isas
from tests.tuner.schedules import EPILOGUES
from tuner.build import nest_of
from tuner.errors import ScheduleError
from tuner.operators import OPERATORS
from tuner.target import Target, TargetError
from tuner.templates import Template, template_for
from tuner.templates.template import bodies, ceil, least, numeric, register_tile, tiles, up_to
from tuner.workload import Workload, make, named, parse

HOST = Target.host(threads=2)


TARGETS = {isa: Target.host(threads=2, isa=isa) for isa in available_isas()}

KEYS = [
    "conv2d(ci=13,h=7,w=7,co=13,k=3,pad=1)",
    "conv2d(n=2,ci=5,h=9,w=11,co=20,k=3x2,stride=2x1,pad=0x1x2x1,epilogue=bias+residual+relu)",
    "conv2d(ci=3,h=11,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,epilogue=bias+relu)",
    "conv2d(ci=32,h=7,w=7,co=32,k=3,pad=1,layout=NCHW16c)",
    "conv2d(n=2,ci=9,h=7,w=11,co=21,k=1,epilogue=bias+residual+relu)",
    "conv2d(ci=3,h=9,w=43,co=9,k=3x5,stride=1x2,pad=1x2,epilogue=relu)",
    "conv2d(ci=20,h=9,w=9,co=10,k=3,pad=1)",
    "conv2d(n=2,ci=16,h=9,w=11,co=16,k=3,pad=1x0x2x1,layout=NCHW8c,epilogue=bias+residual+relu)",
    "conv2d(ci=16,h=8,w=9,co=24,k=1,layout=NCHW8c,epilogue=residual)",
    "conv2d(ci=8,h=9,w=9,co=8,k=3,dilation=2,pad=2,layout=NCHW8c)",
    "conv2d(ci=16,h=35,w=5,co=8,k=1x3,pad=0x1,layout=NCHW8c)",
    "depthwise_conv2d(n=2,c=13,h=7,w=7,k=3,pad=1,epilogue=bias+relu)",
    "depthwise_conv2d(c=4,h=9,w=35,k=3,stride=2,pad=0x0x1x1)",
    "depthwise_conv2d(c=32,h=7,w=7,k=3,pad=1,layout=NCHW16c,epilogue=bias+relu)",
    "depthwise_conv2d(c=16,h=9,w=8,k=5x3,stride=2,pad=2x1,layout=NCHW8c)",
    "dense(m=5,ci=13,co=35,epilogue=bias+relu)",
    "dense(ci=32,co=64)",
    "dense(m=37,ci=9,co=40,epilogue=residual)",
    "matmul(m=13,k=70,n=35)",
    "matmul(m=16,k=32,n=32)",
    "batch_matmul(b=3,m=7,k=13,n=17)",
    "conv2d(ci=3,h=11,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,epilogue=bias+residual+relu,dtype=bfloat16)",
    "conv2d(ci=1,h=9,w=9,co=20,k=5x3,pad=1,dtype=bfloat16)",
    "conv2d(ci=13,h=7,w=7,co=13,k=1,dtype=bfloat16)",
    "conv2d(ci=32,h=7,w=9,co=32,k=3,pad=1,layout=NCHW16c,epilogue=bias+residual+relu,dtype=bfloat16)",
    "conv2d(ci=32,h=5,w=5,co=32,k=3,pad=1,stride=2,layout=NCHW16c,dtype=bfloat16)",
    "depthwise_conv2d(c=32,h=7,w=7,k=3,pad=1,layout=NCHW16c,epilogue=bias+relu,dtype=bfloat16)",
    "depthwise_conv2d(c=5,h=9,w=35,k=3,stride=2,pad=0x0x1x1,dtype=bfloat16)",
    "dense(m=5,ci=13,co=35,epilogue=bias+residual+relu,dtype=bfloat16)",
    "matmul(m=13,k=70,n=35,dtype=bfloat16)",
    "batch_matmul(b=3,m=7,k=13,n=17,dtype=bfloat16)",
]


def legal(template: Template, workload: Workload, target: Target, rng: np.random.Generator) -> list[int]:
    """Random numbers of configurations that the template does not call illegal."""
    space = template.space(workload, target)
    indices = space.sample(rng, 2000)
    result: list[int] = indices[~template.illegal(workload, target, space.columns(indices))].tolist()
    return result


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("key", KEYS)
def test_legal_configurations_give_the_result_of_the_reference(key: str, isa: str) -> None:
    workload, target = parse(key), TARGETS[isa]
    template = template_for(workload, target)
    space = template.space(workload, target)
    chosen = legal(template, workload, target, np.random.default_rng([len(key), len(isa)]))
    assert chosen
    for index in [*chosen[:3], space.index(template.default(workload, target))]:
        assert_right(workload, template.schedule(workload, target, space.config(index)), target)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", named())
def test_the_default_is_a_legal_configuration_of_the_space(name: str, threads: int) -> None:
    for layout in ("", "(layout=NCHW16c)", "(layout=NCHW8c)"):
        if layout and "layout" not in dict(named()[name].arguments):
            continue
        workload = parse(name + layout)
        for isa in TARGETS:
            target = Target.host(threads=threads, isa=isa)
            template = template_for(workload, target)
            columns = numeric(template.default(workload, target), template.space(workload, target))
            assert not template.illegal(workload, target, columns).any(), f"{workload.label} on {target.name}"


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize(
    "key",
    [
        "depthwise_conv2d(c=96,h=9,w=41,k=4,pad=7x5x0x7,dilation=1x3,layout=NCHW32c,epilogue=bias)",
        "depthwise_conv2d(c=192,h=3,w=6,k=5x11,pad=3x0x0x8,layout=NCHW64c)",
        "depthwise_conv2d(n=3,c=7,h=12,w=32,k=7x3,pad=0x7x3x3,layout=NCHW8c)",
    ],
)
def test_the_default_writes_no_more_of_a_large_window_out_than_is_legal(key: str, isa: str) -> None:
    workload, target = parse(key), TARGETS[isa]
    template = template_for(workload, target)
    default = template.default(workload, target)
    assert not template.illegal(workload, target, numeric(default, template.space(workload, target))).any()
    assert_right(workload, template.schedule(workload, target, default), target)


@pytest.mark.parametrize("key", KEYS)
def test_legal_configurations_are_a_fair_part_of_the_space_and_lower(key: str) -> None:
    """Search draws until it finds legal ones: they must not be needles in a haystack."""
    workload = parse(key)
    template = template_for(workload, HOST)
    space = template.space(workload, HOST)
    chosen = legal(template, workload, HOST, np.random.default_rng(0))
    assert len(chosen) >= 0.005 * min(2000, space.size)
    for index in chosen[:10]:
        nest_of(workload, template.schedule(workload, HOST, space.config(index)))


@pytest.mark.parametrize("key", KEYS)
def test_features_are_finite_numbers_one_row_a_candidate(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, HOST)
    space = template.space(workload, HOST)
    features = template.features(workload, HOST, space.columns(space.sample(np.random.default_rng(0), 50)))
    assert features.dtype == np.float32
    assert features.shape[0] == min(50, space.size)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("key", KEYS)
def test_schedules_of_different_configurations_read_back(key: str) -> None:
    workload = parse(key)
    template = template_for(workload, HOST)
    space = template.space(workload, HOST)
    for index in legal(template, workload, HOST, np.random.default_rng(1))[:5]:
        schedule = template.schedule(workload, HOST, space.config(index))
        assert type(schedule).from_json(schedule.to_json()) == schedule


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize(
    ("algorithm", "lanes"), [("direct", "pixels"), ("flat", "pixels"), ("flat", "channels"), ("direct", "channels")]
)
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_every_picture_of_a_convolution_gives_the_result_of_the_reference(
    algorithm: str, lanes: str, isa: str, rng: Random
) -> None:
    """Random sizes: vectors, tiles and blocks that do not divide them, strides and borders within vectors."""
    image = f"n={rng.randint(1, 2)},ci={rng.randint(1, 9)},co={rng.randint(1, 40)}"
    image += f",h={rng.randint(3, 9)},w={rng.randint(3, 40)},epilogue={rng.choice(['bias+relu', 'residual'])}"
    window = "k=1" if algorithm == "flat" else f"k=3x{rng.randint(2, 3)},stride={rng.randint(1, 3)},pad=1"
    workload, target = parse(f"conv2d({image},{window})"), TARGETS[isa]
    template = template_for(workload, target)
    pins = {"lanes": lanes, **({"algorithm": "flat"} if algorithm == "flat" else {})}
    space = template.space(workload, target).pinned(pins)
    indices = space.sample(np.random.default_rng(rng.randint(0, 99)), 40_000)  # of a narrow picture few are legal
    legal = indices[~template.illegal(workload, target, space.columns(indices))]
    assert len(legal)
    for index in legal[:2].tolist():
        assert_right(workload, template.schedule(workload, target, space.config(index)), target)


def random_convolution(rng: Random) -> Workload:
    """Any layout and type; sizes that nothing divides, windows with holes, steps beyond them, uneven borders."""
    block = rng.choice((None, 4, 8, 16))
    counts = (1, 3, 5, 16, 21) if block is None else (1, 3, block, 2 * block)
    operator = rng.choice(("conv2d", "conv2d", "depthwise_conv2d"))
    channels = {name: rng.choice(counts) for name in (("ci", "co") if operator == "conv2d" else ("c",))}
    k, dilation = ([rng.randint(1, largest) for _ in range(2)] for largest in (7, 3))
    return make(
        operator,
        **channels,
        n=rng.randint(1, 2),
        h=(k[0] - 1) * dilation[0] + rng.randint(1, 9),
        w=(k[1] - 1) * dilation[1] + rng.randint(1, 30),
        k=k,
        dilation=dilation,
        stride=[rng.randint(1, 3) for _ in range(2)],
        pad=[rng.randint(0, 4) for _ in range(4)],
        layout="NCHW" if block is None else f"NCHW{block}c",
        epilogue=rng.choice(EPILOGUES),
        dtype=rng.choice(("float32", "bfloat16")),
    )


@pytest.mark.parametrize("isa", [*TARGETS, "narrow"])
@settings(max_examples=6)
@given(rng=st.randoms(use_true_random=False))
def test_legal_configurations_of_any_convolution_give_the_result_of_the_reference(isa: str, rng: Random) -> None:
    narrow = replace([*TARGETS.values()][-1], vector_bits=128, registers=32)  # as many as NEON has
    workload, target = random_convolution(rng), replace(TARGETS.get(isa, narrow), threads=rng.randint(1, 2))
    template = template_for(workload, target)
    space = template.space(workload, target)
    chosen, default = legal(template, workload, target, np.random.default_rng(rng.randint(0, 99))), template.default
    assert not template.illegal(workload, target, numeric(default(workload, target), space)).any()
    for index in [*chosen[:2], space.index(default(workload, target))]:
        assert_right(workload, template.schedule(workload, target, space.config(index)), target)


def test_a_configuration_from_before_a_knob_means_what_it_meant() -> None:
    for key in ("conv2d(ci=20,h=9,w=9,co=10,k=1)", "conv2d(ci=32,h=9,w=9,co=16,k=1,layout=NCHW16c)"):
        workload = parse(key)
        template = template_for(workload, HOST)
        space = template.space(workload, HOST)
        old = {"tile_co": 1, "tile_oh": 1, "tile_ow": 9, "block_co": 1, "block_oh": 1, "split_ci": 4, "unroll_kw": 0}
        old |= {"order": "ci,kh,kw", "outer": "co,oh", "co_inside": 0}
        meant = space.config(space.index(old))
        assert {name: meant[name] for name in meant if name not in old} in (
            {"algorithm": "direct", "lanes": "channels"},
            {"algorithm": "direct"},
        )
        assert template.schedule(workload, HOST, old) == template.schedule(workload, HOST, meant)


def offered(algorithm: str) -> set[str]:
    """Those of the keys whose space has it."""
    spaces = {key: template_for(parse(key), HOST).space(parse(key), HOST) for key in KEYS}
    return {
        key
        for key, space in spaces.items()
        for knob in space.knobs
        if knob.name == "algorithm" and algorithm in knob.values
    }


def test_an_image_is_seen_as_one_row_where_the_kernel_is_one_pixel() -> None:
    assert offered("flat") == {
        "conv2d(ci=13,h=7,w=7,co=13,k=1,dtype=bfloat16)",
        "conv2d(ci=16,h=8,w=9,co=24,k=1,layout=NCHW8c,epilogue=residual)",
        "conv2d(n=2,ci=9,h=7,w=11,co=21,k=1,epilogue=bias+residual+relu)",
    }


def test_columns_and_channels_are_one_axis_where_that_leaves_fewer_halves_of_pairs() -> None:
    assert offered("joined") == {
        "conv2d(ci=3,h=11,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,epilogue=bias+residual+relu,dtype=bfloat16)"
    }


def test_winograd_is_offered_where_it_applies() -> None:
    assert offered("winograd4") == {
        "conv2d(ci=13,h=7,w=7,co=13,k=3,pad=1)",
        "conv2d(ci=32,h=7,w=7,co=32,k=3,pad=1,layout=NCHW16c)",
        "conv2d(ci=20,h=9,w=9,co=10,k=3,pad=1)",
        "conv2d(n=2,ci=16,h=9,w=11,co=16,k=3,pad=1x0x2x1,layout=NCHW8c,epilogue=bias+residual+relu)",
        "conv2d(ci=32,h=7,w=9,co=32,k=3,pad=1,layout=NCHW16c,epilogue=bias+residual+relu,dtype=bfloat16)",
    }


@pytest.mark.parametrize("layout", ["NCHW", "NCHW16c"])
@pytest.mark.parametrize(
    ("name", "algorithms"),
    [
        ("resnet18.C2", {"winograd4", "winograd6"}),
        ("resnet18.C9", {"winograd4", "winograd5"}),
        ("vgg16.V1", {"direct"}),  # three channels: the transforms would take longer than they save
    ],
)
def test_the_default_is_winograd_where_that_saves_more_than_it_costs(
    name: str, algorithms: set[str], layout: str
) -> None:
    workload = parse(f"{name}(layout={layout})")
    for target in TARGETS.values():
        assert template_for(workload, target).default(workload, target).get("algorithm") in algorithms


@pytest.mark.parametrize("key", ["resnet18.C2(layout=NCHW16c)", "resnet18.C12(layout=NCHW16c)"])
def test_each_algorithm_is_a_fair_part_of_the_legal_configurations(key: str) -> None:
    """The search begins with a random sample: it must see them all."""
    workload = parse(key)
    template = template_for(workload, HOST)
    space = template.space(workload, HOST)
    columns = space.columns(space.sample(np.random.default_rng(0), 20000))
    algorithms = columns["algorithm"][~template.illegal(workload, HOST, columns)]
    counts = np.bincount(algorithms, minlength=3)
    assert counts[:3].all()
    assert counts[counts > 0].min() >= 0.04 * len(algorithms)


def test_rivals_are_legal_and_each_is_the_only_one_of_its_algorithm() -> None:
    for key in (
        "resnet18.C2(layout=NCHW16c)",
        "resnet18.C12(layout=NCHW16c)",
        "conv2d(ci=64,h=35,w=35,co=96,k=3,pad=1)",
    ):
        workload = parse(key)
        for target in TARGETS.values():
            template = template_for(workload, target)
            known = [template.default(workload, target), *template.rivals(workload, target)]
            assert len(known) == len({config["algorithm"] for config in known}) > 1
            for config in known:
                assert not template.illegal(workload, target, numeric(config, template.space(workload, target))).any()


def test_an_algorithm_that_cannot_meet_the_tolerance_is_no_rival() -> None:
    by_tolerance = {}
    for tolerance in ("1e-4", "2e-6"):
        workload = parse(f"resnet18.C9(tolerance={tolerance})")
        rivals = template_for(workload, HOST).rivals(workload, HOST)
        by_tolerance[tolerance] = {config["algorithm"] for config in rivals}
    assert "winograd4" in by_tolerance["1e-4"]
    assert by_tolerance["2e-6"] <= {"direct", "winograd2"}


def test_the_default_avoids_large_tiles_where_all_channels_of_a_row_fall_into_one_place_of_a_cache() -> None:
    """In NCHW, where the bytes of an image are a multiple of 4096."""
    algorithms = {}
    for size in (62, 64):
        workload = parse(f"conv2d(ci=32,h={size},w={size},co=32,k=3,pad=1)")
        algorithms[size] = template_for(workload, HOST).default(workload, HOST)["algorithm"]
    assert algorithms[62] in ("winograd5", "winograd6")
    assert algorithms[64] in ("winograd4", "direct")


def test_transforms_that_are_written_out_often_make_a_winograd_candidate_illegal() -> None:
    workload = parse("resnet18.C2(layout=NCHW16c)")
    template = template_for(workload, HOST)
    space = template.space(workload, HOST).pinned({"algorithm": "winograd6", "outer": "oh", "tile_oh": 3, "tile_ow": 3})
    columns = space.columns(np.arange(space.size))
    legal = ~template.illegal(workload, HOST, columns)
    # 10 x 10 tiles: blocks of rows that do not divide them leave a second copy of all that a task does.
    assert legal[columns["block_oh"] == 14].any()
    assert legal[columns["block_oh"] == 14].mean() > legal[columns["block_oh"] == 1].mean()


def test_the_default_of_a_depthwise_layer_in_nchw_copies_no_input_and_does_rows_together() -> None:
    for name in ("mobilenet.D1", "mobilenet.D2", "mobilenet.D9", "depthwise_conv2d(c=13,h=35,w=35,k=3,pad=1)"):
        workload = parse(name)
        config = template_for(workload, HOST).default(workload, HOST)
        assert config["pad"] == "skip"
        assert config["tile_oh"] > 1


def test_every_operator_has_a_template_on_a_cpu() -> None:
    by_operator = {parse(key).operator: template_for(parse(key), HOST) for key in KEYS}
    assert set(by_operator) == set(OPERATORS)
    assert by_operator["conv2d"].key == "conv2d/1"


def test_a_target_without_templates_is_refused() -> None:
    elsewhere = Target.from_json({**HOST.to_json(), "kind": "cuda"})
    with pytest.raises(ScheduleError, match="no template for matmul on a target of kind cuda"):
        template_for(parse("matmul(m=2,k=2,n=2)"), elsewhere)


def test_a_machine_is_not_limited_to_what_it_lacks() -> None:
    with pytest.raises(TargetError):
        Target.host(isa="avx1024")


def test_tiles_waste_at_most_a_quarter() -> None:
    assert tiles(7, 7) == (1, 2, 4, 7)
    assert tiles(28, 5) == (1, 2, 3, 4, 5)
    assert all(-(-35 // size) * size <= 35 * 1.25 for size in tiles(35, 30))


def test_up_to_keeps_what_fits_and_one() -> None:
    assert up_to(5, (1, 2, 4, 8)) == (1, 2, 4)
    assert up_to(1, (2, 4)) == (1,)


def test_quotients_round_up_for_integers_and_columns() -> None:
    assert ceil(7, 2) == 4
    np.testing.assert_array_equal(ceil(7, np.array([1, 2, 7, 8])), [7, 4, 1, 1])


def test_the_smaller_of_integers_and_columns() -> None:
    assert least(4, 7) == 4
    np.testing.assert_array_equal(least(4, np.array([1, 4, 7])), [1, 4, 4])


def test_the_register_tile_fits_and_wastes_little() -> None:
    candidates = [(v, p) for v in (1, 2, 3, 4) for p in range(1, 31)]
    v, p = register_tile(candidates, vectors=8, rows=56, registers=32)
    assert v * p + v + 1 <= 32
    assert v * p >= 16
    assert register_tile([(4, 30)], vectors=8, rows=56, registers=16) == (1, 1)


@pytest.mark.parametrize(
    ("extent", "block", "tile", "copies"),
    [(12, 2, 3, 1), (13, 2, 3, 2), (15, 2, 3, 2), (16, 2, 3, 3), (2, 1, 3, 1), (5, 2, 3, 2)],
)
def test_bodies_are_the_whole_blocks_the_whole_tiles_after_them_and_the_rest(
    extent: int, block: int, tile: int, copies: int
) -> None:
    assert bodies(extent, block, tile) == copies
    assert bodies(extent, np.array([block]), np.array([tile])).tolist() == [copies]


def test_the_default_meets_the_tolerance() -> None:
    """As the algorithms' errors are known, without a measurement."""
    template = template_for(parse("resnet18.C9"), HOST)
    defaults = {
        tolerance: template.default(parse(f"resnet18.C9(tolerance={tolerance})"), HOST)["algorithm"]
        for tolerance in ("1e-4", "1e-5", "1e-6")
    }
    assert defaults == {"1e-4": "winograd5", "1e-5": "winograd2", "1e-6": "direct"}
