"""What trees are trained for: squared error, the pairwise logistic loss of the AutoTVM paper, or the order at the top.

XGBoost's own ``rank:pairwise`` expects graded relevance since version 2, so it is not what the paper means. The two
ranking objectives compare rows of the same group only, a group being the trials of one workload on one target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]
Ints: TypeAlias = npt.NDArray[np.int64]
Gradient: TypeAlias = tuple[Floats, Floats]  # first and second derivatives by each row's score
Objective = Literal["regression", "rank", "top-heavy"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

MAX_PAIRS = 2**15
PARTNERS = 8
TOP = 8  # rows of a group, by the current scores, that the top-heavy objective compares with all others


def objective(kind: Objective, labels: Floats, groups: Ints, seed: int) -> Callable[[Floats, Any], Gradient] | None:
    """The objective as XGBoost calls it; None for the squared error, which it has. ``groups`` ascend."""
    if kind == "regression":
        return None
    rng = np.random.default_rng(seed)
    if kind == "top-heavy":
        top = TopHeavy.of(labels, groups)
        return lambda scores, _: top.gradient(scores.reshape(-1))
    alone = not len(groups) or groups[0] == groups[-1]
    pairs = Pairs.of(labels, rng) if alone else Pairs.within(labels, groups, rng)
    return lambda scores, _: pairs.gradient(scores.reshape(-1))


@dataclass(frozen=True)
class Pairs:
    """Rows compared with each other: row ``better[k]`` has a higher label than row ``worse[k]``."""

    better: Ints
    worse: Ints
    rows: int

    @classmethod
    def of(cls, labels: Floats, rng: np.random.Generator) -> "Pairs":
        """All pairs of rows with different labels, or about ``MAX_PAIRS`` random ones when there are more."""
        rows = len(labels)
        if rows * (rows - 1) // 2 <= MAX_PAIRS:
            left, right = np.triu_indices(rows, k=1)
        else:
            left, right = rng.integers(0, rows, size=(2, MAX_PAIRS))
        return cls(*_ordered(labels, left, right), rows)

    @classmethod
    def within(cls, labels: Floats, groups: Ints, rng: np.random.Generator) -> "Pairs":
        """Random pairs of rows of the same group, about eight for each row; ``groups`` are in ascending order."""
        starts = np.searchsorted(groups, groups, side="left")
        ends = np.searchsorted(groups, groups, side="right")
        left = np.repeat(np.arange(len(labels)), PARTNERS)
        right = rng.integers(np.repeat(starts, PARTNERS), np.repeat(ends, PARTNERS))
        return cls(*_ordered(labels, left, right), len(labels))

    def loss(self, scores: Floats, weights: Floats | float = 1.0) -> float:
        """Mean of ``weight * log(1 + exp(-(score of better - score of worse)))``."""
        if not len(self.better):
            return 0.0
        return float((weights * np.logaddexp(0, scores[self.worse] - scores[self.better])).mean())

    def gradient(self, scores: Floats, weights: Floats | float = 1.0) -> Gradient:
        """First and second derivatives of the loss by each row's score, (rows,) each.

        They are scaled to as many pairs as there are rows, so that the regularisation of a booster means the same for
        little and much data.
        """
        margins = (scores[self.better] - scores[self.worse]).astype(np.float64)
        wrong = 1 / (1 + np.exp(np.clip(margins, -30, 30)))
        curvature = weights * wrong * (1 - wrong)
        wrong = weights * wrong
        scale = self.rows / max(len(self.better), 1)
        first = np.bincount(self.worse, wrong, self.rows) - np.bincount(self.better, wrong, self.rows)
        second = np.bincount(self.worse, curvature, self.rows) + np.bincount(self.better, curvature, self.rows)
        return first * scale, second * scale


@dataclass(frozen=True)
class TopHeavy:
    """LambdaMART (Burges, "From RankNet to LambdaRank to LambdaMART", 2010): pairs weigh what swapping them costs.

    The cost is in NDCG, whose gain here is ``best time / time``: what is at the top counts, and how much faster it is.
    """

    labels: Floats  # log(best/time), so that the gain is exp(label)
    groups: Ints  # ascending
    ideal: Floats  # (groups,) DCG of the best order

    @classmethod
    def of(cls, labels: Floats, groups: Ints) -> "TopHeavy":
        found = cls(labels, groups, np.ones(0))
        return cls(labels, groups, found._dcg(labels))

    def ndcg(self, scores: Floats) -> float:
        """Mean over the groups of the DCG in the order of ``scores`` relative to the best one."""
        return float(np.mean(self._dcg(scores) / self.ideal))

    def pairs(self, scores: Floats) -> tuple[Pairs, Floats]:
        """The ``TOP`` rows of each group, by the scores, with all others of it; and the weight of each pair."""
        rank = self._rank(scores)
        order = np.lexsort((rank, self.groups))  # as groups ascend, row i of a group is at its start + rank
        start, end = (np.searchsorted(self.groups, self.groups, side=side) for side in ("left", "right"))
        places = np.arange(TOP)
        left = np.repeat(np.arange(len(self.labels)), TOP)
        top = np.repeat(start, TOP) + np.tile(places, len(self.labels))
        inside = top < np.repeat(end, TOP)
        left, right = left[inside], order[top[inside]]
        once = (rank[left] >= TOP) | (rank[left] > rank[right])  # two rows of the top are compared once
        better, worse = _ordered(self.labels, left[once], right[once])
        gain = np.exp(self.labels)
        saved = np.abs((gain[better] - gain[worse]) * (_discount(rank[better]) - _discount(rank[worse])))
        return Pairs(better, worse, len(self.labels)), saved / self.ideal[self.groups[better]]

    def gradient(self, scores: Floats) -> Gradient:
        """Derivatives of the weighted pairwise loss with the weights held fixed; the mean weight counts as one."""
        pairs, weights = self.pairs(scores)
        return pairs.gradient(scores, weights / max(float(weights.mean()), 1e-12) if len(weights) else 1.0)

    def _rank(self, scores: Floats) -> Ints:
        """The place of each row in its group by score, from 0; equal scores keep their order."""
        order = np.lexsort((-np.asarray(scores, dtype=np.float64), self.groups))
        rank = np.empty(len(scores), dtype=np.int64)
        rank[order] = np.arange(len(scores)) - np.searchsorted(self.groups, self.groups, side="left")
        return rank

    def _dcg(self, scores: Floats) -> Floats:
        gains = np.exp(self.labels) * _discount(self._rank(scores))
        return np.asarray(np.bincount(self.groups, gains), dtype=np.float64)


def _discount(rank: Ints) -> Floats:
    return np.asarray(1 / np.log2(2.0 + rank))


def _ordered(labels: Floats, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """(better, worse) of pairs of rows; those with equal labels are dropped."""
    differ = labels[left] != labels[right]
    left, right = left[differ], right[differ]
    swap = labels[left] < labels[right]
    return np.where(swap, right, left), np.where(swap, left, right)
