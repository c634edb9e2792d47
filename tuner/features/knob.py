"""Knob features: the values of the knobs themselves.

They say everything about a candidate of one space and nothing across spaces.
"""

import numpy as np
import numpy.typing as npt

from tuner.space import Columns


def knob_features(columns: Columns) -> npt.NDArray[np.float32]:
    """One row a candidate, (N, F): each knob as log2(1 + value), whatever the other candidates are.

    A tree splits on order alone, so the scale changes nothing for exact splits; it spaces the histogram bins evenly.
    """
    return np.stack([np.log2(1.0 + column) for column in columns.values()], axis=1).astype(np.float32)
