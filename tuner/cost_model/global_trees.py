"""Gradient-boosted trees (XGBoost) as the global model.

On invariant features the trees do not learn a time but what the roofline does not explain of it: boosting starts from
the bound on the speed that is one of these features. So what was never met, such as weights that no cache holds, is
judged by the estimate and not by the nearest thing that was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from tuner.cost_model.held_out import Loss, loss_of
from tuner.cost_model.objectives import Objective, objective
from tuner.cost_model.training import TrainingSet
from tuner.features.invariant import BOUND
from tuner.features.sketches import padded


@dataclass(frozen=True)
class Forest:
    """Trained trees; their attribute "base" says whether boosting starts from the roofline."""

    booster: xgb.Booster

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        known = padded(features, (self.booster.num_features(),))
        base = _roofline(known) if self.booster.attr("base") else None
        return np.asarray(
            self.booster.inplace_predict(known, predict_type="margin", base_margin=base), dtype=np.float64
        )

    def to_bytes(self) -> bytes:
        """The trees in XGBoost's own UBJSON."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Forest":
        """What ``to_bytes`` wrote. XGBoost ends the process when it is given anything else."""
        booster = xgb.Booster()
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": 1})  # several wait for each other without sleeping
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
        watched = xgb.DMatrix(held_out.features, base_margin=_base(held_out), nthread=self.threads)
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
        base = _base(data)
        label = data.labels if base is None else data.speeds
        matrix = xgb.QuantileDMatrix(data.features, label=label, base_margin=base, nthread=self.threads, max_bin=BINS)
        booster = xgb.train(
            parameters,
            matrix,
            num_boost_round=rounds,
            evals=[] if watched is None else [(watched, "heldout")],
            obj=objective(self.objective, data.labels, data.groups, self.seed),
            custom_metric=None if loss is None else lambda scores, _: ("loss", loss(scores.reshape(-1))),
            callbacks=list(callbacks),
            verbose_eval=False,
        )
        if base is not None:
            booster.set_attr(base="roofline")
        return booster


def _base(data: TrainingSet) -> npt.NDArray[np.float32] | None:
    """What boosting starts from; None without features that say it."""
    known = data.representation == "invariant" and data.features.shape[1] > BOUND
    return _roofline(data.features) if known else None


def _roofline(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N,) natural logarithm of the speed that the roofline allows, relative to the definition's arithmetic alone."""
    return np.asarray(-np.log(2) * features[:, BOUND], dtype=np.float32)
