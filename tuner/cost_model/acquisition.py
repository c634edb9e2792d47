"""What makes a candidate worth measuring when its speed is believed to be normal: expected value, EI, or UCB."""

from math import erf, log, pi, sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Acquisition = Literal["mean", "ei", "ucb"]

_LEAST = 1e-9  # deviation of a belief without any doubt
_FAR = -5.0  # deviations below the leader from which the difference in EI is all rounding
KAPPA = 2.576  # standard deviations above the mean: 99 % of a normal belief lie within as many on both sides


def acquire(kind: Acquisition, means: Floats, deviations: Floats, leader: float) -> Floats:
    """(N,) values of N beliefs; ``leader`` is the best that was observed, which only EI asks for.

    EI is on a log scale: of many candidates that are hardly expected to improve at all, one is still the best.
    """
    if kind == "ei":
        return log_expected_improvement(means, deviations, leader)
    return means + KAPPA * deviations if kind == "ucb" else means


def expected_improvement(means: Floats, deviations: Floats, leader: float) -> Floats:
    """How much above ``leader`` normal beliefs are expected to come out, (N,); Jones, Schonlau, Welch 1998, eq. 15."""
    doubt = np.maximum(deviations, _LEAST)
    z = (means - leader) / doubt
    below = 0.5 * (1 + np.array([erf(value / sqrt(2)) for value in z.tolist()]))
    density = np.exp(-0.5 * z**2) / sqrt(2 * pi)
    improvement: Floats = doubt * (z * below + density)
    return improvement


def log_expected_improvement(means: Floats, deviations: Floats, leader: float) -> Floats:
    """The logarithm of EI, (N,), which does not vanish far below the leader (Ament et al., NeurIPS 2023).

    There EI is ``deviation * density / z^2``, the first term of its expansion.
    """
    doubt = np.maximum(deviations, _LEAST)
    z = (means - leader) / doubt
    near = np.log(np.maximum(expected_improvement(means, deviations, leader), 1e-300))
    far = np.log(doubt) - 0.5 * z**2 - log(sqrt(2 * pi)) - 2 * np.log(np.maximum(-z, 1.0))
    return np.asarray(np.where(z > _FAR, near, far))
