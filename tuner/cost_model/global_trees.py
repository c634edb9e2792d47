"""Gradient-boosted trees (XGBoost) as the global model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from tuner.cost_model.held_out import Loss, loss_of
from tuner.cost_model.objectives import Objective, objective
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import padded


@dataclass(frozen=True)
class Forest:
    """Trained trees."""

    booster: xgb.Booster

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        known = padded(features, (self.booster.num_features(),))
        return np.asarray(self.booster.inplace_predict(known, predict_type="margin"), dtype=np.float64)

    def to_bytes(self) -> bytes:
        """The trees in XGBoost's own UBJSON."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(cls, data: bytes, threads: int) -> "Forest":
        """What ``to_bytes`` wrote. XGBoost ends the process when it is given anything else."""
        booster = xgb.Booster()
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": threads})
        return cls(booster)


BINS = 64  # of a histogram; more cost time and rank no better
SHOWN = 0.3  # of the features are looked at for a split: so none of many that say nearly the same decides alone


@dataclass(frozen=True)
class ForestTrainer:
    """The hyper-parameters; see ``global_model.Settings``."""

    objective: Objective
    depth: int
    rate: float
    patience: int
    threads: int
    seed: int

    def train(self, data: TrainingSet, rounds: int) -> Forest:
        return Forest(self._train(data, rounds))

    def train_until(self, data: TrainingSet, held_out: TrainingSet, rounds: int) -> tuple[Forest, int]:
        stop = xgb.callback.EarlyStopping(rounds=self.patience, save_best=True)
        watched = xgb.DMatrix(held_out.features, label=held_out.labels, nthread=self.threads)
        booster = self._train(data, rounds, watched, loss_of(self.objective, held_out), [stop])
        return Forest(booster), booster.num_boosted_rounds()

    def _train(
        self,
        data: TrainingSet,
        rounds: int,
        watched: xgb.DMatrix | None = None,
        loss: Loss | None = None,
        callbacks: Sequence[Any] = (),
    ) -> xgb.Booster:
        parameters: dict[str, Any] = {
            "tree_method": "hist",
            "max_bin": BINS,
            "colsample_bynode": SHOWN,
            "max_depth": self.depth,
            "eta": self.rate,
            "nthread": self.threads,
            "seed": self.seed,
            "base_score": 0.0,
            "disable_default_eval_metric": 1,
        }
        matrix = xgb.QuantileDMatrix(data.features, label=data.labels, nthread=self.threads, max_bin=BINS)
        return xgb.train(
            parameters,
            matrix,
            num_boost_round=rounds,
            evals=[] if watched is None else [(watched, "heldout")],
            obj=objective(self.objective, data.labels, data.groups, self.seed),
            custom_metric=None if loss is None else lambda scores, _: ("loss", loss(scores.reshape(-1))),
            callbacks=list(callbacks),
            verbose_eval=False,
        )
