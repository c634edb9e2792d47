"""Relation features: the paper's formula to the letter, and the sampled curves of AutoTVM with its published values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.test_features import matmul
from tuner.features.relation import curve_features, relation_features

# The sorted lists of the published example, a 128x128x128 matmul, each with the extra 0 in front.
LISTS = {
    "A": ([0, 7, 7, 14], [0, 0, 7, 7], [0, 7, 14, 21]),
    "B": ([0, 7, 14, 14], [0, 0, 0, 7], [0, 7, 14, 21]),
    "C": ([0, 0, 7, 14], [0, 7, 7, 7], [0, 7, 14, 21]),
}
# The same, unsorted, loop by loop from the outermost: touched elements, reuse, top-down product.
LOOPS = {
    "A": ([14, 7, 7], [7, 7, 0], [7, 14, 21]),
    "B": ([14, 14, 7], [7, 0, 0], [7, 14, 21]),
    "C": ([14, 7, 0], [7, 7, 7], [7, 14, 21]),
}


def pairs(lists: tuple[list[int], list[int], list[int]]) -> list[tuple[list[int], list[int]]]:
    count, reuse, topdown = lists
    return [(count, reuse), (reuse, count), (count, topdown), (topdown, count)]


def test_the_published_matmul_has_its_720_curve_values() -> None:
    expected: list[float] = []
    for name in "ABC":
        for x, y in pairs(LISTS[name]):
            for threshold in range(30):
                last = max(position for position, value in enumerate(x) if value <= threshold)
                expected += [y[last], threshold - x[last]]
    found = curve_features(matmul(128, 128, 128), samples=30)
    assert found.shape == (1, 720)
    assert found[0].tolist() == expected


def test_the_formula_is_taken_literally() -> None:
    expected: list[float] = []
    for name in "ABC":
        for j, i in pairs(LOOPS[name]):
            for threshold in range(20):
                below = [zi for zj, zi in zip(j, i, strict=True) if zj < threshold]
                expected += [max(below, default=0)]
    found = relation_features(matmul(128, 128, 128))
    assert found.shape == (1, 20 * 4 * 3)
    assert found[0] == pytest.approx(expected)


def test_the_sorted_curves_are_another_thing_than_the_formula() -> None:
    curves = curve_features(matmul(128, 64, 32))[0].reshape(3, 4, 20, 2)[..., 0]
    assert not np.array_equal(curves, relation_features(matmul(128, 64, 32))[0].reshape(3, 4, 20))


@given(st.lists(st.tuples(*[st.integers(1, 64)] * 3), min_size=1, max_size=5))
def test_columns_give_what_each_candidate_gives_alone(extents: list[tuple[int, int, int]]) -> None:
    together = matmul(*np.array(extents).T)
    for features in (relation_features, curve_features):
        alone = [features(matmul(*row))[0] for row in extents]
        np.testing.assert_array_equal(features(together), np.stack(alone))
