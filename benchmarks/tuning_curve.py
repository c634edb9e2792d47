"""Draw how tuning goes: the best speed found so far over the trials, for several tuners and seeds, from real runs.

The default schedule, which every session measures first, is drawn as a line of its own and left out of the curves: they
show what searching finds.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt

import tunedb
from tuner.trial import Trial

COLOURS = {"model": "#0b6e4f", "genetic": "#c77d0a", "random": "#7a7a7a"}


def best_so_far(trials: Sequence[Trial]) -> Iterator[float]:
    """GFLOP/s after each trial but the first."""
    best = 0.0
    for trial in trials[1:]:
        best = max(best, trial.gflops or 0.0)
        yield best


def main() -> None:
    """Tune and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", default="resnet18.C7")
    parser.add_argument("--tuners", default="model,genetic,random", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each tuner; default: %(default)s")
    parser.add_argument("--trials", type=int, default=96, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--db", default="sqlite:///tuning-curve.sqlite", help="default: %(default)s")
    parser.add_argument("-o", "--output", default="docs/tuning-curve.png", help="default: %(default)s")
    options = parser.parse_args()
    workload, database = tunedb.workload(options.workload), tunedb.open(options.db)
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    defaults: list[float] = []
    model = ""
    for tuner in options.tuners.split(","):
        curves = []
        for seed in range(options.seeds):
            result = tunedb.tune(
                workload, db=database, trials=options.trials, seed=seed, threads=options.threads, tuner=tuner
            )
            curves.append(list(best_so_far(result.trials)))
            defaults.append(result.trials[0].gflops or 0.0)
            model = result.trials[0].target.model
        steps = list(zip(*curves, strict=True))
        trials = range(1, len(steps) + 1)
        colour = COLOURS.get(tuner)
        axes.plot(trials, [statistics.median(step) for step in steps], label=tuner, color=colour, linewidth=2)
        axes.fill_between(
            trials, [min(s) for s in steps], [max(s) for s in steps], color=colour, alpha=0.15, linewidth=0
        )
        last = statistics.median(steps[-1])
        print(f"{tuner}: median {last:.1f} GFLOP/s after {len(steps)} trials of {options.seeds} seeds")
    middle = statistics.median(defaults)
    print(f"default: median {middle:.1f} GFLOP/s")
    axes.axhline(middle, color="black", linestyle=":", label="default schedule, not searched")
    axes.set(xlabel="trials", ylabel="best so far, GFLOP/s", xlim=(1, options.trials), ylim=(0, None))
    plural = "s" if options.threads > 1 else ""
    axes.set_title(
        f"{workload.label} on {options.threads} thread{plural} of {model}: median and range of {options.seeds} seeds"
    )
    axes.title.set_fontsize(10)
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(options.output, dpi=130)


if __name__ == "__main__":
    main()
