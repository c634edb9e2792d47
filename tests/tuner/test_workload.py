"""Workloads: keys, their parser and its messages, fingerprints, names, operands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner import workload as wl
from tuner.canonical import fingerprint
from tuner.errors import ArgumentError, WorkloadError
from tuner.operators import OPERATORS
from tuner.operators.parameter import value_text
from tuner.workload import Operand, Workload, conv2d, make, named, parse

C7_KEY = "conv2d(n=1,ci=128,h=28,w=28,co=256,k=3,stride=2,pad=1,layout=NCHW16c)"

sizes = st.integers(1, 12)
pairs = st.one_of(sizes, st.tuples(sizes, sizes))
paddings = st.one_of(sizes, st.tuples(sizes, sizes), st.tuples(*[st.integers(0, 5)] * 4))
epilogues = st.sampled_from(
    ["", "bias", "residual", "relu", "bias+residual", "bias+relu", "residual+relu", "bias+residual+relu"]
)
tolerances = st.one_of(st.none(), st.floats(0, 1, exclude_min=True), st.sampled_from([1e-4, "1e-4", "0.0001", 1]))
layouts = st.sampled_from(["NCHW", "NCHW4c", "NCHW8c", "NCHW16c", "NCHW32c", "NCHW64c"])
channels = st.sampled_from([1, 2, 3, 64, 128])
images = {
    "n": sizes,
    "h": st.integers(60, 90),  # room for the largest kernel times the largest dilation
    "w": st.integers(60, 90),
    "k": st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    "stride": pairs,
    "pad": paddings,
    "dilation": pairs,
    "layout": layouts,
    "epilogue": epilogues,
}
workloads = st.one_of(
    st.builds(make, st.just("conv2d"), ci=channels, co=channels, **images),
    st.builds(make, st.just("depthwise_conv2d"), c=channels, **images),
    st.builds(make, st.just("dense"), m=sizes, ci=sizes, co=sizes, epilogue=epilogues),
    st.builds(make, st.just("matmul"), m=sizes, k=sizes, n=sizes, tolerance=tolerances),
    st.builds(make, st.just("batch_matmul"), b=sizes, m=sizes, k=sizes, n=sizes),
    st.sampled_from(sorted(named().values(), key=lambda workload: workload.key)),
)


@given(workloads)
def test_a_key_reads_back_as_the_same_workload(workload: Workload) -> None:
    assert parse(workload.key) == workload
    assert parse(workload.key).fingerprint == workload.fingerprint


@given(workloads, layouts, epilogues)
def test_a_label_reads_back_as_the_same_workload(workload: Workload, layout: str, epilogue: str) -> None:
    assert parse(workload.label) == workload
    if workload.label.startswith("resnet18."):
        variant = parse(f"{workload.label}(layout={layout},epilogue={epilogue})" if epilogue else workload.label)
        assert parse(variant.label) == variant
        assert variant.label.startswith("resnet18.")


@given(workloads, workloads)
def test_fingerprints_are_equal_exactly_for_equal_workloads(one: Workload, other: Workload) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other) == (one.key == other.key)


def mistake(text: str) -> WorkloadError | None:
    try:
        parse(text)
    except WorkloadError as error:
        return error
    return None


@given(st.sampled_from([C7_KEY, "resnet18.C7(n=2)"]), st.data())
def test_a_damaged_key_is_a_workload_or_an_error_of_one_line(key: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(key)))
    lost = data.draw(st.integers(0, 3))
    text = key[:cut] + data.draw(st.text("(=,)x+.0k- é\n", max_size=3)) + key[cut + lost :]
    error = mistake(text)
    if error is None:
        assert parse(parse(text).key) == parse(text)
    else:
        assert len(str(error).splitlines()) == 1
        assert error.position is None or 0 <= error.position <= len(text)


def test_the_key_states_sizes_and_leaves_default_options_out() -> None:
    workload = conv2d(ci=128, h=28, w=28, co=256, k=(3, 3), stride=2, pad=(1, 1, 1, 1), layout="NCHW16c")
    assert workload.key == C7_KEY
    assert parse(C7_KEY.replace("n=1,", "")) == workload
    assert parse(C7_KEY.replace("k=3", "k=3x3").replace("pad=1", "pad=1x1x1x1,dilation=1,epilogue=relu")) == parse(
        C7_KEY.replace(")", ",epilogue=relu)")
    )


@pytest.mark.parametrize(
    ("pad", "text"),
    [(0, ""), (1, ",pad=1"), ((1, 2), ",pad=1x2"), ((1, 2, 1, 2), ",pad=1x2"), ((0, 1, 2, 3), ",pad=0x1x2x3")],
)
def test_padding_is_written_in_its_shortest_form(pad: int, text: str) -> None:
    assert conv2d(ci=1, h=8, w=8, co=1, k=(3, 1), pad=pad).key == f"conv2d(n=1,ci=1,h=8,w=8,co=1,k=3x1{text})"


def test_spaces_do_not_matter() -> None:
    assert parse("  matmul ( m = 2 , k=3,\tn=4 ) ").key == "matmul(m=2,k=3,n=4)"


def test_arguments_come_in_any_order_and_are_kept_in_the_declared_one() -> None:
    assert parse("matmul(n=4,m=2,k=3)") == parse("matmul(m=2,k=3,n=4)")
    assert [name for name, _ in parse("matmul(n=4,m=2,k=3)").arguments] == ["m", "k", "n", "dtype"]


def test_fingerprints_never_change() -> None:
    """These are identities in people's databases: a change here makes every stored trial unreachable."""
    assert parse(C7_KEY).fingerprint == "8bbfc91b0eeb3be386f297ebe6b4beff231bdff5b00d4b639be55d9982a190af"
    assert parse("matmul.1024").fingerprint == fingerprint(
        {"operator": "matmul", "arguments": {"m": 1024, "k": 1024, "n": 1024}}
    )


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected the name of an operator or of a layer but found the end"),
        ("conv2d", 6, "expected '(' but found the end"),
        ("conv2d[ci=1]", 6, "expected '(' but found '[ci=1]'"),
        ("matmul(m=1,,k=2)", 11, "expected the name of an argument but found ',k=2)'"),
        ("matmul(m=1,k=2,)", 15, "expected the name of an argument but found ')'"),
        ("matmul(m:1)", 8, "expected '=' after m"),
        ("matmul(m=,k=1)", 9, "expected a value for m"),
        ("matmul(m=1 k=2)", 11, "expected ',' or ')' but found 'k=2)'"),
        ("matmul(m=1,k=2,n=3", 18, "expected ',' or ')' but found the end"),
        ("matmul(m=1,k=2,n=3)x", 19, "expected the end but found 'x'"),
        ("matmul(m=1,q=2)", 11, "matmul has no argument 'q'; it takes m, k, n, dtype=float32, tolerance"),
        ("matmul(m=1,k=2,m=1)", 15, "m is given twice"),
        ("matmul(m=0,k=1,n=1)", 9, "m must be a whole number from 1"),
        ("matmul(m=-4,k=1,n=1)", 9, "not '-4'"),
        ("matmul(m=99999999999,k=1,n=1)", 9, "not '99999999999'"),
        ("matmul(m=1.5,k=1,n=1)", 9, "not '1.5'"),
        ("matmul(m=2x2,k=1,n=1)", 9, "not '2x2'"),
        ("conv2d(k=1x2x3)", 9, "k must be one or two whole numbers above 0, written 3 or 3x5"),
        ("conv2d(stride=0)", 14, "stride must be"),
        ("conv2d(pad=1x2x3)", 11, "pad must be"),
        ("conv2d(pad=-1)", 11, "pad must be"),
        ("conv2d(dilation=0)", 16, "dilation must be"),
        ("conv2d(layout=NHWC)", 14, "layout must be one of NCHW, NCHW4c"),
        ("conv2d(layout=NCHW12c)", 14, "not 'NCHW12c'"),
        ("conv2d(epilogue=relu+bias)", 16, "bias, residual, relu, in this order and joined by +"),
        ("conv2d(epilogue=bias+bias)", 16, "not 'bias+bias'"),
        ("conv2d(dtype=float16)", 13, "dtype must be one of float32, bfloat16, not 'float16'"),
        ("matmul(m=1,k=2,n=3,tolerance=0)", 29, "tolerance must be a number above 0 and at most 1"),
        ("resnet18.C7(tolerance=1e-5,tolerance=1e-6)", 27, "tolerance is given twice"),
        ("resnet18.C7(layout=foo)", 19, "layout must be one of"),
    ],
)
def test_a_malformed_key_is_refused_at_its_position(text: str, position: int, message: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        parse(text)
    assert caught.value.position == position
    assert f"at position {position}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv2d()", "conv2d needs ci, h, w, co, k; it takes n=1, ci,"),
        ("conv2d(ci=8,h=4,w=4,co=8,k=5)", "the kernel is larger than the padded input: k=5 with dilation=1 covers 5x5"),
        ("conv2d(ci=8,h=9,w=9,co=8,k=1x3,dilation=5)", "covers 1x11, the padded input is 9x9"),
        ("conv2d(ci=24,h=4,w=4,co=8,k=1,layout=NCHW16c)", "ci=24 is not divisible by the block of 16 channels"),
        ("conv2d(ci=8,h=4,w=4,co=24,k=1,layout=NCHW16c)", "co=24 is not divisible"),
        ("depthwise_conv2d(c=24,h=4,w=4,k=1,layout=NCHW16c)", "c=24 is not divisible"),
        ("depthwise_conv2d(c=8,h=4,w=4,k=5)", "the kernel is larger than the padded input"),
    ],
)
def test_an_impossible_workload_is_refused(text: str, message: str) -> None:
    with pytest.raises(WorkloadError, match=r"^[^\n]+$") as caught:
        parse(text)
    assert message in str(caught.value)


