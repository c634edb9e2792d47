"""What the trials of one workload say beyond the global model: a regression of the residual.

    log speed(x) = offset + slope * prior(x) + family(x) + g(knobs of x) + noise

with Gaussian beliefs about all of them: a wide one about the offset (nobody knows the best time yet), one around 1
about the slope, one around 0 about each family (an algorithm, for a prior is wrong about all schedules of an algorithm
alike), and for g a function of the knobs: a Gaussian process (kernel "gp") or a weight for each knob (kernel
"ridge", which is ridge regression in its dual form). So the prior decides while there is little else, and is discounted
as trials speak against it; with no correlation at all its slope goes to zero. The posterior is exact and needs no
training (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25 and 2.26). The process is
smooth in the positions of the values ("smooth": squared exponential) or counts the knobs that differ, whatever their
values ("equal": exponential); which of the two, its length and its height are those of a small grid that make the
observations most likely (eq. 5.8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Families = npt.NDArray[np.int64]
Kernel = Literal["gp", "ridge"]
Shape = Literal["smooth", "equal", "linear"]

_OFFSET = 3.0  # standard deviation of the offset, in units of log time
_SLOPE = 0.2  # and of the slope of the prior around 1
_FAMILY = 0.1  # and of a family: 0.06 to 0.13 on held-out convolutions with Winograd's algorithms
_NOISE = 0.02  # and of the noise: two kernels within 2 % are hardly told apart by a short measurement
_SHAPES: Mapping[Kernel, Sequence[Shape]] = {"gp": ("smooth", "equal"), "ridge": ("linear",)}
_LENGTHS: Mapping[Shape, Sequence[float]] = {
    "smooth": (0.5, 1.0, 2.0),  # in standardised knobs, times the root of their number
    "equal": (0.15, 0.4, 1.0),  # in shares of the knobs
    "linear": (1.0,),  # it has none
}
_HEIGHTS = (0.05, 0.15, 0.4)  # standard deviation of g in units of log time


@dataclass(frozen=True)
class Residual:
    """The posterior after some observations."""

    knobs: Floats  # (n, K) standardised knobs of the observations
    prior: Floats  # (n,) what the prior said of them
    families: Families  # (n,)
    shape: Shape
    length: float
    height: float
    weights: Floats  # (n,)
    inverse: Floats  # (n, n) inverse of the Cholesky factor of the covariance

    @classmethod
    def fit(cls, knobs: Floats, prior: Floats, families: Families, speeds: Floats, kernel: Kernel = "gp") -> "Residual":
        """Learn from (n, K) standardised knobs, (n,) prior predictions, families and log speeds; n is 1 or more."""
        shifted = speeds - prior
        shifted = shifted - shifted.mean()
        base = _linear(prior, prior) + _related(families, families) + _NOISE**2 * np.eye(len(prior))
        options = [
            (shape, length, height)
            for shape in _SHAPES[kernel]
            for length, height in product(_LENGTHS[shape], _HEIGHTS)
        ]
        compared = {shape: _compared(shape, knobs, knobs) for shape in _SHAPES[kernel]}
        # With the observations as one more row, the last row of the factor is them whitened: nothing has to be solved
        # for each option. The corner only has to be large enough.
        bordered = np.empty((len(options), len(prior) + 1, len(prior) + 1))
        bordered[:, -1, :-1] = bordered[:, :-1, -1] = shifted
        bordered[:, -1, -1] = 1 + shifted @ shifted / _NOISE**2
        for covariance, (shape, length, height) in zip(bordered, options, strict=True):
            covariance[:-1, :-1] = base + height**2 * _alike(shape, compared[shape], length)
        factors = np.linalg.cholesky(bordered)
        white = factors[:, -1, :-1]
        logarithms = np.log(np.diagonal(factors[:, :-1, :-1], axis1=1, axis2=2))
        best = int(np.argmax(-0.5 * (white**2).sum(axis=1) - logarithms.sum(axis=1)))
        inverse = np.linalg.inv(factors[best, :-1, :-1])
        return cls(knobs, prior, families, *options[best], inverse.T @ white[best], inverse)

    def predict(self, knobs: Floats, prior: Floats, families: Families) -> tuple[Floats, Floats]:
        """Mean, up to a constant, and standard deviation of the log speed of (N, K) candidates, (N,) each."""
        alike = _alike(self.shape, _compared(self.shape, knobs, self.knobs), self.length)
        across = _linear(prior, self.prior) + _related(families, self.families) + self.height**2 * alike
        share = (knobs**2).mean(axis=1) if self.shape == "linear" else 1.0
        own = _OFFSET**2 + _SLOPE**2 * prior**2 + _FAMILY**2 + self.height**2 * share
        explained = ((across @ self.inverse.T) ** 2).sum(axis=1)
        return prior + across @ self.weights, np.sqrt(np.maximum(own - explained, 1e-12))


def _related(left: Families, right: Families) -> Floats:
    """Covariance of the families, (N, n)."""
    return np.where(left[:, None] == right, _FAMILY**2, 0.0)


def _linear(left: Floats, right: Floats) -> Floats:
    return _OFFSET**2 + _SLOPE**2 * np.outer(left, right)


def _compared(shape: Shape, left: Floats, right: Floats) -> Floats:
    """What the covariance depends on, for (N, K) and (n, K) knobs, (N, n): a mean over the knobs.

    Of the products of values, of their squared differences, or of whether they differ.
    """
    knobs = max(left.shape[1], 1)
    if shape == "equal":
        # Of the two, the candidates are many: rows of them are compared five times as quickly as columns.
        differing = np.zeros((len(right), len(left)), dtype=np.uint8)
        for own, others in zip(right.T, np.ascontiguousarray(left.T), strict=True):
            differing += own[:, None] != others
        return differing.T / float(knobs)
    products = left @ right.T
    if shape == "linear":
        return np.asarray(products / knobs)
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * products
    return np.asarray(np.maximum(squares, 0.0) / knobs)


def _alike(shape: Shape, compared: Floats, length: float) -> Floats:
    """Covariance of g for what ``_compared`` gives, at a height of one."""
    if shape == "linear":
        return compared
    return np.asarray(np.exp(-compared / (length if shape == "equal" else 2 * length**2)))
