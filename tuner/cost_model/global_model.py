"""The global model: gradient-boosted trees over invariant features, trained on the trials of many workloads.

How many rounds it trains is decided on workloads that were held out, never on random rows: rows of one workload
resemble each other so much that a model which memorises them looks good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from tuner.cost_model.metrics import pairwise_accuracy, quality, rank_correlation
from tuner.cost_model.objectives import Objective, objective
from tuner.cost_model.training import TrainingSet
from tuner.errors import TunedbError

JUDGED = 30_000  # rows on which the rounds are decided; more take longer and say the same
SCORED = 2000  # rows of a workload on which pairs are counted


class ModelError(TunedbError):
    """A model that cannot be read, or that was trained on other features than this program has."""


@dataclass(frozen=True)
class Settings:
    """``objective``: squared error of log(best/time); the pairwise logistic loss within groups; or NDCG of the top."""

    objective: Objective = "regression"
    rounds: int = 200  # at most, and without held-out workloads half of them
    depth: int = 8
    rate: float = 0.1
    patience: int = 30  # rounds without progress on held-out workloads
    folds: int = 3
    threads: int = 2
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class HeldOut:
    """How a model did on a workload that it was not trained on. ``top1``: its first choice relative to the best."""

    workload: str
    target: str
    trials: int
    rank_correlation: float
    pairwise: float
    top1: float
    top5: float


@dataclass(frozen=True)
class GlobalModel:
    """Trained trees, and how they did on held-out workloads while the number of rounds was decided."""

    booster: xgb.Booster
    rounds: int
    held_out: tuple[HeldOut, ...]

    @classmethod
    def fit(cls, data: TrainingSet, settings: Settings = Settings()) -> "GlobalModel":
        """Train on ``data``; the same data and settings give the same model. Raises ModelError without data."""
        if not len(data.seconds):
            raise ModelError("there is no trial to train a model on")
        rounds, held_out = _cross_validate(data.thinned(JUDGED), settings)
        return cls(_train(data, settings, rounds), rounds, held_out)

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N,) scores of (N, F) features, higher is faster: log(best/time) under the regression objective."""
        if not len(features):
            return np.empty(0)
        return np.asarray(self.booster.inplace_predict(features, predict_type="margin"), dtype=np.float64)

    def to_bytes(self) -> bytes:
        """The trees in XGBoost's own UBJSON."""
        return bytes(self.booster.save_raw("ubj"))

    @classmethod
    def from_bytes(cls, data: bytes, threads: int = Settings.threads) -> "GlobalModel":
        """The model that ``to_bytes`` wrote, without its history.

        XGBoost ends the process when it is given anything else, so the caller compares a hash before.
        """
        booster = xgb.Booster()
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": threads})
        return cls(booster, booster.num_boosted_rounds(), ())


def _cross_validate(data: TrainingSet, settings: Settings) -> tuple[int, tuple[HeldOut, ...]]:
    """The number of rounds that suits held-out workloads best, and how those were predicted."""
    folds = list(_folds(data.workloads, settings.folds))
    if len(folds) < 2:
        return max(settings.rounds // 2, 1), ()
    best: list[int] = []
    held_out: dict[int, HeldOut] = {}
    for fold in folds:
        rest = [group for group in range(len(data.workloads)) if group not in fold]
        booster, used = _train_stopping(data.part(rest), data.part(fold), settings)
        best.append(used)
        for group in fold:
            alone = data.part([group])
            scores = np.asarray(
                booster.inplace_predict(alone.features, iteration_range=(0, used), predict_type="margin")
            )
            held_out[group] = judge(alone, scores.astype(np.float64))
    return max(round(float(np.mean(best))), 1), tuple(held_out[group] for group in sorted(held_out))


def _folds(workloads: Sequence[str], folds: int) -> Iterator[list[int]]:
    """Groups in at most so many folds; all groups of one workload, whatever their target, are in the same."""
    distinct = sorted(set(workloads))
    order = np.random.default_rng(0).permutation(len(distinct))
    fold_of = {distinct[place]: number % folds for number, place in enumerate(order.tolist())}
    for fold in range(min(folds, len(distinct))):
        yield [group for group, workload in enumerate(workloads) if fold_of[workload] == fold]


def judge(alone: TrainingSet, scores: npt.NDArray[np.float64]) -> HeldOut:
    """How good the (N,) scores of the N trials of a single group are."""
    some = slice(None, SCORED)
    return HeldOut(
        alone.workloads[0],
        alone.targets[0],
        len(alone.seconds),
        rank_correlation(scores, -alone.seconds),
        pairwise_accuracy(scores[some], -alone.seconds[some]),
        quality(scores, alone.seconds, 1),
        quality(scores, alone.seconds, 5),
    )


def _train_stopping(data: TrainingSet, held_out: TrainingSet, settings: Settings) -> tuple[xgb.Booster, int]:
    """Train until held-out workloads are predicted no better; the booster, and how many of its rounds to use."""
    labels, groups = held_out.labels, held_out.groups
    number = np.bincount(groups)

    def loss(scores: npt.NDArray[np.float32], _: xgb.DMatrix) -> tuple[str, float]:
        """Squared error within groups, as a constant for each changes no order; for ranks, the share of wrong pairs."""
        if settings.objective != "regression":
            return "wrong", 1 - float(np.mean([_pairs_right(held_out, scores, g) for g in range(len(number))]))
        error = labels - scores.reshape(-1)
        error = error - (np.bincount(groups, error) / number)[groups]
        return "error", float(np.sqrt(np.mean(error**2)))

    stop = xgb.callback.EarlyStopping(rounds=settings.patience, save_best=False)
    booster = _train(data, settings, settings.rounds, watched=held_out, loss=loss, callbacks=[stop])
    return booster, int(booster.best_iteration) + 1


def _pairs_right(data: TrainingSet, scores: npt.NDArray[np.float32], group: int) -> float:
    rows = np.flatnonzero(data.groups == group)[:200]
    return pairwise_accuracy(scores.reshape(-1)[rows], -data.seconds[rows])


def _train(
    data: TrainingSet,
    settings: Settings,
    rounds: int,
    watched: TrainingSet | None = None,
    loss: Any = None,
    callbacks: Sequence[Any] = (),
) -> xgb.Booster:
    order = np.argsort(data.groups, kind="stable")  # the ranking objectives want the rows of a group side by side
    labels, groups = data.labels[order], data.groups[order]
    parameters: dict[str, Any] = {
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.rate,
        "nthread": settings.threads,
        "seed": settings.seed,
        "base_score": 0.0,
        "disable_default_eval_metric": 1,
    }
    matrix = xgb.QuantileDMatrix(data.features[order], label=labels, nthread=settings.threads)
    watching: list[tuple[xgb.DMatrix, str]] = []
    if watched is not None:
        watching = [(xgb.DMatrix(watched.features, label=watched.labels, nthread=settings.threads), "heldout")]
    return xgb.train(
        parameters,
        matrix,
        num_boost_round=rounds,
        evals=watching,
        obj=objective(settings.objective, labels, groups, settings.seed),
        custom_metric=loss,
        callbacks=list(callbacks),
        verbose_eval=False,
    )
