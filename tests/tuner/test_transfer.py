"""What other workloads teach: labels compare within a workload, models are judged on held-out ones, a prior helps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tuner.cost_model.acquisition import expected_improvement
from tuner.cost_model.gbt import GradientBoostedTrees
from tuner.cost_model.global_model import GlobalModel, ModelError, Settings
from tuner.cost_model.held_out import HeldOut, loss_of
from tuner.cost_model.metrics import (
    average_peak_score,
    harmonic_mean,
    pairwise_accuracy,
    quality,
    rank_correlation,
)
from tuner.cost_model.objectives import OBJECTIVES, Objective, Pairs
from tuner.cost_model.residual import Residual
from tuner.cost_model.training import FEWEST, TrainingSet, choose
from tuner.features.invariant import BOUND, NAMES
from tuner.features.knob import knob_features
from tuner.features.sketches import concatenated, distinct_features
from tuner.neighbours import distance, nearest_best
from tuner.search.candidates import Candidates, Tuner
from tuner.search.model_guided import ModelGuided
from tuner.search.warm import COPIED, WarmStarted
from tuner.space import Choice, Columns, Config, Space
from tuner.target import Target
from tuner.templates import template_for
from tuner.transfer import Seen, judge, legal_sample, prior_from, scores
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, matmul, parse

RNG = np.random.default_rng(0)
TARGET = Target.host(threads=1)
SPACE = Space([Choice(name, tuple(2**i for i in range(8))) for name in "abcd"])


def data(groups: int = 6, rows: int = 60, seed: int = 0, scale: float = 1.0) -> TrainingSet:
    """Groups whose times differ by a factor of their own, and depend on the features in the same way."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-2, 2, (groups * rows, 5)).astype(np.float32)
    number = np.repeat(np.arange(groups), rows)
    seconds = scale * np.exp(np.abs(features - 0.5) @ np.array([1, 0.5, 0.3, 0.1, 0]) + 2.0 * number)
    return TrainingSet(
        features, seconds, number, tuple(f"w{i}" for i in range(groups)), ("t",) * groups, (1.0,) * groups
    )


# Metrics -----------------------------------------------------------------------------------------------------------


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


# Training data -----------------------------------------------------------------------------------------------------


def test_labels_are_relative_to_the_best_of_the_group() -> None:
    some = data(groups=3)
    for group in range(3):
        labels = some.labels[some.groups == group]
        assert labels.max() == 0
        np.testing.assert_allclose(
            labels, np.log(some.seconds[some.groups == group].min() / some.seconds[some.groups == group])
        )


def test_speeds_compare_workloads_of_a_target_and_not_targets() -> None:
    seconds, groups = np.array([1.0, 2.0, 1.0, 4.0, 7.0]), np.array([0, 0, 1, 1, 2])
    some = TrainingSet(np.zeros((5, 1), np.float32), seconds, groups, ("a", "b", "a"), ("x", "x", "y"), (1.0, 4.0, 1.0))
    np.testing.assert_allclose(np.exp(some.speeds), [0.5, 0.25, 2.0, 0.5, 1.0])


def test_a_part_has_the_rows_of_its_groups_numbered_anew() -> None:
    some = data(groups=4, rows=3).part([2, 0])
    assert some.workloads == ("w2", "w0")
    assert sorted(some.groups.tolist()) == [0] * 3 + [1] * 3
    assert (some.seconds[some.groups == 0] > some.seconds[some.groups == 1].max()).all()


def test_trials_that_teach_nothing_are_left_out_with_the_reason() -> None:
    groups = ["good"] * 20 + ["few"] * 3 + ["flat"] * 10
    seconds = np.concatenate([np.linspace(1, 2, 20), [1, 2, 3], np.ones(10)])
    seconds[:2] = np.nan
    seconds[2:4] = 0, 1e-300  # as somebody's log may say
    kept, reasons = choose(groups, seconds)
    assert kept.tolist() == list(range(4, 20))
    assert reasons == {
        "failed or without a time": 2,
        "faster than anything can be": 2,
        f"fewer than {FEWEST} of their workload and target": 3,
        "all equally fast": 10,
    }


def test_of_too_many_trials_the_fastest_and_a_fixed_draw_are_kept() -> None:
    seconds = RNG.permutation(np.arange(1.0, 101.0))
    kept, reasons = choose(["one"] * 100, seconds, most=40)
    assert len(kept) == 40
    assert set(seconds[kept]) >= set(range(1, 11))
    assert reasons == {"more than 40 of their workload and target": 60}
    np.testing.assert_array_equal(kept, choose(["one"] * 100, seconds, most=40)[0])