def test_a_tolerance_is_stated_in_its_shortest_form_and_only_when_it_is_not_the_default() -> None:
    tight = parse("resnet18.C2(layout=NCHW16c, tolerance=0.00001)")
    assert tight.label == "resnet18.C2(layout=NCHW16c,tolerance=1e-05)"
    assert tight.key == "conv2d(n=1,ci=64,h=56,w=56,co=64,k=3,pad=1,layout=NCHW16c,tolerance=1e-05)"
    assert tight == parse("resnet18.C2(layout=NCHW16c)").within(1e-5) == parse(tight.key) != tight.problem
    assert tight.tolerance == 1e-5
    assert parse("matmul(m=1,k=2,n=3,tolerance=1e-4)") == parse("matmul(m=1,k=2,n=3)")
    assert wl.matmul(m=1, k=2, n=3, tolerance=1).key == "matmul(m=1,k=2,n=3,tolerance=1.0)"


def test_workloads_that_differ_in_their_tolerance_are_one_problem() -> None:
    loose, tight = parse(C7_KEY), parse(C7_KEY).within("1e-6")
    assert loose.fingerprint != tight.fingerprint
    assert loose.problem == tight.problem == loose
    assert (tight.flops, tight.operands) == (loose.flops, loose.operands)


@pytest.mark.parametrize("value", [0, -1e-4, 1.5, float("nan"), float("inf"), True, "", "1e", "1.2.3", "tight", (1, 2)])
def test_a_tolerance_is_a_number_above_zero_and_at_most_one(value: object) -> None:
    with pytest.raises(WorkloadError, match="tolerance must be a number above 0 and at most 1, such as 1e-5, not"):
        parse(C7_KEY).within(value)


