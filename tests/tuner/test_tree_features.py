"""A nest becomes a tree: a node a loop, leaves for variables, nodes for accesses; the same together as alone."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.test_features import buffer, loop, matmul, nest
from tuner.build import nest_of
from tuner.features.context import ANNOTATIONS
from tuner.features.tree import LEVEL, NUMBERS, PARENT, TOKEN, VOCABULARY, context_tree_features, token, tree_features
from tuner.loopnest import Affine, Constant, Kind, Load, Store, When
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse

Rows = npt.NDArray[np.float32]


def shape_of(tree: Rows) -> list[tuple[int, int, int]]:
    """(level, parent, token) of each node."""
    return [(int(row[LEVEL]), int(row[PARENT]), int(row[TOKEN])) for row in tree]


def children(tree: Rows, position: int) -> list[int]:
    return [number for number, row in enumerate(tree) if int(row[PARENT]) == position and row[LEVEL] > 1]


def test_the_tree_of_a_matmul() -> None:
    (tree,) = tree_features(matmul(8, 4, 2, (Kind.PARALLEL, Kind.SERIAL, Kind.SERIAL)))
    y = children(tree, 0)
    assert len(y) == 1
    variable, x = children(tree, y[0])
    assert int(tree[variable, TOKEN]) == token("y")
    k = children(tree, x)[1]
    below = children(tree, k)
    # the variable, then C twice (stored and added to), A and B, each with the variables of its index
    assert [int(tree[node, TOKEN]) for node in below] == [token(name) for name in ("k", "C", "C", "A", "B")]
    assert [int(tree[node, TOKEN]) for node in children(tree, below[3])] == [token("y"), token("k")]
    numbers = tree[y[0], NUMBERS:]
    assert numbers[0] == pytest.approx(np.log2(1 + 8))
    assert numbers[1:].tolist() == [float(name == "parallel") for name in ANNOTATIONS]
    assert not tree[variable, NUMBERS:].any()


def test_parents_come_before_their_children() -> None:
    (tree,) = tree_features(matmul(8, 4, 2))
    for position, (level, parent, _) in enumerate(shape_of(tree)[1:], start=1):
        assert parent < position
        assert level == tree[parent, LEVEL] + 1


def test_loops_that_only_initialise_are_absent() -> None:
    c = Affine((("y", 1),))
    add = Store(buffer("C"), c, Load(buffer("A"), Affine((("y", 1), ("k", 8)))), accumulate=True)
    zero = Store(buffer("C"), c, Constant(0.0))
    plain = nest(loop("k", 4, loop("y", 8, add)))
    started = nest(loop("k", 4, When(("k",), "first", (zero,), ()), loop("z", 8, zero), loop("y", 8, zero, add)))
    np.testing.assert_array_equal(tree_features(started), tree_features(plain))
    finished = nest(loop("y", 8, When((), "last", (Store(buffer("D"), c, Load(buffer("C"), c)),), ())))
    assert token("D") in tree_features(finished)[0, :, TOKEN]


def test_the_context_tree_is_the_chain_of_the_innermost_statement_without_names() -> None:
    (tree,) = context_tree_features(matmul(8, 4, 2))
    assert [place[:2] for place in shape_of(tree)] == [(1, -1), (2, 0), (3, 1), (4, 2)]
    y, x, k = (np.exp2(row[NUMBERS:]) - 1 for row in tree[1:])
    # length; annotation; top-down; of C, A and B: elements touched and how often each is reused
    assert y[0] == pytest.approx(8)
    assert y[12:] == pytest.approx([8, 32, 2, 16, 4, 8, 8], rel=1e-5)
    assert x[12:] == pytest.approx([32, 4, 2, 2, 4, 8, 1], rel=1e-5)
    assert k[12:] == pytest.approx([64, 1, 2, 2, 1, 2, 1], rel=1e-5)


@pytest.mark.parametrize("key", ["resnet18.C7", "depthwise_conv2d(c=32,h=14,w=14,k=3,pad=1)", "matmul(m=32,k=32,n=64)"])
def test_the_chain_ends_at_the_multiply_add_of_every_operator(key: str) -> None:
    workload, target = parse(key), Target.host(threads=2)
    template = template_for(workload, target)
    (tree,) = context_tree_features(
        nest_of(workload, template.schedule(workload, target, template.default(workload, target)))
    )
    assert tree.shape[1] == NUMBERS + 13 + 6
    assert tree[-1, NUMBERS + 1 + ANNOTATIONS.index(Kind.VECTORIZED)] == 1
    assert (np.diff(tree[1:, NUMBERS + 12]) >= 0).all()  # iterations from the root grow inwards
    assert (tree[:, TOKEN] < VOCABULARY).all()


@given(st.lists(st.tuples(*[st.integers(1, 64)] * 3), min_size=1, max_size=5))
def test_columns_give_what_each_candidate_gives_alone(extents: list[tuple[int, int, int]]) -> None:
    together = matmul(*np.array(extents).T)
    for features in (tree_features, context_tree_features):
        np.testing.assert_array_equal(features(together), np.stack([features(matmul(*row))[0] for row in extents]))
