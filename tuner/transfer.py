"""From trials of other workloads to a prior for this one, and a report that says what the prior is worth.

The engine gets trials; where they were kept is not its business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log2
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel, HeldOut
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import sketch_features
from tuner.search.candidates import LISTABLE
from tuner.space import Columns, Config, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.trial import Trial
from tuner.workload import Workload

NEAREST = 8  # workloads whose best schedules are examples
SAMPLE = 4096  # candidates by which the coverage of a new workload is judged
GOOD = 0.5  # rank correlation on held-out workloads from which a prior is used in full
POOR = 0.2  # and below which it is not used at all
COVERED = 0.8  # share of the new workload's features that the training has seen, for full use

Verdict = Literal["use", "weak", "off"]


@dataclass(frozen=True)
class GlobalPrior:
    """A prior (tuner.search.prior): what a global model says, and the best schedules of similar workloads."""

    model: GlobalModel
    template: Template
    workload: Workload
    target: Target
    space: Space
    trust: float
    best_elsewhere: tuple[Config, ...]

    def scores(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Predicted log(best/time) of N legal configurations, (N,)."""
        return self.model.predict(sketch_features(self.template, self.workload, self.target, self.space, columns))

    def examples(self) -> Sequence[Config]:
        return self.best_elsewhere


@dataclass(frozen=True)
class Report:
    """What a warm start is based on. ``coverage``: share of the new space's features inside the training's range."""

    verdict: Verdict
    why: str
    used: int  # trials
    workloads: int  # that they are of
    left_out: Mapping[str, int]  # trials by reason
    rounds: int
    held_out: tuple[HeldOut, ...]
    coverage: float | None
    nearest: tuple[str, ...]  # keys of the workloads whose best schedules are tried first

    @property
    def rank_correlation(self) -> float | None:
        """Median over the held-out workloads; None when none could be held out."""
        return median(one.rank_correlation for one in self.held_out) if self.held_out else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "left_out": dict(self.left_out), "rank_correlation": self.rank_correlation}


def nothing(why: str, left_out: Mapping[str, int]) -> Report:
    """The report of a start without a prior."""
    return Report("off", why, 0, 0, left_out, 0, (), None, ())


def prior_from(
    model: GlobalModel,
    data: TrainingSet,
    trials: Sequence[Trial],
    left_out: Mapping[str, int],
    template: Template,
    workload: Workload,
    target: Target,
    space: Space,
) -> tuple[GlobalPrior | None, Report]:
    """The prior of ``workload`` on ``target`` from a model, what it was trained on, and the trials that made it.

    ``space`` is the template's, or the part of it that is searched. None when the verdict is off.
    """
    coverage = _coverage(data, template, workload, target, space)
    same = [one for one in model.held_out if one.workload.startswith(f"{workload.operator}(")]
    verdict, why = judge(same, model.held_out, coverage)
    nearest = nearest_best(trials, template, workload, target)
    report = Report(
        verdict,
        why,
        len(data.seconds),
        len(set(data.workloads)),
        left_out,
        model.rounds,
        model.held_out,
        coverage,
        tuple(trial.workload.key for trial in nearest),
    )
    if verdict == "off":
        return None, report
    trust = 1.0 if verdict == "use" else 0.0
    return GlobalPrior(model, template, workload, target, space, trust, tuple(t.config for t in nearest)), report


def judge(same: Sequence[HeldOut], everything: Sequence[HeldOut], coverage: float) -> tuple[Verdict, str]:
    """The verdict on a model, and why; ``same`` are the held-out workloads that have the operator of the new one."""
    if not everything:
        return "weak", "too few workloads to hold one out"
    correlation = median(one.rank_correlation for one in (same or everything))
    if correlation < POOR:
        return "off", f"held-out workloads are ranked hardly better than by chance ({correlation:.2f})"
    if not same:
        return "weak", "no workload of this operator has been tuned"
    if correlation < GOOD:
        return "weak", f"held-out workloads are ranked poorly ({correlation:.2f})"
    if coverage < COVERED:
        return "weak", f"the training covers {coverage:.0%} of what this workload's schedules are like"
    return "use", f"held-out workloads of this operator are ranked well ({correlation:.2f})"


def legal_sample(
    template: Template, workload: Workload, target: Target, space: Space, count: int
) -> npt.NDArray[np.int64]:
    """Up to ``count`` random configurations of a space, less the illegal ones; always the same."""
    rng = np.random.default_rng(0)
    if space.size <= LISTABLE:
        drawn = rng.permutation(space.size)[:count] if count < space.size else np.arange(space.size)
    else:
        drawn = space.sample(rng, count)
    return np.asarray(drawn[~template.illegal(workload, target, space.columns(drawn))], dtype=np.int64)


def _coverage(data: TrainingSet, template: Template, workload: Workload, target: Target, space: Space) -> float:
    indices = legal_sample(template, workload, target, space, 16 * SAMPLE)[:SAMPLE]
    if not len(indices):
        return 0.0
    features = sketch_features(template, workload, target, space, space.columns(indices))
    low, high = data.features.min(axis=0), data.features.max(axis=0)
    return float(((features >= low) & (features <= high)).mean())


def nearest_best(trials: Sequence[Trial], template: Template, workload: Workload, target: Target) -> tuple[Trial, ...]:
    """The fastest trial of each of the workloads most like this one that the same template tuned, the nearest first."""
    best: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if trial.template == template.key and trial.workload.operator == workload.operator and trial.seconds:
            group = (trial.workload.problem.fingerprint, trial.target.fingerprint)
            if group not in best or trial.seconds < (best[group].seconds or 0.0):
                best[group] = trial
    ranked = sorted(
        best.values(),
        key=lambda trial: (distance(trial.workload, workload), trial.target != target, trial.workload.key),
    )
    return tuple(ranked[:NEAREST])


def distance(first: Workload, second: Workload) -> float:
    """How unlike two workloads of one operator are: octaves between their sizes, and one for each different word."""
    return sum(apart(a, second[name]) for name, a in first.arguments)


def apart(first: Any, second: Any) -> float:
    """How unlike two values are: octaves between sizes, one for different words; of tuples the mean."""
    if isinstance(first, tuple) and isinstance(second, tuple):
        return sum(map(apart, first, second)) / max(len(first), 1)
    if isinstance(first, int) and isinstance(second, int):
        return abs(log2((1 + first) / (1 + second)))
    return float(first != second)
