"""What makes a candidate worth measuring when its speed is believed to be normal: expected value, EI, or UCB."""

from math import erf, pi, sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Acquisition = Literal["mean", "ei", "ucb"]

KAPPA = 2.576  # standard deviations above the mean: 99 % of a normal belief lie within as many on both sides


def acquire(kind: Acquisition, means: Floats, deviations: Floats, leader: float) -> Floats:
    """(N,) values of N beliefs; ``leader`` is the best that was observed, which only EI asks for."""
    if kind == "ei":
        return expected_improvement(means, deviations, leader)
    return means + KAPPA * deviations if kind == "ucb" else means


def expected_improvement(means: Floats, deviations: Floats, leader: float) -> Floats:
    """How much above ``leader`` normal beliefs are expected to come out, (N,); Jones, Schonlau, Welch 1998, eq. 15.

    A belief without any doubt improves by what its mean is above.
    """
    doubt = np.maximum(deviations, 1e-12)
    z = (means - leader) / doubt
    below = 0.5 * (1 + np.array([erf(value / sqrt(2)) for value in z.tolist()]))
    density = np.exp(-0.5 * z**2) / sqrt(2 * pi)
    improvement: Floats = doubt * (z * below + density)
    return improvement
