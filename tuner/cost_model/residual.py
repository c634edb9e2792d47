"""What the trials of one workload say beyond the global model: a regression of the residual.

    log speed(x) = offset + slope * prior(x) + g(knobs of x) + noise

with Gaussian beliefs about all of them: a wide one about the offset (nobody knows the best time yet), one around 1
about the slope, and for g a function of the knobs: a smooth one (kernel "gp", a Gaussian process) or a weight for each
knob (kernel "ridge", which is ridge regression in its dual form). So the prior decides while there is little else, and
is discounted as trials speak against it; with no correlation at all its slope goes to zero. The posterior is exact and
needs no training (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25 and 2.26). Length and
height of g are those of a small grid that make the observations most likely (eq. 5.8).
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kernel = Literal["gp", "ridge"]

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
    kernel: Kernel
    length: float
    height: float
    weights: Floats  # (n,)
    inverse: Floats  # (n, n) inverse of the Cholesky factor of the covariance

    @classmethod
    def fit(cls, knobs: Floats, prior: Floats, speeds: Floats, kernel: Kernel = "gp") -> "Residual":
        """Learn from (n, K) standardised knobs, (n,) prior predictions and (n,) observed log speeds; n is 1 or more."""
        shifted = speeds - prior
        base = _linear(prior, prior) + _NOISE**2 * np.eye(len(prior))
        options = []
        for length, height in product(_LENGTHS if kernel == "gp" else (1.0,), _HEIGHTS):
            factor = np.linalg.cholesky(base + _alike(kernel, knobs, knobs, length, height))
            inverse = np.linalg.inv(factor)
            white = inverse @ (shifted - shifted.mean())
            likelihood = -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())
            options.append((likelihood, length, height, inverse))
        _, length, height, inverse = max(options, key=lambda option: option[0])
        return cls(knobs, prior, kernel, length, height, inverse.T @ (inverse @ (shifted - shifted.mean())), inverse)

    def predict(self, knobs: Floats, prior: Floats) -> tuple[Floats, Floats]:
        """Mean, up to a constant, and standard deviation of the log speed of (N, K) candidates, (N,) each."""
        across = _linear(prior, self.prior) + _alike(self.kernel, knobs, self.knobs, self.length, self.height)
        share = 1.0 if self.kernel == "gp" else (knobs**2).mean(axis=1)
        own = _OFFSET**2 + _SLOPE**2 * prior**2 + self.height**2 * share
        explained = ((across @ self.inverse.T) ** 2).sum(axis=1)
        return prior + across @ self.weights, np.sqrt(np.maximum(own - explained, 1e-12))


def _linear(left: Floats, right: Floats) -> Floats:
    return _OFFSET**2 + _SLOPE**2 * np.outer(left, right)


def _alike(kernel: Kernel, left: Floats, right: Floats, length: float, height: float) -> Floats:
    """Covariance of g between (N, K) and (n, K) knobs, (N, n)."""
    knobs = max(left.shape[1], 1)
    if kernel == "ridge":
        return np.asarray(height**2 / knobs * (left @ right.T))
    return np.asarray(height**2 * np.exp(-0.5 * _distances(left, right) / (length**2 * knobs)))


def _distances(left: Floats, right: Floats) -> Floats:
    """Squared distances, (N, n)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))
