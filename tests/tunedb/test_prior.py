"""The database teaches: sessions start warm and go on the same way; models are stored, judged, exchanged, refused."""

import json
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select, text, update

import tunedb
from tests.tunedb.test_cli import call, error_line
from tunedb import Database, prior, registry
from tunedb.cli.common import Exit
from tunedb.cli.model import KINDS
from tunedb.sessions import SessionArguments
from tunedb.tables import SCHEDULE, TRIAL
from tunedb.training import training
from tuner.cost_model import global_model
from tuner.cost_model.global_model import ModelError, Settings
from tuner.features.invariant import VERSION
from tuner.schedule import Schedule, Split
from tuner.target import Target
from tuner.templates import template_for
from tuner.trial import Environment, Status, Trial
from tuner.workload import Workload, matmul

TARGET = Target.host(threads=1)
SETTINGS = Settings(rounds=20)
SOURCES = [matmul(m=64, k=64, n=64), matmul(m=96, k=128, n=256), matmul(m=200, k=100, n=300)]
NEW = matmul(m=128, k=96, n=128)


def fill(
    db: Database, workload: Workload, count: int = 40, seed: int = 0, fail: bool = False, flat: bool = False
) -> None:
    """Store made-up trials of real schedules."""
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    indices = space.sample(np.random.default_rng(seed), 4000)
    indices = indices[~template.illegal(workload, TARGET, space.columns(indices))][:count]
    with db.session(SessionArguments(workload, TARGET, template.key, "random", seed)) as session:
        for sequence, index in enumerate(indices.tolist()):
            config: Any = space.config(index)
            loads = (config["tile_n"] + config["tile_m"]) / (config["tile_n"] * config["tile_m"])
            time = 1e-3 if flat else workload.flops * 1e-12 * (1 + 5 * loads)
            made = Trial(
                workload,
                TARGET,
                Environment(()),
                template.key,
                config,
                template.schedule(workload, TARGET, config),
                Status.RUNTIME if fail else Status.CORRECT,
                times=() if fail else (time,) * 3,
                error=None if fail else 0.0,
                sequence=sequence,
            )
            session.add(made)


@pytest.fixture
def filled(db: Database) -> Database:
    for number, source in enumerate(SOURCES):
        fill(db, source, seed=number)
    return db


def arguments(seed: int = 0) -> SessionArguments:
    return SessionArguments(NEW, TARGET, template_for(NEW, TARGET).key, "model", seed)


def start(db: Database, seed: int = 0) -> prior.Start:
    template = template_for(NEW, TARGET)
    return prior.warm_start(db, template, template.space(NEW, TARGET), arguments(seed))


def test_a_warm_start_says_what_it_learned_from(filled: Database) -> None:
    fill(filled, matmul(m=32, k=32, n=32), count=3)
    fill(filled, matmul(m=32, k=32, n=48), count=10, fail=True)
    found = start(filled)
    assert found.prior is not None
    assert found.report.verdict == "use"
    assert (found.report.used, found.report.workloads) == (120, 3)
    assert found.report.left_out == {
        "fewer than 8 of their workload and target": 3,
        "failed or without a time": 10,
    }
    assert {one.workload for one in found.report.held_out} == {source.key for source in SOURCES}
    assert found.report.nearest[0] in {source.key for source in SOURCES}
    json.dumps(found.report.to_json(), allow_nan=False)


def test_trials_that_cannot_be_lowered_any_more_are_counted_and_the_others_teach(filled: Database) -> None:
    gone = Schedule((Split("matmul", "gone", (2,)),)).to_json()
    with filled.write() as connection:
        one = connection.execute(select(SCHEDULE.c.id).limit(1)).scalar_one()
        connection.execute(update(SCHEDULE).where(SCHEDULE.c.id == one).values(steps=gone))
    found = start(filled)
    assert found.prior is not None
    assert found.report.used == 119


