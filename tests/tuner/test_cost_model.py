"""The objectives have the right derivatives, the trees learn order, and the metrics follow their definitions."""

from typing import Literal

import numpy as np
import pytest

from tuner.cost_model.acquisition import KAPPA, acquire, expected_improvement
from tuner.cost_model.cost_model import labels_of
from tuner.cost_model.ensemble import Ensemble
from tuner.cost_model.gbt import GradientBoostedTrees, Settings, discount
from tuner.cost_model.metrics import average_recall, pairwise_accuracy
from tuner.cost_model.objectives import MAX_PAIRS, OBJECTIVES, TOP, Objective, Pairs, TopHeavy

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


GROUPS = np.repeat(np.arange(3), [20, 5, 12])


def top_heavy() -> TopHeavy:
    return TopHeavy.of(-2 * RNG.random(37), GROUPS)


def test_ndcg_is_one_for_the_best_order_and_follows_its_definition() -> None:
    top = TopHeavy.of(np.log([1.0, 0.5, 0.25]), np.zeros(3, dtype=np.int64))
    assert top.ndcg(np.array([3.0, 2.0, 1.0])) == pytest.approx(1)
    best = 1 + 0.5 / np.log2(3) + 0.25 / 2
    assert top.ndcg(np.array([1.0, 2.0, 3.0])) == pytest.approx((0.25 + 0.5 / np.log2(3) + 1 / 2) / best)


def test_the_top_of_each_group_is_compared_with_all_others_of_it_once() -> None:
    top, scores = top_heavy(), RNG.normal(size=37)
    pairs, weights = top.pairs(scores)
    assert (GROUPS[pairs.better] == GROUPS[pairs.worse]).all()
    assert (top.labels[pairs.better] > top.labels[pairs.worse]).all()
    seen = {frozenset(pair) for pair in zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True)}
    assert len(seen) == len(pairs.better)

    def compared(rows: int) -> int:
        top = min(TOP, rows)
        return top * (top - 1) // 2 + top * (rows - top)

    assert len(seen) == sum(map(compared, (20, 5, 12)))
    assert (weights > 0).all()


def test_a_pair_weighs_what_swapping_it_costs() -> None:
    top, scores = top_heavy(), RNG.normal(size=37)
    pairs, weights = top.pairs(scores)
    for pair in (0, 17, 60):
        swapped = scores.copy()
        rows = [pairs.better[pair], pairs.worse[pair]]
        swapped[rows] = scores[rows[::-1]]
        assert 3 * abs(top.ndcg(swapped) - top.ndcg(scores)) == pytest.approx(weights[pair])