@pytest.mark.parametrize("value", [True, 1.0, 0, "", None, (2, 3), [1, 2], np.array([2, 2])])
def test_a_size_is_one_positive_whole_number(value: object) -> None:
    with pytest.raises(WorkloadError, match="m must be a whole number"):
        make("matmul", m=value, k=1, n=1)


def test_numpy_integers_are_numbers() -> None:
    assert make("matmul", m=np.int64(2), k=np.uint8(3), n=4) == parse("matmul(m=2,k=3,n=4)")


def test_an_unknown_operator_names_the_near_ones() -> None:
    with pytest.raises(WorkloadError, match="unknown operator 'conv3d'; did you mean conv2d"):
        make("conv3d")


@pytest.mark.parametrize(
    ("text", "near"),
    [("resnet18.C13", "resnet18.C12"), ("resnet.C7", "resnet18.C7"), ("C7", "resnet18.C7"), ("conv2", "conv2d")],
)
def test_an_unknown_name_gives_near_matches(text: str, near: str) -> None:
    with pytest.raises(WorkloadError, match=r"unknown workload .* did you mean") as caught:
        parse(text)
    assert near in str(caught.value)
    assert caught.value.position == 0


def test_a_name_that_is_near_to_none_lists_what_there_is() -> None:
    with pytest.raises(
        WorkloadError, match=r"known are conv2d, .*, resnet18\.\*, mobilenet\.\*, vgg16\.\*, matmul\.\*$"
    ):
        parse("zzz")


def test_the_named_layers_are_those_of_the_papers() -> None:
    families = [name.partition(".")[0] for name in named()]
    assert {family: families.count(family) for family in families} == {
        "resnet18": 12,
        "mobilenet": 9,
        "vgg16": 9,
        "matmul": 1,
    }
    assert len(set(named().values())) == 31
    megaflops = [round(parse(f"resnet18.C{number}").flops / 1e6, 2) for number in range(1, 13)]
    assert megaflops == [
        *(236.03, 231.21, 25.69, 115.61, 12.85, 231.21),
        *(115.61, 12.85, 231.21, 115.61, 12.85, 231.21),
    ]
    assert parse("matmul.1024").flops == 2 * 1024**3
    assert parse("mobilenet.D9").flops == 2 * 7 * 7 * 1024 * 9


