"""The cost models of a search, by name: what experiments compare."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tuner.cost_model import gbt, tree_gru
from tuner.cost_model.acquisition import Acquisition
from tuner.cost_model.cost_model import CostModel
from tuner.cost_model.ensemble import Ensemble
from tuner.cost_model.objectives import OBJECTIVES
from tuner.errors import TunedbError

MEMBERS = 5  # of an ensemble, as in the paper


@dataclass(frozen=True)
class ModelSettings:
    """A learner, what it sees of a candidate, and what makes a candidate worth measuring.

    With ``acquisition`` "ei" or "ucb" the learner has to predict a value and not just an order: its objective is the
    regression. Raises TunedbError otherwise.
    """

    learner: gbt.Settings | tree_gru.Settings = field(default_factory=gbt.Settings)
    features: str = "template"  # tuner.features.representations
    members: int = 1  # models on bootstrap samples; a single model learns from all trials
    acquisition: Acquisition = "mean"

    def __post_init__(self) -> None:
        if self.acquisition != "mean" and self.learner.objective != "regression":
            raise TunedbError(f"acquisition {self.acquisition} needs the objective regression: an order has no scale")


def create(settings: ModelSettings, seed: int) -> CostModel:
    """The untrained model. Raises TunedbError when it is a neural one and PyTorch is missing."""
    if settings.members == 1 and settings.acquisition == "mean":
        return _single(settings, seed)
    members = [_single(settings, seed * settings.members + number) for number in range(settings.members)]
    return Ensemble(members, settings.acquisition, seed)


def _single(settings: ModelSettings, seed: int) -> CostModel:
    if isinstance(settings.learner, gbt.Settings):
        return gbt.GradientBoostedTrees(settings.learner, seed)
    return tree_gru.TreeGRU(settings.learner, seed)


_TREES = {objective: gbt.Settings(objective) for objective in OBJECTIVES}
_UNSURE = ModelSettings(_TREES["regression"], members=MEMBERS)

MODELS: Mapping[str, ModelSettings] = {
    **{f"gbt-{objective}": ModelSettings(learner) for objective, learner in _TREES.items()},
    **{f"gbt-{kind}": replace(_UNSURE, acquisition=kind) for kind in ("mean", "ei", "ucb")},
    **{
        f"{name}-{objective}": ModelSettings(tree_gru.Settings(objective, slots=slots), features)
        for name, slots, features in (("tree-gru", 0, "tree"), ("context-gru", tree_gru.SLOTS, "context-tree"))
        for objective in tree_gru.OBJECTIVES
    },
}
"""Single trees by objective; ensembles that learn by regression, by acquisition; neural ones by objective."""


def cost_model(name: str, features: str | None = None) -> ModelSettings:
    """The settings of that name, with other ``features`` if told so. Raises TunedbError when there are none."""
    if name not in MODELS:
        raise TunedbError(f"there is no cost model {name!r}: use one of {', '.join(MODELS)}")
    return MODELS[name] if features is None else replace(MODELS[name], features=features)
