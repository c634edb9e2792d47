"""Several models on bootstrap samples: their disagreement is how unsure they are, as in the AutoTVM paper."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tuner.cost_model.acquisition import Acquisition, acquire
from tuner.cost_model.cost_model import CostModel, FeatureMatrix


class Ensemble:
    """A cost model whose score is an acquisition value over the predictions of its members."""

    def __init__(self, members: Sequence[CostModel], acquisition: Acquisition, seed: int = 0) -> None:
        self.members = members
        self.acquisition = acquisition
        self._rng = np.random.default_rng(seed)
        self._leader = 0.0

    def fit(self, features: FeatureMatrix, labels: npt.NDArray[np.float64]) -> None:
        """Each member learns from as many rows as there are, drawn with replacement."""
        self._leader = float(labels.max())
        for member in self.members:
            drawn = self._rng.integers(0, len(labels), len(labels))
            member.fit(features[drawn], labels[drawn])

    def predict(self, features: FeatureMatrix) -> npt.NDArray[np.float64]:
        beliefs = np.stack([member.predict(features) for member in self.members]).astype(np.float64)
        return acquire(self.acquisition, beliefs.mean(axis=0), beliefs.std(axis=0), self._leader)
