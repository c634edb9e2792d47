"""A prior for a new workload: what past trials say of it, and how far they are to be trusted."""

from dataclasses import replace

import numpy as np
import pytest

from tuner.cost_model.global_model import GlobalModel, Settings
from tuner.cost_model.held_out import HeldOut
from tuner.cost_model.metrics import quality, rank_correlation
from tuner.cost_model.training import TrainingSet
from tuner.features.sketches import concatenated, distinct_features
from tuner.neighbours import distance, nearest_best
from tuner.target import Target
from tuner.templates import template_for
from tuner.transfer import Seen, judge, legal_sample, prior_from, scores
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, matmul, parse

TARGET = Target.host(threads=1)


def held_out(correlation: float) -> HeldOut:
    return HeldOut("matmul(m=1,k=1,n=1)", "t", 9, correlation, 0.9, 0.9, 0.9)


def test_the_verdict_follows_the_evidence() -> None:
    good, fair, bad = ([held_out(value)] for value in (0.9, 0.4, 0.1))
    assert judge(good, good, coverage=1.0)[0] == "use"
    assert judge(good, good, coverage=0.5)[0] == "weak"
    assert judge(fair, fair, coverage=1.0)[0] == "weak"
    assert judge([], good, coverage=1.0)[0] == "weak"
    assert judge([], [], coverage=1.0)[0] == "weak"
    assert judge(bad, good, coverage=1.0)[0] == "off"


def trials(workload: Workload, count: int, seed: int = 0) -> list[Trial]:
    """Trials whose time grows with the loads for each multiply-add, which only features that transfer can know."""
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    indices = space.sample(np.random.default_rng(seed), 4000)
    indices = indices[~template.illegal(workload, TARGET, space.columns(indices))][:count]
    result = []
    for number, index in enumerate(indices.tolist()):
        config = space.config(index)
        n, m, unroll = (int(config[name]) for name in ("tile_n", "tile_m", "unroll_k"))  # type: ignore[arg-type]
        time = workload.flops * 1e-12 * (1 + 5 * (n + m) / (n * m) + 0.1 / unroll)
        schedule = template.schedule(workload, TARGET, config)
        made = Trial(
            workload, TARGET, Environment(()), template.key, config, schedule, Status.CORRECT, (time,) * 3, 0.0
        )
        result.append(replace(made, sequence=number))
    return result


def seconds_of(trial: Trial) -> float:
    assert trial.seconds is not None
    return trial.seconds


SOURCES = [
    matmul(m=64, k=64, n=64),
    matmul(m=96, k=128, n=256),
    matmul(m=200, k=100, n=300),
    matmul(m=512, k=32, n=128),
]


def test_a_prior_ranks_the_schedules_of_a_new_workload() -> None:
    known = [trial for number, source in enumerate(SOURCES) for trial in trials(source, 80, number)]
    some, used = TrainingSet.of(known)
    assert used.all()
    new = matmul(m=128, k=256, n=192)
    template = template_for(new, TARGET)
    model = GlobalModel.fit(some, Settings(rounds=60, threads=1))
    prior, report = prior_from(model, Seen.of(some), known, {}, template, new, TARGET, template.space(new, TARGET))
    assert report.verdict == "use"
    assert report.used == len(known)
    assert report.coverage is not None
    assert report.coverage > 0.8
    assert prior is not None
    test = trials(new, 100, 9)
    space = template.space(new, TARGET)
    columns = space.columns(np.array([space.index(trial.config) for trial in test]))
    times = np.array([seconds_of(trial) for trial in test])
    assert rank_correlation(prior.scores(columns)[0], -times) > 0.8
    assert quality(prior.scores(columns)[0], times, 1) > 0.9


def test_a_large_space_is_scored_in_blocks_as_it_would_be_in_one() -> None:
    workload = matmul(m=128, k=256, n=192)
    model = GlobalModel.fit(TrainingSet.of(trials(workload, 80))[0], Settings(rounds=5))
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    columns = space.columns(legal_sample(template, workload, TARGET, space, 150_000))
    blocks, places = distinct_features(template, workload, TARGET, space, columns)
    features = list(blocks)
    assert len(features) > 1
    found, which = scores(model, template, workload, TARGET, space, columns)
    np.testing.assert_array_equal(found, model.predict(concatenated(features))[places])
    np.testing.assert_array_equal(which, places)
    assert not len(
        scores(model, template, workload, TARGET, space, {name: each[:0] for name, each in columns.items()})[0]
    )


def test_examples_are_the_best_of_the_most_similar_workloads() -> None:
    known = [trial for number, source in enumerate(SOURCES) for trial in trials(source, 30, number)]
    new = matmul(m=100, k=128, n=256)
    found = nearest_best(known, template_for(new, TARGET).key, new, TARGET, 8)
    assert found[0].workload == SOURCES[1]
    own = [trial for trial in known if trial.workload == SOURCES[1]]
    assert found[0] == min(own, key=seconds_of)


def test_distance_counts_octaves_and_words() -> None:
    one, other = parse("conv2d(ci=15,h=7,w=7,co=8,k=1)"), parse("conv2d(ci=31,h=7,w=7,co=8,k=1,epilogue=relu)")
    assert distance(one, one) == 0
    assert distance(one, other) == pytest.approx(2)
