"""The model-guided tuner with a prior: what is known from elsewhere chooses first, what is measured here decides.

The first candidates are the prior's choice and the best schedules of similar workloads. Then turns are taken between
the prior corrected by the trials of this session (tuner.cost_model.residual) and the model-guided tuner without any
prior, which learns from all trials alike. So a prior that misleads costs a bounded part of the trials and no more:
docs/transfer-learning.md has the figures.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from tuner.cost_model.acquisition import expected_improvement
from tuner.cost_model.residual import Kernel, Residual
from tuner.search.candidates import Candidates
from tuner.search.model_guided import ModelGuided
from tuner.search.nearest import nearest
from tuner.search.prior import Prior
from tuner.space import Indices

POOL = 50_000  # random candidates that stand for a larger space: four times as many cost a second, which is ten trials
SHORTLIST = 4096  # of them the prior's best, on which the posterior is computed
EXAMPLES = 1  # copies of other workloads' best among the first candidates
COPIED = 8  # trials after which they come: on held-out layers the model does better without, but it may fail
OPENING = 16  # trials that a fully trusted prior leads alone
SETTLED = 64  # trials after which the prior has every fourth turn, no longer every second
TRUSTED = 0.5  # trust below which a prior has its choice, the copies, and every second turn from the beginning
MEMORY = 200  # trials that correct the prior: the fastest, and what they are compared with


class WarmStarted:
    """Proposes one candidate at a time; nothing is gained by plans when measuring is serial."""

    def __init__(
        self,
        candidates: Candidates,
        rng: np.random.Generator,
        prior: Prior,
        cold: ModelGuided,
        kernel: Kernel = "gp",
    ) -> None:
        self.candidates = candidates
        self.prior = prior
        self.cold = cold
        self.kernel = kernel
        self.pool = self._pool(rng)
        scores, schedules = prior.scores(candidates.space.columns(self.pool)) if len(self.pool) else (np.empty(0),) * 2
        best = np.argsort(-scores, kind="stable")
        _, first = np.unique(schedules[best], return_index=True)  # two that make the same schedule are one
        best = best[np.sort(first)[:SHORTLIST]]
        self.indices, self.scores = self.pool[best], scores[best]
        self.knobs = self._standardised(self.indices)
        self.families = self._families(self.indices)
        copies = prior.examples()[:EXAMPLES] if len(self.pool) else ()
        examples = [nearest(candidates.space, self.pool, config) for config in copies]
        self.opening = [*self.indices[:1].tolist(), *examples]
        self.seen: dict[int, float] = {}
        self.believed = dict(zip(self.indices.tolist(), self.scores.tolist(), strict=True))

    def propose(self, count: int) -> list[int]:
        proposed: list[int] = []
        while len(proposed) < count:
            chosen = self._choose(len(self.seen) + len(proposed))
            if not chosen:
                break
            proposed += chosen
        return proposed

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.cold.observe(indices, scores)
        self.seen.update(zip(indices, scores, strict=True))

    def _choose(self, number: int) -> list[int]:
        """Candidate ``number`` of the session."""
        for place, index in enumerate(self.opening):
            if (place == 0 or number >= COPIED) and bool(self.candidates.unseen(np.array([index]))[0]):
                return self.candidates.take([index])
        led = number < OPENING and self.prior.trust >= TRUSTED
        turn = number % (2 if number < SETTLED else 4) == 0
        if (led or turn) and (index := self._best()) is not None:
            return self.candidates.take([index])
        return self.cold.propose(1)

    def _best(self) -> int | None:
        """The candidate of the shortlist from which the most is expected above the best so far."""
        left = np.flatnonzero(self.candidates.unseen(self.indices))
        slowest = min((score for score in self.seen.values() if score > 0), default=None)
        if not len(left):
            return None
        if slowest is None:
            return int(self.indices[left[0]])
        # What failed counts as half as fast as the slowest that did not, so that its likes are avoided.
        scores = {index: score or slowest / 2 for index, score in self.seen.items()}
        known = np.array(sorted(scores, key=lambda index: -scores[index])[:MEMORY], dtype=np.int64)
        speeds = np.log(np.array([scores[index] for index in known.tolist()]))
        prior = self._believe(known)
        families = self._families(known)
        posterior = Residual.fit(self._standardised(known), prior, families, speeds, self.kernel)
        means, deviations = posterior.predict(self.knobs[left], self.scores[left], self.families[left])
        leader = float(posterior.predict(self._standardised(known[:1]), prior[:1], families[:1])[0][0])
        return int(self.indices[left[int(np.argmax(expected_improvement(means, deviations, leader)))]])

    def _believe(self, indices: Indices) -> npt.NDArray[np.float64]:
        """What the prior says of these candidates; each is asked about once."""
        if unknown := [index for index in indices.tolist() if index not in self.believed]:
            scores, _ = self.prior.scores(self.candidates.space.columns(np.array(unknown)))
            self.believed.update(zip(unknown, scores.tolist(), strict=True))
        return np.array([self.believed[index] for index in indices.tolist()])

    def _pool(self, rng: np.random.Generator) -> Indices:
        """A larger space is listed when the tuner without a prior needs that."""
        if not self.candidates.quickly_listed:
            return np.sort(self.candidates.sampled(rng, POOL))
        listed = self.candidates.listed
        return listed if listed is not None and len(listed) <= POOL else np.sort(self.candidates.random(rng, POOL))

    def _families(self, indices: Indices) -> npt.NDArray[np.int64]:
        """The algorithms of configurations, as numbers; all alike in a space without the knob."""
        named = [knob.name == "algorithm" for knob in self.candidates.space.knobs]
        return np.asarray(self.candidates.space.digits(indices) @ np.array(named, dtype=np.int64))

    def _standardised(self, indices: Indices) -> npt.NDArray[np.float64]:
        """Positions of the knobs' values, each knob from 0 to 1 times the root of 12: deviation one when uniform."""
        digits = self.candidates.space.digits(indices).astype(np.float64)
        return digits / np.maximum(self.candidates.space.radices - 1, 1) * sqrt(12)
