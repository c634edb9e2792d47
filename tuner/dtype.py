"""The data types that operands may have.

NumPy has no bfloat16: the package ``ml_dtypes`` adds it, as JAX and TensorFlow use it. A bfloat16 is the upper half of
a float32, so it has the same range and 8 bits of precision. Sums are kept in float32 whatever the operands are.
"""

from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def item_bytes(dtype: str) -> int:
    """Bytes of one element."""
    return DTYPES[dtype].itemsize
