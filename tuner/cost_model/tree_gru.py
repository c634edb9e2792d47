"""TreeGRU and context-encoded TreeGRU, the recurrent cost models of the AutoTVM paper; they need PyTorch.

What is here needs none: the settings, and the model as a search sees it. The network is in
tuner/cost_model/tree_network.py, which is imported when a model is made.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tuner.cost_model.cost_model import FeatureMatrix
from tuner.errors import TunedbError

NeuralObjective = Literal["regression", "rank"]
OBJECTIVES: tuple[NeuralObjective, ...] = get_args(NeuralObjective)
SLOTS = 4  # of the context-encoded form; the number that the paper used is in no source


class TorchMissingError(TunedbError):
    """PyTorch is not installed."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of the published experiments, but for ``slots`` and the length of a warmer refit.

    ``slots``: 0 is TreeGRU, whose nodes have names; more is the context-encoded form, whose nodes have none.
    """

    objective: NeuralObjective = "rank"
    slots: int = 0
    hidden: int = 128
    rate: float = 7e-4
    decay: float = 1e-4
    clip: float = 5.0
    batch: int = 128
    steps: int = 500  # minibatches of one fit, at most
    patience: int = 100  # minibatches without a better recall on the training set
    recall: int = 64  # the metric is average recall of so many


class TreeGRU:
    """A cost model over trees (tuner.features.tree). Its weights are kept from one call of ``fit`` to the next."""

    def __init__(self, settings: Settings = Settings(), seed: int = 0) -> None:
        """Raises TorchMissingError without PyTorch."""
        self.settings = settings
        self.seed = seed
        self._trained = tree_network().TrainedNetwork(settings, seed)

    def fit(self, features: FeatureMatrix, labels: npt.NDArray[np.float64]) -> None:
        """Learn from (N, nodes, width) trees and (N,) labels, higher is better."""
        self._trained.fit(features, labels)

    def predict(self, features: FeatureMatrix) -> npt.NDArray[np.float32]:
        """Scores of (N, nodes, width) trees, (N,); all zero before the first fit."""
        scores: npt.NDArray[np.float32] = self._trained.predict(features)
        return scores


def tree_network() -> Any:
    """The module tuner.cost_model.tree_network. Raises TorchMissingError without PyTorch."""
    try:
        return import_module("tuner.cost_model.tree_network")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TorchMissingError("neural cost models need PyTorch: pip install 'tunedb[torch]'") from error
