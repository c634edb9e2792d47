"""Is the output right? The error is max |output - reference| / max |reference|, against a float64 reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Verdict:
    """``error`` is None when it is not a number; ``problem`` is None when the output is right."""

    error: float | None
    problem: str | None


def verify(output: Array, reference: Array, tolerance: float) -> Verdict:
    """Compare ``output`` with ``reference`` (same shape). NaN and infinities must be where the reference has them."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        largest = _largest(np.subtract(output, reference, dtype=np.float64))
    if not np.isfinite(largest):
        return _verify_special(output, reference, tolerance)
    return _judge(largest, _largest(reference), tolerance)


def _verify_special(output: Array, reference: Array, tolerance: float) -> Verdict:
    """The rare case: something is not finite. Compares what is finite in both, and demands the rest to agree."""
    finite = np.isfinite(reference)
    agrees = np.where(finite, np.isfinite(output), (output == reference) | (np.isnan(output) & np.isnan(reference)))
    if not agrees.all():
        wrong = np.argwhere(~agrees)
        where = ", ".join(map(str, wrong[0]))
        found, expected = output[tuple(wrong[0])], reference[tuple(wrong[0])]
        return Verdict(
            None,
            f"wrong result: {len(wrong)} of {output.size} elements are NaN or infinite without reason, or the reverse "
            f"(NaN: perhaps never written); first at [{where}]: {found:g} instead of {expected:g}",
        )
    difference = np.subtract(output[finite], reference[finite], dtype=np.float64)
    return _judge(_largest(difference), _largest(reference[finite]), tolerance)


def _largest(values: Array) -> float:
    """The largest magnitude, NaN if there is a NaN; no array of magnitudes is made."""
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


def _judge(largest: float, scale: float, tolerance: float) -> Verdict:
    error = largest / scale if scale > 0 else largest
    if error <= tolerance:
        return Verdict(error, None)
    return Verdict(error, f"wrong result: error {error:.3g} of the largest reference value, more than {tolerance:g}")
