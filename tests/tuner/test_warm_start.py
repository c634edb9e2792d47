"""A tuner that starts with a prior: it gains by one that is right, and loses little by one that is wrong."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tuner.cost_model.acquisition import expected_improvement
from tuner.cost_model.gbt import GradientBoostedTrees
from tuner.cost_model.metrics import rank_correlation
from tuner.cost_model.residual import Residual
from tuner.features.knob import knob_features
from tuner.search.candidates import Candidates, Tuner
from tuner.search.model_guided import ModelGuided
from tuner.search.warm import COPIED, WarmStarted
from tuner.space import Choice, Columns, Config, Space

RNG = np.random.default_rng(0)
SPACE = Space([Choice(name, tuple(2**i for i in range(8))) for name in "abcd"])
ALIKE = np.zeros(60, dtype=np.int64)  # candidates of one algorithm


# The residual ------------------------------------------------------------------------------------------------------


def test_the_posterior_believes_a_good_prior_and_gives_up_a_bad_one() -> None:
    knobs, prior = RNG.normal(size=(40, 3)), RNG.normal(size=40)
    speeds = 3 + prior + 0.01 * RNG.normal(size=40)
    for told, right in ((prior, True), (RNG.normal(size=40), False)):
        posterior = Residual.fit(knobs[:20], told[:20], ALIKE[:20], speeds[:20])
        means, deviations = posterior.predict(knobs[20:], told[20:], ALIKE[20:40])
        assert (rank_correlation(means, speeds[20:]) > 0.95) == right
        assert (deviations > 0).all()


def test_the_posterior_goes_through_what_was_observed() -> None:
    knobs, prior = RNG.normal(size=(12, 2)), RNG.normal(size=12)
    speeds = prior + np.sin(knobs[:, 0])
    means, _ = Residual.fit(knobs, prior, ALIKE[:12], speeds).predict(knobs, prior, ALIKE[:12])
    np.testing.assert_allclose(means - means.mean(), speeds - speeds.mean(), atol=0.1)


def test_knobs_whose_values_have_no_order_are_compared_by_being_equal() -> None:
    effect, other = RNG.normal(size=(2, 8))
    knobs = RNG.integers(0, 8, (120, 2))
    speeds = effect[knobs[:, 0]] + other[knobs[:, 1]]
    known, asked = knobs[:60].astype(np.float64), knobs[60:].astype(np.float64)
    posterior = Residual.fit(known, np.zeros(60), ALIKE, speeds[:60])
    assert posterior.shape == "equal"
    assert rank_correlation(posterior.predict(asked, np.zeros(60), ALIKE)[0], speeds[60:]) > 0.8


def test_an_algorithm_that_was_not_tried_is_in_more_doubt_than_one_that_was() -> None:
    knobs, prior, speeds = RNG.normal(size=(8, 2)), np.zeros(8), 0.01 * RNG.normal(size=8)
    posterior = Residual.fit(knobs, prior, ALIKE[:8], speeds)
    means, deviations = posterior.predict(np.full((2, 2), 9.0), np.zeros(2), np.array([0, 1]))
    assert means[0] == pytest.approx(means[1], abs=0.01)
    assert deviations[1] > 2 * deviations[0]


def test_ridge_learns_a_weight_for_each_knob() -> None:
    knobs, prior = RNG.normal(size=(60, 3)), np.zeros(60)
    speeds = 5 + knobs @ np.array([0.3, -0.2, 0.0])
    posterior = Residual.fit(knobs[:30], prior[:30], ALIKE[:30], speeds[:30], "ridge")
    means, deviations = posterior.predict(knobs[30:], prior[30:], ALIKE[30:])
    assert means - means.mean() == pytest.approx(speeds[30:] - speeds[30:].mean(), abs=0.02)
    few = Residual.fit(knobs[:4], prior[:4], ALIKE[:4], speeds[:4], "ridge")
    _, doubt = few.predict(np.array([[9.0, 0.0, 0.0]]), np.zeros(1), ALIKE[:1])
    assert doubt[0] > deviations.max()


def test_expected_improvement_is_that_of_a_normal_belief() -> None:
    draws = RNG.normal(1.0, 0.5, 400_000)
    (found,) = expected_improvement(np.array([1.0]), np.array([0.5]), 1.2)
    assert found == pytest.approx(np.maximum(draws - 1.2, 0).mean(), abs=2e-3)


# The tuner ---------------------------------------------------------------------------------------------------------


def speed(columns: Columns) -> npt.NDArray[np.float64]:
    logs = np.stack([np.log2(column) for column in columns.values()], axis=1)
    return np.asarray(100 * np.exp(-0.2 * np.abs(logs - np.array([3, 5, 2, 4])).sum(axis=1)))


class Told:
    """A prior that says what it is told to."""

    def __init__(self, weight: float, trust: float = 1.0, examples: Sequence[Config] = ()) -> None:
        self.weight, self.trust, self.known = weight, trust, examples

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        scores = self.weight * np.log(speed(columns))
        return scores, np.arange(len(scores))

    def examples(self) -> Sequence[Config]:
        return self.known


def none_illegal(columns: Columns) -> npt.NDArray[np.bool_]:
    return columns["a"] * columns["b"] > 2**12


def tuners(prior: Told, seed: int = 0) -> tuple[WarmStarted, ModelGuided]:
    made = []
    for _ in range(2):
        candidates, rng = Candidates(SPACE, none_illegal), np.random.default_rng(seed)
        made.append(ModelGuided(candidates, rng, GradientBoostedTrees(seed=seed), knob_features))
    return WarmStarted(made[0].candidates, np.random.default_rng(seed), prior, made[0]), made[1]


def search(tuner: Tuner, count: int) -> tuple[list[int], npt.NDArray[np.float64]]:
    tried: list[int] = []
    for _ in range(count):
        (index,) = tuner.propose(1)
        tuner.observe([index], [float(speed(SPACE.columns(np.array([index])))[0])])
        tried.append(index)
    return tried, speed(SPACE.columns(np.array(tried)))


class Halves(Told):
    """A prior that knows that "d" changes no schedule."""

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        apart = np.stack([column for name, column in columns.items() if name != "d"], axis=1)
        _, schedules = np.unique(apart, axis=0, return_inverse=True)
        return super().scores(columns)[0], schedules.reshape(-1)


def test_a_schedule_that_several_configurations_make_is_shortlisted_once() -> None:
    warm, _ = tuners(Halves(1.0))
    known = SPACE.columns(warm.indices)
    apart = np.stack([column for name, column in known.items() if name != "d"], axis=1)
    assert len(np.unique(apart, axis=0)) == len(apart)
    best = SPACE.columns(warm.indices[:1])
    assert speed(best)[0] == max(speed(SPACE.columns(warm.pool)))


def test_a_true_prior_finds_the_best_at_once_and_nothing_is_tried_twice() -> None:
    tried, speeds = search(tuners(Told(1.0))[0], 60)
    assert speeds[0] == 100
    assert len(set(tried)) == 60


def test_copies_of_other_workloads_are_tried_early_at_their_nearest_legal_values() -> None:
    example: Config = {"a": 9, "b": 30, "c": 4, "unknown": 7}
    warm, _ = tuners(Told(-1.0, examples=(example,)))
    tried, _ = search(warm, COPIED + 1)
    config = SPACE.config(tried[COPIED])
    assert (config["a"], config["b"], config["c"]) == (8, 32, 4)


@pytest.mark.parametrize("trust", [0.0, 1.0])
def test_a_prior_that_lies_is_no_worse_than_none_in_the_end(trust: float) -> None:
    ends = []
    for seed in range(4):
        warm, cold = tuners(Told(-1.0, trust), seed)
        ends.append((search(warm, 64)[1].max(), search(cold, 64)[1].max()))
    warms, colds = np.array(ends).T
    assert np.mean(warms) >= 0.99 * np.mean(colds)


def test_a_space_that_is_used_up_ends_the_proposals() -> None:
    small = Space([Choice("a", (1, 2)), Choice("b", (1, 2)), Choice("c", (1,)), Choice("d", (1,))])
    candidates, rng = Candidates(small, none_illegal), np.random.default_rng(0)
    warm = WarmStarted(candidates, rng, Told(1.0), ModelGuided(candidates, rng, GradientBoostedTrees(), knob_features))
    found = [warm.propose(1) for _ in range(5)]
    assert sorted(index for proposed in found for index in proposed) == [0, 1, 2, 3]


def test_failures_do_not_stop_the_search() -> None:
    warm, _ = tuners(Told(1.0))
    for _ in range(30):
        (index,) = warm.propose(1)
        warm.observe([index], [0.0])
