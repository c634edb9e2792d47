"""What the trials of one workload say beyond the global model: a Gaussian process on the residual.

    log speed(x) = offset + slope * prior(x) + g(knobs of x) + noise

with Gaussian beliefs about all of them: a wide one about the offset (nobody knows the best time yet), one around 1
about the slope, and for g a smooth function of the knobs. So the prior decides while there is little else, and is
discounted as trials speak against it; with no correlation at all its slope goes to zero. The posterior is exact and
needs no training (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25 and 2.26). Length and
height of g are those of a small grid that make the observations most likely (eq. 5.8).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_OFFSET = 3.0  # standard deviation of the offset, in units of log time
_SLOPE = 0.5  # and of the slope of the prior around 1
_NOISE = 0.02  # and of the noise: two kernels within 2 % are hardly told apart by a short measurement
_LENGTHS = (0.5, 1.0, 2.0)  # length of g in standardised knobs, times the root of their number
_HEIGHTS = (0.05, 0.15, 0.4)  # standard deviation of g in units of log time


@dataclass(frozen=True)
class Residual:
    """The posterior after some observations."""

    knobs: Floats  # (n, K) standardised knobs of the observations
    prior: Floats  # (n,) what the prior said of them
    length: float
    height: float
    weights: Floats  # (n,)
    inverse: Floats  # (n, n) inverse of the Cholesky factor of the covariance

    @classmethod
    def fit(cls, knobs: Floats, prior: Floats, speeds: Floats) -> "Residual":
        """Learn from (n, K) standardised knobs, (n,) prior predictions and (n,) observed log speeds; n is 1 or more."""
        shifted = speeds - prior
        base = _linear(prior, prior) + _NOISE**2 * np.eye(len(prior))
        distances = _distances(knobs, knobs)
        options = []
        for length, height in product(_LENGTHS, _HEIGHTS):
            factor = np.linalg.cholesky(base + _smooth(distances, knobs.shape[1], length, height))
            inverse = np.linalg.inv(factor)
            white = inverse @ (shifted - shifted.mean())
            likelihood = -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())
            options.append((likelihood, length, height, inverse))
        _, length, height, inverse = max(options, key=lambda option: option[0])
        return cls(knobs, prior, length, height, inverse.T @ (inverse @ (shifted - shifted.mean())), inverse)

    def predict(self, knobs: Floats, prior: Floats) -> tuple[Floats, Floats]:
        """Mean, up to a constant, and standard deviation of the log speed of (N, K) candidates, (N,) each."""
        across = _linear(prior, self.prior)
        across += _smooth(_distances(knobs, self.knobs), knobs.shape[1], self.length, self.height)
        own = _OFFSET**2 + _SLOPE**2 * prior**2 + self.height**2
        explained = ((across @ self.inverse.T) ** 2).sum(axis=1)
        return prior + across @ self.weights, np.sqrt(np.maximum(own - explained, 1e-12))


def _linear(left: Floats, right: Floats) -> Floats:
    return _OFFSET**2 + _SLOPE**2 * np.outer(left, right)


def _smooth(distances: Floats, knobs: int, length: float, height: float) -> Floats:
    scaled: Floats = height**2 * np.exp(-0.5 * distances / (length**2 * max(knobs, 1)))
    return scaled


def _distances(left: Floats, right: Floats) -> Floats:
    """Squared distances, (N, n)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))
