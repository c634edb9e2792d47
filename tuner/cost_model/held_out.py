"""Judging on workloads that a model was not trained on.

Never on random rows: rows of one workload resemble each other so much that a model which memorises them looks good.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.cost_model.metrics import (
    average_peak_score,
    pairwise_accuracy,
    quality,
    r_squared,
    rank_correlation,
    recall,
    rmse,
)
from tuner.cost_model.objectives import Objective, Pairs, TopHeavy
from tuner.cost_model.training import TrainingSet

SCORED = 2000  # rows of a workload on which pairs are counted
RECALLED = 30  # of the best of a workload, as in the literature

Loss: TypeAlias = Callable[[npt.NDArray[np.floating]], float]  # of the scores of the held-out rows


@dataclass(frozen=True)
class HeldOut:
    """How a model did on a workload that it was not trained on. ``top1``: its first choice relative to the best."""

    workload: str
    target: str
    trials: int
    rank_correlation: float
    pairwise: float
    top1: float
    top5: float


def judge(alone: TrainingSet, scores: npt.NDArray[np.float64]) -> HeldOut:
    """How good the (N,) scores of the N trials of a single group are."""
    some = slice(None, SCORED)
    return HeldOut(
        alone.workloads[0],
        alone.targets[0],
        len(alone.seconds),
        rank_correlation(scores, -alone.seconds),
        pairwise_accuracy(scores[some], -alone.seconds[some]),
        quality(scores, alone.seconds, 1),
        quality(scores, alone.seconds, 5),
    )


@dataclass(frozen=True)
class Errors:
    """How a model predicts best time / time of a workload, the scale on which the literature compares models.

    A prediction is relative to the workload's highest one, for nobody knows the best time before it is measured.
    """

    rmse: float
    r_squared: float  # NaN for constant times
    recall: float  # of the ``RECALLED`` best
    peak5: float  # average peak score@5


def errors(alone: TrainingSet, scores: npt.NDArray[np.float64]) -> Errors:
    """Of the (N,) scores of the N trials of a single group, which are logarithms of speeds."""
    predicted, speeds = np.exp(scores - scores.max()), alone.seconds.min() / alone.seconds
    return Errors(
        rmse(predicted, speeds),
        r_squared(predicted, speeds),
        recall(scores, speeds, RECALLED),
        average_peak_score(scores, alone.seconds, 5),
    )


def folds_of(workloads: Sequence[str], folds: int) -> Iterator[list[int]]:
    """Groups in at most so many folds; all groups of one workload, whatever their target, are in the same."""
    distinct = sorted(set(workloads))
    order = np.random.default_rng(0).permutation(len(distinct))
    fold_of = {distinct[place]: number % folds for number, place in enumerate(order.tolist())}
    for fold in range(min(folds, len(distinct))):
        yield [group for group, workload in enumerate(workloads) if fold_of[workload] == fold]


def loss_of(objective: Objective, held_out: TrainingSet) -> Loss:
    """What decides when training stops: what the objective is about, on the rows of ``held_out``.

    The squared error within groups, for a constant for each changes no order; the share of pairs in the wrong order;
    or what is lost of the NDCG.
    """
    labels, groups = held_out.labels, held_out.groups
    if objective == "top-heavy":
        top = TopHeavy.of(labels, groups)
        return lambda scores: 1 - top.ndcg(scores)
    if objective == "rank":
        pairs = Pairs.within(labels, groups, np.random.default_rng(0))
        return lambda scores: float(np.mean(scores[pairs.better] <= scores[pairs.worse]))
    number = np.bincount(groups)

    def error_within(scores: npt.NDArray[np.floating]) -> float:
        error = labels - scores
        error = error - (np.bincount(groups, error) / number)[groups]
        return float(np.sqrt(np.mean(error**2)))

    return error_within
