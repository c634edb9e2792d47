"""Context features have the values AutoTVM published, for one nest or many at once; knob features are the knobs."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.build import nest_of
from tuner.features.context import ANNOTATIONS, Touch, context_features, loop_contexts
from tuner.features.knob import knob_features
from tuner.loopnest import Affine, Binary, Buffer, Constant, Kind, Load, Loop, Nest, Node, Scope, Store, When
from tuner.schedule import Extent
from tuner.space import Choice, Flag, Space
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse


def loop(name: str, extent: Extent, *body: Node, kind: Kind = Kind.SERIAL) -> Loop:
    return Loop(name, name, extent, 1, kind, "cut", body)


def nest(*body: Node) -> Nest:
    return Nest(body, (), ())


def buffer(name: str) -> Buffer:
    return Buffer(name, 1, Scope.ARGUMENT)


def matmul(m: Extent, n: Extent, k: Extent, kinds: tuple[Kind, Kind, Kind] = (Kind.SERIAL,) * 3) -> Nest:
    """C[y, x] += A[y, k] * B[k, x]."""
    a = Load(buffer("A"), Affine((("y", k), ("k", 1))))
    b = Load(buffer("B"), Affine((("k", n), ("x", 1))))
    store = Store(buffer("C"), Affine((("y", n), ("x", 1))), Binary("mul", a, b), accumulate=True)
    inner = loop("k", k, store, kind=kinds[2])
    return nest(loop("y", m, loop("x", n, inner, kind=kinds[1]), kind=kinds[0]))


def row(touch: Touch) -> list[int]:
    columns = (touch.stride, touch.count, touch.reuse, touch.thread_count, touch.thread_reuse)
    return [int(column[0]) for column in columns]


GOLDEN = {
    # loop: length, nest, topdown, bottomup; then stride, count, reuse, thread count, thread reuse of each access
    "y": ([128, 1, 128, 2097152], [128, 16384, 128, 0, 0], [0, 16384, 128, 0, 0], [128, 16384, 128, 0, 0]),
    "x": ([128, 2, 16384, 16384], [0, 128, 128, 0, 0], [1, 16384, 1, 0, 0], [1, 128, 128, 0, 0]),
    "k": ([128, 3, 2097152, 128], [1, 128, 1, 0, 0], [128, 128, 1, 0, 0], [0, 1, 128, 0, 0]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_matmul_has_the_published_values(name: str) -> None:
    context = next(context for context in loop_contexts(matmul(128, 128, 128)) if context.name == name)
    expected, a, b, c = GOLDEN[name]
    assert [int(context.length[0]), context.level, int(context.topdown[0]), int(context.bottomup[0])] == expected
    assert {access: row(touch) for access, touch in context.touches.items()} == {"A_0": a, "B_0": b, "C_0": c, "C_1": c}
    assert (context.adds, context.multiplies, context.divides) == ((1, 1, 0) if name == "k" else (0, 0, 0))


def test_the_vector_has_18_numbers_a_loop_and_6_an_access() -> None:
    features = context_features(matmul(128, 128, 128))
    assert features.shape == (1, 3 * (18 + 6 * 4))
    assert features.dtype == np.float32


def test_the_vector_is_on_a_symmetric_log_scale_in_the_published_order() -> None:
    y = context_features(matmul(128, 128, 128))[0, : 18 + 6 * 4]

    def log(value: int) -> float:
        return float(np.log2(value + 1))

    assert y[:4] == pytest.approx([log(128), 1, log(128), log(2097152)])
    assert y[4:15].tolist() == [float(name == "serial") for name in ANNOTATIONS]
    assert y[15:18].tolist() == [0, 0, 0]
    assert y[18:24] == pytest.approx([log(128), -1, log(16384), log(128), 0, 0])
    assert y[24:30] == pytest.approx([0, -1, log(16384), log(128), 0, 0])


def test_annotations_have_the_published_places() -> None:
    kinds = (Kind.PARALLEL, Kind.UNROLLED, Kind.VECTORIZED)
    features = context_features(matmul(4, 5, 6, kinds)).reshape(3, -1)
    assert [int(np.argmax(one_hot)) for one_hot in features[:, 4:15]] == [8, 6, 7]


def test_thread_features_compare_a_parallel_loop_with_one_iteration_of_it() -> None:
    y, x, _ = loop_contexts(matmul(128, 128, 128, (Kind.PARALLEL, Kind.SERIAL, Kind.SERIAL)))
    # One thread's row touches 128 of A, all of B and 128 of C; the parallel loop repeats that 128 times.
    assert row(y.touches["A_0"])[3:] == [128, 1]
    assert row(y.touches["B_0"])[3:] == [1, 128]
    assert row(x.touches["A_0"])[3:] == [0, 0]


def test_the_initialisation_of_a_reduction_is_left_out() -> None:
    c = Store(buffer("C"), Affine((("y", 1),)), Load(buffer("A"), Affine((("y", 1), ("k", 8)))), accumulate=True)
    zero = Store(buffer("C"), Affine((("y", 1),)), Constant(0.0))
    plain = nest(loop("k", 4, loop("y", 8, c)))
    with_start = nest(loop("k", 4, When(("k",), "first", (zero,), ()), loop("y", 8, zero, c)))
    np.testing.assert_array_equal(context_features(with_start), context_features(plain))


def test_the_finish_of_a_reduction_is_part_of_it() -> None:
    relu = Store(buffer("C"), Affine((("y", 1),)), Binary("max", Load(buffer("T"), Affine()), Constant(0.0)))
    (context,) = loop_contexts(nest(loop("y", 8, When((), "last", (relu,), ()))))
    assert list(context.touches) == ["C_0", "T_0"]


@given(st.lists(st.tuples(*[st.integers(1, 64)] * 3), min_size=1, max_size=6))
def test_columns_give_what_each_candidate_gives_alone(extents: list[tuple[int, int, int]]) -> None:
    kinds = (Kind.PARALLEL, Kind.SERIAL, Kind.VECTORIZED)
    m, n, k = np.array(extents).T
    together = context_features(matmul(m, n, k, kinds))
    alone = [context_features(matmul(*row, kinds))[0] for row in extents]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_the_candidates_of_a_template_get_the_same_features_together_as_alone() -> None:
    workload, target = parse("resnet18.C7"), Target.host(threads=2)
    template = template_for(workload, target)
    space, default = template.space(workload, target), template.default(workload, target)
    columns = space.columns(space.sample(np.random.default_rng(0), 4000))
    legal = np.flatnonzero(~template.illegal(workload, target, columns))[:20]
    # Flags and strings choose the structure; integers are columns.
    numeric = [knob.name for knob in space.knobs if isinstance(knob.values[0], int) and not isinstance(knob, Flag)]
    together = {**default, **{name: columns[name][legal] for name in numeric}}
    features = context_features(nest_of(workload, template.schedule(workload, target, together)))
    assert len(features) == len(legal) == 20
    for row in range(len(legal)):
        alone = {**default, **{name: int(columns[name][legal[row]]) for name in numeric}}
        expected = context_features(nest_of(workload, template.schedule(workload, target, alone)))[0]
        np.testing.assert_array_equal(features[row], expected)


def test_a_stride_that_is_zero_for_some_candidates_is_reuse_there() -> None:
    store = Store(buffer("C"), Affine((("x", np.array([0, 1])),)), Constant(1.0), accumulate=True)
    (context,) = loop_contexts(nest(loop("x", 8, store)))
    touch = context.touches["C_0"]
    assert touch.count.tolist() == [1, 8]
    assert touch.reuse.tolist() == [8, 1]


def test_loops_of_one_turn_keep_their_place() -> None:
    assert context_features(matmul(1, 1, 1)).shape == context_features(matmul(128, 128, 128)).shape


def test_plain_knobs_are_appended_raw() -> None:
    columns: dict[str, npt.NDArray[np.int64]] = {"unroll": np.array([16, 0])}
    features = context_features(matmul(np.array([2, 4]), 8, 8), columns)
    assert features[:, -1].tolist() == [16, 0]


def test_a_knob_feature_depends_on_its_own_candidate_only() -> None:
    space = Space([Choice("tile", (1, 2, 8)), Choice("order", ("a", "b")), Flag("pack")])
    features = knob_features(space.columns(np.arange(space.size)))
    assert features.shape == (12, 3)
    assert features.dtype == np.float32
    assert features[:, 0] == pytest.approx(np.repeat(np.log2([2, 3, 9]), 4))
    assert features[:4, 1:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    np.testing.assert_array_equal(knob_features(space.columns(np.array([7]))), features[7:8])
