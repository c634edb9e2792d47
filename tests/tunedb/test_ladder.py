"""Where nothing was measured, the surest rung answers, says which it is, and the answer runs."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from tests.tunedb.test_cli import call, error_line
from tests.tunedb.test_lookup import statements
from tests.tunedb.test_prior import SETTINGS
from tunedb import Database, ladder, prior
from tunedb.cli.common import Exit
from tunedb.errors import NotFoundError
from tunedb.fallback import SOURCES, Fallback, Source
from tunedb.freshness import Level
from tunedb.lookup import Best
from tunedb.neighbours import targets_apart
from tunedb.sessions import SessionArguments
from tunedb.tables import MODEL
from tuner.environment import detect
from tuner.neighbours import distance
from tuner.target import Target
from tuner.templates import template_for
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, batch_matmul, matmul, parse

TARGET = Target.host(threads=1)
WORKLOAD = matmul(m=64, k=64, n=64)
NEAR, FAR = matmul(m=64, k=64, n=128), matmul(m=512, k=512, n=512)


def fill(
    db: Database,
    workload: Workload,
    target: Target = TARGET,
    *,
    count: int = 12,
    seed: int = 0,
    environment: Environment | None = None,
    verified: bool = True,
    error: float = 0.0,
) -> None:
    """Store the default schedule and random ones, with made-up times: each takes twice as long as the one before."""
    template = template_for(workload, target)
    space = template.space(workload, target)
    indices = space.sample(np.random.default_rng(0), 4000)
    indices = indices[~template.illegal(workload, target, space.columns(indices))]
    configs: list[Any] = [template.default(workload, target), *map(space.config, indices[: count - 1].tolist())]
    with db.session(SessionArguments(workload, target, template.key, "random", seed)) as session:
        for sequence, config in enumerate(configs):
            session.add(
                Trial(
                    workload,
                    target,
                    environment or detect(),
                    template.key,
                    config,
                    template.schedule(workload, target, config),
                    Status.CORRECT,
                    times=(1e-3 * 2.0**sequence,) * 3,
                    error=error if verified else None,
                    sequence=sequence,
                    compile_seconds=0.25,
                    run_seconds=0.5,
                )
            )


def ask(db: Database, source: Source, workload: Workload = WORKLOAD, freshness: Level = "any") -> Best | Fallback:
    return db.best(workload, TARGET, source=source, freshness=freshness)


def fallback(db: Database, source: Source, workload: Workload = WORKLOAD) -> Fallback:
    found = ask(db, source, workload)
    assert isinstance(found, Fallback)
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_an_exact_answer_is_the_same_whatever_else_is_allowed(db: Database, source: Source) -> None:
    fill(db, WORKLOAD)
    fill(db, WORKLOAD, replace(TARGET, threads=2))
    fill(db, NEAR)
    with statements(db) as seen:
        assert ask(db, source) == ask(db, "exact")
    assert len(seen) == 2


def test_the_surest_rung_that_is_allowed_answers(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "MOST_SCORED", 1000)
    assert fallback(db, "default").source == "default"
    for number in range(3):
        fill(db, batch_matmul(b=2, m=64, k=64, n=64 + 16 * number))
    prior.train(db, "x", SETTINGS)
    assert fallback(db, "default").source == "predicted"
    fill(db, NEAR)
    assert fallback(db, "default").source == "nearest"
    fill(db, WORKLOAD, replace(TARGET, threads=2))
    assert fallback(db, "default").source == fallback(db, "related").source == "related"


def test_a_damaged_model_is_passed_over_with_a_warning(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    fill(db, batch_matmul(b=2, m=64, k=64, n=64))
    prior.train(db, "mine", SETTINGS)
    with db.write() as connection:
        connection.execute(update(MODEL).values(blob=b"nonsense"))
    assert fallback(db, "default").source == "default"
    (said,) = caplog.messages
    assert said.startswith("model mine is damaged")


@pytest.mark.parametrize("source", ["exact", "related", "nearest", "predicted"])
def test_a_rung_that_has_no_answer_says_what_to_do(db: Database, source: Source) -> None:
    with pytest.raises(NotFoundError, match=r"tune it with `tunedb tune"):
        ask(db, source)


def test_a_rung_below_the_lowest_does_not_answer(db: Database) -> None:
    fill(db, NEAR)
    with pytest.raises(NotFoundError, match="no answer of --source related either"):
        ask(db, "related")


@pytest.mark.parametrize("rung", ["related", "nearest", "default"])
def test_the_answer_of_every_rung_runs_and_is_right(db: Database, rung: Source) -> None:
    if rung != "default":
        fill(db, *((WORKLOAD, replace(TARGET, threads=2)) if rung == "related" else (NEAR,)))
    found = fallback(db, "default")
    assert (found.source, found.workload, found.target) == (rung, WORKLOAD, TARGET)
    a, b = np.random.default_rng(0).random((2, 64, 64), dtype=np.float32)
    np.testing.assert_allclose(found.compile()(a, b), a @ b, rtol=1e-4)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["verified"] is False


def test_the_nearest_is_the_one_most_alike(db: Database) -> None:
    fill(db, FAR)
    fill(db, NEAR)
    found = fallback(db, "nearest")
    assert found.origin is not None
    assert (found.origin.workload, found.origin.source) == (NEAR, "exact")
    assert found.distance == pytest.approx(np.log2(129 / 65))
    assert found.config == found.origin.trial.config  # it is legal here too


def test_the_related_target_is_the_one_most_alike(db: Database) -> None:
    two, eight = (replace(TARGET, threads=threads) for threads in (2, 8))
    other = replace(TARGET, cpu="znver1", model="another processor", vector_bits=128, registers=16)
    assert targets_apart(TARGET, TARGET) == 0 < targets_apart(two, TARGET) < targets_apart(eight, TARGET)
    for target in (other, eight, two):
        fill(db, WORKLOAD, target)
    found = fallback(db, "default")
    assert found.origin is not None
    assert found.origin.target == two


@pytest.mark.parametrize("elsewhere", [{"triple": "aarch64-linux-gnu"}, {"kind": "gpu"}])
def test_a_target_of_another_family_is_not_related(db: Database, elsewhere: dict[str, str]) -> None:
    target = replace(TARGET, **elsewhere)
    with db.session(SessionArguments(WORKLOAD, target, "gemm/1", "random", 0)) as session:
        fill(db, WORKLOAD, replace(TARGET, threads=2), count=1)
        measured = db.best(WORKLOAD, replace(TARGET, threads=2)).trial
        session.add(replace(measured, target=target, times=(1e-9,)))
    found = fallback(db, "related")
    assert found.origin is not None
    assert found.origin.target == replace(TARGET, threads=2)


def test_only_verified_trials_are_built_on(db: Database) -> None:
    fill(db, NEAR, verified=False)
    assert fallback(db, "default").source == "default"


def test_what_is_built_on_must_be_as_exact_as_was_asked(db: Database) -> None:
    fill(db, NEAR, error=5e-5)
    assert ask(db, "default").source == "nearest"
    assert ask(db, "default", WORKLOAD.within(1e-6)).source == "default"


def test_what_is_built_on_must_be_as_fresh_as_was_asked(db: Database) -> None:
    old = Environment(tuple(sorted({**dict(detect().facts), "llvm": "3.0"}.items())))
    fill(db, NEAR, environment=old)
    assert ask(db, "default").source == "nearest"
    assert ask(db, "default", freshness="compatible").source == "default"


def test_a_layer_with_the_same_algorithms_is_nearer_than_one_without(db: Database) -> None:
    wanted, pointwise, smaller = (parse(f"resnet18.C{number}(layout=NCHW16c)") for number in (2, 3, 6))
    assert distance(pointwise, wanted) < distance(smaller, wanted)
    fill(db, pointwise, count=1)
    fill(db, smaller, count=1)
    found = fallback(db, "nearest", wanted)
    assert found.origin is not None
    assert found.origin.workload == smaller


def test_an_algorithm_that_does_not_apply_is_not_copied(db: Database) -> None:
    winograd, strided = (parse(f"resnet18.C{number}(layout=NCHW16c)") for number in (2, 7))
    template = template_for(winograd, TARGET)
    space = template.space(winograd, TARGET)
    indices = np.arange(0, space.size, 997)
    indices = indices[~template.illegal(winograd, TARGET, space.columns(indices))]
    configs: list[Any] = [space.config(index) for index in indices.tolist()]
    chosen = [next(c for c in configs if c["algorithm"] == name) for name in ("winograd4", "direct")]
    fill(db, winograd, count=1)
    trial = db.best(winograd, TARGET).trial
    with db.session(SessionArguments(winograd, TARGET, template.key, "random", 1)) as session:
        for sequence, config in enumerate(chosen):
            schedule = template.schedule(winograd, TARGET, config)
            times = (1e-9 * (1 + sequence),)
            session.add(replace(trial, config=config, schedule=schedule, times=times, sequence=sequence))
    found = fallback(db, "nearest", strided)
    assert found.origin is not None
    assert found.origin.trial.config["algorithm"] == "direct"
    found.compile()


def test_the_expected_loss_is_what_the_rung_loses_on_what_was_measured(db: Database) -> None:
    for workload in (NEAR, FAR):
        fill(db, workload)
    found = fallback(db, "default", batch_matmul(b=1, m=64, k=64, n=64))
    assert (found.expected_loss, found.held_out) == (None, 0)  # nothing of this operator
    with db.read() as connection:
        template = template_for(WORKLOAD, TARGET)
        question = ladder._Question(connection, WORKLOAD, TARGET, template, None)
        assert ladder._losses(question, "default") == [0.0, 0.0]  # the fastest that was stored
        assert len(ladder._losses(question, "nearest")) == 2
        assert ladder._losses(question, "related") == []


def test_the_loss_is_that_of_the_most_similar_configuration() -> None:
    known: Any = [({"tile": 1}, 1.0), ({"tile": 7}, 4.0), ({"tile": 7}, 2.0), ({"tile": 3, "algorithm": "other"}, 0.5)]
    assert ladder._loss(known, {"tile": 8}) == 1 - 0.5 / 4.0
    assert ladder._loss(known, {"tile": 8, "algorithm": "other"}) == 0.0
    assert ladder._loss(known, {"tile": 8, "algorithm": "third"}) is None


def test_best_prints_a_fallback_as_what_it_is(db: Database) -> None:
    place = db.engine.url.render_as_string(hide_password=False)
    fill(db, NEAR)
    arguments = ("best", WORKLOAD.key, "--threads", "1", "--db", place)
    refused = call(*arguments)
    assert refused.exit_code == Exit.NOT_FOUND
    assert "--source default" in error_line(refused)
    text = call(*arguments, "--source", "default").stdout
    assert "nearest, not measured" in text
    assert f"taken from  {NEAR.key}" in text
    found = json.loads(call(*arguments, "--source", "nearest", "--json").stdout)
    assert (found["source"], found["seconds"], found["verified"]) == ("nearest", None, False)
    assert found["origin"]["workload"] == NEAR.key
    assert "Usage" in call(*arguments, "--source", "nearest", "--explain").stderr
