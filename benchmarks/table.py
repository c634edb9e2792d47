"""What a race has shown: medians, shares of the peak, ratios, and the tables people read."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.race import Result

OURS = "tunedb"
PEAK = "peak"


@dataclass(frozen=True)
class Row:
    """All contenders on one workload."""

    workload: str
    layout: str  # "own": what each contender prefers; "NCHW": the same for all
    threads: int
    results: Mapping[str, Result]

    def gflops(self, name: str) -> float | None:
        """By the median of the samples; None without any."""
        result = self.results[name]
        return result.flops / statistics.median(result.samples) / 1e9 if result.samples else None

    def spread(self, name: str) -> float:
        """Half the distance of the quartiles, as a share of the median."""
        samples = self.results[name].samples
        if len(samples) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(samples, n=4)
        return (high - low) / 2 / middle

    def share(self, name: str) -> float | None:
        """Of the peak in the same rounds."""
        own, peak = self.gflops(name), self.gflops(PEAK)
        return own / peak if own and peak else None

    @property
    def fastest_peer(self) -> str | None:
        speeds = {name: self.gflops(name) or 0.0 for name in self.results if name not in (OURS, PEAK)}
        name = max(speeds, key=lambda name: speeds[name], default=None)
        return name if name and speeds[name] else None

    @property
    def ratio(self) -> float | None:
        """Our speed over that of the fastest peer."""
        ours, peer = self.gflops(OURS), self.fastest_peer
        theirs = self.gflops(peer) if peer else None
        return ours / theirs if ours and theirs else None

    def to_json(self) -> dict[str, Any]:
        """Times in seconds a call."""
        return {
            "workload": self.workload,
            "layout": self.layout,
            "threads": self.threads,
            "contenders": {name: self._contender(name) for name in self.results},
            "fastest_peer": self.fastest_peer,
            "ratio": self.ratio,
        }

    def _contender(self, name: str) -> dict[str, Any]:
        result = self.results[name]
        if result.problem:
            return {"problem": result.problem}
        return {
            "median": statistics.median(result.samples),
            "fastest": min(result.samples),
            "spread": self.spread(name),
            "samples": len(result.samples),
            "gflops": self.gflops(name),
            "share": self.share(name),
            "error": result.error,
            "note": result.note,
        }


def mean(values: Sequence[float | None]) -> float | None:
    """The geometric mean; None if one is missing, as the others alone would be a different question."""
    known = [value for value in values if value is not None]
    return statistics.geometric_mean(known) if known and len(known) == len(values) else None


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Geometric means over ``rows``, and our worst row."""
    names = list(rows[0].results)
    worst = min((row for row in rows if row.ratio), key=lambda row: row.ratio or 0.0, default=None)
    return {
        "gflops": {name: mean([row.gflops(name) for row in rows]) for name in names},
        "share": {name: mean([row.share(name) for row in rows]) for name in names},
        "ratio": mean([row.ratio for row in rows]),
        "worst": {"workload": worst.workload, "ratio": worst.ratio} if worst else None,
    }


def render(rows: Sequence[Row]) -> str:
    """A Markdown table: GFLOP/s with spread and share of the peak, and our speed over the fastest peer's."""
    names = list(rows[0].results)
    total = summary(rows)
    lines = [["layer", *names, f"{OURS} / fastest peer", "schedule"]]
    for row in rows:
        cells = [_cell(row.gflops(name), row.spread(name), None if name == PEAK else row.share(name)) for name in names]
        against = f"{row.ratio:.2f} ({row.fastest_peer})" if row.ratio else "-"
        lines.append([row.workload, *cells, against, row.results[OURS].note or "-"])
    means = [_cell(total["gflops"][name], None, None if name == PEAK else total["share"][name]) for name in names]
    ratio = f"{total['ratio']:.2f}" if total["ratio"] else "-"
    worst = f" (lowest {total['worst']['ratio']:.2f})" if total["worst"] else ""
    lines.append(["geometric mean", *means, ratio + worst, ""])
    return _aligned(lines)


def _cell(gflops: float | None, spread: float | None, share: float | None) -> str:
    if gflops is None:
        return "-"
    parts = [f"{gflops:.1f}", f"±{100 * spread:.1f}%" if spread is not None else "", f"{share:.0%}" if share else ""]
    return " ".join(part for part in parts if part)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )
