"""Which tuner proposes the candidates: by name, and by the settings of the parts that it is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from tuner.cost_model import gbt, tree_gru
from tuner.cost_model.models import ModelSettings, create
from tuner.errors import TunedbError
from tuner.features.representations import representation
from tuner.search.candidates import Candidates, Tuner
from tuner.search.genetic import Genetic
from tuner.search.model_guided import Features, ModelGuided, Plan
from tuner.search.prior import Prior
from tuner.search.simple import Grid, Random
from tuner.search.warm import WarmStarted
from tuner.space import Columns
from tuner.target import Target
from tuner.templates import Template
from tuner.workload import Workload

Correction = Literal["gp", "ridge", "margin", "feature"]

# The tuners that need nothing but candidates; "model" is the other one.
_SIMPLE: dict[str, Callable[[Candidates, np.random.Generator], Tuner]] = {
    "random": Random,
    "genetic": Genetic,
    "grid": lambda candidates, _: Grid(candidates),
}
TUNERS = ("model", *_SIMPLE)
SCORED_BY_NETWORKS = 20_000  # candidates that a network scores as a whole; their trees take some hundred megabytes


@dataclass(frozen=True)
class Settings:
    """Of the tuner "model".

    ``correction`` is what the trials of a session do to a prior. "gp" and "ridge": a regression of the residual, at its
    own turns (tuner.search.warm). "margin" and "feature", as in AutoTVM: the trees of the session start from the prior
    at a weight that falls with the trials, or have it as a feature; there are no other turns.
    """

    plan: Plan = field(default_factory=Plan)
    model: ModelSettings = field(default_factory=ModelSettings)
    correction: Correction = "gp"


def make_tuner(
    name: str,
    template: Template,
    workload: Workload,
    target: Target,
    candidates: Candidates,
    rng: np.random.Generator,
    seed: int,
    prior: Prior | None = None,
    settings: Settings = Settings(),
) -> Tuner:
    """The tuner ``name`` over ``candidates`` of the template's space; only "model" asks ``prior`` and ``settings``.

    Raises TunedbError when the name, the model or its features are unknown, or the model cannot do what is asked.
    """
    if name not in TUNERS:
        raise TunedbError(f"there is no tuner {name!r}: use one of {', '.join(TUNERS)}")
    if name != "model":
        return _SIMPLE[name](candidates, rng)
    described = representation(settings.model.features)

    def features(columns: Columns) -> npt.NDArray[np.float32]:
        return described.of_candidates(template, workload, target, candidates.space, columns)

    if prior is not None and settings.correction in ("margin", "feature"):
        return _based(prior, features, candidates, rng, seed, settings)
    plan = settings.plan
    if isinstance(settings.model.learner, tree_gru.Settings):
        plan = replace(plan, exhaustive=min(plan.exhaustive, SCORED_BY_NETWORKS))
    cold = ModelGuided(candidates, rng, create(settings.model, seed), features, plan)
    if prior is None:
        return cold
    return WarmStarted(candidates, rng, prior, cold, "ridge" if settings.correction == "ridge" else "gp")


def _based(
    prior: Prior, features: Features, candidates: Candidates, rng: np.random.Generator, seed: int, settings: Settings
) -> ModelGuided:
    """The model-guided tuner with a prior inside its model, which therefore leads from the first candidate on."""
    learner = settings.model.learner
    if not isinstance(learner, gbt.Settings):
        raise TunedbError(f"only trees can start from a prior as {settings.correction}: use the correction gp or ridge")
    based = replace(learner, prior="margin" if settings.correction == "margin" else "feature")

    def with_prior(columns: Columns) -> npt.NDArray[np.float32]:
        return np.column_stack([features(columns), prior.scores(columns)[0]]).astype(np.float32)

    model = create(replace(settings.model, learner=based), seed)
    return ModelGuided(candidates, rng, model, with_prior, replace(settings.plan, warmup=0))
