"""How far configurations are from one that was best elsewhere."""

import numpy as np
import pytest

from tuner.neighbours import unlike
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
