"""Replays: a pool holds what was measured, an arm chooses in it, and is charged what that took."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tuner.experiment.pools import TARGET, pool, trials
from tuner.errors import ScheduleError
from tuner.experiment.arms import WAYS, ArmError, Setup, arm
from tuner.experiment.pool import Pool, pools
from tuner.experiment.replay import Run, replay
from tuner.experiment.sources import Lesson, learn, learned_prior
from tuner.search.candidates import QUICKLY
from tuner.search.genetic import Genetic

AIM = pool("matmul(m=64,k=64,n=64)")
SOURCES = (pool("matmul(m=96,k=64,n=64)", seed=1), pool("matmul(m=128,k=32,n=64)", seed=2))


def test_a_configuration_that_was_measured_twice_is_one_candidate_with_all_repeats() -> None:
    once = trials("matmul(m=64,k=64,n=64)", count=5)
    again = [replace(each, times=tuple(3 * time for time in each.times)) for each in once]
    both = Pool.of([*once, *again])
    assert len(both.indices) == 5
    assert [len(each.times) for each in both.trials] == [6] * 5


def test_trials_of_another_template_are_left_out_and_only_such_are_an_error() -> None:
    some = trials("matmul(m=64,k=64,n=64)", count=4)
    old = [replace(each, template="matmul/0") for each in some]
    assert len(Pool.of([*old[:2], *some[2:]]).indices) == 2
    with pytest.raises(ScheduleError, match="no stored trial"):
        Pool.of(old)


def test_pools_are_found_by_workload_and_target() -> None:
    other = replace(TARGET, threads=2)
    found = pools([*trials("matmul(m=64,k=64,n=64)", 4), *trials("matmul(m=64,k=64,n=64)", 3, target=other)])
    assert {name: len(each.indices) for name, each in found.items()} == {
        ("matmul(m=64,k=64,n=64)", TARGET.name): 4,
        ("matmul(m=64,k=64,n=64)", other.name): 3,
    }


def test_the_noise_of_a_pool_is_what_two_timings_of_a_good_schedule_usually_differ_by() -> None:
    few = [one for one in trials("matmul(m=64,k=64,n=64)", 40) if one.seconds is not None]
    best = min(few, key=lambda one: one.seconds or 0.0)
    slow = [replace(one, times=(1.0, 2.0)) for one in few if one is not best]  # far off: does not count
    noise = Pool.of([replace(best, times=(1.0e-5, 1.0e-5, 1.01e-5)), *slow]).noise
    assert noise == pytest.approx(np.log(1.01))
    assert Pool.of([replace(best, times=(1.0e-5,)), *slow]).noise == 0


def test_a_part_of_a_pool_has_the_values_that_were_asked_for() -> None:
    name, value = next(iter(AIM.trials[0].config.items()))
    part = AIM.only({name: value})
    assert {each.config[name] for each in part.trials} == {value}
    assert len(part.indices) < len(AIM.indices)
    with pytest.raises(ScheduleError, match="has"):
        AIM.only({name: -1})


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_search_meets_the_whole_pool_once(way: str) -> None:
    run = replay(arm(way, way, {}), Setup(AIM, SOURCES, 0), 1000)
    assert sorted(run.speeds) == pytest.approx(sorted(AIM.speeds))
    assert sum(run.costs) == pytest.approx(0.05 * len(AIM.indices))
    assert run.best()[-1] == AIM.speeds.max()


def test_a_warm_start_knows_the_whole_pool_of_a_space_too_large_to_list() -> None:
    large = pool("resnet18.C1(layout=NCHW16c)")
    assert large.space.size > QUICKLY
    run = replay(arm("warm", "transfer", {}), Setup(large, SOURCES, 0), 1)
    learned = learned_prior(large, learn(SOURCES, 0, Lesson()))
    scores, _ = learned.scores(large.space.columns(large.indices))
    assert run.speeds[0] == large.speeds[np.argmax(scores)]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_seed_decides_a_run(way: str) -> None:
    first, again = (replay(arm(way, way, {}), Setup(AIM, SOURCES, 3), 12).speeds for _ in range(2))
    assert first == again


def test_a_model_finds_the_best_sooner_than_chance() -> None:
    large = pool("matmul(m=256,k=64,n=256)", count=400)
    guided, random = (
        np.mean([replay(arm(way, way, {}), Setup(large, (), seed), 60).best()[-1] for seed in range(5)])
        for way in ("model", "random")
    )
    assert guided > random


def test_what_was_learned_elsewhere_makes_a_better_first_choice_than_chance() -> None:
    first = replay(arm("warm", "warm", {}), Setup(AIM, SOURCES, 0), 1).speeds[0]
    assert first > np.median(AIM.speeds)


def test_the_training_of_a_lesson_is_said_and_is_no_part_of_the_clock() -> None:
    run = replay(arm("transfer", "transfer", {}), Setup(AIM, SOURCES, 0), 3)
    assert run.training > 0
    assert run.clock()[-1] == pytest.approx(run.start + sum(run.costs) + sum(run.choosing))


@pytest.mark.parametrize("features", ["knob", "context", "relation", "invariant"])
def test_every_representation_can_be_transferred_and_searched_with(features: str) -> None:
    for way in ("transfer", "model"):
        run = replay(arm(way, way, {"features": features}), Setup(AIM, SOURCES, 0), 20)
        assert len(run.speeds) == 20


def test_a_schedule_that_two_configurations_make_is_measured_once() -> None:
    some = trials("matmul(m=64,k=64,n=64)", count=12)
    doubled = Pool.of([*some[:10], *(replace(each, schedule=some[0].schedule) for each in some[10:])])
    found = replay(arm("one", "random", {}), Setup(doubled, (), 0), 100)
    assert len(doubled.indices) == 12
    assert len(found.speeds) == 10


def test_a_stretched_trial_is_the_best_of_several_candidates_at_the_cost_of_all() -> None:
    setup = Setup(AIM, (), 0)
    plain, doubled = (replay(arm("random", "random", {}, stretch), setup, 10) for stretch in (1, 2))
    assert len(doubled.speeds) == 10
    assert doubled.best()[0] == plain.best()[1]
    assert doubled.costs[0] == pytest.approx(0.1)


def test_a_child_that_was_not_recorded_is_replaced_by_the_nearest_that_was() -> None:
    candidates = AIM.candidates()
    made_up = np.setdiff1d(np.arange(AIM.indices.min(), AIM.indices.max(), 97), AIM.indices)[:20]
    admitted = candidates.admit(made_up)
    assert len(set(admitted.tolist())) == len(made_up)
    assert np.isin(admitted, AIM.indices).all()
    known = int(AIM.indices[7])
    assert candidates.admit(np.array([known])).tolist() == [known]
    candidates.take([known])
    assert candidates.admit(np.array([known])).tolist() != [known]
    assert len(Genetic(AIM.candidates(), np.random.default_rng(0)).propose(20)) == 20


def test_a_run_survives_json_and_knows_when_it_reached_what() -> None:
    run = Run((1.0, 4.0, 2.0, 8.0), (0.1,) * 4, (0.01,) * 4, 0.5, 2.0)
    assert Run.from_json(run.to_json()) == run
    assert [run.trials_to(goal) for goal in (1, 3, 8, 9)] == [1, 2, 4, None]
    assert run.seconds_to(8) == pytest.approx(0.94)
    assert run.seconds_to(9) is None


@pytest.mark.parametrize(
    ("way", "options", "message"),
    [
        ("newton", {}, "there is no tuner 'newton': use one of model"),
        ("random", {"batch": 8}, "tuner random has no option 'batch'; it has none"),
        ("model", {"batsh": 8}, "has no option 'batsh'; it has model, features"),
        ("model", {"batch": "8"}, "batch is '8': it has to be of type int"),
        ("model", {"model": "gbt-x"}, "there is no cost model 'gbt-x'"),
        ("transfer", {"features": "x"}, "there are no features 'x'"),
        ("transfer", {"objective": "x"}, "objective cannot be 'x': use one of"),
        ("warm", {"correction": "x"}, "correction cannot be 'x': use one of gp"),
    ],
)
def test_what_is_wrong_with_an_arm_is_said_in_one_line(way: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ArmError, match=message):
        arm("one", way, options)
