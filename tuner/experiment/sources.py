"""What an arm that transfers starts from: a model trained on the pools of other workloads, and their best schedules."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.objectives import Objective
from tuner.cost_model.training import TrainingSet, choose
from tuner.experiment.pool import Pool
from tuner.features.representations import representation
from tuner.features.sketches import padded
from tuner.space import Columns, Config
from tuner.trial import Trial

Rows = npt.NDArray[np.float32]
SHARE = 0.8  # of the sources' trials, another draw for each seed: what an arm has learned is a matter of luck too


@dataclass(frozen=True)
class Lookup:
    """Numbers that were worked out once for all configurations of a pool, found again by the columns of some."""

    rows: dict[bytes, int]
    values: npt.NDArray[np.floating]  # (N, ...)

    @classmethod
    def of(cls, pool: Pool, values: npt.NDArray[np.floating]) -> "Lookup":
        keys = _keys(pool.space.columns(pool.indices))
        return cls({key: row for row, key in enumerate(keys)}, values)

    def __call__(self, columns: Columns) -> npt.NDArray[np.floating]:
        return self.values[[self.rows[key] for key in _keys(columns)]]


def _keys(columns: Columns) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(np.stack(list(columns.values()), axis=1))]


@dataclass(frozen=True)
class KnownPrior:
    """A prior (tuner.search.prior) whose scores were worked out for a whole pool."""

    trust: float
    known: Lookup
    best_elsewhere: tuple[Config, ...]

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        scores = np.asarray(self.known(columns), dtype=np.float64)
        return scores, np.arange(len(scores))

    def examples(self) -> Sequence[Config]:
        return self.best_elsewhere


@lru_cache(512)
def features_of(pool: Pool, name: str) -> Rows:
    """All N configurations of a pool as the representation of that name sees them, (N, ...)."""
    return representation(name).of_trials(pool.trials)


@dataclass(frozen=True)
class Lesson:
    """What is learned from other workloads: ``rows`` of each, 0 for most of what there is, and how."""

    features: str = "invariant"
    objective: Objective = Settings.objective
    rows: int = 0


def drawn(source: Pool, rng: np.random.Generator, rows: int) -> npt.NDArray[np.int64]:
    """The places of what is learned from in a source: ``rows``, or ``SHARE`` of it for 0; timed ones only."""
    count = rows or round(SHARE * len(source.trials))
    chosen = np.sort(rng.permutation(len(source.trials))[:count])
    positions, _ = choose([0] * len(chosen), source.seconds[chosen])
    return np.asarray(chosen[positions])


def training_set(sources: Sequence[Pool], places: Sequence[npt.NDArray[np.int64]], name: str) -> TrainingSet:
    """These configurations of each source, seen by the representation ``name``; less those that it cannot see."""
    blocks: list[Rows] = []
    seconds: list[npt.NDArray[np.float64]] = []
    used: list[Pool] = []
    for source, own in zip(sources, places, strict=True):
        block = features_of(source, name)[own]
        good = np.flatnonzero(np.isfinite(block).all(axis=1) & (block.shape[1] > 0))
        if len(good):
            blocks.append(block[good])
            seconds.append(source.seconds[own[good]])
            used.append(source)
    width = max((block.shape[1] for block in blocks), default=0)
    return TrainingSet(
        np.concatenate([padded(block, (width,)) for block in blocks]) if blocks else np.empty((0, 0), np.float32),
        np.concatenate(seconds) if seconds else np.empty(0),
        np.repeat(np.arange(len(blocks)), [len(block) for block in blocks]),
        tuple(source.workload.key for source in used),
        tuple(source.target.name for source in used),
        tuple(source.workload.flops for source in used),
        name,
    )


@dataclass(frozen=True, eq=False)
class Learned:
    """Trials of other workloads, and the model that was trained on them in so many seconds, features included."""

    trials: list[Trial]
    data: TrainingSet
    model: GlobalModel
    features: str
    seconds: float

    @property
    def width(self) -> int:
        return int(self.data.features.shape[1])


@lru_cache(64)
def learn(sources: tuple[Pool, ...], seed: int, lesson: Lesson) -> Learned:
    """What is learned from pools with a seed. Raises ModelError when there is nothing to learn from."""
    began = time.process_time()
    rng = np.random.default_rng([seed, 1])
    places = [drawn(source, rng, lesson.rows) for source in sources]
    trials = [source.trials[place] for source, own in zip(sources, places, strict=True) for place in own.tolist()]
    data = training_set(sources, places, lesson.features)
    # One thread: the runs of an experiment share the machine.
    model = GlobalModel.fit(data, Settings(objective=lesson.objective, threads=1))
    return Learned(trials, data, model, lesson.features, time.process_time() - began)


def learned_prior(pool: Pool, learned: Learned) -> KnownPrior:
    """The prior that is the model alone, fully trusted."""
    features = np.nan_to_num(features_of(pool, learned.features))
    return KnownPrior(1.0, Lookup.of(pool, learned.model.predict(padded(features, (learned.width,)))), ())
