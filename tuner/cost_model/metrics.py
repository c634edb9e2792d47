"""How good a cost model is, by the definitions the literature reports.

Of a task (a workload on a target) there are predictions, higher is faster, and measured seconds. Equal predictions keep
their order. ``summary`` is what the experiments of this project report of many tasks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
    hurts (TenSet, TLP).
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


def trials_until(found: Numbers, best: float, share: float) -> float:
    """Trials of a search until one has ``share`` of the speed of ``best`` seconds; infinity when none has (censored).

    ``found`` are the seconds that it measured, one after the other, infinity for a failure.
    """
    reached = best / np.asarray(found) >= share
    return float(np.argmax(reached)) + 1 if reached.any() else float("inf")


@dataclass(frozen=True)
class Spread:
    """Median and upper quantiles of counts of trials, each a count that occurred; infinity is never."""

    median: float
    p75: float
    p90: float

    @classmethod
    def of(cls, counts: Iterable[float]) -> "Spread":
        known = np.sort(np.array(list(counts), dtype=np.float64))
        places = [int(np.ceil(share * len(known))) - 1 for share in (0.5, 0.75, 0.9)]
        return cls(*(float(known[place]) for place in places))

    def to_json(self) -> dict[str, float | None]:
        """Infinity, which JSON does not have, as None."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def best_so_far(found: Numbers, best: float) -> npt.NDArray[np.float64]:
    """The quality after each trial of a search that measured these seconds one after the other: q@k is entry k - 1."""
    return np.asarray(best / np.minimum.accumulate(np.asarray(found, dtype=np.float64)))


def area_over_log(qualities: Numbers) -> float:
    """The mean quality of a search over the logarithm of the trials: the area under ``best_so_far``, 1 at most.

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


@dataclass(frozen=True)
class Summary:
    """A model over many tasks. ``top5``: mean quality of the best of the five top predictions."""

    tasks: int
    pairwise: float
    mean_top1: float
    p10_top1: float
    harmonic_top1: float
    top5: float
    trials_to_95: Spread
    trials_to_99: Spread

    def to_json(self) -> dict[str, Any]:
        trials = {"trials_to_95": self.trials_to_95.to_json(), "trials_to_99": self.trials_to_99.to_json()}
        return {**asdict(self), **trials}


def summary(tasks: Sequence[tuple[Numbers, Numbers]]) -> Summary:
    """Of (predictions, seconds) of each task; every task counts alike. There has to be one."""
    top1 = np.array([quality(predictions, seconds, 1) for predictions, seconds in tasks])
    return Summary(
        tasks=len(tasks),
        pairwise=float(np.mean([pairwise_accuracy(predictions, -seconds) for predictions, seconds in tasks])),
        mean_top1=float(top1.mean()),
        p10_top1=float(np.quantile(top1, 0.1)),
        harmonic_top1=harmonic_mean(top1),
        top5=float(np.mean([quality(predictions, seconds, 5) for predictions, seconds in tasks])),
        trials_to_95=Spread.of(trials_to(predictions, seconds, 0.95) for predictions, seconds in tasks),
        trials_to_99=Spread.of(trials_to(predictions, seconds, 0.99) for predictions, seconds in tasks),
    )
