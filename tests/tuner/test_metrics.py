"""The metrics have the values that their definitions give by hand."""

import numpy as np
import pytest

from tuner.cost_model.metrics import (
    area_over_log,
    average_peak_score,
    harmonic_mean,
    network_score,
    pairwise_accuracy,
    quality,
    r_squared,
    rank_correlation,
    recall,
    rmse,
)

SECONDS = np.array([4.0, 1.0, 2.0, 1.02, 5.0, 3.0])
PREDICTIONS = np.array([0.1, 0.5, 0.9, 0.8, 0.7, 0.2])  # tries 2.0, 1.02, 5.0, 1.0, 3.0, 4.0


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


def test_a_network_is_as_slow_as_its_slow_layers_make_it() -> None:
    assert network_score(np.ones(2), np.array([3.0, 1.0])) == 1
    assert network_score(np.array([1.0, 0.25]), np.array([2.0, 1.0])) == pytest.approx(3 / (2 + 4))


def test_quality_and_trials_follow_their_definitions() -> None:
    seconds, predictions = np.array([1.0, 2.0, 4.0, 1.01]), np.array([1.0, 4.0, 3.0, 2.0])
    assert [quality(predictions, seconds, k) for k in (1, 2, 3, 4)] == pytest.approx([0.5, 0.5, 1 / 1.01, 1])
    assert average_peak_score(predictions, seconds, 3) == pytest.approx((0.5 + 0.5 + 1 / 1.01) / 3)
    assert harmonic_mean(np.array([1.0, 0.5])) == pytest.approx(2 / 3)


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 20, 90])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 2, 2])) == pytest.approx(2 / np.sqrt(5))
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0
