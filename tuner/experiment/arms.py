"""The arms of an experiment: ways to search, by name, each with options that a file can set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.util import find_spec
from math import inf
from typing import Any, Generic, TypeVar, get_args

import numpy as np

from tuner.cost_model import tree_gru
from tuner.cost_model.global_model import Settings as Training
from tuner.cost_model.models import cost_model, create
from tuner.cost_model.objectives import Objective
from tuner.errors import TunedbError
from tuner.experiment.baselines import Copies, nearest_copies
from tuner.experiment.pool import Pool
from tuner.experiment.sources import Learned, Lesson, Lookup, features_of, learned_prior
from tuner.features.representations import representation
from tuner.search.candidates import Tuner
from tuner.search.genetic import Genetic
from tuner.search.model_guided import ModelGuided, Plan
from tuner.search.prior import Prior
from tuner.search.simple import Random
from tuner.transfer import Seen, prior_from
from tuner.tuners import Correction, make_tuner
from tuner.tuners import Settings as Tuning


class ArmError(TunedbError):
    """An arm that an experiment's file describes wrongly, or that cannot run here."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What one run has: the pool to search, the pools of other workloads to learn from, and its seed."""

    pool: Pool
    sources: tuple[Pool, ...]
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 0])


@dataclass(frozen=True)
class NoOptions:
    """For a way to search that has nothing to set."""

    def check(self) -> None:
        """Raises TunedbError for a name that there is not, or a number that makes no sense."""


@dataclass(frozen=True)
class ModelOptions:
    """How a search is guided by a model; the defaults are those of ``tunedb tune --cold``."""

    model: str = "gbt-rank"  # tuner.cost_model.models
    features: str = ""  # tuner.features.representations; "" for those that go with the model
    warmup: int = Plan.warmup
    batch: int = Plan.batch
    epsilon: float = Plan.epsilon
    ratio: float = Plan.ratio
    alpha: float = Plan.alpha or 0.0

    @property
    def plan(self) -> Plan:
        return Plan(warmup=self.warmup, batch=self.batch, epsilon=self.epsilon, ratio=self.ratio, alpha=self.alpha)

    def check(self) -> None:
        cost_model(self.model, self.features or None)
        if self.features:
            representation(self.features)
        _within("warmup", self.warmup, 0, inf)
        _within("batch", self.batch, 1, inf)
        _within("epsilon", self.epsilon, 0, 1)
        _within("ratio", self.ratio, 1, _LARGEST)
        _within("alpha", self.alpha, 0, _LARGEST)


@dataclass(frozen=True)
class WarmOptions:
    """What the trials of the session do to what is known from elsewhere (tuner.tuners)."""

    correction: str = Tuning.correction

    def check(self) -> None:
        _one_of("correction", self.correction, get_args(Correction))


@dataclass(frozen=True)
class TransferOptions:
    """How a model of other workloads is made; ``rows`` of each of them, 0 for most of what there is."""

    objective: str = Training.objective
    features: str = "invariant"
    rows: int = 0
    correction: str = Tuning.correction

    @property
    def lesson(self) -> Lesson:
        return Lesson(self.features, self.objective, self.rows)  # type: ignore[arg-type]

    def check(self) -> None:
        representation(self.features)
        _within("rows", self.rows, 0, inf)
        _one_of("objective", self.objective, get_args(Objective))
        _one_of("correction", self.correction, get_args(Correction))


_LARGEST = 1e6  # of a weight: beyond it nothing else counts anyway


