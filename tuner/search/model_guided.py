"""The model-guided tuner: Algorithm 1 of the AutoTVM paper, as an ask-and-tell interface.

A plan of candidates is made from the predictions of a cost model; when it is used up, the model is fitted again to all
that is known and the next plan is made. Measuring on a CPU is serial, so plans are short; they grow with the data to
keep the cost of refitting in proportion (the paper's 64 candidates suit a farm of devices).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.cost_model.cost_model import CostModel, FeatureMatrix, labels_of
from tuner.search.annealing import Annealing
from tuner.search.candidates import Candidates
from tuner.search.diversity import pick
from tuner.space import Columns, Indices

Features: TypeAlias = Callable[[Columns], FeatureMatrix]


@dataclass(frozen=True)
class Plan:
    """How plans are made."""

    warmup: int = 8  # random candidates before there is a model; with none the model is asked before its first fit
    batch: int = 8  # candidates of a plan, at least
    growth: float = 1 / 8  # and at least this part of the data
    epsilon: float = 0.05  # probability that a candidate of a plan is a random one
    ratio: float = 4.0  # lambda of the paper: a batch of b is picked from the best lambda * b
    alpha: float | None = 0.3  # weight of an uncovered knob value, in standard deviations; None: nothing else counts
    exhaustive: int = 400_000  # legal configurations up to which all are scored; annealing beyond


class ModelGuided:
    """Proposes what ``model`` predicts to be fast, with some diversity and some chance."""

    def __init__(
        self,
        candidates: Candidates,
        rng: np.random.Generator,
        model: CostModel,
        features: Features,
        plan: Plan = Plan(),
    ) -> None:
        self.candidates = candidates
        self.rng = rng
        self.model = model
        self.features = features
        self.plan = plan
        self.observed: list[int] = []
        self.scores: list[float] = []
        self.queue: list[int] = []
        self._annealing: Annealing | None = None
        self._pool: tuple[Indices, FeatureMatrix] | None = None

    def propose(self, count: int) -> list[int]:
        proposed: list[int] = []
        while len(proposed) < count:
            if not self.queue:
                self.queue = self.candidates.take(self._next_plan())
            if not self.queue:
                break
            proposed.append(self.queue.pop(0))
        return proposed

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.candidates.take(indices)
        self.observed += indices
        self.scores += scores

    def _next_plan(self) -> Indices:
        """The next plan; without a model, or with nothing that works to learn from, a random one."""
        missing = self.plan.warmup - len(self.observed)
        if missing > 0 or (self.plan.warmup and not any(self.scores)):
            return self.candidates.random(self.rng, missing if missing > 0 else self.plan.batch)
        if any(self.scores):
            self._fit()
        batch = max(self.plan.batch, int(self.plan.growth * len(self.observed)))
        indices, scores = self._promising(max(batch, int(self.plan.ratio * batch)))
        chosen = indices[pick(scores, self.candidates.space.digits(indices), batch, self.plan.alpha)]
        chosen = chosen[: batch - self.rng.binomial(batch, self.plan.epsilon)]
        others = self.candidates.random(self.rng, 2 * batch)
        others = others[~np.isin(others, chosen)]
        return np.concatenate([chosen, others[: batch - len(chosen)]])

    def _fit(self) -> None:
        columns = self.candidates.space.columns(np.array(self.observed))
        self.model.fit(self.features(columns), labels_of(np.array(self.scores)))

    def _promising(self, count: int) -> tuple[Indices, npt.NDArray[np.float64]]:
        """The ``count`` best-scored candidates that were not proposed yet, and their scores."""
        listed = self.candidates.listed
        if listed is None or len(listed) > self.plan.exhaustive:
            self._annealing = self._annealing or Annealing(self.candidates, self.rng)
            heap = self._annealing.search(self._score, count)
            return heap.indices, heap.scores
        if self._pool is None:
            self._pool = listed, self.features(self.candidates.space.columns(listed))
        indices, features = self._pool
        scores = np.where(self.candidates.remaining(indices), self.model.predict(features), -np.inf)
        count = min(count, int(np.isfinite(scores).sum()))
        best = np.argpartition(-scores, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
        best = best[np.argsort(-scores[best], kind="stable")]
        return indices[best], scores[best]

    def _score(self, indices: Indices) -> npt.NDArray[np.floating]:
        return self.model.predict(self.features(self.candidates.space.columns(indices)))
