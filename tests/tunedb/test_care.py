"""Merging, retracting, copying and explaining, with databases of each kind."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunedb
from tests.tunedb import logs, samples
from tunedb import Database
from tunedb.errors import DatabaseError, NotFoundError
from tuner.trial import Status

BEST = (samples.WORKLOAD, samples.TARGET)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    with tunedb.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as database:
        yield database


def fill(db: Database, seed: int, *seconds: float) -> None:
    with db.session(samples.arguments(seed)) as session:
        for sequence, time_ in enumerate(seconds):
            session.add(samples.trial(sequence, (time_,) * 6))


def start(*arguments: str) -> subprocess.Popen[str]:
    """A Python process that finds what this one does."""
    path = os.pathsep.join(filter(None, [str(Path(tunedb.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def imported(db: Database, tmp_path: Path, *lines: str) -> None:
    path = tmp_path / "some.log"
    path.write_text("\n".join(lines))
    db.import_log(str(path), "autotvm")


def test_a_merge_adds_what_is_missing_and_nothing_twice(db: Database, other: Database, tmp_path: Path) -> None:
    fill(db, 0, 0.5, 0.25)
    fill(other, 1, 0.125, 1.0, 2.0)
    with other.session(samples.arguments(2)) as session:
        session.add(samples.trial(0, status=Status.RUNTIME, message="signal 11"))
    imported(other, tmp_path, logs.autotvm(), logs.FAILED, "{")
    done = db.merge(other)
    assert (done.read, done.new, done.duplicate, done.conflicting) == (6, 6, 0, 0)
    assert db.best(*BEST).trial == other.best(*BEST).trial
    assert db.best(*BEST).seconds == 0.125
    assert db.imported(tunedb.workload("resnet18.C2")) == other.imported(tunedb.workload("resnet18.C2"))
    assert [each.raw for each in db.quarantine()[1]] == ["{"]
    before = db.stats()
    again = db.merge(other)
    assert (again.new, again.duplicate, again.extended) == (0, 6, 0)
    assert db.stats() == before
    back = other.merge(db)
    assert (back.new, back.duplicate) == (2, 6)
    assert other.history(samples.WORKLOAD) == db.history(samples.WORKLOAD)


def test_a_merge_takes_over_more_repeats_and_retractions(db: Database, other: Database) -> None:
    fill(db, 0, 0.5, 0.25)
    other.merge(db)
    with other.session(samples.arguments(0)) as session:
        session.extend_times(0, (0.125,) * 7)
    other.retract(db.best(*BEST).fingerprint, "the fan was off")
    done = db.merge(other)
    assert (done.duplicate, done.extended, done.retracted) == (2, 1, 1)
    assert db.best(*BEST) == other.best(*BEST)
    assert (db.best(*BEST).seconds, db.best(*BEST).confidence.repeats) == (0.125, 13)
    assert other.merge(db).extended == 0


def test_copies_that_grew_apart_come_together_again(db: Database, other: Database) -> None:
    fill(db, 0, 0.5)
    other.merge(db)
    for database, seconds in ((db, 0.25), (other, 0.125)):
        with database.session(samples.arguments(0)) as session:
            session.extend_times(0, (seconds,) * 7)
    assert (db.merge(other).extended, other.merge(db).extended) == (0, 1)
    assert db.best(*BEST) == other.best(*BEST)
    assert db.best(*BEST).seconds == 0.25  # of as many repeats, the slower ones


def test_a_merge_says_how_many_trials_had_no_place(db: Database, other: Database) -> None:
    fill(db, 0, 0.5)
    other.merge(db)
    with db.session(samples.arguments(0)) as session:
        session.add(samples.trial(1, (0.1,)))
    with other.session(samples.arguments(0)) as session:
        session.add(samples.trial(1, (0.1,), tile=77))
    done = db.merge(other)
    assert (done.read, done.duplicate, done.conflicting) == (2, 1, 1)


def test_a_session_that_runs_elsewhere_is_interrupted_here(db: Database, other: Database) -> None:
    with other.session(samples.arguments(0)) as session:
        session.add(samples.trial(0))
        db.merge(other)
        with db.session(samples.arguments(0)) as continued:
            assert len(continued.trials()) == 1


def test_a_retracted_trial_is_forgotten_by_best_and_kept_in_history(db: Database) -> None:
    fill(db, 0, 0.5, 0.25)
    best = db.best(*BEST)
    assert db.retract(best.fingerprint[:10], "throttled") == best.fingerprint
    assert db.best(*BEST).seconds == 0.5
    assert db.explain(*BEST).retracted == 1
    assert len(db.history(samples.WORKLOAD)) == 2
    with db.session(samples.arguments(0)) as session:
        session.extend_times(1, (0.01,) * 9)
    assert db.best(*BEST).seconds == 0.5
    db.restore(best.fingerprint)
    assert db.best(*BEST).seconds == 0.01


def test_a_retracted_record_of_another_tool_answers_no_more(db: Database, tmp_path: Path) -> None:
    imported(db, tmp_path, logs.autotvm())
    c2 = tunedb.workload("resnet18.C2")
    db.retract(db.imported(c2)[0].fingerprint, "of another board")
    with pytest.raises(NotFoundError):
        db.imported(c2)


@pytest.mark.parametrize("name", ["abc", "0" * 64])
def test_what_names_no_trial_is_said_so(db: Database, name: str) -> None:
    with pytest.raises(NotFoundError, match=r"too short|no trial's fingerprint"):
        db.retract(name, "why")


def test_an_explanation_names_the_runner_up_and_the_command(db: Database) -> None:
    fill(db, 3, 0.5, 0.25)
    with db.session(samples.arguments(4)) as session:
        session.add(samples.trial(0, status=Status.RUNTIME, message="signal 11"))
    found = db.explain(*BEST)
    assert found.best == db.best(*BEST)
    assert found.runner_up is not None
    assert (found.runner_up.seconds, found.best.confidence.different) == (0.5, "yes")
    assert found.statuses == {"correct": 2, "runtime": 1}
    assert found.command == ("tunedb tune 'matmul(m=64,k=32,n=48)' --trials 2 --tuner random --seed 3 --threads 2")
    assert json.dumps(found.to_json())
    with pytest.raises(NotFoundError):
        db.explain(tunedb.workload("resnet18.C1"))


def test_a_check_finds_nothing_in_what_was_stored_as_usual(db: Database, other: Database, tmp_path: Path) -> None:
    fill(other, 0, 0.5, 0.25)
    imported(other, tmp_path, logs.autotvm(), logs.FAILED)
    (tmp_path / "t4.json").write_text(json.dumps(logs.t4()))
    other.import_log(str(tmp_path / "t4.json"))
    other.retract(other.best(*BEST).fingerprint, "throttled")
    db.merge(other)
    found = db.check()
    assert found.problems == ()
    assert found.rows > 10


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE trial SET seconds = 0.001 WHERE sequence = 0", "the median of its times is 0.5, not 0.001"),
        ("UPDATE trial SET error = 0.5 WHERE sequence = 0", "counts as verified and is not"),
        ("UPDATE trial SET sequence = 7 WHERE sequence = 0", "another fingerprint"),
        ("UPDATE workload SET key = 'matmul(m=1,k=1,n=1)'", "another fingerprint"),
        ("UPDATE workload SET key = 'nonsense'", "cannot be read"),
        ("UPDATE workload SET problem = 'x'", "another problem"),
        ("UPDATE workload SET flops = 7", "196608 operations, not 7"),
        ("UPDATE session SET key = 'x'", "another key"),
        ("UPDATE environment SET facts = '{}'", "another fingerprint"),
        ("UPDATE schedule SET steps = '[]'", "another fingerprint"),
        ("UPDATE target SET description = '{}'", "cannot be read"),
    ],
)
def test_a_check_finds_what_was_changed(db: Database, change: str, problem: str) -> None:
    fill(db, 0, 0.5, 0.25)
    with db.write() as connection:
        connection.exec_driver_sql(change)
    assert any(problem in each for each in db.check().problems)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE trial SET seconds = 0.001", "0.001 is not the median of its times"),
        ("UPDATE trial SET times = '[[0.25, 0.125, 0.25]]'", "another fingerprint"),
        ("UPDATE trial SET run_seconds = 7", "another fingerprint"),
        ("UPDATE trial SET details = '{}'", "another fingerprint"),
        ("UPDATE trial SET verified = true", "nobody has verified it here"),
        ("UPDATE session SET arguments = '{}'", "its session has another fingerprint"),
        ("UPDATE session SET fingerprint = 'x'", "its session has another fingerprint"),
    ],
)
def test_a_check_finds_what_was_changed_of_an_imported_trial(
    db: Database, tmp_path: Path, change: str, problem: str
) -> None:
    imported(db, tmp_path, logs.autotvm())
    with db.write() as connection:
        connection.exec_driver_sql(change)
    assert any(each.startswith("imported trial") and problem in each for each in db.check().problems)


def test_a_check_works_out_the_records_of_every_format(db: Database, tmp_path: Path) -> None:
    imported(db, tmp_path, logs.autotvm(), logs.FAILED, logs.autotvm(1, result=[logs.COSTS, 0, 2, logs.START]))
    (tmp_path / "ansor.json").write_text(logs.ansor() + "\n" + logs.ansor(r=[[1e10], 2, 1, 1698859892]))
    (tmp_path / "database_workload.json").write_text(logs.METASCHEDULE_WORKLOAD)
    records = (logs.metaschedule(), logs.metaschedule(costs=[1e9]))
    (tmp_path / "database_tuning_record.json").write_text("\n".join(records))
    (tmp_path / "cache.json").write_text(json.dumps(logs.kernel_tuner()))
    (tmp_path / "t4.json").write_text(json.dumps(logs.t4()))
    for name, count in (("ansor", 2), ("database_tuning_record", 2), ("cache", 3), ("t4", 2)):
        assert db.import_log(str(tmp_path / f"{name}.json")).new == count
    assert db.check().problems == ()


def test_a_copy_has_all_that_was_stored_while_others_write(other: Database, tmp_path: Path) -> None:
    fill(other, 0, 0.5, 0.25)
    writer = start(samples.__file__, other.url, "1", "100000")
    assert writer.stdout is not None
    for _ in range(20):
        acknowledged = int(writer.stdout.readline())
    other.backup(tmp_path / "copy.sqlite")
    writer.kill()
    writer.communicate()
    with tunedb.open(f"sqlite:///{tmp_path / 'copy.sqlite'}") as copy:
        assert copy.stats().trials > acknowledged + 2
        assert copy.best(*BEST).seconds == other.best(*BEST).seconds
    with sqlite3.connect(tmp_path / "copy.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_copy_never_writes_over_a_file(other: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="exists already"):
        other.backup(tmp_path / "other.sqlite")
    with pytest.raises(DatabaseError, match="does not exist"):
        other.backup(tmp_path / "nowhere" / "copy.sqlite")


def test_a_server_is_not_copied_to_a_file(db: Database, tmp_path: Path) -> None:
    if db.engine.dialect.name == "sqlite":
        pytest.skip("only a server refuses this backup: the database of this turn is a file")
    with pytest.raises(DatabaseError, match="pg_dump"):
        db.backup(tmp_path / "copy.sqlite")


def test_an_import_that_is_killed_loses_no_finished_batch(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'killed.sqlite'}"
    tunedb.open(url).close()
    log = tmp_path / "long.log"
    log.write_text("\n".join(logs.autotvm(0, result=[[1 + index], 0, 1, 1]) for index in range(40_000)))
    program = "import sys, tunedb; tunedb.open(sys.argv[1]).import_log(sys.argv[2])"
    process = start("-c", program, url, str(log))
    with tunedb.open(url) as db:
        while not db.stats().trials and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        stored = db.stats().trials
        assert stored % 10_000 == 0
        done = db.import_log(str(log))
        assert (done.new, done.duplicate) == (40_000 - stored, stored)
        with db.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_compact_database_has_lost_nothing_but_what_nobody_refers_to(db: Database) -> None:
    fill(db, 0, *(1 + number for number in range(300)))
    with db.write() as connection:
        connection.exec_driver_sql("DELETE FROM trial WHERE sequence >= 10")
    done = db.compact()
    best, stored = db.best(*BEST), db.stats()
    assert (best.seconds, stored.trials) == (1.0, 10)
    assert db.check().problems == ()
    if db.engine.dialect.name == "sqlite":
        assert (done.schedules, done.environments, stored.schedules) == (290, 0, 10)
        assert done.after < done.before / 2
        with db.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    fill(db, 1, 0.5)
    assert db.best(*BEST).seconds == 0.5


def test_a_file_that_another_process_has_open_is_not_compacted(other: Database) -> None:
    fill(other, 0, 0.5)
    writer = start(samples.__file__, other.url, "1", "100000")
    assert writer.stdout is not None
    writer.stdout.readline()
    with pytest.raises(DatabaseError, match="another process has the database open"):
        other.compact()
    writer.stdout.readline()
    writer.kill()
    writer.communicate()
    other.compact()
    assert other.check().problems == ()
