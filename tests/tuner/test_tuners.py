"""A tuner is made of named parts: every model searches, and a prior comes in by any of the corrections."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tuner.cost_model.models import MODELS, ModelSettings, cost_model
from tuner.cost_model.tree_gru import OBJECTIVES
from tuner.errors import TunedbError
from tuner.search.candidates import Candidates, Tuner
from tuner.search.model_guided import Plan
from tuner.space import Columns, Config
from tuner.target import Target
from tuner.templates import template_for
from tuner.tuners import Correction, Settings, make_tuner
from tuner.workload import matmul

WORKLOAD, TARGET = matmul(m=64, k=64, n=64), Target.host(threads=1)
TEMPLATE = template_for(WORKLOAD, TARGET)
SPACE = TEMPLATE.space(WORKLOAD, TARGET)


def speed(columns: Columns) -> npt.NDArray[np.float64]:
    n, m = columns["tile_n"].astype(float), columns["tile_m"].astype(float)
    return np.asarray(100 / (1 + 5 * (n + m) / (n * m) + 0.1 / columns["unroll_k"]))


class Told:
    """A prior that knows the truth, or the opposite."""

    trust = 1.0

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def scores(self, columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        scores = self.weight * np.log(speed(columns))
        return scores, np.arange(len(scores))

    def examples(self) -> Sequence[Config]:
        return ()


def made(settings: Settings, prior: Told | None = None, name: str = "model") -> Tuner:
    candidates = Candidates(SPACE, lambda columns: TEMPLATE.illegal(WORKLOAD, TARGET, columns))
    return make_tuner(name, TEMPLATE, WORKLOAD, TARGET, candidates, np.random.default_rng(0), 0, prior, settings)


def search(tuner: Tuner, count: int, fail: bool = False) -> list[float]:
    found = []
    for _ in range(count):
        (index,) = tuner.propose(1)
        found.append(float(speed(SPACE.columns(np.array([index])))[0]))
        tuner.observe([index], [0.0 if fail else found[-1]])
    return found


QUICK = [name for name in MODELS if name.startswith("gbt")]


@pytest.mark.parametrize("name", QUICK)
def test_every_model_of_trees_searches_better_than_chance(name: str) -> None:
    found = search(made(Settings(model=cost_model(name))), 48)
    chance = search(made(Settings(), name="random"), 48)
    assert np.median(found[24:]) > 1.2 * np.median(chance)


@pytest.mark.parametrize("features", ["knob", "context", "relation", "invariant"])
def test_a_model_may_see_any_representation(features: str) -> None:
    plan = Plan(exhaustive=0)  # annealing, which asks about few candidates
    assert max(search(made(Settings(plan, cost_model("gbt-rank", features))), 24)) > 20


@pytest.mark.parametrize("correction", ["gp", "ridge", "margin", "feature"])
def test_a_true_prior_leads_from_the_first_candidate_on(correction: Correction) -> None:
    everything = Candidates(SPACE, lambda columns: TEMPLATE.illegal(WORKLOAD, TARGET, columns)).listed
    assert everything is not None
    best = speed(SPACE.columns(everything)).max()
    found = search(made(Settings(Plan(epsilon=0.0), correction=correction), Told()), 10)
    assert found[0] == pytest.approx(best)


@pytest.mark.parametrize("correction", ["gp", "ridge", "margin", "feature"])
def test_a_prior_that_lies_is_overruled(correction: Correction) -> None:
    found = search(made(Settings(correction=correction), Told(-1.0)), 64)
    assert max(found) > 2 * found[0]


@pytest.mark.parametrize("correction", ["gp", "margin"])
def test_a_search_with_a_prior_goes_on_when_everything_fails(correction: Correction) -> None:
    tuner = made(Settings(correction=correction), Told())
    assert len(search(tuner, 20, fail=True)) == 20


def test_what_does_not_fit_together_is_said_in_one_line() -> None:
    network = cost_model("tree-gru-rank")
    with pytest.raises(TunedbError, match="only trees can start from a prior as margin"):
        made(Settings(model=network, correction="margin"), Told())
    with pytest.raises(TunedbError, match="no cost model 'gbt': use one of gbt-regression, gbt-rank"):
        cost_model("gbt")
    with pytest.raises(TunedbError, match="no features 'x'"):
        made(Settings(model=cost_model("gbt-rank", "x")))
    with pytest.raises(TunedbError, match="acquisition ei needs the objective regression"):
        replace(cost_model("gbt-rank"), acquisition="ei")
    assert ModelSettings() == cost_model("gbt-rank")
    assert {f"tree-gru-{objective}" for objective in OBJECTIVES} < set(MODELS)