def test_nothing_to_learn_from_is_said_and_no_crash() -> None:
    assert choose([], np.empty(0))[0].tolist() == []
    empty, used = TrainingSet.of([])
    assert (len(empty.seconds), len(used)) == (0, 0)
    with pytest.raises(ModelError, match="no trial to train"):
        GlobalModel.fit(empty)


def test_pairs_are_of_rows_of_the_same_group() -> None:
    groups, labels = np.repeat(np.arange(5), 7), RNG.random(35)
    pairs = Pairs.within(labels, groups, RNG)
    assert len(pairs.better) > 100
    assert (groups[pairs.better] == groups[pairs.worse]).all()
    assert (labels[pairs.better] > labels[pairs.worse]).all()


# The global model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_global_model_ranks_a_workload_it_has_not_seen(objective: Objective) -> None:
    model = GlobalModel.fit(data(groups=8, rows=100), Settings(objective=objective, rounds=60, threads=1))
    new = data(groups=1, seed=5, scale=1e-6)
    assert pairwise_accuracy(model.predict(new.features), -new.seconds) > 0.8
    assert [one.workload for one in model.held_out] == [f"w{i}" for i in range(8)]
    assert np.median([one.rank_correlation for one in model.held_out]) > 0.7


def test_what_was_never_met_is_judged_by_the_roofline() -> None:
    def bounded(bounds: npt.NDArray[np.float64], groups: int) -> TrainingSet:
        """Times are twice the bound, or as long as the bound for every second row, as the first feature says."""
        features = np.zeros((len(bounds), len(NAMES)), dtype=np.float32)
        features[:, 0], features[:, BOUND] = np.arange(len(bounds)) % 2, bounds
        number = np.arange(len(bounds)) * groups // len(bounds)
        names = tuple(f"w{group}" for group in range(groups))
        seconds = 2.0 ** (bounds + 1 - features[:, 0])
        return TrainingSet(features, seconds, number, names, ("t",) * groups, (1.0,) * groups)

    known, new = bounded(RNG.uniform(0, 1, 400), 4), bounded(RNG.uniform(4, 9, 100), 1)
    model = GlobalModel.fit(known, Settings(rounds=60))
    again = GlobalModel.from_bytes(model.to_bytes(), "gbt", model.rounds, "invariant")
    assert rank_correlation(again.predict(new.features), -new.seconds) > 0.98


def test_held_out_losses_do_not_depend_on_the_level_of_a_workload() -> None:
    some = data(groups=3)
    level = np.array([0.0, 5.0, -2.0])[some.groups]
    for objective in OBJECTIVES:
        loss = loss_of(objective, some)
        assert loss(some.labels + level) == pytest.approx(0, abs=1e-6)
        assert loss(-some.labels) > 0.1


def test_features_of_another_length_are_cut_or_filled() -> None:
    some = data()
    model = GlobalModel.fit(some, Settings(rounds=5, threads=1))
    longer = np.column_stack([some.features, some.features])
    np.testing.assert_array_equal(model.predict(longer), model.predict(some.features))
    assert np.isfinite(model.predict(some.features[:, :2])).all()


def test_trees_cannot_learn_from_features_that_are_trees() -> None:
    some = data()
    with pytest.raises(ModelError, match="tree-gru cannot learn from invariant features"):
        GlobalModel.fit(some, Settings("tree-gru"))
    with pytest.raises(ModelError, match="no objective top-heavy"):
        GlobalModel.fit(replace(some, features=some.features[:, :, None]), Settings("tree-gru", "top-heavy"))


def test_training_again_gives_the_same_model() -> None:
    first, again = (GlobalModel.fit(data(), Settings(rounds=20, threads=1)) for _ in range(2))
    assert first.to_bytes() == again.to_bytes()
    assert first.held_out == again.held_out


def test_a_model_survives_being_stored() -> None:
    some = data()
    model = GlobalModel.fit(some, Settings(rounds=20, threads=1))
    read = GlobalModel.from_bytes(model.to_bytes(), "gbt", model.rounds, model.representation)
    np.testing.assert_array_equal(read.predict(some.features), model.predict(some.features))
    assert read.rounds == model.rounds


def test_one_workload_alone_is_learned_from_but_not_judged() -> None:
    model = GlobalModel.fit(data(groups=1), Settings(rounds=20, threads=1))
    assert model.held_out == ()


def test_targets_of_one_workload_are_held_out_together() -> None:
    some = data(groups=4)
    model = GlobalModel.fit(
        replace(some, workloads=("a", "a", "b", "b"), targets=("x", "y", "x", "y")), Settings(rounds=9, threads=1)
    )
    assert [(one.workload, one.target) for one in model.held_out] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


# The verdict -------------------------------------------------------------------------------------------------------


