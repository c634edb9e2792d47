"""Gradient-boosted trees (XGBoost) as the cost model of a search, with or without a global model behind them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from tuner.cost_model.objectives import Objective, objective
from tuner.features.sketches import padded

# One thread gives the same sums on every machine, and none is left spinning while a kernel is timed.
THREADS = 1

HALF = 64  # trials after which a global model counts half as much (AutoTVM)
LEAST = 0.05  # weight below which it does not count any more: from 277 trials on


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters: those of AutoTVM where a search does not need to be faster.

    ``prior``: what the last feature is, if the prediction of a global model. "margin": boosting starts from it, at a
    weight of ``2^(-trials / 64)``. "feature": it is one more feature.
    """

    objective: Objective = "rank"
    rounds: int = 40
    depth: int = 4
    rate: float = 0.3
    gamma: float = 1e-4
    min_child_weight: float = 1.0
    prior: Literal["none", "margin", "feature"] = "none"


class GradientBoostedTrees:
    """Trees fitted from scratch to all the data at every call of ``fit``."""

    def __init__(self, settings: Settings = Settings(), seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self._booster: xgb.Booster | None = None
        self._weight = 1.0
        self._offset = 0.0  # what boosting starts from, beside the prior

    def fit(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.float64]) -> None:
        """Learn from (N, F) features and (N,) labels, higher is better."""
        settings = self.settings
        self._weight = discount(len(labels))
        if settings.objective == "regression":
            known = self._weight * features[:, -1] if settings.prior == "margin" else 0.0
            self._offset = float((labels - known).mean())
        features, margin = self._split(features)
        learned = objective(settings.objective, labels, np.zeros(len(labels), np.int64), self.seed)
        parameters: dict[str, Any] = {
            "tree_method": "hist",
            "max_bin": 64,
            "max_depth": settings.depth,
            "eta": settings.rate,
            "gamma": settings.gamma,
            "min_child_weight": settings.min_child_weight,
            "nthread": THREADS,
            "seed": self.seed,
            "base_score": self._offset,
        }
        data = xgb.QuantileDMatrix(features, label=labels, base_margin=margin, nthread=THREADS, max_bin=64)
        self._booster = xgb.train(parameters, data, settings.rounds, obj=learned)

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores of (N, F) features, (N,); before the first fit those of the global model, else zeros.

        Features that are longer than those it learned from (of structures it has not seen) are cut.
        """
        known = features[:, -1]
        features, margin = self._split(features)
        if self._booster is None:
            return np.zeros(len(features), dtype=np.float32) if self.settings.prior == "none" else known
        scores: npt.NDArray[np.float32] = self._booster.inplace_predict(
            padded(features, (self._booster.num_features(),)), predict_type="margin", base_margin=margin
        )
        return scores

    def _split(
        self, features: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """What the trees see, and what they start from."""
        if self.settings.prior != "margin":
            return features, None
        return features[:, :-1], self._offset + self._weight * features[:, -1]


def discount(trials: int) -> float:
    """The weight of a global model after so many trials of the workload itself: 1, half after 64, nothing after 276."""
    weight = float(2 ** (-trials / HALF))
    return weight if weight >= LEAST else 0.0
