"""What a model knows of layers, networks or machines that it has not seen: everything else teaches it.

The candidates of a layer are all its recorded configurations, its truth the fastest of them. Nothing is measured and
the order of a model is never updated, so that "trials to 95 %" are those that somebody would need who measured in that
order. Beside the model stand the copies of the best configurations of the nearest layers, the recorded histories of
other tuners, and random search, which is worked out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.metrics import harmonic_mean, network_score, pairwise_accuracy
from tuner.cost_model.training import FEWEST, TrainingSet
from tuner.errors import TunedbError
from tuner.experiment.baselines import expected_best, quantile_of, random_reaches
from tuner.neighbours import distance
from tuner.target import Target
from tuner.workload import Workload

Floats = npt.NDArray[np.float64]
HoldOut = Literal["layer", "network", "target"]
SHARES = (0.9, 0.95, 0.99)
_COMPARED = 2000  # configurations of a layer of which pairs are counted


class HoldOutError(TunedbError):
    """Records that do not suffice for what is asked."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A workload on a machine, with its N recorded configurations.

    ``knobs`` are (N, K) comparable numbers of the knobs in ``names``; ``words`` says which of these are no quantities.
    ``histories`` are the positions of configurations in the order in which a tuner measured them, each once.
    """

    workload: Workload
    target: Target
    networks: frozenset[str]
    template: str
    names: tuple[str, ...]
    words: npt.NDArray[np.bool_]  # (K,)
    knobs: Floats  # (N, K)
    features: npt.NDArray[np.float32]  # (N, F), NaN for what cannot be lowered
    seconds: Floats  # (N,), infinite for failures
    histories: Mapping[str, Sequence[npt.NDArray[np.int64]]]

    @property
    def qualities(self) -> Floats:
        """(N,) speeds relative to the best. A failure counts as half as fast as the slowest that worked.

        With 0 for a failure, a harmonic mean would be 0 for one bad choice in a thousand.
        """
        worked = self.seconds[np.isfinite(self.seconds)]
        return np.asarray(self.seconds.min() / np.where(np.isfinite(self.seconds), self.seconds, 2 * worked.max()))


@dataclass(frozen=True)
class Score:
    """How one order of a layer's configurations did; None for never reached, or for what an order has not.

    ``top1`` and ``top5``: the best of so many relative to the best of all, which takes ``best`` seconds; ``peak5``: the
    mean of that over 1 to 5, the average peak score@5.
    """

    best: float
    top1: float
    top5: float
    peak5: float
    trials: tuple[int | None, ...]  # to each of SHARES
    pairwise: float | None = None

    @classmethod
    def of(cls, layer: Layer, order: npt.NDArray[np.int64], pairwise: float | None = None) -> "Score":
        found = np.maximum.accumulate(layer.qualities[order])
        reached = [np.flatnonzero(found >= share) for share in SHARES]
        trials = tuple(int(each[0]) + 1 if len(each) else None for each in reached)
        first = found[:5]
        return cls(float(layer.seconds.min()), float(first[0]), float(first[-1]), float(first.mean()), trials, pairwise)


@dataclass(frozen=True)
class Fold:
    """Layers that were held out together, and the rest that teaches."""

    name: str
    held_out: tuple[Layer, ...]
    rest: tuple[Layer, ...]


def folds(layers: Sequence[Layer], operator: str, holdout: HoldOut, count: int, seed: int) -> Iterator[Fold]:
    """What is held out in turn: a part of the operator's layers, each network, or each machine.

    A layer that is held out is so on every machine; a machine that is held out is so with all its layers.
    Raises HoldOutError when there are too few.
    """
    own = [layer for layer in layers if layer.workload.operator == operator]
    if not own:
        known = ", ".join(sorted({layer.workload.operator for layer in layers})) or "none"
        raise HoldOutError(f"no layer of {operator} has enough records to be replayed; operators that have: {known}")
    if holdout == "target":
        machines = sorted({layer.target.model for layer in own})
        parts = {machine: [layer for layer in own if layer.target.model == machine] for machine in machines}
    elif holdout == "network":
        networks = sorted({network for layer in own for network in layer.networks})
        parts = {network: [layer for layer in own if network in layer.networks] for network in networks}
    else:
        workloads = sorted({layer.workload.key for layer in own})
        order = np.random.default_rng(seed).permutation(len(workloads)).tolist()
        drawn = [{workloads[place] for place in order[fold::count]} for fold in range(min(count, len(workloads)))]
        parts = {
            f"fold {number}": [layer for layer in own if layer.workload.key in some]
            for number, some in enumerate(drawn, 1)
        }
    if len(parts) < 2:
        raise HoldOutError(
            f"{len(parts)} {holdout} of {operator} in the database: to hold one out there have to be two"
            + (" (tell the network with --label network=NAME when you import)" if holdout == "network" else "")
        )
    for name, part in parts.items():
        workloads_out = {layer.workload for layer in part}
        rest = [
            layer
            for layer in layers
            if (layer.target.model != name if holdout == "target" else layer.workload not in workloads_out)
        ]
        yield Fold(name, tuple(part), tuple(rest))


def lessons(layers: Sequence[Layer], rows: int, seed: int) -> list[Layer]:
    """What may be learned from ``layers``: ``rows`` random timed records of each, or all of them for 0.

    Raises HoldOutError when there is nothing.
    """
    rng = np.random.default_rng([seed, 2])
    taught: list[Layer] = []
    for layer in layers:
        usable = np.flatnonzero(np.isfinite(layer.seconds) & np.isfinite(layer.features).all(axis=1))
        if usable.size >= FEWEST:
            some = rng.permutation(usable)[: rows or None]
            part = {name: getattr(layer, name)[some] for name in ("knobs", "features", "seconds")}
            taught.append(replace(layer, **part, histories={}))
    if not taught:
        raise HoldOutError(f"no layer has {FEWEST} timed records whose schedules can be lowered: nothing to learn from")
    return taught


def train(taught: Sequence[Layer], seed: int, settings: Settings) -> GlobalModel:
    """A model of ``lessons``."""
    data = TrainingSet(
        np.concatenate([layer.features for layer in taught]),
        np.concatenate([layer.seconds for layer in taught]),
        np.repeat(np.arange(len(taught)), [len(layer.seconds) for layer in taught]),
        tuple(layer.workload.key for layer in taught),
        tuple(layer.target.name for layer in taught),
        tuple(layer.workload.flops for layer in taught),
    )
    return GlobalModel.fit(data, replace(settings, seed=seed))


def by_model(model: GlobalModel, layer: Layer) -> Score:
    """The layer's configurations in the order of the model; those that it cannot see come last."""
    seen = np.isfinite(layer.features).all(axis=1)
    predicted = np.full(len(layer.seconds), -np.inf)
    predicted[seen] = model.predict(layer.features[seen])
    timed = np.flatnonzero(seen & np.isfinite(layer.seconds))[:_COMPARED]
    pairs = pairwise_accuracy(predicted[timed], -layer.seconds[timed]) if timed.size > 1 else None
    return Score.of(layer, np.argsort(-predicted, kind="stable"), pairs)


