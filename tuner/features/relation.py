"""Relation features: how one property of the loops grows with another (AutoTVM, supplement; "curve" in its code).

``R_t = max of Z_i over the loops whose Z_j is below beta_t``, for thresholds beta_t spaced evenly on a log2 scale. The
length depends on the number of operands that the innermost loops touch, not on the number of loops, so that nests of
other shapes, and of other operators with as many operands, have comparable features. Two forms:

- ``relation_features`` takes the formula literally.
- ``curve_features`` are what AutoTVM computes: it sorts each property on its own, so that the pairs of a curve may come
  from different loops, and says for each threshold how far below it the last point lies.
"""

import numpy as np
import numpy.typing as npt

from tuner.features.context import Column, LoopContext, Touch, loop_contexts
from tuner.loopnest import Nest

SAMPLES = 20  # thresholds that AutoTVM's cost model uses: 2^0 to 2^19

Rows = npt.NDArray[np.float32]


def relation_features(nest: Nest, samples: int = SAMPLES) -> Rows:
    """(N, samples * 4 * operands): for each operand of the innermost loops, and each of four pairs of properties.

    The pairs are those of the paper in both directions: touched elements and reuse, touched elements and top-down
    product. All are log2; where no loop lies below a threshold the value is 0, as if the loops began with a point.
    """
    columns: list[npt.NDArray[np.float64]] = []
    for count, reuse, topdown in _operands(nest):
        for below, largest in ((count, reuse), (reuse, count), (count, topdown), (topdown, count)):
            columns += [np.where(below < threshold, largest, 0.0).max(axis=0) for threshold in range(samples)]
    return _matrix(columns)


def curve_features(nest: Nest, samples: int = SAMPLES) -> Rows:
    """(N, samples * 8 * operands): the sampled curves of AutoTVM, which its published test fixes to the number.

    For each operand, pair and threshold t = 0, 1, ...: of the last point of the sorted x at most t, the y, and t - x.
    """
    columns: list[npt.NDArray[np.float64]] = []
    for properties in _operands(nest):
        zero = np.zeros((1, properties[0].shape[1]))
        count, reuse, topdown = (np.sort(np.concatenate([zero, values]), axis=0) for values in properties)
        for x, y in ((count, reuse), (reuse, count), (count, topdown), (topdown, count)):
            for threshold in range(samples):
                last = (x <= threshold + 1e-6).sum(axis=0)[None, :] - 1
                columns.append(np.take_along_axis(y, last, axis=0)[0])
                columns.append(threshold - np.take_along_axis(x, last, axis=0)[0])
    return _matrix(columns)


def _operands(nest: Nest) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Of each operand of the innermost loops the log2 of touched elements, reuse, top-down product: (loops, N) each."""
    contexts = loop_contexts(nest)
    result = []
    for access in _innermost(contexts):
        loops = [(loop, loop.touches[access]) for loop in contexts if access in loop.touches]
        result.append(
            (
                _stacked([touch.count for _, touch in loops]),
                _stacked([touch.reuse for _, touch in loops]),
                _stacked([loop.topdown for loop, _ in loops]),
            )
        )
    return result


def _innermost(contexts: list[LoopContext]) -> list[str]:
    """One access of each buffer that the deepest loops touch, found from the last loop backwards, sorted by name."""
    deepest = max(loop.level for loop in contexts)
    found: dict[str, str] = {}
    for loop in reversed(contexts):
        if loop.level == deepest:
            touches: dict[str, Touch] = loop.touches
            for access in sorted(touches):
                found.setdefault(access.rpartition("_")[0], access)
    return [found[buffer] for buffer in sorted(found)]


def _stacked(columns: list[Column]) -> npt.NDArray[np.float64]:
    return np.log2(np.stack(np.broadcast_arrays(*columns)).astype(np.float64))


def _matrix(columns: list[npt.NDArray[np.float64]]) -> Rows:
    rows = max(column.shape[0] for column in columns)
    result = np.empty((rows, len(columns)), dtype=np.float32)
    for number, column in enumerate(columns):
        result[:, number] = column
    return result
