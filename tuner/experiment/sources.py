"""What an arm that transfers starts from: a model trained on the pools of other workloads, and their best schedules."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.training import TrainingSet, choose
from tuner.experiment.pool import Pool
from tuner.features.representations import representation
from tuner.features.sketches import padded
from tuner.space import Columns, Config
from tuner.trial import Trial

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

    def scores(self, columns: Columns) -> npt.NDArray[np.float64]:
        return np.asarray(self.known(columns), dtype=np.float64)

    def examples(self) -> Sequence[Config]:
        return self.best_elsewhere


def drawn(sources: Sequence[Pool], seed: int, rows: int) -> list[Trial]:
    """The trials of the sources that are learned from with a seed: ``rows`` of each, or ``SHARE`` of them for 0."""
    rng = np.random.default_rng([seed, 1])
    trials: list[Trial] = []
    for source in sources:
        count = rows or round(SHARE * len(source.trials))
        chosen = np.sort(rng.permutation(len(source.trials))[:count])
        trials += [source.trials[number] for number in chosen.tolist()]
    groups = [(trial.workload.fingerprint, trial.target.fingerprint) for trial in trials]
    seconds = np.array([np.nan if trial.seconds is None else trial.seconds for trial in trials])
    positions, _ = choose(groups, seconds)
    return [trials[position] for position in positions.tolist()]


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
def learn(sources: tuple[Pool, ...], seed: int, rows: int, features: str, objective: str) -> Learned:
    """What is learned from pools with a seed. Raises ModelError when there is nothing to learn from."""
    began = time.perf_counter()
    trials = drawn(sources, seed, rows)
    data, _ = TrainingSet.of(trials, features)
    # One thread: the runs of an experiment share the machine.
    model = GlobalModel.fit(data, Settings(objective=objective, threads=1))  # type: ignore[arg-type]
    return Learned(trials, data, model, features, time.perf_counter() - began)


def learned_prior(pool: Pool, learned: Learned) -> KnownPrior:
    """The prior that is the model alone, fully trusted."""
    features = np.nan_to_num(representation(learned.features).of_trials(pool.trials))
    return KnownPrior(1.0, Lookup.of(pool, learned.model.predict(padded(features, (learned.width,)))), ())