def by_copy(taught: Sequence[Layer], layer: Layer, seed: int) -> Score | None:
    """The best configurations of the nearest layers in turn, each at the most similar recorded one; then random ones.

    None when no layer has a template with the same knobs. It knows the same ``lessons`` as a model.
    """
    like = _alike(taught, layer)
    if not like:
        return None
    copies = [int(np.argmin(_apart(layer, one))) for one in like]
    rest = np.random.default_rng([seed, 3]).permutation(len(layer.seconds)).tolist()
    return Score.of(layer, np.array(list(dict.fromkeys([*copies, *rest]))))


def _alike(layers: Sequence[Layer], layer: Layer) -> list[Layer]:
    """The layers of the same operator whose configurations have the same knobs, the nearest first."""
    like = [one for one in layers if (one.template, one.names) == (layer.template, layer.names)]
    like = [one for one in like if one.workload.operator == layer.workload.operator]
    return sorted(like, key=lambda one: (distance(one.workload, layer.workload), one.target != layer.target))


def _apart(layer: Layer, other: Layer) -> Floats:
    """(N,) how far the configurations of a layer are from the best one of another: octaves, and words count one."""
    apart = np.abs(layer.knobs - other.knobs[int(np.argmin(other.seconds))])
    return np.asarray(np.where(layer.words, apart > 0, apart).sum(axis=1), dtype=np.float64)


def by_history(layer: Layer) -> dict[str, list[Score]]:
    """The recorded orders, by tuner."""
    return {tuner: [Score.of(layer, order) for order in orders] for tuner, orders in layer.histories.items()}


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """The figures of docs/experiments.md over many layers: means, and median, 75th and 90th percentile of trials."""
    top1 = np.array([score.top1 for score in scores])
    pairs = [score.pairwise for score in scores if score.pairwise is not None]
    return {
        "layers": len(scores),
        "pairwise": float(np.mean(pairs)) if pairs else None,
        "harmonic_top1": harmonic_mean(top1),
        "mean_top1": float(top1.mean()),
        "p10_top1": float(np.quantile(top1, 0.1)),
        "top5": float(np.mean([score.top5 for score in scores])),
        "peak5": float(np.mean([score.peak5 for score in scores])),
        "network_top1": network_score(top1, np.array([score.best for score in scores])),
        **{
            f"trials_to_{share * 100:.0f}": _quantiles([score.trials[place] for score in scores])
            for place, share in enumerate(SHARES)
        },
    }


def random_summary(layers: Sequence[Layer]) -> dict[str, Any]:
    """The same for random search, worked out for each layer; quantiles are over layers and luck."""
    best = [expected_best(layer.qualities, 5) for layer in layers]
    longest = max(len(layer.seconds) for layer in layers)
    trials = {}
    for share in SHARES:
        chances = [random_reaches(layer.qualities, share) for layer in layers]
        together = np.mean([np.pad(row, (0, longest - len(row)), constant_values=1.0) for row in chances], axis=0)
        quantiles = [quantile_of(together, quantile) for quantile in (0.5, 0.75, 0.9)]
        trials[f"trials_to_{share * 100:.0f}"] = dict(zip(("median", "p75", "p90"), quantiles, strict=True))
    slowness = [float(np.mean(1 / layer.qualities)) for layer in layers]
    return {
        "layers": len(layers),
        "pairwise": 0.5,
        "harmonic_top1": float(1 / np.mean(slowness)),
        "mean_top1": float(np.mean([row[0] for row in best])),
        "top5": float(np.mean([row[-1] for row in best])),
        **trials,
    }


def _quantiles(trials: Sequence[int | None]) -> dict[str, int | None]:
    numbers = [np.inf if each is None else each for each in trials]
    found = np.quantile(numbers, (0.5, 0.75, 0.9), method="inverted_cdf").tolist()
    return {
        name: None if value == np.inf else int(value)
        for name, value in zip(("median", "p75", "p90"), found, strict=True)
    }
