"""A database over others that are only read."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import tunedb
from tests.tunedb import logs, samples
from tests.tunedb.test_ladder import fill
from tests.tunedb.test_lookup import store
from tunedb import Database
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.errors import DatabaseError, NewerDatabaseError, NotFoundError, OutdatedDatabaseError
from tunedb.fallback import Fallback
from tunedb.layers import base_urls
from tunedb.tables import VERSION_TABLE
from tunedb.training import training
from tunedb.verifications import Verdict
from tunedb.verify import verify
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import matmul, parse

QUESTION = (samples.WORKLOAD, samples.TARGET)
SMALL = matmul(m=2, k=2, n=2)


@pytest.fixture
def top_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'top.sqlite'}"


@pytest.fixture
def layered(db: Database, url: str, top_url: str) -> Iterator[Database]:
    """A SQLite database over one of each kind, which is ``db``."""
    with tunedb.open(top_url, bases=[url]) as database:
        yield database


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def timed(sequence: int, seconds: float, **changes: Any) -> Trial:
    return replace(samples.trial(sequence, (seconds,) * 6), **changes)


def test_the_better_answer_wins_and_says_which_layer_it_is_from(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25), timed(1, 1.0))
    assert (layered.best(*QUESTION).seconds, layered.best(*QUESTION).layer) == (0.25, db.url)
    store(layered, timed(3, 0.5), seed=1)
    assert layered.best(*QUESTION).layer == db.url
    store(layered, timed(4, 0.125), seed=2)
    assert (layered.best(*QUESTION).seconds, layered.best(*QUESTION).layer) == (0.125, layered.url)
    assert layered.best(*QUESTION).confidence.runner_up == 0.25  # of another layer
    assert db.best(*QUESTION).layer is None


def test_of_equally_good_answers_that_of_the_upper_layer_wins(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25))
    layered.merge(db)
    assert layered.best(*QUESTION).layer == layered.url
    assert len(layered.top(*QUESTION[:1], 5, QUESTION[1])) == 1
    assert len(layered.history(samples.WORKLOAD)) == 1


def test_all_layers_are_ranked_together(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25), timed(1, 1.0))
    store(layered, timed(2, 0.5), timed(3, 2.0), seed=1)
    ranking = layered.top(samples.WORKLOAD, 3, samples.TARGET)
    assert [best.seconds for best in ranking] == [0.25, 0.5, 1.0]
    assert [best.layer for best in ranking] == [db.url, layered.url, db.url]
    assert [best.confidence.runner_up for best in ranking] == [0.5, 1.0, 2.0]
    assert [trial.seconds for trial in layered.history(samples.WORKLOAD)] == [0.25, 1.0, 0.5, 2.0]


def test_a_retraction_in_any_layer_counts_in_all(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25), timed(1, 1.0))
    layered.merge(db)
    layered.retract(db.best(*QUESTION).fingerprint, "throttled")
    assert db.best(*QUESTION).seconds == 0.25
    assert layered.best(*QUESTION).seconds == 1.0


def test_a_retraction_counts_for_every_tolerance(db: Database, layered: Database) -> None:
    tight = parse("resnet18.C3(tolerance=1e-5)")
    store(db, timed(0, 0.25, workload=tight), timed(1, 1.0, workload=tight))
    layered.merge(db)
    layered.retract(db.best(tight, samples.TARGET).fingerprint, "throttled")
    assert layered.best(parse("resnet18.C3"), samples.TARGET).seconds == 1.0


def test_retracted_schedules_make_room_for_the_next_ones(db: Database, layered: Database) -> None:
    store(db, *(timed(number, 0.25 + number) for number in range(12)))
    layered.merge(db)
    for best in db.top(samples.WORKLOAD, 7, samples.TARGET):
        layered.retract(best.fingerprint, "throttled")
    assert [best.seconds for best in layered.top(samples.WORKLOAD, 2, samples.TARGET)] == [7.25, 8.25]
    assert len(layered.top(samples.WORKLOAD, 100, samples.TARGET)) == 5


def test_a_trial_that_does_not_count_does_not_hide_another_of_its_schedule(db: Database, layered: Database) -> None:
    again = replace(timed(1, 1.25), schedule=samples.trial(0).schedule)
    store(db, timed(0, 0.25))
    layered.merge(db)
    layered.retract(db.best(*QUESTION).fingerprint, "throttled")
    store(db, again, timed(2, 2.25))
    assert [best.seconds for best in layered.top(samples.WORKLOAD, 3, samples.TARGET)] == [1.25, 2.25]
    assert layered.best(*QUESTION).confidence.runner_up == 2.25


def test_what_a_layer_has_retracted_is_no_fallback_of_another(db: Database, layered: Database) -> None:
    target, asked = Target.host(1), matmul(m=64, k=64, n=128)
    fill(db, SMALL, target, count=2)
    layered.merge(db)
    fastest, slower = (best.fingerprint for best in db.top(SMALL, 2, target))
    layered.retract(fastest, "no")
    found = layered.best(asked, target, source="nearest")
    assert isinstance(found, Fallback)
    assert found.origin is not None
    assert found.origin.fingerprint == slower
    layered.retract(slower, "no")
    with pytest.raises(NotFoundError, match="no answer of --source nearest"):
        layered.best(asked, target, source="nearest")
    found = layered.best(SMALL, target, source="default")
    assert found.source == "default"


def test_what_stands_behind_an_answer_is_not_what_was_retracted(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.1), timed(1, 0.2), timed(2, 0.3))
    layered.merge(db)
    layered.retract(db.best(*QUESTION).fingerprint, "no")
    found = layered.explain(*QUESTION)
    assert found.runner_up is not None
    assert (found.best.seconds, found.runner_up.seconds) == (0.2, 0.3)


def test_a_record_that_a_layer_has_retracted_answers_no_more(db: Database, layered: Database, tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_text("\n".join(logs.autotvm(index, result=[[0.1 + index], 0, 1.5, 1.0]) for index in range(2)))
    db.import_log(str(path))
    layered.import_log(str(path))
    workload = parse("resnet18.C2")
    first, second = db.imported(workload, n=2)
    assert layered.imported(workload) == (first,)
    layered.retract(first.fingerprint, "no")
    assert layered.imported(workload) == (second,)
    layered.retract(second.fingerprint, "no")
    with pytest.raises(NotFoundError, match="retracted in one of the layers"):
        layered.imported(workload)


def test_of_copies_with_as_many_repeats_the_slower_one_answers(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25))
    layered.merge(db)
    for database, seconds in ((db, 0.5), (layered, 0.75)):
        with database.session(samples.arguments()) as session:
            session.extend_times(0, (seconds,) * 8)
    assert (layered.best(*QUESTION).seconds, layered.best(*QUESTION).layer) == (0.75, layered.url)
    assert layered.history(samples.WORKLOAD)[0].seconds == 0.75


def test_what_one_layer_lists_does_not_hide_what_comes_after_the_retracted_ones_of_another(
    db: Database, layered: Database, tmp_path: Path
) -> None:
    store(db, timed(0, 0.25), timed(1, 1.25))
    layered.merge(db)
    for best in db.top(samples.WORKLOAD, 2, samples.TARGET):
        layered.retract(best.fingerprint, "throttled")
    store(db, timed(2, 2.25))
    slow = f"sqlite:///{tmp_path / 'slow.sqlite'}"
    with tunedb.open(slow) as other:
        store(other, timed(3, 8.0), timed(4, 9.0), seed=1)
    place = db.engine.url.render_as_string(hide_password=False)
    with tunedb.open(layered.url, bases=[place, slow]) as all_three:
        assert [best.seconds for best in all_three.top(samples.WORKLOAD, 2, samples.TARGET)] == [2.25, 8.0]
        assert all_three.best(*QUESTION).seconds == 2.25


def test_nothing_is_ever_written_to_a_base(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25))
    base = layered.layers[1]
    before = db.stats()
    store(layered, timed(1, 0.5), seed=1)
    with pytest.raises(DatabaseError), base.write() as connection:
        connection.execute(text("DELETE FROM trial"))
    with pytest.raises(DatabaseError):
        base.retract(db.best(*QUESTION).fingerprint, "no")
    assert db.stats() == before


def test_a_base_file_stays_as_it_is(tmp_path: Path, top_url: str) -> None:
    path = tmp_path / "base.sqlite"
    with tunedb.open(f"sqlite:///{path}") as base:
        store(base, timed(0, 0.25))
    with closing(sqlite3.connect(path)) as connection:  # as one that was copied by other means may be
        connection.execute("PRAGMA journal_mode = DELETE")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with tunedb.open(top_url, bases=[f"sqlite:///{path}"]) as layered:
        assert layered.best(*QUESTION).seconds == 0.25
        store(layered, timed(0, 0.5), seed=1)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert [each.name for each in tmp_path.glob("base*")] == ["base.sqlite"]


def test_what_no_layer_has_is_said(layered: Database) -> None:
    with pytest.raises(NotFoundError, match=r"tune it with .*; nor is there an answer in 1 base$"):
        layered.best(*QUESTION)


def test_an_exact_answer_of_a_base_goes_before_a_guess_from_the_top(db: Database, layered: Database) -> None:
    store(layered, timed(0, 0.5, workload=SMALL))
    guessed = layered.best(*QUESTION, source="default")
    assert guessed.source != "exact"
    store(db, timed(0, 0.25))
    assert layered.best(*QUESTION, source="default").source == "exact"


def test_what_stands_behind_an_answer_is_told_by_its_layer(db: Database, layered: Database) -> None:
    store(db, timed(0, 0.25), timed(1, 1.0))
    found = layered.explain(*QUESTION)
    assert (found.best.layer, found.statuses) == (db.url, {"correct": 2})
    assert layered.freshness(found.best) == db.freshness(db.best(*QUESTION))


def test_imported_records_of_all_layers_answer(db: Database, layered: Database, tmp_path: Path) -> None:
    workload = tunedb.workload("resnet18.C2")
    for database, times in ((db, [0.25]), (layered, [0.5])):
        log = tmp_path / "some.log"
        log.write_text(logs.autotvm(result=[times, 0, 1.5, logs.START]))
        database.import_log(str(log), machine="alpha")
    assert [trial.seconds for trial in layered.imported(workload, n=2)] == [0.25, 0.5]
    log.write_text(logs.autotvm())
    layered.import_log(str(log), machine="beta")
    with pytest.raises(NotFoundError, match="--target"):
        layered.imported(workload)


def test_a_warm_start_learns_from_all_layers(db: Database, layered: Database) -> None:
    store(db, *(timed(sequence, 0.25 + sequence) for sequence in range(6)))
    layered.merge(db)
    store(layered, *(timed(sequence, 0.5 + sequence) for sequence in range(6)), seed=1)
    store(db, *(timed(sequence, 0.75 + sequence) for sequence in range(6)), seed=2)
    layered.retract(db.best(*QUESTION).fingerprint, "throttled")
    with layered.read_layers() as connections:
        both = training(connections)
    with layered.read() as connection:
        alone = training([connection])
    assert sum(both.left_out.values()) + len(both.trials) == 17
    assert sum(alone.left_out.values()) + len(alone.trials) == 11


def test_what_verifying_a_trial_of_a_base_finds_goes_into_the_top(db: Database, layered: Database) -> None:
    here, workload = Target.host(threads=1), matmul(m=4, k=4, n=4)
    tunedb.tune(workload, db=db, trials=2, threads=1, tuner="random")
    answer = layered.best(workload, here)
    (found,) = verify(layered, [layered.trial(answer.fingerprint)])
    assert found.status in (Verdict.CONFIRMED, Verdict.DRIFTED)
    assert layered.verifications(workload) == (found,)
    assert db.verifications(workload) == ()
    assert layered.layers[0].best(workload, here).fingerprint == answer.fingerprint
    assert layered.check().problems == ()


def test_bases_come_from_the_environment(db: Database, url: str, monkeypatch: pytest.MonkeyPatch, top_url: str) -> None:
    monkeypatch.setenv("TUNEDB_BASE_URLS", f" {url} ;; sqlite:////nowhere/x.sqlite;")
    assert base_urls() == (url, "sqlite:////nowhere/x.sqlite")
    store(db, timed(0, 0.25))
    monkeypatch.setattr(Target, "host", lambda threads=None: samples.TARGET)
    result = call("best", samples.WORKLOAD.key, "--db", top_url, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layer"] == db.url
    assert result.stderr.splitlines() == [
        "Warning: a base of TUNEDB_BASE_URLS is left out: /nowhere/x.sqlite is not there: name another file"
    ]
    assert f"in {db.url}" in call("best", samples.WORKLOAD.key, "--db", top_url).stdout
    assert db.url in call("top", samples.WORKLOAD.key, "--db", top_url).stdout
    stats = json.loads(call("stats", "--db", top_url, "--json").stdout)
    assert (stats["trials"], [base["trials"] for base in stats["bases"]]) == (0, [1])
    assert call("check", "--db", top_url).stderr == ""  # which asks no base


def test_a_server_that_does_not_answer_is_a_warning(top_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("TUNEDB_BASE_URLS", "postgresql+psycopg://somebody:s3cret@127.0.0.1:1/x")
    result = call("stats", "--db", top_url)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("Warning: a base of TUNEDB_BASE_URLS is left out: postgresql+psycopg://somebody:***@127")


@pytest.mark.parametrize(
    ("revision", "error"),
    [("0001", OutdatedDatabaseError), ("9999", NewerDatabaseError), (None, DatabaseError)],
)
def test_a_base_of_another_revision_is_refused_and_left_alone(
    tmp_path: Path, top_url: str, revision: str | None, error: type[DatabaseError], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "base.sqlite"
    if revision is None:
        path.touch()
    else:
        tunedb.open(f"sqlite:///{path}").close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
            connection.commit()
    before = path.read_bytes()
    with (
        tunedb.open(top_url, bases=[f"sqlite:///{path}"]) as layered,
        pytest.raises(error, match="is at revision" if revision else "has no tables of tunedb"),
    ):
        layered.best(*QUESTION)
    assert path.read_bytes() == before
    monkeypatch.setenv("TUNEDB_BASE_URLS", f"sqlite:///{path}")
    assert call("stats", "--db", top_url).exit_code == Exit.DATABASE


def test_a_base_that_is_no_database_at_all_is_refused(tmp_path: Path, top_url: str) -> None:
    (tmp_path / "text.sqlite").write_text("no database, but long enough to look at" * 20)
    for base in (f"sqlite:///{tmp_path / 'text.sqlite'}", "nonsense", f"sqlite:///{tmp_path}"):
        with tunedb.open(top_url, bases=[base]) as layered, pytest.raises(DatabaseError, match="a base of"):
            layered.history(samples.WORKLOAD)
