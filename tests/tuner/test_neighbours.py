"""Copies of what was best on similar workloads draw a model's choice to them, as far as the model is wrong."""

import numpy as np
import pytest

from tuner.neighbours import Copy, blend, unlike
from tuner.space import Choice, Flag, Space, Split

SPACE = Space(
    [Choice("tile", (1, 3, 7)), Choice("order", ("ab", "ba")), Flag("unroll"), Split("cut", ((1, 7), (3, 1)))]
)
WANTED = {"tile": 3, "order": "ba", "unroll": 1, "cut": (3, 1)}


def columns() -> dict[str, np.ndarray]:
    return SPACE.columns(np.arange(SPACE.size))


def test_a_configuration_is_as_far_as_its_knobs_are_octaves_apart() -> None:
    apart = unlike(columns(), SPACE.knobs, WANTED)
    assert apart[SPACE.index(WANTED)] == 0
    assert apart[SPACE.index({**WANTED, "tile": 7})] == pytest.approx(1)
    assert apart[SPACE.index({**WANTED, "order": "ab"})] == 1
    assert apart[SPACE.index({**WANTED, "unroll": 0})] == 1
    assert apart[SPACE.index({**WANTED, "cut": (1, 7)})] == pytest.approx(3)


def test_values_that_a_space_does_not_have_are_measured_all_the_same() -> None:
    apart = unlike(columns(), SPACE.knobs, {"tile": 31, "other": 5, "order": 2})
    assert apart[SPACE.index({**WANTED, "tile": 7})] == pytest.approx(2)


def test_a_pinned_word_is_measured_by_its_own_value() -> None:
    pinned = SPACE.pinned({"order": "ba"})
    apart = unlike(pinned.columns(np.arange(pinned.size)), pinned.knobs, {"order": "ab"})
    assert apart.tolist() == [1.0] * pinned.size


def test_a_model_that_is_never_wrong_is_not_drawn_to_copies() -> None:
    scores = np.random.default_rng(0).normal(size=SPACE.size)
    copy = Copy(WANTED, 0.0)
    np.testing.assert_array_equal(blend(scores, columns(), SPACE.knobs, [copy], 0.0), scores)
    np.testing.assert_array_equal(blend(scores, columns(), SPACE.knobs, [], 0.3), scores)
    assert np.argmax(blend(scores, columns(), SPACE.knobs, [copy], 100.0)) == SPACE.index(WANTED)


def test_of_two_copies_that_of_the_more_similar_workload_is_preferred() -> None:
    other = {**WANTED, "tile": 7}
    known = [Copy(WANTED, 5.0), Copy(other, 0.0)]
    assert np.argmax(blend(np.zeros(SPACE.size), columns(), SPACE.knobs, known, 0.1)) == SPACE.index(other)
