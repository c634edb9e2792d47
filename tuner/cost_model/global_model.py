"""The global model: trained on the trials of many workloads, it says what a new one is like before it is measured.

How long it is trained is decided on workloads that were held out (tuner.cost_model.held_out); then it is trained on
everything for as long.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from tuner.cost_model import tree_gru
from tuner.cost_model.global_trees import Forest, ForestTrainer
from tuner.cost_model.held_out import HeldOut, folds_of, judge
from tuner.cost_model.objectives import Objective
from tuner.cost_model.training import TrainingSet
from tuner.cost_model.tree_gru import MINIBATCHES, SLOTS, NetworkTrainer, network_from_bytes
from tuner.errors import TunedbError

JUDGED = 30_000  # rows on which the rounds are decided; more take longer and say the same

Kind = Literal["gbt", "tree-gru", "context-gru"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FEATURES: Mapping[Kind, str] = {"gbt": "invariant", "tree-gru": "tree", "context-gru": "context-tree"}
"""The representation (tuner.features.representations) that each kind is usually trained on."""


class ModelError(TunedbError):
    """A model that cannot be trained or read, or that was trained on other features than this program has."""


class Scorer(Protocol):
    """What was trained."""

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N,) scores of N candidates; longer features than those of the training are cut, shorter end with zeros."""

    def to_bytes(self) -> bytes:
        """Equal for equal scorers."""


class Trainer(Protocol):
    """How to train one."""

    def train(self, data: TrainingSet, rounds: int) -> Scorer:
        """Train for so many rounds."""

    def train_until(self, data: TrainingSet, held_out: TrainingSet, rounds: int) -> tuple[Scorer, int]:
        """Train until ``held_out`` is predicted no better; the best scorer, and how many rounds it took."""


@dataclass(frozen=True)
class Settings:
    """A round is a tree, or ten minibatches of a network. ``depth``, ``rate`` and ``threads`` are about trees."""

    model: Kind = "gbt"
    objective: Objective = "regression"
    rounds: int = 200  # at most, and without held-out workloads half of them
    depth: int = 8
    rate: float = 0.1
    patience: int = 30  # rounds without progress on held-out workloads
    folds: int = 3
    threads: int = 1  # two are slower by far where something else runs: they wait for each other without sleeping
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def trainer(self) -> Trainer:
        """Raises ModelError when the model has no such objective, TorchMissingError without PyTorch."""
        if self.model == "gbt":
            return ForestTrainer(self.objective, self.depth, self.rate, self.patience, self.threads, self.seed)
        if self.objective == "top-heavy":
            raise ModelError(f"{self.model} has no objective top-heavy: use regression or rank")
        slots, patience = SLOTS if self.model == "context-gru" else 0, MINIBATCHES * self.patience
        return NetworkTrainer(tree_gru.Settings(self.objective, slots, patience=patience), self.seed)


@dataclass(frozen=True)
class GlobalModel:
    """A trained model, and how it did on held-out workloads while the number of rounds was decided."""

    scorer: Scorer
    rounds: int
    held_out: tuple[HeldOut, ...]
    representation: str = "invariant"  # what it was trained on, by its name in tuner.features.representations

    @classmethod
    def fit(cls, data: TrainingSet, settings: Settings = Settings()) -> "GlobalModel":
        """Train on ``data``; the same data and settings give the same model.

        Raises ModelError without data, or when it is of features that the model cannot take.
        """
        if not len(data.seconds):
            raise ModelError("there is no trial to train a model on")
        if (data.features.ndim == 2) != (settings.model == "gbt"):
            raise ModelError(f"{settings.model} cannot learn from {data.representation} features")
        data = data.part(range(len(data.workloads)))  # with the rows of a group side by side
        trainer = settings.trainer()
        rounds, held_out = _cross_validate(data.thinned(JUDGED), settings, trainer)
        return cls(trainer.train(data, rounds), rounds, held_out, data.representation)

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N,) scores of N candidates, higher is faster: log(best/time) under the regression objective."""
        return self.scorer.predict(features) if len(features) else np.empty(0)

    def to_bytes(self) -> bytes:
        return self.scorer.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, kind: Kind, rounds: int, representation: str) -> "GlobalModel":
        """The model that ``to_bytes`` wrote, without its history. The caller compares a hash before.

        Raises TorchMissingError when it is a neural one and PyTorch is missing.
        """
        scorer = Forest.from_bytes(data) if kind == "gbt" else network_from_bytes(data)
        return cls(scorer, rounds, (), representation)


def _cross_validate(data: TrainingSet, settings: Settings, trainer: Trainer) -> tuple[int, tuple[HeldOut, ...]]:
    """The number of rounds that suits held-out workloads best, and how those were predicted."""
    folds = list(folds_of(data.workloads, settings.folds))
    if len(folds) < 2:
        return max(settings.rounds // 2, 1), ()
    best: list[int] = []
    held_out: dict[int, HeldOut] = {}
    for fold in folds:
        rest = [group for group in range(len(data.workloads)) if group not in fold]
        scorer, used = trainer.train_until(data.part(rest), data.part(fold), settings.rounds)
        best.append(used)
        for group in fold:
            alone = data.part([group])
            held_out[group] = judge(alone, scorer.predict(alone.features))
    return max(round(float(np.mean(best))), 1), tuple(held_out[group] for group in sorted(held_out))
