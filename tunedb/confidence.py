"""How sure a time is, from its raw repeats alone.

The interval is that of order statistics: of n independent repeats, the k-th smallest and the k-th largest enclose the
true median with probability 1 - 2 P(Binomial(n, 1/2) < k), whatever the distribution of the noise (David and Nagaraja,
Order Statistics, section 7.1). Repeats of one round share the machine's mood, so what it states is a best case; rounds
that were confirmed in turn with other candidates make it an honest one.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

LEVEL = 0.95
"""The coverage that is asked of an interval. Fewer than 6 repeats cannot give it; theirs is stated."""

_LOWEST = 0.9  # an interval of less coverage decides nothing
_SAME = 0.01  # two times that certainly differ by less than this are the same to a user


@dataclass(frozen=True)
class Confidence:
    """Seconds throughout. ``low`` and ``high`` enclose the median with probability ``coverage``.

    ``different`` answers whether this candidate is truly faster than the runner-up, the fastest other schedule:
    "yes" when the two intervals do not meet, "no" when even their far ends lie within 1 %, else "undecided".
    """

    repeats: int
    median: float
    spread: float  # median absolute deviation
    low: float
    high: float
    coverage: float
    runner_up: float | None
    different: Literal["yes", "no", "undecided"] | None  # None: there is no other schedule
    method: str = "order statistics"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        width = (self.high - self.low) / 2 / self.median
        text = f"median of {self.repeats} repeats ±{width:.1%} ({self.coverage:.0%} interval)"
        if self.runner_up is None:
            return f"{text}; no other schedule to compare with"
        verdict = {
            "yes": "faster than the runner-up by {:.1%}, beyond the noise",
            "no": "as fast as the runner-up, within 1 %",
            "undecided": "{:.1%} faster than the runner-up, which the noise could explain",
        }[self.different or "undecided"]
        return f"{text}; {verdict.format(self.runner_up / self.median - 1)}"


def judge(times: Sequence[float], runner_up: Sequence[float] | None) -> Confidence:
    """The confidence in the median of ``times``, beside the repeats of the fastest other schedule."""
    low, high, coverage = _interval(times)
    median = statistics.median(times)
    return Confidence(
        repeats=len(times),
        median=median,
        spread=statistics.median(abs(time - median) for time in times),
        low=low,
        high=high,
        coverage=coverage,
        runner_up=statistics.median(runner_up) if runner_up else None,
        different=_compare((low, high, coverage), _interval(runner_up)) if runner_up else None,
    )


@dataclass(frozen=True)
class Ratio:
    """How many times as long ``other`` takes as ``one``; above 1, ``one`` is the faster one.

    ``low`` and ``high`` enclose the ratio of the true medians with at least probability ``coverage``: both medians lie
    in their intervals unless one of them does not (Bonferroni). ``different`` is as in Confidence.
    """

    value: float
    low: float
    high: float
    coverage: float
    different: Literal["yes", "no", "undecided"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ratio(one: Sequence[float], other: Sequence[float]) -> Ratio:
    """The ratio of the medians of two sets of repeats, and how sure it is."""
    mine, theirs = _interval(one), _interval(other)
    return Ratio(
        value=statistics.median(other) / statistics.median(one),
        low=theirs[0] / mine[1],
        high=theirs[1] / mine[0],
        coverage=max(mine[2] + theirs[2] - 1, 0.0),
        different=_compare(*sorted((mine, theirs))),
    )


def _compare(best: tuple[float, float, float], other: tuple[float, float, float]) -> Literal["yes", "no", "undecided"]:
    if min(best[2], other[2]) < _LOWEST:
        return "undecided"
    if best[1] < other[0]:
        return "yes"
    return "no" if max(best[1], other[1]) < (1 + _SAME) * min(best[0], other[0]) else "undecided"


def _interval(times: Sequence[float]) -> tuple[float, float, float]:
    rank, coverage = _rank(len(times))
    ordered = sorted(times)
    return ordered[rank - 1], ordered[-rank], coverage


@cache
def _rank(n: int) -> tuple[int, float]:
    """The largest k whose interval reaches LEVEL, or 1, and the coverage it has."""
    coverage = 1 - 2 * 0.5**n
    tail, rank = 0.5**n, 1
    while rank < n // 2:
        tail += math.comb(n, rank) * 0.5**n
        if 1 - 2 * tail < LEVEL:
            break
        rank, coverage = rank + 1, 1 - 2 * tail
    return rank, max(coverage, 0.0)