@pytest.mark.parametrize("kind", ["empty", "failed", "flat", "one"])
def test_a_database_that_teaches_little_is_no_error(db: Database, kind: str) -> None:
    if kind in ("failed", "flat"):
        fill(db, SOURCES[0], fail=kind == "failed", flat=kind == "flat")
    if kind == "one":
        fill(db, SOURCES[0])
    found = start(db)
    assert found.report.verdict == ("weak" if kind == "one" else "off")
    assert (found.prior is None) == (kind != "one")
    with pytest.raises(ModelError, match="no trial") if kind != "one" else pytest.raises(tunedb.TunedbError):
        prior.train(db, "x", SETTINGS)
        raise ModelError("it was trained")


def test_a_session_goes_on_with_what_it_was_begun_with(filled: Database) -> None:
    first = start(filled)
    with filled.session(replace(arguments(), settings=first.identity)):
        pass
    fill(filled, matmul(m=48, k=80, n=112), seed=9)  # measured later
    again, other = start(filled), start(filled, seed=1)
    assert again.identity == first.identity
    assert again.report.used == first.report.used
    assert other.identity["trained_on"] != first.identity["trained_on"]


def test_a_model_serves_until_a_fifth_of_the_trials_is_new_and_the_report_counts_them(filled: Database) -> None:
    first = start(filled)
    fill(filled, matmul(m=48, k=80, n=112), count=20, seed=9)
    second = start(filled, seed=1)
    assert second.identity["trained_on"] == first.identity["trained_on"]
    assert (second.report.used, second.report.left_out) == (120, {prior.NEWER: 20})
    fill(filled, matmul(m=48, k=80, n=120), count=20, seed=9)
    third = start(filled, seed=2)
    assert third.identity["trained_on"] != first.identity["trained_on"]
    assert (third.report.used, third.report.left_out) == (160, {})
    with filled.read() as connection:
        assert [stored.name for stored in registry.models(connection)] == [prior.WARM_NAME] * 2


def test_older_trials_that_come_in_begin_a_new_session_once_its_model_is_gone(filled: Database) -> None:
    first = start(filled)
    with filled.session(replace(arguments(), settings=first.identity)):
        pass
    fill(filled, matmul(m=48, k=80, n=112), seed=9)
    with filled.write() as connection:  # as an import would
        oldest = connection.scalar(select(TRIAL.c.created).order_by(TRIAL.c.created).limit(1))
        connection.execute(update(TRIAL).values(created=oldest - timedelta(days=1)))
    assert start(filled).identity["trained_on"] == first.identity["trained_on"]
    with filled.write() as connection:
        connection.execute(delete(registry.MODEL))
    assert start(filled).identity["trained_on"] != first.identity["trained_on"]


def test_training_again_gives_the_same_model(filled: Database) -> None:
    first, again = (prior.train(filled, name, SETTINGS) for name in ("first", "again"))
    assert first.fingerprint == again.fingerprint
    assert first.blob == again.blob
    with filled.read() as connection:
        assert [stored.name for stored in registry.models(connection)] == ["first"]


def test_a_stored_model_of_the_same_trials_is_used(filled: Database) -> None:
    stored = prior.train(filled, "mine", Settings())
    with filled.read() as connection:
        known = training([connection])
        found = registry.of_training(connection, known.choice.digest, Settings())
        assert registry.of_training(connection, known.choice.digest, SETTINGS) is None
    assert found is not None
    assert found.fingerprint == stored.fingerprint
    assert start(filled).report.held_out == stored.held_out


def test_a_model_of_other_features_is_refused_by_name(filled: Database) -> None:
    stored = replace(prior.train(filled, "old", SETTINGS), feature_version="invariant/0")
    with pytest.raises(ModelError, match=f"model old was trained on features invariant/0, this program has {VERSION}"):
        stored.model()
    with pytest.raises(ModelError, match="invariant/0"):
        registry.read_file("old", registry.write_file(stored))


def test_a_model_damaged_in_the_database_is_refused_and_a_warm_start_trains_again(filled: Database) -> None:
    prior.train(filled, "mine", Settings())
    with filled.write() as connection:
        connection.execute(update(registry.MODEL).values(blob=b"nonsense"))
    with filled.read() as connection, pytest.raises(ModelError, match="model mine is damaged"):
        registry.find(connection, "mine")
    assert start(filled).report.verdict == "use"


def test_a_damaged_model_hides_no_other_and_is_mended_by_training_it_again(filled: Database) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    other, mine = (prior.train(filled, name, Settings(rounds=n)) for name, n in (("other", 10), ("mine", 200)))
    assert filled.check().problems == ()
    with filled.write() as connection:
        connection.execute(update(registry.MODEL).where(registry.MODEL.c.name == "mine").values(blob=mine.blob[:-9]))
    listed = call("model", "list", "--db", place)
    assert listed.stdout.split()[-1] == "other"
    assert "Warning: model mine is damaged" in listed.stderr
    assert call("model", "show", "other", "--db", place).exit_code == 0
    assert prior.predict(filled, NEW, TARGET).model == other.fingerprint
    assert [problem.split()[0] for problem in filled.check().problems] == ["model"]
    assert call("model", "train", "--name", "mine", "--db", place).exit_code == 0
    assert filled.check().problems == ()
    assert prior.predict(filled, NEW, TARGET).model == mine.fingerprint


def test_a_model_that_is_there_keeps_its_name(filled: Database, tmp_path: Path) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    call("model", "train", "--name", "first", "--db", place)
    again = call("model", "train", "--name", "second", "--db", place)
    assert again.stdout.startswith("model first\n")
    assert again.stderr == "These trials had given this model before: it is stored as first.\n"
    file = str(tmp_path / "third")
    call("model", "export", "first", "-o", file, "--db", place)
    assert call("model", "import", file, "--db", place).stdout == "model first: it was stored already\n"


@pytest.mark.parametrize("damage", ["cut", "flipped", "said", "empty", "text"])
def test_a_damaged_file_is_refused(filled: Database, damage: str) -> None:
    data = registry.write_file(prior.train(filled, "mine", SETTINGS))
    bad = {
        "cut": data[:-1],
        "flipped": data[:-9] + b"!" + data[-8:],
        "said": data.replace(b'"used_rounds": ', b'"used_rounds": 1', 1),
        "empty": b"",
        "text": b"hello\n",
    }[damage]
    assert bad != data
    with pytest.raises(ModelError, match="damaged"):
        registry.read_file("mine", bad)


def test_a_prediction_is_labelled_and_legal(filled: Database) -> None:
    found = prior.predict(filled, NEW, TARGET)
    template = template_for(NEW, TARGET)
    assert template.schedule(NEW, TARGET, found.config) == found.schedule
    assert found.whole
    answer = found.to_json()
    assert (answer["source"], answer["verified"], answer["seconds"]) == ("predicted", False, None)
    assert 0 <= answer["expected_loss"] < 0.5
    assert answer["held_out"] == 3


