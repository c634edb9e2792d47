"""Every tuner proposes legal candidates, each once; the model-guided one finds better ones sooner."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tuner.cost_model.gbt import GradientBoostedTrees, Settings
from tuner.features.knob import knob_features
from tuner.search.annealing import Annealing, Heap
from tuner.search.candidates import LISTABLE, Candidates, Tuner
from tuner.search.diversity import pick
from tuner.search.genetic import POPULATION, Genetic
from tuner.search.model_guided import ModelGuided, Plan
from tuner.search.simple import Grid, Random
from tuner.space import Choice, Columns, Flag, Indices, Space

SIZES = (6, 7, 12, 4, 5, 6)
SMALL = Space([Choice("a", (1, 2, 4)), Choice("b", (1, 2, 3, 4, 5)), Flag("c")])
LARGE = Space([*(Choice(f"k{i}", tuple(2**j for j in range(size))) for i, size in enumerate(SIZES)), Flag("flag")])
HUGE = Space([Choice(f"k{i}", tuple(range(1, 41))) for i in range(7)])


def too_big(columns: Columns) -> npt.NDArray[np.bool_]:
    """A register file of a kind: the first two knobs must not both be large."""
    first, second = list(columns.values())[:2]
    return first * second > 64


def never(columns: Columns) -> npt.NDArray[np.bool_]:
    return np.zeros(len(next(iter(columns.values()))), dtype=np.bool_)


def throughput(space: Space, indices: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float64]:
    """A landscape with one hill, knobs that interact, and a little roughness; the top is near one."""
    rng = np.random.default_rng(seed)
    digits = space.digits(indices) / np.maximum(space.radices - 1, 1)
    hill = rng.uniform(0, 1, digits.shape[1])
    away = digits - hill
    mixed = away @ rng.normal(0, 0.5, (digits.shape[1], digits.shape[1]))
    rough = np.sin(1e4 * digits.sum(axis=1) + digits @ np.arange(digits.shape[1]))
    return np.asarray(np.exp(-2 * np.abs(away).sum(axis=1) - np.abs(mixed).sum(axis=1)) * (1 + 0.02 * rough))


def model_guided(candidates: Candidates, rng: np.random.Generator, **plan: int) -> ModelGuided:
    model = GradientBoostedTrees(Settings(rounds=30))
    return ModelGuided(candidates, rng, model, knob_features, Plan(**plan))  # type: ignore[arg-type]


TUNERS: dict[str, Callable[[Candidates, np.random.Generator], Tuner]] = {
    "random": Random,
    "grid": lambda candidates, _: Grid(candidates),
    "genetic": Genetic,
    "model": model_guided,
    "annealed": lambda candidates, rng: model_guided(candidates, rng, exhaustive=0),
}
all_tuners = pytest.mark.parametrize("make", TUNERS.values(), ids=TUNERS)


def search(make: Callable[[Candidates, np.random.Generator], Tuner], space: Space, trials: int, seed: int) -> list[int]:
    tuner = make(Candidates(space, too_big), np.random.default_rng(seed))
    proposed: list[int] = []
    while len(proposed) < trials:
        batch = tuner.propose(min(5, trials - len(proposed)))
        if not batch:
            break
        tuner.observe(batch, throughput(space, batch).tolist())
        proposed += batch
    return proposed


@all_tuners
def test_only_legal_candidates_are_proposed_and_each_only_once(make: Callable[..., Tuner]) -> None:
    proposed = search(make, LARGE, 130, seed=1)
    assert len(proposed) == len(set(proposed)) == 130
    assert not too_big(LARGE.columns(proposed)).any()


@all_tuners
def test_a_small_space_is_used_up_completely(make: Callable[..., Tuner]) -> None:
    legal = np.flatnonzero(~too_big(SMALL.columns(np.arange(SMALL.size))))
    assert sorted(search(make, SMALL, 1000, seed=1)) == legal.tolist()


@all_tuners
def test_a_space_too_large_to_list_can_be_searched(make: Callable[..., Tuner]) -> None:
    assert HUGE.size > LISTABLE
    proposed = search(make, HUGE, 30, seed=0)
    assert len(set(proposed)) == 30
    assert not too_big(HUGE.columns(proposed)).any()


@all_tuners
def test_a_search_repeats_under_its_seed(make: Callable[..., Tuner]) -> None:
    assert search(make, LARGE, 120, seed=5) == search(make, LARGE, 120, seed=5)


@all_tuners
def test_what_was_observed_is_not_proposed(make: Callable[..., Tuner]) -> None:
    tuner = make(Candidates(SMALL, never), np.random.default_rng(0))
    known = list(range(0, SMALL.size, 2))
    tuner.observe(known, throughput(SMALL, known).tolist())
    assert sorted(tuner.propose(1000)) == list(range(1, SMALL.size, 2))


@all_tuners
def test_a_search_goes_on_when_everything_fails(make: Callable[..., Tuner]) -> None:
    tuner = make(Candidates(LARGE, too_big), np.random.default_rng(0))
    for _ in range(12):
        batch = tuner.propose(10)
        assert len(batch) == 10
        tuner.observe(batch, [0.0] * 10)


@all_tuners
def test_a_space_without_legal_candidates_gives_none(make: Callable[..., Tuner]) -> None:
    assert make(Candidates(SMALL, lambda columns: ~never(columns)), np.random.default_rng(0)).propose(3) == []


def test_the_grid_goes_through_the_numbers_in_order() -> None:
    grid = Grid(Candidates(SMALL, lambda columns: columns["a"] == 2))
    assert grid.propose(3) + grid.propose(4) == [0, 1, 2, 3, 4, 5, 6]
    assert grid.propose(5) == [7, 8, 9, 20, 21]


def test_a_space_can_be_sampled_without_being_listed() -> None:
    candidates = Candidates(LARGE, too_big)
    first = candidates.take(candidates.sampled(np.random.default_rng(0), 300))
    second = candidates.sampled(np.random.default_rng(0), 300).tolist()
    assert "listed" not in vars(candidates)
    assert len({*first, *second}) == 600
    assert not too_big(LARGE.columns(np.array([*first, *second]))).any()


@pytest.mark.parametrize("objective", ["rank", "regression"])
def test_the_model_guided_tuner_beats_random_and_genetic_search(objective: str) -> None:
    def best(make: Callable[..., Tuner], seed: int) -> float:
        tuner = make(Candidates(LARGE, too_big), np.random.default_rng(seed))
        top = 0.0
        for _ in range(12):
            batch = tuner.propose(8)
            scores = throughput(LARGE, batch, seed)
            tuner.observe(batch, scores.tolist())
            top = max(top, float(scores.max()))
        return top

    def guided(candidates: Candidates, rng: np.random.Generator) -> ModelGuided:
        return ModelGuided(candidates, rng, GradientBoostedTrees(Settings(objective)), knob_features)  # type: ignore[arg-type]

    seeds = range(5)
    model = np.array([best(guided, seed) for seed in seeds])
    for other in (Random, Genetic):
        gain = np.log(model / np.array([best(other, seed) for seed in seeds]))
        assert gain.mean() > np.log(1.3)
        assert (gain > 0).sum() >= 4


def test_the_genetic_tuner_improves_from_generation_to_generation() -> None:
    tuner = Genetic(Candidates(LARGE, too_big), np.random.default_rng(0))
    means = []
    for _ in range(5):
        generation = tuner.propose(POPULATION)
        scores = throughput(LARGE, generation)
        tuner.observe(generation, scores.tolist())
        means.append(scores.mean())
    assert means[-1] > 2 * means[0]


def test_annealing_finds_what_scoring_everything_finds() -> None:
    candidates = Candidates(LARGE, too_big)
    everything = candidates.listed
    assert everything is not None
    scores = throughput(LARGE, everything)
    candidates.take(everything[np.argsort(-scores)[:3]])  # the three best were proposed already
    heap = Annealing(candidates, np.random.default_rng(0)).search(lambda indices: throughput(LARGE, indices), 8)
    expected = np.sort(scores)[::-1][3:11]
    assert len(set(heap.indices.tolist())) == 8
    np.testing.assert_allclose(heap.scores, throughput(LARGE, heap.indices))
    assert (heap.scores >= 0.95 * expected).all()


def test_annealing_keeps_candidates_with_negative_scores() -> None:
    candidates = Candidates(SMALL, never)
    heap = Annealing(candidates, np.random.default_rng(0)).search(lambda i: throughput(SMALL, i) - 10, 5)
    assert len(heap.indices) == 5
    assert (heap.scores < 0).all()


def test_chains_stay_legal_and_go_on_from_where_they_were() -> None:
    annealing = Annealing(Candidates(LARGE, too_big), np.random.default_rng(0))
    seen: list[Indices] = []

    def score(indices: Indices) -> npt.NDArray[np.float64]:
        seen.append(indices)
        return throughput(LARGE, indices)

    annealing.search(score, 8)
    assert not any(too_big(LARGE.columns(indices)).any() for indices in seen)
    resting = LARGE.indices(annealing.chains)
    seen.clear()
    annealing.search(score, 8)
    np.testing.assert_array_equal(seen[0], resting)


def test_a_heap_keeps_the_best_distinct_candidates() -> None:
    heap = Heap.empty(3)
    assert heap.push(np.array([5, 6, 5, 7]), np.array([1.0, 3.0, 1.0, -np.inf]))
    assert heap.push(np.array([8, 6, 9]), np.array([2.0, 3.0, 0.5]))
    assert heap.indices.tolist() == [6, 8, 5]
    assert not heap.push(np.array([10, 8]), np.array([0.9, 2.0]))


def test_the_pick_maximises_standardised_score_plus_coverage() -> None:
    scores = np.array([3.0, 2.9, 1.0, 0.0])
    digits = np.array([[0, 0], [0, 0], [1, 1], [1, 0]])
    assert pick(scores, digits, 2, alpha=0.0).tolist() == [0, 1]
    assert pick(scores, digits, 2, alpha=1.0).tolist() == [0, 2]
    np.testing.assert_array_equal(pick(scores, digits, 3, 0.7), pick(50 * scores - 7, digits, 3, 0.7))


def test_without_a_weight_only_coverage_decides_and_the_first_of_equals_is_taken() -> None:
    scores = np.array([3.0, 2.9, 1.0, 0.0])
    digits = np.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    assert pick(scores, digits, 2, alpha=None).tolist() == [0, 3]
    assert pick(-scores, digits, 4, alpha=None).tolist() == [0, 3, 1, 2]


def test_the_pick_takes_all_when_there_are_too_few() -> None:
    assert sorted(pick(np.zeros(3), np.arange(3)[:, None], 9, 0.1).tolist()) == [0, 1, 2]
    assert pick(np.zeros(0), np.zeros((0, 2), dtype=np.int64), 9, 0.1).tolist() == []
