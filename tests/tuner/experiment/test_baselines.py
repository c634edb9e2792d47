"""Baselines: random search is worked out, and agrees with drawing; copies come from the nearest workloads."""

from itertools import combinations

import numpy as np
import pytest

from tests.tuner.experiment.pools import pool
from tuner.experiment.baselines import expected_best, nearest_copies, quantile_of, random_reaches

VALUES = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    expected = expected_best(VALUES, 10)
    assert len(expected) == len(VALUES)
    for draws in range(1, len(VALUES) + 1):
        assert expected[draws - 1] == pytest.approx(np.mean([max(each) for each in combinations(VALUES, draws)]))


def test_the_chance_to_reach_a_goal_is_the_share_of_draws_that_do() -> None:
    chances = random_reaches(VALUES, 4.0)
    for draws in range(1, len(VALUES) + 1):
        assert chances[draws - 1] == pytest.approx(np.mean([max(each) >= 4 for each in combinations(VALUES, draws)]))
    assert not random_reaches(VALUES, 10.0).any()


def test_the_quantile_of_a_single_good_one_is_in_proportion() -> None:
    chances = random_reaches(np.arange(100.0), 99.0)
    assert [quantile_of(chances, share) for share in (0.5, 0.75, 0.9)] == [50, 75, 90]
    assert quantile_of(random_reaches(np.arange(5.0), 9.0), 0.5) is None


def test_copies_are_of_the_nearest_workload_first_and_each_is_tried_once() -> None:
    aim = pool("matmul(m=64,k=64,n=64)")
    near, far = pool("matmul(m=64,k=64,n=128)", seed=1), pool("matmul(m=512,k=512,n=512)", seed=2)
    copies = nearest_copies(aim, [far, near])
    assert copies[0] == nearest_copies(aim, [near])[0]
    assert len(set(copies)) == len(copies) <= 2
    assert set(copies) <= set(aim.indices.tolist())


def test_a_copy_of_the_same_configuration_is_that_configuration() -> None:
    aim = pool("matmul(m=64,k=64,n=64)")
    assert nearest_copies(aim, [aim]) == [int(aim.indices[int(np.argmin(aim.seconds))])]


def test_another_operator_has_nothing_to_copy() -> None:
    assert nearest_copies(pool("matmul(m=64,k=64,n=64)"), [pool("dense(m=64,ci=64,co=64)")]) == []
