"""What every database must do, whatever it is made of; and the mistakes of people who name one."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

import tunedb
from tests.tunedb import samples
from tunedb import Database
from tunedb.errors import DatabaseError, SessionBusyError, SessionLostError
from tunedb.tables import SESSION, TRIAL
from tuner.trial import Status


def test_a_trial_comes_back_as_it_went_in(db: Database) -> None:
    trials = (
        samples.trial(0, (1 / 3, 0.1 + 0.2, 5e-324)),
        samples.trial(1, status=Status.RUNTIME, message="signal 11: \N{SNOWMAN}"),
        replace(samples.trial(2), compile_seconds=None, config={}),
    )
    with db.session(samples.arguments()) as session:
        for trial in trials:
            session.add(trial)
    assert db.history(samples.WORKLOAD) == trials


def test_a_failure_has_no_time_and_a_status(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(status=Status.TIMEOUT, message="ran longer than 4 s"))
    with db.read() as connection:
        row = connection.execute(select(TRIAL)).one()
    assert (row.status, row.seconds, row.spread, row.verified) == ("timeout", None, None, False)


def test_an_error_that_is_no_number_is_not_stored_as_one(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(replace(samples.trial(), error=float("nan")))
    assert db.history(samples.WORKLOAD)[0].error is None
    assert db.stats().verified == 0


def test_the_same_arguments_find_the_same_session(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
    with db.session(samples.arguments()) as session:
        assert session.trials() == (samples.trial(0),)
        session.add(samples.trial(1))
    assert db.stats().sessions == 1


def test_another_seed_is_another_session(db: Database) -> None:
    with db.session(samples.arguments(seed=1)) as session:
        session.add(samples.trial(0))
    with db.session(samples.arguments(seed=2)) as session:
        assert session.trials() == ()


def test_confirming_repeats_are_a_round_of_their_own_and_move_the_median(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0, (1.0, 3.0)))
        session.extend_times(0, (4.0, 5.0, 6.0))
        (trial,) = session.trials()
    assert trial.times == (1.0, 3.0, 4.0, 5.0, 6.0)
    with db.read() as connection:
        row = connection.execute(select(TRIAL)).one()
    assert row.times == [[1.0, 3.0], [4.0, 5.0, 6.0]]
    assert (row.seconds, row.spread, row.repeats) == (4.0, 1.0, 5)


def test_repeats_for_a_trial_that_is_not_there_are_refused(db: Database) -> None:
    with db.session(samples.arguments()) as session, pytest.raises(DatabaseError, match="no trial 7"):
        session.extend_times(7, (1.0,))


def test_a_place_in_a_session_holds_one_trial(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
        with pytest.raises(DatabaseError, match="trial 0 of this session is stored already"):
            session.add(samples.trial(0, tile=9))
        assert session.trials() == (samples.trial(0),)


def test_a_live_session_is_refused_to_others(db: Database) -> None:
    with (
        db.session(samples.arguments()),
        pytest.raises(SessionBusyError, match=f"process {os.getpid()} on .* is running this tuning session"),
        db.session(samples.arguments()),
    ):
        pass


def test_a_session_says_how_it_ended(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), db.session(samples.arguments(1)):
        raise ZeroDivisionError
    with db.session(samples.arguments(2)):
        pass
    with db.read() as connection:
        states = connection.scalars(select(SESSION.c.state).order_by(SESSION.c.id)).all()
    assert states == ["interrupted", "finished"]


def test_a_silent_session_is_taken_over_and_its_first_process_told(db: Database) -> None:
    with db.session(samples.arguments()) as first:
        first.add(samples.trial(0))
        with db.write() as connection:
            connection.execute(update(SESSION).values(heartbeat=datetime.now(UTC) - timedelta(minutes=5)))
        with db.session(samples.arguments()) as second:
            assert len(second.trials()) == 1
            with pytest.raises(SessionLostError):
                first.add(samples.trial(1))
            second.add(samples.trial(1, tile=3))
    assert [trial.config["tile"] for trial in db.history(samples.WORKLOAD)] == [(1, 4), (3, 4)]


def test_the_session_of_a_dead_process_is_taken_over_at_once(db: Database) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with db.session(samples.arguments()):
        with db.write() as connection:
            connection.execute(update(SESSION).values(pid=int(child.stdout)))
        with db.session(samples.arguments()):
            pass


def test_a_write_unit_that_fails_leaves_nothing(db: Database) -> None:
    def write_and_fail() -> None:
        with db.write() as connection:
            connection.execute(update(SESSION).values(state="interrupted"))
            raise ZeroDivisionError

    with db.session(samples.arguments()):
        with pytest.raises(ZeroDivisionError):
            write_and_fail()
        with db.read() as connection:
            assert connection.scalar(select(SESSION.c.state)) == "running"


def test_counts_add_up(db: Database) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
        session.add(samples.trial(1, error=0.5))
        session.add(samples.trial(2, status=Status.COMPILE))
    stats = db.stats()
    assert (stats.workloads, stats.targets, stats.schedules, stats.sessions, stats.trials) == (1, 1, 3, 1, 3)
    assert (stats.verified, stats.statuses["correct"], stats.statuses["compile"]) == (1, 2, 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TUNEDB_URL", raising=False)
    return tmp_path


def test_without_a_url_the_database_lies_in_the_data_folder(home: Path) -> None:
    with tunedb.open() as db:
        assert db.url.startswith(f"sqlite:///{home}")
        assert db.url.endswith("tunedb.sqlite")


def test_the_environment_names_the_database(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDB_URL", f"sqlite:///{home}/mine.sqlite")
    tunedb.open().close()
    assert (home / "mine.sqlite").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("tuning.sqlite", "is not a database URL: write sqlite:///"),
        ("oracle9://somewhere", "not a database tunedb knows"),
        ("mysql://somewhere/name", "mysql is not a database tunedb knows: use sqlite or postgresql"),
        ("sqlite:////no/such/folder/t.sqlite", "the folder /no/such/folder does not exist"),
        ("sqlite:////", "is a folder"),
    ],
)
def test_a_url_that_cannot_work_is_explained(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        tunedb.open(url)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 200)
    with pytest.raises(DatabaseError, match=r"notes\.txt: this file is not a SQLite database"):
        tunedb.open(f"sqlite:///{path}")
    assert path.read_text() == "buy milk\n" * 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DatabaseError, match="is read-only"):
            tunedb.open(f"sqlite:///{tmp_path / 't.sqlite'}")
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_is_explained_and_what_is_stored_stays(tmp_path: Path) -> None:
    with tunedb.open(f"sqlite:///{tmp_path / 't.sqlite'}") as db:
        with db.session(samples.arguments()) as session:
            session.add(samples.trial(0))
            with db.engine.connect() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(DatabaseError, match="the disk is full: free some space"):
                session.add(samples.trial(1, message="x" * 1_000_000))
        assert db.history(samples.WORKLOAD) == (samples.trial(0),)


def test_a_password_is_never_shown() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError) as caught:
        tunedb.open("postgresql+psycopg://me:secret@127.0.0.1:1/trials")
    assert "cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trial_is_in_the_hands_of_the_system_when_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with tunedb.open(f"sqlite:///{path}") as db, db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
        other = sqlite3.connect(path)
        assert other.execute("SELECT count(*) FROM trial").fetchone() == (1,)
        other.close()
