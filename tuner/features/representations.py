"""The representations of a candidate that cost models learn from, by name.

Each gives features of candidates (columns of a space) and of trials (stored schedules), so that one model can be
trained on the latter and asked about the former. What is invariant and what is not is in docs/features.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tuner.errors import ScheduleError, TunedbError
from tuner.features import invariant
from tuner.features.context import context_features
from tuner.features.knob import knob_features
from tuner.features.relation import curve_features, relation_features
from tuner.features.sketches import OfNest, Places, Rows, assembled, concatenated, distinct_features
from tuner.features.stored import Example, stored_features
from tuner.features.tree import context_tree_features, tree_features
from tuner.space import Columns, Space
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.trial import Trial
from tuner.workload import Workload


class Representation(Protocol):
    """``version`` names the meaning of the numbers: a stored model is used with its own version only."""

    @property
    def version(self) -> str: ...

    def of_candidates(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> Rows:
        """The features of N legal configurations, (N, ...)."""

    def distinct(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> tuple[Iterable[Rows], Places]:
        """The same, each of M kinds of configurations once, in blocks, and of which kind each one is, (N,)."""

    def of_trials(self, trials: Sequence[Example]) -> Rows:
        """The features of N trials of one workload and target, (N, ...); NaN for those that have none."""


@dataclass(frozen=True)
class FromNest:
    """Features of the lowered loop nest. Other structures have other lengths: the shorter ones end with zeros."""

    version: str
    of_nest: OfNest

    def of_candidates(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> Rows:
        blocks, places = self.distinct(template, workload, target, space, columns)
        return concatenated(list(blocks))[places]

    def distinct(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> tuple[Iterable[Rows], Places]:
        return distinct_features(template, workload, target, space, columns, self.of_nest)

    def of_trials(self, trials: Sequence[Example]) -> Rows:
        return stored_features(trials, self.of_nest)


@dataclass(frozen=True)
class FromKnobs:
    """Features of the values of a template's knobs."""

    version: str
    of_knobs: Callable[[Template, Workload, Target, Columns], Rows]

    def of_candidates(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> Rows:
        return self.of_knobs(template, workload, target, columns)

    def distinct(
        self, template: Template, workload: Workload, target: Target, space: Space, columns: Columns
    ) -> tuple[Iterable[Rows], Places]:
        """Every configuration is of its own kind."""
        rows = self.of_knobs(template, workload, target, columns)
        return [rows], np.arange(len(rows))

    def of_trials(self, trials: Sequence[Example]) -> Rows:
        """Trials of another template than the workload's own, or of values that it does not have, have none."""
        workload, target = trials[0].workload, trials[0].target
        template = template_for(workload, target)
        space = template.space(workload, target)
        rows: list[int] = []
        indices: list[int] = []
        for row, trial in enumerate(trials):
            try:
                if isinstance(trial, Trial) and trial.template == template.key:
                    indices.append(space.index(trial.config))
                    rows.append(row)
            except ScheduleError:
                continue
        if not rows:
            return assembled(len(trials), ())
        features = self.of_knobs(template, workload, target, space.columns(np.array(indices)))
        return assembled(len(trials), [(np.array(rows), features)])


REPRESENTATIONS: Mapping[str, Representation] = {
    "knob": FromKnobs("knob/1", lambda template, workload, target, columns: knob_features(columns)),
    "template": FromKnobs(
        "template/1", lambda template, workload, target, columns: template.features(workload, target, columns)
    ),
    "context": FromNest("context/1", lambda nest, *_: context_features(nest)),
    "relation": FromNest("relation/1", lambda nest, *_: relation_features(nest)),
    "curve": FromNest("curve/1", lambda nest, *_: curve_features(nest)),
    "invariant": FromNest(invariant.VERSION, invariant.invariant_features),
    "tree": FromNest("tree/1", lambda nest, *_: tree_features(nest)),
    "context-tree": FromNest("context-tree/1", lambda nest, *_: context_tree_features(nest)),
}


def representation(name: str) -> Representation:
    """Raises TunedbError when there is none of that name."""
    if name not in REPRESENTATIONS:
        raise TunedbError(f"there are no features {name!r}: use one of {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]
