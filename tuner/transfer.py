"""From trials of other workloads to a prior for this one, and a report that says what the prior is worth.

The engine gets trials; where they were kept is not its business.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tuner.cost_model.global_model import GlobalModel
from tuner.cost_model.held_out import HeldOut
from tuner.cost_model.training import TrainingSet
from tuner.features.representations import representation
from tuner.features.sketches import padded, structures_of
from tuner.neighbours import nearest_best
from tuner.space import Columns, Config, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.trial import Trial
from tuner.workload import Workload

NEAREST = 8  # workloads whose best schedules are examples
SAMPLE = 4096  # configurations of a new workload, of whose legal ones its coverage is judged by
KINDS = 8  # loop structures: describing costs by the structure, and the coverage of all is within 0.03 of theirs
PREDICTING = 2  # threads that predict blocks of candidates while the next ones are described
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
    best_elsewhere: tuple[Config, ...] = ()

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Predicted log speed of N legal configurations, of which only differences mean something; their schedules."""
        return scores(self.model, self.template, self.workload, self.target, self.space, columns)

    def examples(self) -> Sequence[Config]:
        return self.best_elsewhere


@dataclass(frozen=True)
class Seen:
    """What has to be known of a training, once the model is trained: how much it was, and the (F,) features' range."""

    trials: int
    workloads: int
    machines: Mapping[str, int]  # trials by the name of their target
    low: tuple[float, ...]
    high: tuple[float, ...]
    representation: str

    @classmethod
    def of(cls, data: TrainingSet) -> "Seen":
        """Of trees no range is kept: a space's coverage is judged by flat features."""
        flat = data.features.ndim == 2
        low, high = (tuple(f(data.features, axis=0).tolist()) if flat else () for f in (np.min, np.max))
        return cls(len(data.seconds), len(set(data.workloads)), machines(data), low, high, data.representation)


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
    machines: Mapping[str, int]  # trials by the name of their target, imported ones among them

    @property
    def rank_correlation(self) -> float | None:
        """Median over the held-out workloads; None when none could be held out."""
        return median(one.rank_correlation for one in self.held_out) if self.held_out else None

    def to_json(self) -> dict[str, Any]:
        named = {"left_out": dict(self.left_out), "machines": dict(self.machines)}
        return {**asdict(self), **named, "rank_correlation": self.rank_correlation}


def nothing(why: str, left_out: Mapping[str, int]) -> Report:
    """The report of a start without a prior."""
    return Report("off", why, 0, 0, left_out, 0, (), None, (), {})


def prior_from(
    model: GlobalModel,
    seen: Seen,
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
    coverage = _coverage(seen, template, workload, target, space)
    here = [one for one in model.held_out if one.target == target.name]
    same = [one for one in here if one.workload.startswith(f"{workload.operator}(")]
    verdict, why = judge(same, here, coverage)
    nearest = nearest_best(trials, template.key, workload, target, NEAREST)
    report = Report(
        verdict,
        why,
        seen.trials,
        seen.workloads,
        left_out,
        model.rounds,
        model.held_out,
        coverage,
        tuple(trial.workload.key for trial in nearest),
        seen.machines,
    )
    if verdict == "off":
        return None, report
    trust = 1.0 if verdict == "use" else 0.0
    best = tuple(trial.config for trial in nearest)
    return GlobalPrior(model, template, workload, target, space, trust, best), report


def correlation(held_out: Sequence[HeldOut], target: Target) -> float:
    """Mean rank correlation on the held-out workloads of ``target``; -1 when there are none."""
    here = [one.rank_correlation for one in held_out if one.target == target.name]
    return mean(here) if here else -1.0


def machines(data: TrainingSet) -> dict[str, int]:
    """How many of the trials were measured on which target."""
    counts = np.bincount(data.groups, minlength=len(data.targets)).tolist()
    found: Counter[str] = Counter()
    for name, count in zip(data.targets, counts, strict=True):
        found[name] += count
    return dict(found.most_common())


def judge(same: Sequence[HeldOut], everything: Sequence[HeldOut], coverage: float) -> tuple[Verdict, str]:
    """The verdict on a model, and why, by the held-out workloads of this target; ``same`` have the same operator."""
    if not everything:
        return "weak", "too few workloads were tuned on this target to hold one out"
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


def scores(
    model: GlobalModel, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Predicted log speed of N legal configurations, (N,), and which of their distinct schedules each one makes."""
    described = representation(model.representation)
    blocks, places = described.distinct(template, workload, target, space, columns)
    found, coming = [np.empty(0)], deque[Future[npt.NDArray[np.float64]]]()
    with ThreadPoolExecutor(PREDICTING) as pool:
        for block in blocks:
            if len(coming) == PREDICTING:
                found.append(coming.popleft().result())
            coming.append(pool.submit(model.predict, block))
    found += [each.result() for each in coming]
    return np.concatenate(found)[places], places


def legal_sample(
    template: Template, workload: Workload, target: Target, space: Space, count: int, threads: int = 1
) -> npt.NDArray[np.int64]:
    """Up to ``count`` random configurations of a space, less the illegal ones; always the same."""
    drawn = np.arange(space.size) if count >= space.size else space.sample(np.random.default_rng(0), count)

    def legal(part: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.asarray(part[~template.illegal(workload, target, space.columns(part))])

    # In parts, whose columns stay in a cache: that is three times as fast. NumPy lets other threads run meanwhile.
    parts = np.array_split(drawn, -(-len(drawn) // 2**16))
    if threads == 1 or len(parts) == 1:
        return np.concatenate([legal(part) for part in parts])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(legal, parts)))


def _coverage(seen: Seen, template: Template, workload: Workload, target: Target, space: Space) -> float:
    indices = legal_sample(template, workload, target, space, SAMPLE)
    if not len(indices):
        return 0.0
    structures = structures_of(space, space.columns(indices))
    indices = indices[np.isin(structures, list(dict.fromkeys(structures.tolist()))[:KINDS])]
    described = representation(seen.representation)
    features = described.of_candidates(template, workload, target, space, space.columns(indices))
    features = padded(features, (len(seen.low),))
    low, high = np.asarray(seen.low, dtype=np.float32), np.asarray(seen.high, dtype=np.float32)
    return float(((features >= low) & (features <= high)).mean())
