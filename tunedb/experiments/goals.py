"""Goals: trials to a quality, seconds to what another arm found, and never to be worse than another arm."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunedb.experiments.declared import Goal
from tunedb.experiments.results import Floats, Results, quantiles

MARKS = (16, 32, 64, 128)  # trials after which arms are compared
RESULTS = (0.95, 0.99, 1.0)  # of what another arm found
WITHIN = 0.99  # two kernels within 1 % are hardly told apart, so that much of another's quality counts as equal to it


def judge(results: Results, goal: Goal) -> dict[str, Any]:
    """Whether a goal was reached, and what was."""
    if goal.never_worse:
        return _never_worse(results, goal)
    if goal.faster:
        found = {label: speedups(results, goal, label) for label in results.experiment.workloads}
        every = np.concatenate(list(found.values()))
        whole, first, noisy = np.median(every, axis=0).tolist()
        return {
            "goal": f"{goal.arm}: {goal.faster:g} times quicker than {goal.at} trials of {goal.than} to what they find",
            "reached": whole,
            "against_first": first,
            "within_noise": noisy,
            "workloads": {label: float(np.median(ratios[:, 0])) for label, ratios in found.items()},
            "trials": {label: _trials_to_result(results, goal, label) for label in found},
            "met": whole >= goal.faster,
        }
    median, _, p90 = quantiles(results.trials_to(goal.arm, goal.share))
    met = median is not None and median <= goal.median and p90 is not None and p90 <= goal.p90
    return {
        "goal": f"{goal.arm}: {goal.share:.0%} of the best in {goal.median} trials, 90 % of runs in {goal.p90}",
        "reached": [median, p90],
        "met": met,
    }


def speedups(results: Results, goal: Goal, label: str) -> Floats:
    """(seeds, 3): the seconds of ``at`` trials of ``than`` over those that ``arm`` needs to ``WITHIN`` of their best.

    Then the same with the seconds until they first had that, which nobody knows while tuning; and all their seconds
    over those that ``arm`` needs to what differs from their best by no more than the noise of a timing, where that is
    more than 1 %. 0 where the arm never got there. Training on other workloads is not counted: it is done once for all.
    """
    noise = results.data["workloads"][label]["noise"]
    found = []
    for mine, other in zip(results.runs[goal.arm][label], results.runs[goal.than][label], strict=True):
        last = min(goal.at, len(other.speeds)) - 1
        best, whole = float(other.best()[last]), float(other.clock()[last])
        needed = mine.seconds_to(WITHIN * best) or np.inf
        noisy = mine.seconds_to(min(WITHIN, 1 - noise) * best) or np.inf
        found.append((whole / needed, (other.seconds_to(WITHIN * best) or 0.0) / needed, whole / noisy))
    return np.array(found)


def _trials_to_result(results: Results, goal: Goal, label: str) -> list[float | None]:
    """The median over the seeds of the trials of ``arm`` until it has each of ``RESULTS`` of what ``than`` found."""
    pairs = list(zip(results.runs[goal.arm][label], results.runs[goal.than][label], strict=True))
    found = [(mine, float(other.best()[: goal.at].max())) for mine, other in pairs]
    return [quantiles([mine.trials_to(share * best) for mine, best in found])[0] for share in RESULTS]


def _never_worse(results: Results, goal: Goal) -> dict[str, Any]:
    """How much faster the best of ``goal.arm`` is than that of ``goal.than`` after as many trials.

    By workload and mark: the median, lowest and highest share over the seeds, each seed against itself. The arm is
    worse where it is behind in the median by more than the ``noise`` of the workload (``tuner.experiment.pool``).
    """
    marks = [mark for mark in MARKS if mark <= results.experiment.trials]
    workloads = {}
    for label in results.experiment.workloads:
        ahead = results.relative(goal.arm, label) / results.relative(goal.than, label) - 1
        shares = {str(mark): _spread(ahead[:, mark - 1]) for mark in marks}
        workloads[label] = {"noise": results.data["workloads"][label]["noise"], "after": shares}
    worse = {str(mark): [name for name, each in workloads.items() if _behind(each, str(mark))] for mark in marks}
    medians = [each["after"][str(mark)][0] for each in workloads.values() for mark in marks]
    return {
        "goal": f"{goal.arm}: never worse than {goal.than} with as many trials, beyond the noise of a timing",
        "reached": f"worse on {'/'.join(str(len(names)) for names in worse.values())} of {len(workloads)} workloads at "
        f"{'/'.join(map(str, marks))} trials, at most by {max(-min(medians), 0.0):.1%}",
        "worse": worse,
        "workloads": workloads,
        "met": not any(worse.values()),
    }


def _spread(shares: Floats) -> list[float]:
    return [float(np.median(shares)), float(shares.min()), float(shares.max())]


def _behind(each: Mapping[str, Any], mark: str) -> bool:
    return bool(each["after"][mark][0] < -each["noise"])


def table(judged: Mapping[str, Any]) -> list[str]:
    """How a goal of never being worse was judged, as lines of Markdown."""
    marks = list(judged["worse"])
    lines = [
        "How much faster, in %: median over the seeds (lowest, highest). **Bold**: behind by more than the noise.",
        "",
        f"| workload | noise | {' | '.join(f'after {mark}' for mark in marks)} |",
        "|---" * (len(marks) + 2) + "|",
    ]
    for name, each in judged["workloads"].items():
        cells = []
        for mark in marks:
            median, low, high = (100 * share for share in each["after"][mark])
            text = f"{median:+.1f} ({low:+.1f}, {high:+.1f})"
            cells.append(f"**{text}**" if name in judged["worse"][mark] else text)
        lines.append(f"| {name} | {100 * each['noise']:.1f} | {' | '.join(cells)} |")
    return lines
