"""The genetic tuner: generations of configurations, bred from the last one and the best ever.

The values are those of the baseline of the AutoTVM paper: a population of 100, 3 elites,
mutation with probability 0.1 a knob, one-point crossover, parents drawn in proportion to their throughput.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tuner.search.candidates import Candidates
from tuner.space import Indices

POPULATION = 100
ELITES = 3
MUTATION = 0.1
_ATTEMPTS = 16


class Genetic:
    """Breeds a generation when the one before is measured. The first is random."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self.candidates = candidates
        self.rng = rng
        self.observed: list[int] = []
        self.scores: list[float] = []
        self.queue: list[int] = []

    def propose(self, count: int) -> list[int]:
        proposed: list[int] = []
        while len(proposed) < count:
            if not self.queue:
                self.queue = self.candidates.take(self._generation(count - len(proposed)))
            if not self.queue:
                break
            room = count - len(proposed)
            proposed += self.queue[:room]
            self.queue = self.queue[room:]
        return proposed

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.candidates.take(indices)
        self.observed += indices
        self.scores += scores

    def _generation(self, count: int) -> Indices:
        if len(self.observed) < POPULATION:
            return self.candidates.random(self.rng, min(count, POPULATION - len(self.observed)))
        children = np.empty(0, dtype=np.int64)
        for _ in range(_ATTEMPTS):
            born = self.candidates.admit(self._breed())
            children = np.concatenate([children, born[~np.isin(born, children)]])
            if len(children) >= POPULATION:
                break
        missing = POPULATION - len(children)
        if missing > 0:  # the population has converged: newcomers instead of twins
            strangers = self.candidates.random(self.rng, missing)
            children = np.concatenate([children, strangers[~np.isin(strangers, children)]])
        return children[:POPULATION]

    def _breed(self) -> Indices:
        """A population of children, not all of them new or legal."""
        scores = np.array(self.scores)
        best = np.argsort(-scores, kind="stable")[:ELITES]
        last = np.arange(len(scores) - POPULATION, len(scores))
        pool = np.union1d(best, last)
        genes = self.candidates.space.digits(np.array(self.observed)[pool])
        fitness = scores[pool]
        weights = fitness / fitness.sum() if fitness.sum() > 0 else np.full(len(pool), 1 / len(pool))
        mothers, fathers = self.rng.choice(len(pool), size=(2, POPULATION), p=weights)
        children = crossover(self.rng, genes[mothers], genes[fathers])
        return self.candidates.space.indices(mutate(self.rng, children, self.candidates.space.radices))


def crossover(
    rng: np.random.Generator, mothers: npt.NDArray[np.int64], fathers: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Children with the mother's knobs up to a random point and the father's from there, (N, knobs)."""
    points = rng.integers(0, mothers.shape[1] + 1, size=(len(mothers), 1))
    return np.where(np.arange(mothers.shape[1]) < points, mothers, fathers)


def mutate(
    rng: np.random.Generator, genes: npt.NDArray[np.int64], radices: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Each knob takes a uniform random value with probability ``MUTATION``."""
    return np.where(rng.random(genes.shape) < MUTATION, rng.integers(0, radices, size=genes.shape), genes)
