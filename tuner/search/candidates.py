"""What a tuner may choose from: the legal configurations of a space, less those that were already proposed."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.space import Columns, Indices, Space

Illegal: TypeAlias = Callable[[Columns], npt.NDArray[np.bool_]]

QUICKLY = 2**20  # spaces up to this size take a tenth of a second to list
LISTABLE = 2**22  # spaces up to this size are listed, once, to find the legal configurations: half a second
_CHUNK = 2**14  # configurations whose columns stay in a cache
_ROUNDS = 64


class Tuner(Protocol):
    """Ask and tell. Nothing is proposed twice, and nothing that was observed is proposed."""

    def propose(self, count: int) -> list[int]:
        """Up to ``count`` new legal configurations; fewer only when there are no more."""

    def observe(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        """Learn how fast configurations are, proposed or not. Higher is better, zero is a failure."""


class Candidates:
    """The legal configurations of ``space`` that were not proposed yet.

    ``illegal`` takes columns of values (see ``Space.columns``) and says which candidates cannot be built.
    """

    def __init__(self, space: Space, illegal: Illegal) -> None:
        self.space = space
        self.illegal = illegal
        self._seen: set[int] = set()

    @cached_property
    def listed(self) -> Indices | None:
        """All legal configurations in order, or None when the space is too large to list."""
        if self.space.size > LISTABLE:
            return None
        everything = np.arange(self.space.size)
        return everything[self.legal(everything)]

    @property
    def quickly_listed(self) -> bool:
        """Whether ``listed`` costs next to nothing."""
        return self.space.size <= QUICKLY

    def legal(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Which of these configurations can be built."""
        parts = [indices[start : start + _CHUNK] for start in range(0, max(len(indices), 1), _CHUNK)]
        return ~np.concatenate([np.asarray(self.illegal(self.space.columns(part)), dtype=np.bool_) for part in parts])

    def unseen(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Which of these configurations were not proposed yet."""
        return ~np.isin(indices, np.fromiter(self._seen, dtype=np.int64, count=len(self._seen)))

    def admit(self, indices: Indices) -> Indices:
        """Those of the configurations, made up by a tuner, that can be built and were not proposed yet."""
        unseen = indices[self.unseen(indices)]
        admitted: Indices = unseen[self.legal(unseen)]
        return admitted

    def take(self, indices: npt.ArrayLike) -> list[int]:
        """Mark configurations as proposed."""
        taken: list[int] = np.asarray(indices, dtype=np.int64).tolist()
        self._seen.update(taken)
        return taken

    def remaining(self, listed: Indices) -> npt.NDArray[np.bool_]:
        """``unseen`` of all listed ones; as they are in order, it costs next to nothing."""
        mask = np.ones(len(listed), dtype=np.bool_)
        if not len(listed):
            return mask
        seen = np.fromiter(self._seen, dtype=np.int64, count=len(self._seen))
        places = np.minimum(np.searchsorted(listed, seen), len(listed) - 1)
        mask[places[listed[places] == seen]] = False
        return mask

    def random(self, rng: np.random.Generator, count: int) -> Indices:
        """``count`` distinct random legal ones that were not proposed; fewer when there are not, or hardly, as many."""
        if self.listed is None:
            return self.sampled(rng, count)
        left = np.flatnonzero(self.remaining(self.listed))
        chosen: Indices = self.listed[rng.choice(left, size=min(count, len(left)), replace=False)]
        return chosen

    def sampled(self, rng: np.random.Generator, count: int) -> Indices:
        """The same without listing a space: so less certain to find them, and quicker where the space is large."""
        found = np.empty(0, dtype=np.int64)
        for _ in range(_ROUNDS):
            drawn = self.space.sample(rng, max(4 * count, 1024))
            drawn = drawn[self.unseen(drawn)]
            drawn = drawn[self.legal(drawn)]
            found = np.concatenate([found, drawn[~np.isin(drawn, found)]])
            if len(found) >= count:
                break
        return found[:count]
