"""Every representation says the same of a candidate as of the trial that it becomes."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tuner.test_transfer import TARGET, trials
from tuner.errors import TunedbError
from tuner.features.representations import REPRESENTATIONS, representation
from tuner.features.sketches import assembled, padded
from tuner.templates import template_for
from tuner.workload import matmul

WORKLOAD = matmul(m=64, k=64, n=64)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_trial_has_the_features_of_its_candidate(name: str) -> None:
    known = trials(WORKLOAD, 30)
    template = template_for(WORKLOAD, TARGET)
    space = template.space(WORKLOAD, TARGET)
    columns = space.columns(np.array([space.index(trial.config) for trial in known]))
    of_candidates = representation(name).of_candidates(template, WORKLOAD, TARGET, space, columns)
    of_trials = representation(name).of_trials(known)
    assert np.isfinite(of_candidates).all()
    np.testing.assert_array_equal(of_candidates, padded(of_trials, of_candidates.shape[1:]))
    alone = representation(name).of_trials(known[3:4])
    np.testing.assert_array_equal(padded(alone, of_trials.shape[1:]), of_trials[3:4])


def test_a_trial_of_another_template_or_space_has_no_knobs() -> None:
    first, second, third = trials(WORKLOAD, 3)
    foreign, old = replace(first, template="other/1"), replace(second, config={**second.config, "tile_n": 7})
    features = representation("knob").of_trials([foreign, old, third])
    assert np.isnan(features[:2]).all()
    assert np.isfinite(features[2]).all()
    assert np.isnan(representation("knob").of_trials([foreign])).all()


def test_parts_of_other_lengths_end_with_zeros_and_missing_rows_are_nan() -> None:
    found = assembled(3, [(np.array([2]), np.ones((1, 2), np.float32)), (np.array([0]), np.ones((1, 3), np.float32))])
    assert found[[0, 2]].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert np.isnan(found[1]).all()
    assert padded(np.ones((1, 3, 4), np.float32), (2, 5)).tolist() == [[[1, 1, 1, 1, 0]] * 2]


def test_the_features_that_there_are_are_named() -> None:
    with pytest.raises(TunedbError, match="no features 'itervar': use one of knob, template, context"):
        representation("itervar")
