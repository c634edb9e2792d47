import numpy as np
import pytest

from tuner.neighbours import apart
from tuner.search.candidates import Candidates
from tuner.search.nearest import config_distance, nearest, nearest_legal
from tuner.space import Choice, Columns, Space, Split
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import parse

SPACE = Space([Split.of("tile", 12, 2), Choice("unroll", (1, 2, 4)), Choice("order", ("mnk", "nmk"))])


def everything(columns: Columns) -> np.ndarray:
    return np.zeros(len(columns["unroll"]), dtype=np.bool_)


def test_values_are_octaves_or_a_word_apart() -> None:
    assert apart(1, 3) == 1
    assert apart((1, 3), (3, 1)) == 2
    assert (apart("mnk", "mnk"), apart("mnk", "nmk")) == (0, 1)
    assert config_distance({"a": 1, "b": "x", "c": 7}, {"a": 3, "b": "y"}) == 2


def test_a_configuration_that_is_legal_is_its_own_nearest() -> None:
    for index in (0, 17, SPACE.size - 1):
        assert nearest_legal(Candidates(SPACE, everything), SPACE.config(index)) == index


def test_the_nearest_is_nearest_knob_by_knob() -> None:
    found = nearest_legal(Candidates(SPACE, everything), {"tile": (5, 3), "unroll": 16, "order": "nmk", "pad": "first"})
    assert SPACE.config(found or 0) == {"tile": (4, 3), "unroll": 4, "order": "nmk"}


def test_a_pinned_word_is_compared_by_its_own_value() -> None:
    pinned = SPACE.pinned({"order": "nmk"})
    found = nearest(pinned, np.arange(pinned.size), {"tile": (3, 4), "unroll": 2, "order": "mnk"})
    assert pinned.config(found) == {"tile": (3, 4), "unroll": 2, "order": "nmk"}


def test_the_nearest_legal_one_is_taken() -> None:
    candidates = Candidates(SPACE, lambda columns: columns["tile.0"] * columns["unroll"] > 4)
    wanted = {"tile": (4, 3), "unroll": 4, "order": "mnk"}
    legal = candidates.listed
    assert legal is not None
    assert nearest_legal(candidates, wanted) == nearest(SPACE, legal, wanted)


def test_a_space_without_a_legal_configuration_has_no_nearest_one() -> None:
    candidates = Candidates(SPACE, lambda columns: ~everything(columns))
    assert nearest_legal(candidates, SPACE.config(0)) is None


@pytest.mark.parametrize(("measured", "wanted"), [("resnet18.C6", "resnet18.C12"), ("resnet18.C12", "resnet18.C1")])
def test_a_schedule_of_one_layer_can_be_built_for_another(measured: str, wanted: str) -> None:
    target, first, second = Target.host(threads=1), parse(measured), parse(wanted)
    template = template_for(first, target)
    space = template.space(second, target)
    candidates = Candidates(space, lambda columns: template.illegal(second, target, columns))
    index = nearest_legal(candidates, template.default(first, target))
    assert index is not None
    assert candidates.legal(np.array([index])).all()
    assert template.schedule(second, target, space.config(index)).steps
