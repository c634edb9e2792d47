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


def quality(predictions: Numbers, seconds: Numbers, k: int) -> float:
    """The best of the ``k`` top predictions relative to the best there is, at most 1; k = 1 is zero-trial quality."""
    order = np.argsort(-predictions, kind="stable")[:k]
    return float(seconds.min() / seconds[order].min())


def harmonic_mean(qualities: Numbers) -> float:
    """What is left of the speed of a network whose layers take the same time each: one bad layer hurts."""
    return float(1 / np.mean(1 / np.asarray(qualities)))


def trials_to(predictions: Numbers, seconds: Numbers, share: float) -> int:
    """How many candidates are measured, in the order of the predictions, until one has ``share`` of the best speed."""
    order = np.argsort(-predictions, kind="stable")
    return int(np.argmax(seconds.min() / seconds[order] >= share)) + 1


def average_peak_score(predictions: Numbers, seconds: Numbers, k: int) -> float:
    """Mean of the qualities of the top 1, 2, ..., ``k`` predictions (TenSet)."""
    order = np.argsort(-predictions, kind="stable")[:k]
    return float(np.mean(seconds.min() / np.minimum.accumulate(seconds[order])))


def rank_correlation(predictions: Numbers, labels: Numbers) -> float:
    """Spearman's: the correlation of ranks, equal values sharing the mean of theirs; 0 when one side is constant."""
    left, right = _ranks(predictions), _ranks(labels)
    spread = float(left.std() * right.std())
    return float(np.mean((left - left.mean()) * (right - right.mean()))) / spread if spread > 0 else 0.0


def _ranks(values: Numbers) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])
