"""Spaces number their configurations one to one, without enumerating them."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import KnobError, ScheduleError
from tuner.space import Choice, Flag, Knob, Space, Split, value_text

SPACE = Space(
    [
        Split.of("tile", 12, parts=2),
        Choice("order", ("outer", "inner", "middle")),
        Choice("unroll", (1, 2, 4, 8)),
        Flag("pack"),
        Split("register", ((1, 16), (2, 8), (6, 32))),
    ]
)
HUGE = Space([Choice(f"k{i}", tuple(range(1, 101))) for i in range(6)])


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    kinds = draw(st.lists(st.sampled_from("ist"), min_size=len(sizes), max_size=len(sizes)))
    make = {"i": lambda v: 3 * v - 4, "s": lambda v: f"v{v}", "t": lambda v: (v, v * v, 7)}
    return Space(
        Choice(f"k{i}", tuple(make[kind](v) for v in range(size)))
        for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    )


@given(spaces(), st.data())
def test_a_pinned_space_is_the_part_with_these_values_and_their_columns(space: Space, data: st.DataObject) -> None:
    config = space.config(data.draw(st.integers(0, space.size - 1)))
    names = data.draw(st.sets(st.sampled_from(sorted(config))))
    as_text = data.draw(st.booleans())
    part = space.pinned({name: value_text(config[name]) if as_text else config[name] for name in names})
    assert part.size == prod(len(knob.values) for knob in space.knobs if knob.name not in names)
    everything = [part.config(index) for index in range(part.size)]
    wanted = [c for c in map(space.config, range(space.size)) if all(c[name] == config[name] for name in names)]
    assert everything == wanted
    columns, same = part.columns(np.arange(part.size)), space.columns([space.index(each) for each in wanted])
    assert all((columns[name] == same[name]).all() for name in same)


def test_a_pinned_flag_is_a_flag() -> None:
    knob = SPACE.pinned({"pack": "1"}).knobs[3]
    assert isinstance(knob, Flag)
    assert knob.values == (1,)
    assert SPACE.pinned({"tile": "2x6"}).config(0)["tile"] == (2, 6)


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({"ordr": "inner"}, "the space has no knob 'ordr'; did you mean order?"),
        ({"colour": 1}, "the space has no knob 'colour'; its knobs are tile, order, unroll, pack, register"),
        ({"order": "up"}, "knob order cannot be up; it is one of outer, inner, middle"),
        ({"unroll": 3}, "knob unroll cannot be 3; it is one of 1, 2, 4, 8"),
        ({"tile": (5, 5)}, "knob tile cannot be 5x5; it is one of 1x12, 2x6, 3x4, 4x3, 6x2, 12x1"),
    ],
)
def test_a_pin_that_there_is_not_names_those_there_are(pins: dict[str, object], message: str) -> None:
    with pytest.raises(KnobError, match=rf"^{message}$".replace("?", r"\?")):
        SPACE.pinned(pins)


def test_the_size_is_the_product_of_the_knobs() -> None:
    assert SPACE.size == len(SPACE) == 6 * 3 * 4 * 2 * 3
    assert HUGE.size == 10**12


def test_a_split_of_an_extent_has_every_ordered_factorisation() -> None:
    assert Split.of("tile", 6, parts=2).values == ((1, 6), (2, 3), (3, 2), (6, 1))
    values = Split.of("tile", 64, parts=3).values
    assert len(values) == len(set(values)) == 28
    assert all(prod(value) == 64 for value in values)


@given(spaces(), st.data())
def test_an_index_and_its_configuration_are_one_to_one(space: Space, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, space.size - 1))
    assert space.index(space.config(index)) == index


@given(st.integers(0, HUGE.size - 1))
def test_the_bijection_holds_in_a_space_that_cannot_be_listed(index: int) -> None:
    assert HUGE.index(HUGE.config(index)) == index
    assert HUGE.indices(HUGE.digits(np.array([index])))[0] == index


@given(spaces())
def test_all_indices_have_different_digits_that_lead_back(space: Space) -> None:
    indices = np.arange(min(space.size, 500))
    digits = space.digits(indices)
    assert digits.shape == (len(indices), len(space.knobs))
    assert len(np.unique(digits, axis=0)) == len(indices)
    assert (digits < space.radices).all()
    np.testing.assert_array_equal(space.indices(digits), indices)


def test_columns_hold_the_values_of_the_configurations() -> None:
    indices = np.arange(SPACE.size)
    columns = SPACE.columns(indices)
    assert list(columns) == ["tile.0", "tile.1", "order", "unroll", "pack", "register.0", "register.1"]
    assert all(column.dtype == np.int64 and column.shape == (SPACE.size,) for column in columns.values())
    for index in (0, 17, 200, SPACE.size - 1):
        config = SPACE.config(index)
        assert (columns["tile.0"][index], columns["tile.1"][index]) == config["tile"]
        assert ("outer", "inner", "middle")[columns["order"][index]] == config["order"]
        assert columns["unroll"][index] == config["unroll"]
        assert columns["pack"][index] == config["pack"]


def test_a_list_does_for_a_tuple() -> None:
    config = SPACE.config(300)
    assert SPACE.index({k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unroll": 3}, r"knob 'unroll' cannot be 3; it is one of 1, 2, 4, 8"),
        ({"tile": (5, 2)}, r"knob 'tile' cannot be \(5, 2\)"),
        ({"tiles": 1}, r"no knob 'tiles'; its knobs are tile, order"),
    ],
)
def test_a_configuration_outside_the_space_is_refused_by_knob_and_value(change: dict, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        SPACE.index({**SPACE.config(0), **change})


def test_a_configuration_with_a_knob_missing_is_refused() -> None:
    with pytest.raises(ScheduleError, match="value of knob 'pack'"):
        SPACE.index({k: v for k, v in SPACE.config(0).items() if k != "pack"})


@pytest.mark.parametrize("index", [-1, SPACE.size])
def test_an_index_outside_the_space_is_refused(index: int) -> None:
    with pytest.raises(ScheduleError, match="outside the space"):
        SPACE.config(index)


@pytest.mark.parametrize(
    "values", [(), (1, "a"), ((1, 2), (1,)), (1, 2, 1)], ids=["none", "mixed", "lengths", "duplicate"]
)
def test_a_knob_with_senseless_values_is_refused(values: tuple) -> None:
    with pytest.raises(ScheduleError, match="knob k"):
        Knob("k", values)


def test_a_space_with_two_knobs_of_one_name_is_refused() -> None:
    with pytest.raises(ScheduleError, match="same name"):
        Space([Flag("a"), Flag("a")])


def test_a_space_whose_numbers_do_not_fit_64_bits_is_refused() -> None:
    with pytest.raises(ScheduleError, match="too large"):
        Space([Choice(f"k{i}", tuple(range(1000))) for i in range(7)])


@pytest.mark.parametrize("space", [SPACE, HUGE])
def test_samples_are_distinct_and_repeat_under_a_seed(space: Space) -> None:
    sample = space.sample(np.random.default_rng(3), 300)
    assert len(set(sample.tolist())) == 300
    assert sample.min() >= 0
    assert sample.max() < space.size
    np.testing.assert_array_equal(sample, space.sample(np.random.default_rng(3), 300))


@pytest.mark.parametrize("values", [41, 100, 499])
def test_a_large_sample_of_a_space_that_is_not_much_larger_is_distinct_and_in_no_order(values: int) -> None:
    space = Space([Choice("a", tuple(range(values))), Choice("b", tuple(range(1000)))])
    sample = space.sample(np.random.default_rng(3), 10_000)
    assert len(set(sample.tolist())) == 10_000
    assert sample[:1000].mean() == pytest.approx(space.size / 2, rel=0.1)
    assert sample.max() < space.size


def test_a_sample_of_more_than_the_space_is_all_of_it() -> None:
    assert sorted(SPACE.sample(np.random.default_rng(0), 10**6).tolist()) == list(range(SPACE.size))


def test_the_fingerprint_tells_spaces_apart() -> None:
    assert Space([Flag("a")]).fingerprint == Space([Flag("a")]).fingerprint
    assert Space([Flag("a")]).fingerprint != Space([Flag("b")]).fingerprint
    assert Space([Choice("a", (1, 2))]).fingerprint != Space([Choice("a", (2, 1))]).fingerprint


def test_a_configuration_from_before_a_knob_has_the_value_that_its_absence_means() -> None:
    space = Space([Choice("tile", (1, 2, 4)), Choice("lanes", ("channels", "pixels"), absent="channels")])
    assert space.index({"tile": 2}) == space.index({"tile": 2, "lanes": "channels"})
    with pytest.raises(ScheduleError, match="does not say the value of knob 'tile'"):
        space.index({"lanes": "pixels"})
    with pytest.raises(ScheduleError, match="cannot be 'channels'"):
        space.pinned({"lanes": "pixels"}).index({"tile": 2})
