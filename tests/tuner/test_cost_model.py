"""The objectives have the right derivatives, the trees learn order, and the metrics follow their definitions."""

from typing import Literal

import numpy as np
import pytest

from tuner.cost_model.gbt import GradientBoostedTrees, Settings
from tuner.cost_model.metrics import average_recall, pairwise_accuracy, top_k_score
from tuner.cost_model.objectives import MAX_PAIRS, Pairs

RNG = np.random.default_rng(0)


def test_all_rows_with_different_labels_are_paired_the_better_first() -> None:
    pairs = Pairs.of(np.array([0.5, 1.0, 0.5, 0.0]), RNG)
    assert sorted(zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True)) == [
        *((0, 3), (1, 0), (1, 2), (1, 3)),
        (2, 3),
    ]


def test_the_pairs_of_much_data_are_sampled() -> None:
    labels = RNG.random(2000)
    pairs = Pairs.of(labels, RNG)
    assert 0.99 * MAX_PAIRS < len(pairs.better) <= MAX_PAIRS
    assert (labels[pairs.better] > labels[pairs.worse]).all()


def test_the_gradient_and_curvature_are_the_derivatives_of_the_loss() -> None:
    labels, scores = RNG.random(12), RNG.normal(size=12)
    pairs = Pairs.of(labels, RNG)
    first, second = pairs.gradient(scores)
    step = 1e-4
    for row in range(12):
        up, down = scores.copy(), scores.copy()
        up[row] += step
        down[row] -= step
        slope = (pairs.loss(up) - pairs.loss(down)) / (2 * step)
        bend = (pairs.loss(up) - 2 * pairs.loss(scores) + pairs.loss(down)) / step**2
        assert 12 * slope == pytest.approx(first[row], rel=1e-5, abs=1e-7)
        assert 12 * bend == pytest.approx(second[row], rel=1e-3, abs=1e-5)


def test_the_loss_is_that_of_the_paper() -> None:
    pairs = Pairs.of(np.array([1.0, 0.0]), RNG)
    assert pairs.loss(np.array([2.0, -1.0])) == pytest.approx(np.log1p(np.exp(-3.0)))


def test_equal_labels_give_no_gradient() -> None:
    pairs = Pairs.of(np.zeros(5), RNG)
    assert not np.any(pairs.gradient(np.arange(5.0)))
    assert pairs.loss(np.arange(5.0)) == 0


@pytest.mark.parametrize("objective", ["rank", "regression"])
def test_the_trees_learn_the_order_of_unseen_candidates(objective: Literal["rank", "regression"]) -> None:
    features = RNG.integers(0, 8, size=(600, 5)).astype(np.float32)
    labels = np.exp(-0.3 * np.abs(features - 4) @ np.array([1, 0.6, 0.3, 0.1, 0]))
    model = GradientBoostedTrees(Settings(objective))
    assert not model.predict(features).any()
    model.fit(features[:150], labels[:150])
    predictions = model.predict(features[150:])
    assert predictions.shape == (450,)
    assert pairwise_accuracy(predictions, labels[150:]) > 0.85


def test_fitting_repeats_exactly() -> None:
    features, labels = RNG.random((300, 6), dtype=np.float32), RNG.random(300)
    runs = []
    for _ in range(2):
        model = GradientBoostedTrees(seed=3)
        model.fit(features, labels)
        runs.append(model.predict(features))
    np.testing.assert_array_equal(*runs)


def test_a_single_sample_can_be_learned_from() -> None:
    model = GradientBoostedTrees()
    model.fit(np.ones((1, 3), dtype=np.float32), np.array([1.0]))
    assert np.isfinite(model.predict(np.zeros((2, 3), dtype=np.float32))).all()


def test_average_recall_follows_its_definition() -> None:
    labels = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    # recall(n) = n / (n + 1) when the order is perfect
    assert average_recall(labels, labels, 4) == pytest.approx((0 + 1 / 2 + 2 / 3 + 3 / 4) / 4)
    # true ranks in the order of prediction: 2, 0, 4, 1, 3
    predictions = np.array([4.0, 2.0, 5.0, 1.0, 3.0])
    assert average_recall(predictions, labels, 4) == pytest.approx((0 + 0 / 2 + 2 / 3 + 2 / 4) / 4)


def test_pairwise_accuracy_counts_pairs_in_the_same_order() -> None:
    labels = np.array([1.0, 2.0, 3.0])
    assert pairwise_accuracy(labels, labels) == 1
    assert pairwise_accuracy(-labels, labels) == 0
    assert pairwise_accuracy(np.array([1.0, 3.0, 2.0]), labels) == pytest.approx(2 / 3)


def test_the_top_k_score_is_a_weighted_harmonic_mean() -> None:
    good = (np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 4.0]), 2.0)
    bad = (np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]), 1.0)
    assert top_k_score([good], 1) == 1
    assert top_k_score([good, bad], 1) == pytest.approx(3 / (2 * 1 + 4))
    assert top_k_score([good, bad], 2) == pytest.approx(3 / (2 * 1 + 2))
    assert top_k_score([good, bad], 3) == 1
