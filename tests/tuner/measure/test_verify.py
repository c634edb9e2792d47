"""The verdict over an output."""

import numpy as np
import pytest

from tuner.measure.verify import verify

REFERENCE = np.array([[1.0, -4.0], [2.0, 0.5]])


def test_the_error_is_relative_to_the_largest_value_whatever_its_sign() -> None:
    output = REFERENCE.astype(np.float32) + np.array([[0, 0], [0, 0.25]], np.float32)
    assert verify(output, REFERENCE, 0.1).error == pytest.approx(0.25 / 4)
    assert verify(output, REFERENCE, 0.1).problem is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_error_above_the_tolerance_is_a_problem_in_either_direction(sign: float) -> None:
    verdict = verify(REFERENCE + sign, REFERENCE, 1e-4)
    assert verdict.error == pytest.approx(0.25)
    assert verdict.problem is not None
    assert "error 0.25 of the largest reference value, more than 0.0001" in verdict.problem


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_and_located(value: float) -> None:
    output = REFERENCE.copy()
    output[1, 0] = value
    verdict = verify(output, REFERENCE, 1e-4)
    assert verdict.error is None
    assert verdict.problem is not None
    assert "1 of 4 elements" in verdict.problem
    assert "first at [1, 0]" in verdict.problem


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_right_where_the_reference_has_it(value: float) -> None:
    reference = REFERENCE.copy()
    reference[0, 1] = value
    assert verify(reference.astype(np.float32), reference, 1e-4).error == 0.0
    assert verify(REFERENCE, reference, 1e-4).problem is not None
    assert verify(-reference, reference, 1e-4).problem is not None


def test_a_reference_of_zeros_makes_the_error_absolute() -> None:
    zeros = np.zeros(3)
    assert verify(zeros, zeros, 1e-4).error == 0.0
    assert verify(zeros + 0.5, zeros, 1e-4).error == 0.5
