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
from tuner.cost_model.held_out import loss_of
from tuner.cost_model.metrics import average_recall
from tuner.cost_model.training import TrainingSet
from tuner.errors import TunedbError

NeuralObjective = Literal["regression", "rank"]
OBJECTIVES: tuple[NeuralObjective, ...] = get_args(NeuralObjective)
SLOTS = 4  # of the context-encoded form; the number that the paper used is in no source
MINIBATCHES = 10  # from one look at how good a network is to the next
JUDGED = 2000  # held-out trees that are looked at


class TorchMissingError(TunedbError):
    """PyTorch is not installed."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of the published experiments, but for ``hidden`` (128 there) and ``rate`` (7e-4), for CPUs.

    ``slots``: 0 is TreeGRU, whose nodes have names; more is the context-encoded form, whose nodes have none.
    """

    objective: NeuralObjective = "rank"
    slots: int = 0
    hidden: int = 64
    rate: float = 2e-3
    decay: float = 1e-4
    clip: float = 5.0
    batch: int = 128
    steps: int = 500  # minibatches of one fit, at most
    patience: int = 100  # minibatches without a better recall on the training set
    recall: int = 64  # the metric is average recall of so many


class TreeGRU:
    """A cost model of a search over trees (tuner.features.tree). Its weights are kept from one ``fit`` to the next."""

    def __init__(self, settings: Settings = Settings(), seed: int = 0) -> None:
        """Raises TorchMissingError without PyTorch."""
        self.settings = settings
        self._network = _networks().TrainedNetwork(settings, seed)

    def fit(self, features: FeatureMatrix, labels: npt.NDArray[np.float64]) -> None:
        """Learn from (N, nodes, width) trees and (N,) labels, until their own average recall gets no better."""

        def recall() -> float:
            return average_recall(self.predict(features), labels, self.settings.recall)

        self._network.fit(features, labels, np.zeros(len(labels), dtype=np.int64), self.settings.steps, recall)

    def predict(self, features: FeatureMatrix) -> npt.NDArray[np.float64]:
        """Scores of (N, nodes, width) trees, (N,); all zero before the first fit."""
        scores: npt.NDArray[np.float64] = self._network.predict(features)
        return scores


@dataclass(frozen=True)
class NetworkTrainer:
    """Trains a network as a global model (tuner.cost_model.global_model)."""

    settings: Settings
    seed: int

    def train(self, data: TrainingSet, rounds: int) -> Any:
        network = _networks().TrainedNetwork(self.settings, self.seed)
        network.fit(data.features, data.labels, data.groups, MINIBATCHES * rounds)
        return network

    def train_until(self, data: TrainingSet, held_out: TrainingSet, rounds: int) -> tuple[Any, int]:
        network = _networks().TrainedNetwork(self.settings, self.seed)
        some = held_out.thinned(JUDGED)
        loss = loss_of(self.settings.objective, some)

        def good() -> float:
            return -loss(network.predict(some.features))

        used = network.fit(data.features, data.labels, data.groups, MINIBATCHES * rounds, good)
        return network, used // MINIBATCHES


def network_from_bytes(data: bytes) -> Any:
    """The network that ``TrainedNetwork.to_bytes`` wrote. Raises TorchMissingError without PyTorch."""
    return _networks().TrainedNetwork.from_bytes(data)


def _networks() -> Any:
    """The module tuner.cost_model.tree_network."""
    try:
        return import_module("tuner.cost_model.tree_network")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise TorchMissingError(f"neural cost models need {error.name}: pip install 'tunedb[torch]'") from error
