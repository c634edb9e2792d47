"""The metrics have the values that their definitions give by hand."""

import json

import numpy as np
import pytest

from tuner.cost_model.metrics import (
    Spread,
    area_over_log,
    best_so_far,
    pairwise_accuracy,
    r_squared,
    recall,
    rmse,
    summary,
    trials_until,
)

SECONDS = np.array([4.0, 1.0, 2.0, 1.02, 5.0, 3.0])
PREDICTIONS = np.array([0.1, 0.5, 0.9, 0.8, 0.7, 0.2])  # tries 2.0, 1.02, 5.0, 1.0, 3.0, 4.0


def test_a_search_that_never_gets_there_is_censored() -> None:
    found = [4.0, np.inf, 1.04, 1.0]
    assert trials_until(np.array(found), 1.0, 0.9) == 3
    assert trials_until(np.array(found), 1.0, 0.99) == 4
    assert trials_until(np.array(found), 0.5, 0.9) == float("inf")


def test_a_spread_is_of_counts_that_occurred_and_says_never_in_json() -> None:
    spread = Spread.of([1, 2, 3, 4, 5, 6, 7, 8, 9, float("inf")])
    assert (spread.median, spread.p75, spread.p90) == (5, 8, 9)
    assert Spread.of([1, 2, 3, float("inf")]).to_json() == {"median": 2, "p75": 3, "p90": None}
    assert Spread.of([7]).p90 == 7


def test_quality_after_k_trials_ignores_failures() -> None:
    found = np.array([np.inf, 4.0, 5.0, 1.0])
    assert best_so_far(found, 1.0).tolist() == [0, 0.25, 0.25, 1]


def test_the_area_counts_each_trial_by_its_share_of_the_logarithm() -> None:
    assert area_over_log(np.ones(50)) == pytest.approx(1)
    # trial 1 of 3 spans log(2/1), trials 2 and 3 span log(4/2): half of log(4) each
    assert area_over_log(np.array([0.0, 1.0, 1.0])) == pytest.approx(0.5)


def test_recall_counts_the_best_that_were_found() -> None:
    assert recall(PREDICTIONS, -SECONDS, 2) == 0.5  # predicted 2.0 and 1.02; best 1.0 and 1.02
    assert recall(PREDICTIONS, -SECONDS, 3) == pytest.approx(2 / 3)
    assert recall(PREDICTIONS, -SECONDS, 99) == 1


def test_errors_are_those_of_the_textbook() -> None:
    labels = np.array([0.0, 1.0, 2.0])
    assert rmse(labels + np.array([1.0, -1.0, 0.0]), labels) == pytest.approx(np.sqrt(2 / 3))
    assert r_squared(labels + np.array([1.0, -1.0, 0.0]), labels) == pytest.approx(0)
    assert r_squared(labels, labels) == 1
    assert np.isnan(r_squared(np.ones(3), np.ones(3)))


def test_equal_values_are_a_pair_like_any_other() -> None:
    # [p_i > p_j] == [y_i > y_j] holds for (0, 1), where neither is greater, and for (1, 2)
    assert pairwise_accuracy(np.array([1.0, 1.0, 0.0]), np.array([1.0, 2.0, 1.5])) == pytest.approx(2 / 3)
    assert np.isnan(pairwise_accuracy(np.ones(1), np.ones(1)))


def test_the_summary_of_many_tasks() -> None:
    perfect = (-SECONDS, SECONDS)
    found = summary([(PREDICTIONS, SECONDS), perfect])
    assert found.tasks == 2
    assert found.mean_top1 == pytest.approx((0.5 + 1) / 2)
    assert found.harmonic_top1 == pytest.approx(2 / (1 / 0.5 + 1))
    assert found.p10_top1 == pytest.approx(0.55)
    assert found.top5 == 1
    assert found.trials_to_95 == Spread(1, 2, 2)
    assert found.trials_to_99 == Spread(1, 4, 4)
    # of the 15 pairs of the first task, 9 are in the right order
    right = sum(
        (PREDICTIONS[i] > PREDICTIONS[j]) == (SECONDS[i] < SECONDS[j]) for i in range(6) for j in range(i + 1, 6)
    )
    assert found.pairwise == pytest.approx((right / 15 + 1) / 2)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["trials_to_95"]["p90"] == 2