def _within(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ArmError(
            f"{option} is {value}: it has to be " + (f"{low:g} or more" if high == inf else f"{low:g} to {high:g}")
        )


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ArmError(f"{option} cannot be {value!r}: use one of {', '.join(known)}")


Options = TypeVar("Options")


@dataclass(frozen=True)
class Way(Generic[Options]):
    """A way to search. ``lesson``: what it learns from the sources; ``sourced``: whether there have to be some."""

    build: Callable[[Setup, Options, Learned | None], Tuner]
    options: type[Options]
    sourced: bool = False
    lesson: Callable[[Options], Lesson] | None = None


@dataclass(frozen=True)
class Arm:
    """One curve of a figure.

    ``stretch``: candidates that it measures for each trial that is counted: 2 for the "x2" variants of the paper.
    """

    name: str
    way: Way[Any]
    options: Any
    stretch: int = 1

    @property
    def lesson(self) -> Lesson | None:
        """What it learns from other workloads before it begins."""
        return self.way.lesson(self.options) if self.way.lesson else None


def missing(each: Arm) -> str | None:
    """What has to be installed for an arm; None when nothing is missing."""
    neural = isinstance(each.options, ModelOptions) and isinstance(
        cost_model(each.options.model).learner, tree_gru.Settings
    )
    return "PyTorch (pip install 'tunedb[torch]')" if neural and find_spec("torch") is None else None


def arm(name: str, way: str, options: Mapping[str, Any], stretch: int = 1) -> Arm:
    """The arm that a file describes. Raises ArmError for what it gets wrong."""
    if way not in WAYS:
        raise ArmError(f"arm {name!r}: there is no tuner {way!r}: use one of {', '.join(WAYS)}")
    chosen = WAYS[way]
    known = {field.name: type(field.default) for field in fields(chosen.options)}
    for option, value in options.items():
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ArmError(f"arm {name!r}: tuner {way} has no option {option!r}; {has}")
        wanted = known[option]
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ArmError(
                f"arm {name!r}: {option} is {value!r}: it has to be of type {getattr(wanted, '__name__', '')}"
            )
    made = Arm(name, chosen, chosen.options(**options), stretch)
    try:
        _within("stretch", made.stretch, 1, inf)
        made.options.check()
    except TunedbError as error:
        raise ArmError(f"arm {name!r}: {error}") from error
    return made


def _random(setup: Setup, options: NoOptions, learned: Learned | None) -> Tuner:
    return Random(setup.pool.candidates(), setup.rng)


def _genetic(setup: Setup, options: NoOptions, learned: Learned | None) -> Tuner:
    return Genetic(setup.pool.candidates(), setup.rng)


def _copy(setup: Setup, options: NoOptions, learned: Learned | None) -> Tuner:
    return Copies(setup.pool.candidates(), setup.rng, nearest_copies(setup.pool, setup.sources))


def _model(setup: Setup, options: ModelOptions, learned: Learned | None) -> Tuner:
    settings = cost_model(options.model, options.features or None)
    seen = _seen(setup.pool, settings.features)
    return ModelGuided(setup.pool.candidates(), setup.rng, create(settings, setup.seed), seen, options.plan)


def _warm(setup: Setup, options: WarmOptions, learned: Learned | None) -> Tuner:
    """What ``tunedb tune`` does with these sources in its database."""
    assert learned is not None
    pool = setup.pool
    prior, _ = prior_from(
        learned.model, Seen.of(learned.data), learned.trials, {}, pool.template, pool.workload, pool.target, pool.space
    )
    return _with_prior(setup, prior, options.correction)


def _transfer(setup: Setup, options: TransferOptions, learned: Learned | None) -> Tuner:
    """A warm start by the model alone: no copies, no verdict, any representation."""
    assert learned is not None
    return _with_prior(setup, learned_prior(setup.pool, learned), options.correction)


def _with_prior(setup: Setup, prior: Prior | None, correction: str) -> Tuner:
    pool, settings = setup.pool, Tuning(correction=correction)  # type: ignore[arg-type]
    return make_tuner(
        "model",
        pool.template,
        pool.workload,
        pool.target,
        pool.candidates(),
        setup.rng,
        setup.seed,
        prior,
        settings,
    )


@lru_cache(64)
def _seen(pool: Pool, features: str) -> Lookup:
    """All configurations of a pool as a representation sees them."""
    return Lookup.of(pool, features_of(pool, features))


WAYS: Mapping[str, Way[Any]] = {
    "model": Way(_model, ModelOptions),
    "random": Way(_random, NoOptions),
    "genetic": Way(_genetic, NoOptions),
    "copy": Way(_copy, NoOptions, sourced=True),
    "warm": Way(_warm, WarmOptions, sourced=True, lesson=lambda options: Lesson()),
    "transfer": Way(_transfer, TransferOptions, sourced=True, lesson=lambda options: options.lesson),
}
"""The ways to search by name; docs/experiments.md describes them."""
