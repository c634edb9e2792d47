"""The tuners that do not learn: random search and grid search."""

from collections.abc import Sequence

import numpy as np

from tuner.search.candidates import Candidates

_STRIDE = 4096


class Random:
    """Uniform among the legal configurations that are left."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator) -> None:
        self.candidates = candidates
        self.rng = rng

    def propose(self, count: int) -> list[int]:
        return self.candidates.take(self.candidates.random(self.rng, count))

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.candidates.take(indices)


class Grid:
    """All legal configurations in the order of their numbers."""

    def __init__(self, candidates: Candidates) -> None:
        self.candidates = candidates
        self.next = 0

    def propose(self, count: int) -> list[int]:
        proposed: list[int] = []
        while len(proposed) < count and self.next < self.candidates.space.size:
            ahead = np.arange(self.next, min(self.next + _STRIDE, self.candidates.space.size))
            fresh = ahead[self.candidates.unseen(ahead)]
            fresh = fresh[self.candidates.legal(fresh)][: count - len(proposed)]
            proposed += self.candidates.take(fresh)
            self.next = proposed[-1] + 1 if len(proposed) == count else int(ahead[-1]) + 1
        return proposed

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.candidates.take(indices)
