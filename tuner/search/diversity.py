"""The diversity-aware pick of a batch, eq. (3) of the AutoTVM paper."""

import numpy as np
import numpy.typing as npt


def pick(
    scores: npt.NDArray[np.floating], digits: npt.NDArray[np.int64], count: int, alpha: float | None
) -> npt.NDArray[np.int64]:
    """Positions of ``count`` candidates chosen greedily for score and for knob values that the batch does not have yet.

    Maximises ``sum of scores + alpha * number of distinct values, over the knobs``. The scores, (N,), higher is better,
    are standardised first: a ranking loss fixes them only up to shift and scale, and ``alpha`` must mean the same in
    every round. The objective is submodular, so greedy is near the optimum. ``digits`` is (N, knobs).

    Without ``alpha`` only coverage counts, as in AutoTVM's published code, which multiplies the scores by zero: of
    those that cover as much, the first is taken.
    """
    if not len(scores):
        return np.empty(0, dtype=np.int64)
    spread = float(scores.std()) if alpha is not None else 0.0
    gain = (scores - scores.mean()) / spread if spread > 0 else np.zeros(len(scores))
    weight = 1.0 if alpha is None else alpha
    covered = np.zeros(digits.shape, dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        total = gain + weight * (~covered).sum(axis=1)
        total[chosen] = -np.inf
        best = int(np.argmax(total))
        chosen.append(best)
        covered |= digits == digits[best]
    return np.array(chosen, dtype=np.int64)