def test_a_named_layer_takes_changes_and_keeps_its_name() -> None:
    blocked = parse("resnet18.C7(layout=NCHW16c)")
    assert blocked.key == C7_KEY
    assert blocked.label == str(blocked) == "resnet18.C7(layout=NCHW16c)"
    assert parse("RESNET18.c7()").label == "resnet18.C7"
    assert parse("resnet18.C7(n=8,epilogue=bias+relu)").label == "resnet18.C7(n=8,epilogue=bias+relu)"


def test_a_layer_of_another_shape_loses_the_name() -> None:
    workload = parse("resnet18.C7(co=512)")
    assert workload.label == workload.key == "conv2d(n=1,ci=128,h=28,w=28,co=512,k=3,stride=2,pad=1)"


def test_operands_of_a_blocked_convolution() -> None:
    workload = parse("resnet18.C1(layout=NCHW16c,epilogue=bias+residual+relu)")
    assert workload.operands == (
        Operand("data", (1, 1, 224, 224, 3), "input"),
        Operand("weight", (64, 3, 7, 7), "constant"),
        Operand("bias", (64,), "constant"),
        Operand("residual", (1, 4, 112, 112, 16), "input"),
        Operand("output", (1, 4, 112, 112, 16), "output"),
    )


def test_operands_of_the_other_operators() -> None:
    def shapes(text: str) -> list[tuple[str, tuple[int, ...], str]]:
        return [(operand.name, operand.shape, operand.role) for operand in parse(text).operands]

    assert shapes("depthwise_conv2d(n=2,c=8,h=9,w=5,k=3x1,stride=2,layout=NCHW4c)") == [
        ("data", (2, 2, 9, 5, 4), "input"),
        ("weight", (8, 1, 3, 1), "constant"),
        ("output", (2, 2, 4, 3, 4), "output"),
    ]
    assert shapes("dense(m=2,ci=3,co=4,epilogue=bias+residual)") == [
        ("data", (2, 3), "input"),
        ("weight", (4, 3), "constant"),
        ("bias", (4,), "constant"),
        ("residual", (2, 4), "input"),
        ("output", (2, 4), "output"),
    ]
    assert shapes("batch_matmul(b=5,m=2,k=3,n=4)") == [
        ("a", (5, 2, 3), "input"),
        ("b", (5, 3, 4), "input"),
        ("output", (5, 2, 4), "output"),
    ]


def test_random_arrays_are_those_of_the_seed() -> None:
    workload = parse("dense(m=20,ci=30,co=40,epilogue=bias)")
    first, again, other = (wl.random_arrays(workload, seed) for seed in (7, 7, 8))
    assert list(first) == ["data", "weight", "bias"]
    for name, array in first.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])
    assert -1 <= first["weight"].min() < -0.9 < 0.9 < first["weight"].max() <= 1


def test_the_reference_refuses_arrays_that_do_not_fit() -> None:
    workload = parse("matmul(m=2,k=3,n=4)")
    with pytest.raises(ArgumentError, match=r"b is missing; it must have shape \(3, 4\)"):
        wl.reference(workload, {"a": np.zeros((2, 3))})
    with pytest.raises(ArgumentError, match=r"a has shape \(3, 2\); it must have shape \(2, 3\)"):
        wl.reference(workload, {"a": np.zeros((3, 2)), "b": np.zeros((3, 4))})


def test_every_operator_and_layer_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "workloads.md").read_text(encoding="utf-8")
    for operator in OPERATORS.values():
        parameters = ((p.name, p.default) for p in operator.parameters)
        signature = (name if default is None else f"{name}={value_text(default)}" for name, default in parameters)
        assert f"**{operator.name}**: `{', '.join(signature)}`" in page
    for name in named():
        assert name in page or re.search(rf"{name.partition('.')[0]}\.\w+, {name.partition('.')[2]} ", page), name


def test_the_measuring_process_needs_only_numpy_and_its_bfloat16_for_workloads() -> None:
    code = "import sys, tuner.workload; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split()) - sys.stdlib_module_names
    assert {name for name in loaded if not name.startswith("_")} <= {
        "ml_dtypes",
        "numpy",
        "tuner",
        "sitecustomize",
        "cython_runtime",
    }
