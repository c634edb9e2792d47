"""The pairwise logistic objective of the AutoTVM paper, written out.

XGBoost's own ``rank:pairwise`` expects graded relevance since version 2, so it is not what the paper means.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_PAIRS = 2**15
PARTNERS = 8


@dataclass(frozen=True)
class Pairs:
    """Rows compared with each other: row ``better[k]`` has a higher label than row ``worse[k]``."""

    better: npt.NDArray[np.int64]
    worse: npt.NDArray[np.int64]
    rows: int

    @classmethod
    def of(cls, labels: npt.NDArray[np.floating], rng: np.random.Generator) -> "Pairs":
        """All pairs of rows with different labels, or about ``MAX_PAIRS`` random ones when there are more."""
        rows = len(labels)
        if rows * (rows - 1) // 2 <= MAX_PAIRS:
            left, right = np.triu_indices(rows, k=1)
        else:
            left, right = rng.integers(0, rows, size=(2, MAX_PAIRS))
        swap = labels[left] < labels[right]
        left, right = np.where(swap, right, left), np.where(swap, left, right)
        differ = labels[left] != labels[right]
        return cls(left[differ], right[differ], rows)

    @classmethod
    def within(
        cls, labels: npt.NDArray[np.floating], groups: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> "Pairs":
        """Random pairs of rows of the same group, about eight for each row; ``groups`` are in ascending order."""
        starts = np.searchsorted(groups, groups, side="left")
        ends = np.searchsorted(groups, groups, side="right")
        left = np.repeat(np.arange(len(labels)), PARTNERS)
        right = rng.integers(np.repeat(starts, PARTNERS), np.repeat(ends, PARTNERS))
        swap = labels[left] < labels[right]
        left, right = np.where(swap, right, left), np.where(swap, left, right)
        differ = labels[left] != labels[right]
        return cls(left[differ], right[differ], len(labels))

    def loss(self, scores: npt.NDArray[np.floating]) -> float:
        """Mean of ``log(1 + exp(-(score of better - score of worse)))``."""
        return float(np.logaddexp(0, scores[self.worse] - scores[self.better]).mean()) if len(self.better) else 0.0

    def gradient(self, scores: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
        """First and second derivatives of the loss by each row's score, (rows,) each.

        They are scaled to as many pairs as there are rows, so that the regularisation of a booster means the same for
        little and much data.
        """
        margins = (scores[self.better] - scores[self.worse]).astype(np.float64)
        wrong = 1 / (1 + np.exp(np.clip(margins, -30, 30)))
        curvature = wrong * (1 - wrong)
        weight = self.rows / max(len(self.better), 1)
        first = np.bincount(self.worse, wrong, self.rows) - np.bincount(self.better, wrong, self.rows)
        second = np.bincount(self.worse, curvature, self.rows) + np.bincount(self.better, curvature, self.rows)
        return first * weight, second * weight