def held_out(correlation: float) -> HeldOut:
    return HeldOut("matmul(m=1,k=1,n=1)", "t", 9, correlation, 0.9, 0.9, 0.9)


def test_the_verdict_follows_the_evidence() -> None:
    good, fair, bad = ([held_out(value)] for value in (0.9, 0.4, 0.1))
    assert judge(good, good, coverage=1.0)[0] == "use"
    assert judge(good, good, coverage=0.5)[0] == "weak"
    assert judge(fair, fair, coverage=1.0)[0] == "weak"
    assert judge([], good, coverage=1.0)[0] == "weak"
    assert judge([], [], coverage=1.0)[0] == "weak"
    assert judge(bad, good, coverage=1.0)[0] == "off"


# A prior from real schedules ---------------------------------------------------------------------------------------


def trials(workload: Workload, count: int, seed: int = 0) -> list[Trial]:
    """Trials whose time grows with the loads for each multiply-add, which only features that transfer can know."""
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    indices = space.sample(np.random.default_rng(seed), 4000)
    indices = indices[~template.illegal(workload, TARGET, space.columns(indices))][:count]
    result = []
    for number, index in enumerate(indices.tolist()):
        config = space.config(index)
        n, m, unroll = (int(config[name]) for name in ("tile_n", "tile_m", "unroll_k"))  # type: ignore[arg-type]
        time = workload.flops * 1e-12 * (1 + 5 * (n + m) / (n * m) + 0.1 / unroll)
        schedule = template.schedule(workload, TARGET, config)
        made = Trial(
            workload, TARGET, Environment(()), template.key, config, schedule, Status.CORRECT, (time,) * 3, 0.0
        )
        result.append(replace(made, sequence=number))
    return result


def seconds_of(trial: Trial) -> float:
    assert trial.seconds is not None
    return trial.seconds


SOURCES = [
    matmul(m=64, k=64, n=64),
    matmul(m=96, k=128, n=256),
    matmul(m=200, k=100, n=300),
    matmul(m=512, k=32, n=128),
]


def test_a_prior_ranks_the_schedules_of_a_new_workload() -> None:
    known = [trial for number, source in enumerate(SOURCES) for trial in trials(source, 80, number)]
    some, used = TrainingSet.of(known)
    assert used.all()
    new = matmul(m=128, k=256, n=192)
    template = template_for(new, TARGET)
    model = GlobalModel.fit(some, Settings(rounds=60, threads=1))
    prior, report = prior_from(model, Seen.of(some), known, {}, template, new, TARGET, template.space(new, TARGET))
    assert report.verdict == "use"
    assert report.used == len(known)
    assert report.coverage is not None
    assert report.coverage > 0.8
    assert prior is not None
    test = trials(new, 100, 9)
    space = template.space(new, TARGET)
    columns = space.columns(np.array([space.index(trial.config) for trial in test]))
    times = np.array([seconds_of(trial) for trial in test])
    assert rank_correlation(prior.scores(columns)[0], -times) > 0.8
    assert quality(prior.scores(columns)[0], times, 1) > 0.9


def test_a_large_space_is_scored_in_blocks_as_it_would_be_in_one() -> None:
    workload = matmul(m=128, k=256, n=192)
    model = GlobalModel.fit(TrainingSet.of(trials(workload, 80))[0], Settings(rounds=5))
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    columns = space.columns(legal_sample(template, workload, TARGET, space, 150_000))
    blocks, places = distinct_features(template, workload, TARGET, space, columns)
    features = list(blocks)
    assert len(features) > 1
    found, which = scores(model, template, workload, TARGET, space, columns)
    np.testing.assert_array_equal(found, model.predict(concatenated(features))[places])
    np.testing.assert_array_equal(which, places)
    assert not len(
        scores(model, template, workload, TARGET, space, {name: each[:0] for name, each in columns.items()})[0]
    )


def test_examples_are_the_best_of_the_most_similar_workloads() -> None:
    known = [trial for number, source in enumerate(SOURCES) for trial in trials(source, 30, number)]
    new = matmul(m=100, k=128, n=256)
    found = nearest_best(known, template_for(new, TARGET).key, new, TARGET, 8)
    assert found[0].workload == SOURCES[1]
    own = [trial for trial in known if trial.workload == SOURCES[1]]
    assert found[0] == min(own, key=seconds_of)


def test_distance_counts_octaves_and_words() -> None:
    one, other = parse("conv2d(ci=15,h=7,w=7,co=8,k=1)"), parse("conv2d(ci=31,h=7,w=7,co=8,k=1,epilogue=relu)")
    assert distance(one, one) == 0
    assert distance(one, other) == pytest.approx(2)


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


# The warm-started tuner --------------------------------------------------------------------------------------------


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
