"""What is believed about a space before anything in it was measured."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tuner.space import Columns, Config


class Prior(Protocol):
    """Comes from other workloads, other operators or other machines; the tuner does not know which."""

    @property
    def trust(self) -> float:
        """From 0, a guess, to 1: how well it did on workloads it had not seen."""

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """What N configurations should reach, (N,): the logarithm of their speed, up to a constant.

        And which schedule each of them makes, (N,): equal numbers are equal schedules.
        """

    def examples(self) -> Sequence[Config]:
        """Configurations that were best elsewhere, the most promising first. They may lie outside of this space."""
