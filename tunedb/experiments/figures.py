"""The figures of a report, drawn with matplotlib: medians as lines, the range of seeds as bands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunedb.experiments.declared import ExperimentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

COLOURS = ("#0b6e4f", "#c77d0a", "#2b59c3", "#a4243b", "#6d597a", "#3a7d9c", "#8a8d29", "#444444", "#d35db0", "#7a5230")
_BASELINE = "#9a9a9a"
_COLUMNS = 3


def panels(count: int, width: float = 4.2, height: float = 3.2) -> tuple["Figure", list["Axes"]]:
    """A figure with ``count`` panels, three in a row. Raises ExperimentError without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ExperimentError("figures need matplotlib: pip install 'tunedb[plots]'") from error
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    axes = list(grid.flat)
    for empty in axes[count:]:
        empty.axis("off")
    return figure, axes[:count]


def colours(names: Sequence[str]) -> Mapping[str, str]:
    """A colour for each arm, the same in all figures of an experiment."""
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def band(axes: "Axes", steps: Floats, curves: Floats, label: str, colour: str) -> None:
    """Median and range of (seeds, steps) curves."""
    axes.plot(steps, np.median(curves, axis=0), label=label, color=colour, linewidth=1.6)
    axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.13, linewidth=0)


def baseline(axes: "Axes", steps: Floats, values: Floats, label: str) -> None:
    """A dashed line: what is expected without any search that learns."""
    axes.plot(steps, values, label=label, color=_BASELINE, linewidth=1.2, linestyle="--")


def bars(axes: "Axes", groups: Sequence[str], heights: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """For each group a bar of each arm: the median of its values, and their range as a whisker."""
    width = 0.8 / len(heights)
    for number, (name, values) in enumerate(heights.items()):
        middle = np.array([np.median(each) for each in values])
        low, high = (np.array([extreme(each) for each in values]) for extreme in (min, max))
        places = np.arange(len(groups)) + (number - (len(heights) - 1) / 2) * width
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(places, middle, width, label=name, color=colour)
        axes.errorbar(places, middle, yerr=[middle - low, high - middle], fmt="none", ecolor="black", elinewidth=0.7)
    axes.set_xticks(np.arange(len(groups)), groups, rotation=45, ha="right", fontsize=7)


def finish(figure: "Figure", axes: Sequence["Axes"], path: Path, **labels: Any) -> None:
    """Label the axes, put one legend under the panels, and write the file."""
    import matplotlib.pyplot as plt

    for each in axes:
        each.set(**labels)
        each.grid(alpha=0.25)
        each.tick_params(labelsize=7)
        each.xaxis.label.set_fontsize(8)
        each.yaxis.label.set_fontsize(8)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=min(len(names), 5), frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.06 if len(axes) <= _COLUMNS else 0.03, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