def test_the_top_heavy_gradient_is_that_of_the_weighted_loss() -> None:
    top, scores = top_heavy(), RNG.normal(size=37)
    first, second = top.gradient(scores)
    pairs, weights = top.pairs(scores)  # held fixed while the scores move
    weights = weights / weights.mean()
    step = 1e-4
    for row in range(37):
        up, down = scores.copy(), scores.copy()
        up[row] += step
        down[row] -= step
        slope = (pairs.loss(up, weights) - pairs.loss(down, weights)) / (2 * step)
        bend = (pairs.loss(up, weights) - 2 * pairs.loss(scores, weights) + pairs.loss(down, weights)) / step**2
        assert 37 * slope == pytest.approx(first[row], rel=1e-5, abs=1e-7)
        assert 37 * bend == pytest.approx(second[row], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_constant_labels_are_learned_without_a_crash(objective: Objective) -> None:
    model = GradientBoostedTrees(Settings(objective))
    model.fit(RNG.random((30, 3), dtype=np.float32), np.zeros(30))
    assert np.ptp(model.predict(RNG.random((9, 3), dtype=np.float32))) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_trees_learn_the_order_of_unseen_candidates(objective: Objective) -> None:
    features = RNG.integers(0, 8, size=(600, 5)).astype(np.float32)
    labels = np.exp(-0.3 * np.abs(features - 4) @ np.array([1, 0.6, 0.3, 0.1, 0]))
    model = GradientBoostedTrees(Settings(objective))
    assert not model.predict(features).any()
    model.fit(features[:150], labels[:150])
    predictions = model.predict(features[150:])
    assert predictions.shape == (450,)
    assert pairwise_accuracy(predictions, labels[150:]) > (0.75 if objective == "top-heavy" else 0.85)


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


def test_labels_are_logarithms_relative_to_the_best_and_failures_are_slower_than_all() -> None:
    assert labels_of(np.array([4.0, 2.0, 0.0])) == pytest.approx([0, np.log(0.5), np.log(0.25)])


def test_a_global_model_counts_half_after_64_trials_and_not_at_all_from_277_on() -> None:
    assert [discount(number) for number in (0, 64, 128)] == [1, 0.5, 0.25]
    assert discount(276) > 0.05
    assert discount(277) == 0


@pytest.mark.parametrize("prior", ["margin", "feature"])
def test_a_prior_helps_when_it_knows_more_than_few_trials(prior: Literal["margin", "feature"]) -> None:
    features = RNG.integers(0, 8, size=(400, 5)).astype(np.float32)
    labels = -np.abs(features - 4) @ np.array([1, 0.6, 0.3, 0.1, 0])
    told = (labels + 0.3 * RNG.normal(size=400)).astype(np.float32)
    both = np.column_stack([features, told])
    alone, based = GradientBoostedTrees(), GradientBoostedTrees(Settings(prior=prior))
    np.testing.assert_array_equal(based.predict(both), told)  # before anything was measured it is all there is
    alone.fit(features[:12], labels[:12])
    based.fit(both[:12], labels[:12])
    gained = pairwise_accuracy(based.predict(both[12:]), labels[12:])
    assert gained > pairwise_accuracy(alone.predict(features[12:]), labels[12:]) + 0.05


def test_a_margin_that_is_forgotten_leaves_the_plain_trees() -> None:
    features, labels = RNG.random((300, 4), dtype=np.float32), RNG.random(300)
    lies = np.column_stack([features, 100 * RNG.random(300, dtype=np.float32)])
    plain, based = GradientBoostedTrees(), GradientBoostedTrees(Settings(prior="margin"))
    plain.fit(features, labels)
    based.fit(lies, labels)
    np.testing.assert_array_equal(plain.predict(features), based.predict(lies))


def test_acquisitions_follow_their_formulae() -> None:
    means, deviations = np.array([0.0, -1.0]), np.array([0.1, 2.0])
    np.testing.assert_array_equal(acquire("mean", means, deviations, 0.5), means)
    np.testing.assert_allclose(acquire("ucb", means, deviations, 0.5), means + KAPPA * deviations)
    improvement = expected_improvement(means, deviations, 0.2)
    np.testing.assert_allclose(np.exp(acquire("ei", means, deviations, 0.2)), improvement)
    assert expected_improvement(np.array([1.0, 0.0]), np.zeros(2), 0.5) == pytest.approx([0.5, 0])


def test_expected_improvement_tells_candidates_apart_that_are_far_from_improving() -> None:
    means = np.array([-0.04, -0.06, -1.0, -2.0, -2.0])
    found = acquire("ei", means, np.array([0.01, 0.01, 0.01, 0.01, 0.02]), 0.0)
    assert (np.argsort(-found) == [0, 1, 4, 2, 3]).all()
    both = acquire("ei", np.array([-0.0499, -0.0501]), np.full(2, 0.01), 0.0)  # on both sides of the expansion
    assert 0 < both[0] - both[1] < 0.2


def test_the_members_of_an_ensemble_disagree_where_nothing_was_seen() -> None:
    features = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    labels = np.where(features[:, 0] < 0.5, -3 * features[:, 0], -3 + RNG.normal(size=60))
    members = [GradientBoostedTrees(Settings("regression"), seed) for seed in range(5)]
    unsure, mean = Ensemble(members, "ucb"), Ensemble(members, "mean")
    unsure.fit(features, labels)
    doubt = (unsure.predict(features) - mean.predict(features)) / KAPPA
    assert doubt[40:].mean() > 3 * doubt[:20].mean() > 0


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
