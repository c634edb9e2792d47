"""How good a cost model is, by the definitions the literature reports."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]


def average_recall(predictions: Numbers, labels: Numbers, top: int) -> float:
    """Average recall@``top`` of AutoTVM; higher labels are better.

    Samples are sorted by prediction, and ``rank[i]`` is the true rank of the i-th, from 0. Then
    ``recall(n) = #{i < n : rank[i] <= n} / (n + 1)``, and the metric is the mean of recall(0), ..., recall(top - 1).
    It is below one even for a perfect model: 0.5 for ``top`` = 2.
    """
    order = np.argsort(-predictions, kind="stable")
    rank = np.empty(len(labels), dtype=np.int64)
    rank[np.argsort(-labels, kind="stable")] = np.arange(len(labels))
    ranks = rank[order]
    recalls = [float((ranks[:n] <= n).sum()) / (n + 1) for n in range(min(top, len(ranks)))]
    return sum(recalls) / top


def pairwise_accuracy(predictions: Numbers, labels: Numbers) -> float:
    """Share of the pairs i < j with ``[p_i > p_j] == [y_i > y_j]`` (TenSet, Ansor); NaN with fewer than two samples."""
    left, right = np.triu_indices(len(labels), k=1)
    agree = (predictions[left] > predictions[right]) == (labels[left] > labels[right])
    return float(agree.mean()) if len(agree) else float("nan")


def top_k_score(tasks: Iterable[tuple[Numbers, Numbers, float]], k: int) -> float:
    """Speed of a network when each layer runs the best of its ``k`` top predictions, relative to the best possible.

    Each task is (predictions, seconds, weight), the weight being how often the layer occurs. The score is
    ``sum(weight * best seconds) / sum(weight * best seconds among the top k)``: a harmonic mean, so that one bad layer
    hurts (TenSet, TLP). Equal predictions keep their order.
    """
    best = reached = 0.0
    for predictions, seconds, weight in tasks:
        order = np.argsort(-predictions, kind="stable")[:k]
        best += weight * float(seconds.min())
        reached += weight * float(seconds[order].min())
    return best / reached