def test_the_command_line_trains_shows_moves_and_judges_a_model(filled: Database, tmp_path: Path) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    trained = json.loads(call("model", "train", "--name", "mine", "--db", place, "--json").stdout)
    assert trained["parameters"]["trials"] == 120
    assert "mine" in call("model", "list", "--db", place).stdout
    assert trained["training_digest"] in call("model", "show", trained["fingerprint"][:8], "--db", place).stdout
    judged = json.loads(call("model", "evaluate", "mine", "--db", place, "--json").stdout)["workloads"]
    assert [one["seen"] for one in judged] == [True] * 3
    file = str(tmp_path / "model.tunedb")
    assert call("model", "export", "mine", "-o", file, "--db", place).exit_code == 0
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    assert json.loads(call("model", "import", file, "--db", other, "--json").stdout)["new"] is True
    assert "stored already" in call("model", "import", file, "--db", other).stdout
    shown = json.loads(call("model", "show", "model", "--db", other, "--json").stdout)
    assert shown["fingerprint"] == trained["fingerprint"]
    assert shown["held_out"] == trained["held_out"]


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_network_is_stored_shown_and_refused_like_any_model(filled: Database, tmp_path: Path) -> None:
    stored = prior.train(filled, "net", Settings("context-gru", rounds=2))
    assert stored.feature_version == "context-tree/1"
    assert stored.parameters["model"] == "context-gru"
    place = str(filled.engine.url.render_as_string(hide_password=False))
    assert "context-gru, regression" in call("model", "show", "net", "--db", place).stdout
    judged = json.loads(call("model", "evaluate", "net", "--db", place, "--json").stdout)["workloads"]
    assert len(judged) == 3
    file = str(tmp_path / "net.tunedb")
    assert call("model", "export", "net", "-o", file, "--db", place).exit_code == 0
    assert registry.read_file("net", Path(file).read_bytes()).fingerprint == stored.fingerprint
    with pytest.raises(ModelError, match="trained on features context-tree/0, this program has context-tree/1"):
        replace(stored, feature_version="context-tree/0").model()
    with pytest.raises(ModelError, match="features gone/1, this program has none of that name"):
        replace(stored, feature_version="gone/1").model()
    with filled.read() as connection:  # a warm start and a prediction take no notice of it
        assert registry.newest(connection) is None
        assert registry.of_training(connection, stored.training_digest, Settings()) is None


def test_what_a_network_cannot_learn_is_one_line(filled: Database) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    line = error_line(call("model", "train", "--model", "tree-gru", "--objective", "top-heavy", "--db", place))
    assert "tree-gru has no objective top-heavy" in line


def test_the_kinds_of_models_are_those_of_the_engine() -> None:
    assert KINDS == global_model.KINDS


def test_the_command_line_says_in_one_line_what_is_missing(db: Database, tmp_path: Path) -> None:
    place = str(db.engine.url.render_as_string(hide_password=False))
    assert "no trial to train" in error_line(call("model", "train", "--db", place))
    result = call("model", "show", "nobody", "--db", place)
    assert result.exit_code == Exit.NOT_FOUND
    assert "tunedb model train" in error_line(result)
    assert "cannot be read" in error_line(call("model", "import", str(tmp_path / "nowhere"), "--db", place))
    assert "no trial to train" in error_line(call("best", NEW.key, "--predict", "--threads", "1", "--db", place))


def test_best_predicts_only_what_was_not_measured(filled: Database) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    measured = json.loads(call("best", SOURCES[0].key, "--predict", "--threads", "1", "--db", place, "--json").stdout)
    assert measured["source"] == "exact"
    text_ = call("best", NEW.key, "--predict", "--threads", "1", "--db", place).stdout
    assert "predicted, not measured" in text_


def test_a_real_session_starts_warm_says_so_and_is_resumed(filled: Database) -> None:
    place = str(filled.engine.url.render_as_string(hide_password=False))
    common = ("tune", NEW.key, "--threads", "1", "--db", place)
    first = json.loads(call(*common, "--trials", "3", "--json").stdout)
    assert first["warm_start"]["verdict"] == "use"
    assert first["warm_start"]["used"] == 120
    more = json.loads(call(*common, "--trials", "5", "--json").stdout)
    assert (more["trials"], more["new"]) == (5, 2)
    assert "Warm start: use" in call(*common, "--trials", "5").stdout
    cold = json.loads(call(*common, "--trials", "2", "--cold", "--json").stdout)
    assert (cold["new"], cold["warm_start"]) == (2, None)
    assert call(*common, "--cold", "--tuner", "random").exit_code == Exit.USAGE
    with filled.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM session")) == 5
