"""Holding out: what is held out teaches nothing, and the scores follow their definitions."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tuner.experiment.pools import TARGET
from tuner.cost_model.global_model import Settings
from tuner.experiment.holdout import (
    HoldOut,
    HoldOutError,
    Layer,
    Score,
    by_copy,
    by_history,
    by_model,
    folds,
    lessons,
    random_summary,
    summary,
    train,
)
from tuner.workload import parse

SETTINGS = Settings(rounds=40, folds=1, threads=1)


def layer(number: int, machine: str = "one", network: str = "net", rows: int = 40) -> Layer:
    """Layers with other times that depend on the features, and on the knobs, in the same way."""
    rng = np.random.default_rng(number)
    knobs = rng.uniform(0, 4, (rows, 3)).round()
    features = np.column_stack([knobs, rng.normal(size=(rows, 2))]).astype(np.float32)
    seconds = (1 + number) * np.exp(np.abs(knobs - 2).sum(axis=1) + 0.01 * rng.random(rows))
    seconds[3] = np.inf
    workload = parse(f"conv2d(ci=16,h=14,w=14,co={16 * (1 + number)},k=1)")
    target = replace(TARGET, model=machine)
    order = {"xgb": [np.arange(rows)[::-1]]}
    names = ("a", "b", "c")
    return Layer(
        workload, target, frozenset({network}), "t/1", names, np.zeros(3, np.bool_), knobs, features, seconds, order
    )


LAYERS = [layer(number, network=f"net {number % 3}") for number in range(6)]


def test_a_score_follows_its_definitions() -> None:
    one = replace(LAYERS[0], seconds=np.array([4.0, 1.0, 2.0, np.inf, 1.02]))
    score = Score.of(one, np.array([3, 0, 2, 4, 1]))
    # the failure, half as fast as the slowest
    assert score == Score(1.0, 0.125, 1.0, pytest.approx((0.125 + 0.25 + 0.5 + 1 / 1.02 + 1) / 5), (4, 4, 5))
    assert Score.of(one, np.array([0, 2])) == Score(1.0, 0.25, 0.5, 0.375, (None, None, None))
    found = summary([score, Score(2.0, 0.5, 0.5, 0.5, (1, 1, None), 0.75)])
    assert found["mean_top1"] == pytest.approx(0.3125)
    assert found["harmonic_top1"] == pytest.approx(0.2)
    assert found["p10_top1"] == pytest.approx(0.1625)
    assert found["network_top1"] == pytest.approx((1 + 2) / (1 / 0.125 + 2 / 0.5))
    assert found["pairwise"] == 0.75
    assert found["trials_to_95"] == {"median": 1, "p75": 4, "p90": 4}
    assert found["trials_to_99"] == {"median": 5, "p75": None, "p90": None}


@pytest.mark.parametrize("holdout", ["layer", "network"])
def test_every_layer_is_held_out_once_and_never_teaches_about_itself(holdout: HoldOut) -> None:
    everything = [*LAYERS, *(layer(number, "two", f"net {number % 3}") for number in range(6))]
    parts = list(folds(everything, "conv2d", holdout, 3, 0))
    assert sorted(id(one) for part in parts for one in part.held_out) == sorted(map(id, everything))
    for part in parts:
        assert not {one.workload for one in part.held_out} & {one.workload for one in part.rest}


def test_a_machine_is_held_out_with_all_its_layers() -> None:
    other = [layer(number, "two") for number in range(3)]
    parts = {part.name: part for part in folds([*LAYERS, *other], "conv2d", "target", 4, 0)}
    assert set(parts) == {"one", "two"}
    assert list(parts["two"].held_out) == other
    assert list(parts["two"].rest) == LAYERS


def test_another_seed_makes_other_folds() -> None:
    first, second = ([part.held_out for part in folds(LAYERS, "conv2d", "layer", 3, seed)] for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("layers", "operator", "holdout", "message"),
    [
        (LAYERS, "matmul", "layer", "no layer of matmul .* operators that have: conv2d"),
        (LAYERS[:1], "conv2d", "layer", "1 layer of conv2d in the database: to hold one out there have to be two"),
        (LAYERS, "conv2d", "target", "1 target of conv2d"),
        ([LAYERS[0], LAYERS[3]], "conv2d", "network", "1 network .*--label network=NAME"),
    ],
)
def test_too_little_is_said_in_one_line(layers: list[Layer], operator: str, holdout: HoldOut, message: str) -> None:
    with pytest.raises(HoldOutError, match=message):
        list(folds(layers, operator, holdout, 4, 0))


def test_a_model_knows_layers_that_it_has_not_seen() -> None:
    score = by_model(train(lessons(LAYERS[1:], 0, 0), 0, SETTINGS), LAYERS[0])
    assert score.pairwise is not None
    assert score.pairwise > 0.75
    assert score.top5 > 0.9


def test_what_a_model_cannot_see_comes_last() -> None:
    blind = LAYERS[0].features.copy()
    best = int(np.argmin(LAYERS[0].seconds))
    blind[best] = np.nan
    score = by_model(train(lessons(LAYERS[1:], 0, 0), 0, SETTINGS), replace(LAYERS[0], features=blind))
    assert score.top1 < 1


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(HoldOutError, match="nothing to learn from"):
        lessons([replace(LAYERS[0], seconds=np.full(40, np.inf))], 0, 0)


def test_the_model_and_the_copy_know_the_same_records() -> None:
    few = lessons(LAYERS[1:], 5, 0)
    assert [len(each.seconds) for each in few] == [5] * 5
    for each, whole in zip(few, LAYERS[1:], strict=True):
        assert set(each.seconds) < set(whole.seconds)
        assert np.isfinite(each.seconds).all()
    best = [float(each.seconds.min()) for each in few]
    assert best != [float(each.seconds.min()) for each in LAYERS[1:]]
    assert by_copy(few, LAYERS[0], 0) != by_copy(LAYERS[1:], LAYERS[0], 0)


def test_a_copy_is_of_the_same_knobs_only_and_histories_are_as_recorded() -> None:
    copied = by_copy(LAYERS[1:], LAYERS[0], 0)
    assert copied is not None
    assert copied.top1 > 0.3
    assert by_copy([replace(each, names=("a", "b", "d")) for each in LAYERS[1:]], LAYERS[0], 0) is None
    assert by_history(LAYERS[0]) == {"xgb": [Score.of(LAYERS[0], np.arange(40)[::-1])]}


def test_random_search_is_worked_out() -> None:
    one = replace(LAYERS[0], seconds=np.array([1.0, 2.0, 4.0, 4.0]))
    found = random_summary([one])
    assert found["mean_top1"] == pytest.approx((1 + 0.5 + 0.25 + 0.25) / 4)
    assert found["harmonic_top1"] == pytest.approx(4 / 11)
    assert found["trials_to_95"] == {"median": 2, "p75": 3, "p90": 4}
