"""How good a cost model is, by the definitions the literature reports.

Of a task (a workload on a target) there are predictions, higher is faster, and measured seconds. Equal predictions keep
their order.
"""

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


def quality(predictions: Numbers, seconds: Numbers, k: int) -> float:
    """The best of the ``k`` top predictions relative to the best there is, at most 1; k = 1 is zero-trial quality."""
    order = np.argsort(-predictions, kind="stable")[:k]
    return float(seconds.min() / seconds[order].min())


def harmonic_mean(qualities: Numbers) -> float:
    """What is left of the speed of a network whose layers take the same time each: one bad layer hurts."""
    return float(1 / np.mean(1 / np.asarray(qualities)))


def network_score(qualities: Numbers, best: Numbers) -> float:
    """Speed of a network relative to the best possible, given the qualities of its layers and their best seconds.

    The top-k score of TenSet and TLP, when the qualities are those of the k top predictions: the sum of the best
    seconds over the sum of those reached. A layer that occurs several times is given as often.
    """
    return float(np.sum(best) / np.sum(np.asarray(best) / np.asarray(qualities)))


def area_over_log(qualities: Numbers) -> float:
    """The mean quality of a search over the logarithm of the trials: the area under the best so far, 1 at most.

    Trial k counts ``log((k + 1) / k)``, so that the first ten count as much as the next hundred.
    """
    weights = np.log1p(1 / np.arange(1, len(qualities) + 1))
    return float(np.average(np.asarray(qualities), weights=weights))


def recall(predictions: Numbers, labels: Numbers, k: int) -> float:
    """Share of the ``k`` best samples that are among the ``k`` best predictions (Ansor); higher labels are better."""
    found, true = (set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (predictions, labels))
    return len(found & true) / len(true)


def rmse(predictions: Numbers, labels: Numbers) -> float:
    """Root of the mean squared error; the literature's labels are best time / time, predicted on that scale."""
    return float(np.sqrt(np.mean((np.asarray(predictions) - labels) ** 2)))


def r_squared(predictions: Numbers, labels: Numbers) -> float:
    """Share of the labels' variance that is explained; it flatters when tasks are pooled. NaN for constant labels."""
    spread = float(np.var(labels))
    return 1 - rmse(predictions, labels) ** 2 / spread if spread > 0 else float("nan")


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
