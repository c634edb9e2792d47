"""Gradient-boosted trees (XGBoost) as the cost model of a search."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from tuner.cost_model.objectives import Pairs

# One thread gives the same sums on every machine, and none is left spinning while a kernel is timed.
THREADS = 1


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters: those of AutoTVM where a search does not need to be faster."""

    objective: Literal["rank", "squared"] = "rank"
    rounds: int = 40
    depth: int = 4
    rate: float = 0.3
    gamma: float = 1e-4
    min_child_weight: float = 1.0


class GradientBoostedTrees:
    """Trees fitted from scratch to all the data at every call of ``fit``."""

    def __init__(self, settings: Settings = Settings(), seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self._booster: xgb.Booster | None = None

    def fit(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.float64]) -> None:
        """Learn from (N, F) features and (N,) labels, higher is better."""
        settings = self.settings
        parameters: dict[str, Any] = {
            "tree_method": "hist",
            "max_bin": 64,
            "max_depth": settings.depth,
            "eta": settings.rate,
            "gamma": settings.gamma,
            "min_child_weight": settings.min_child_weight,
            "nthread": THREADS,
            "seed": self.seed,
            "base_score": 0.0 if settings.objective == "rank" else float(labels.mean()),
        }
        data = xgb.QuantileDMatrix(features, label=labels, nthread=THREADS, max_bin=64)
        if settings.objective == "squared":
            self._booster = xgb.train(parameters, data, settings.rounds)
            return
        pairs = Pairs.of(labels, np.random.default_rng(self.seed))
        self._booster = xgb.train(
            parameters, data, settings.rounds, obj=lambda scores, _: pairs.gradient(scores.reshape(-1))
        )

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores of (N, F) features, (N,); all zero before the first fit."""
        if self._booster is None:
            return np.zeros(len(features), dtype=np.float32)
        scores: npt.NDArray[np.float32] = self._booster.inplace_predict(features, predict_type="margin")
        return scores
