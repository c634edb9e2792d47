"""What a global model learns from: labels that compare within a workload; and how it is judged, on held-out ones."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tuner.cost_model.global_model import GlobalModel, ModelError, Settings
from tuner.cost_model.held_out import loss_of
from tuner.cost_model.metrics import pairwise_accuracy, rank_correlation
from tuner.cost_model.objectives import OBJECTIVES, Objective, Pairs
from tuner.cost_model.training import FEWEST, TrainingSet, choose
from tuner.features.invariant import BOUND, NAMES

RNG = np.random.default_rng(0)


def data(groups: int = 6, rows: int = 60, seed: int = 0, scale: float = 1.0) -> TrainingSet:
    """Groups whose times differ by a factor of their own, and depend on the features in the same way."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-2, 2, (groups * rows, 5)).astype(np.float32)
    number = np.repeat(np.arange(groups), rows)
    seconds = scale * np.exp(np.abs(features - 0.5) @ np.array([1, 0.5, 0.3, 0.1, 0]) + 2.0 * number)
    return TrainingSet(
        features, seconds, number, tuple(f"w{i}" for i in range(groups)), ("t",) * groups, (1.0,) * groups
    )


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


# The model ---------------------------------------------------------------------------------------------------------


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
