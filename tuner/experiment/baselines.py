"""What a learned search is compared with: random search, worked out exactly, and the copy of the nearest schedule."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tuner.experiment.pool import Pool
from tuner.neighbours import distance
from tuner.search.candidates import Candidates
from tuner.search.nearest import nearest
from tuner.search.simple import Random

Floats = npt.NDArray[np.float64]


def expected_best(values: Floats, draws: int) -> Floats:
    """Expected largest of the first 1, 2, ..., ``draws`` of N values that are drawn without replacement, (draws,).

    The n-th of N values in descending order, from 0, is the largest of k draws when the other k - 1 are among the
    N - 1 - n behind it: with probability ``C(N - 1 - n, k - 1) / C(N, k)``.
    """
    ordered = np.sort(values)[::-1]
    count = len(ordered)
    result = np.empty(min(draws, count))
    # The chance that the n-th is not drawn within k draws, given that none before it is: (N - n - k) / (N - n).
    rank = np.arange(count)
    for k in range(1, len(result) + 1):
        missed = np.clip((count - rank - k) / (count - rank), 0.0, 1.0)
        none_before = np.concatenate([[1.0], np.cumprod(missed)[:-1]])
        result[k - 1] = float((ordered * none_before * (1 - missed)).sum())
    return result


def random_reaches(values: Floats, goal: float) -> Floats:
    """The chance that 1, 2, ..., N draws without replacement have met a value of ``goal`` or more, (N,).

    With g such ones among N, k draws miss them all with probability ``C(N - g, k) / C(N, k)``.
    """
    count, good = len(values), int((values >= goal).sum())
    drawn = np.arange(count)
    return np.asarray(1 - np.cumprod(np.clip((count - good - drawn) / (count - drawn), 0.0, 1.0)))


def quantile_of(chances: Floats, quantile: float) -> int | None:
    """How many draws reach a goal with this probability, given their ``random_reaches``; None for never."""
    enough = np.flatnonzero(chances >= quantile - 1e-12)
    return int(enough[0]) + 1 if len(enough) else None


def nearest_copies(pool: Pool, sources: Sequence[Pool]) -> list[int]:
    """Configurations to try: the best of each source of the same template, the most similar workload first.

    Each at the recorded values most like it; a configuration that two sources agree on is tried once.
    """
    same = [source for source in sources if source.workload.operator == pool.workload.operator]
    same = [source for source in same if source.template.key == pool.template.key]
    same.sort(key=lambda source: (distance(source.workload, pool.workload), source.target != pool.target))
    best = [source.trials[int(np.argmin(source.seconds))].config for source in same]
    return list(dict.fromkeys(nearest(pool.space, pool.indices, config) for config in best))


class Copies:
    """Tries given configurations in turn, then random ones."""

    def __init__(self, candidates: Candidates, rng: np.random.Generator, copies: Sequence[int]) -> None:
        self.candidates = candidates
        self.copies = list(copies)
        self.rest = Random(candidates, rng)

    def propose(self, count: int) -> list[int]:
        first, self.copies = self.copies[:count], self.copies[count:]
        return [*self.candidates.take(first), *self.rest.propose(count - len(first))]

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        self.rest.observe(indices, scores)
