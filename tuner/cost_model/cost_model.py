"""What a search asks of a cost model, and what it tells it."""

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FeatureMatrix: TypeAlias = npt.NDArray[np.float32]  # (N, F); (N, nodes, F) for trees


class CostModel(Protocol):
    """Predicts scores whose order is that of throughput."""

    def fit(self, features: FeatureMatrix, labels: npt.NDArray[np.float64]) -> None:
        """Learn from N rows and their (N,) labels (see ``labels_of``), higher is faster."""

    def predict(self, features: FeatureMatrix) -> npt.NDArray[np.floating]:
        """(N,) scores, higher is faster."""


def labels_of(throughputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log(best time / time) of the trials of one workload, (N,): 0 for the best one.

    A failure, whose throughput is 0, counts as half as fast as the slowest trial that worked. One at least has to work.
    """
    slowest = throughputs[throughputs > 0].min()
    return np.asarray(np.log(np.where(throughputs > 0, throughputs, slowest / 2) / throughputs.max()))
