import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import tunedb
from tests.tunedb import logs, samples
from tunedb import migrate
from tunedb.engine import make_engine
from tunedb.errors import DatabaseError, NewerDatabaseError, OutdatedDatabaseError
from tunedb.tables import METADATA, REVISION, VERSION_TABLE
from tuner.trial import Status
from tuner.workload import parse


def test_the_migrations_make_the_tables_that_the_program_declares(url: str) -> None:
    with tunedb.open(url) as db:
        migrate.check(db.engine)
        with db.read() as connection:
            assert set(inspect(connection).get_table_names()) == {*METADATA.tables, VERSION_TABLE}


def test_a_difference_from_the_declared_tables_is_found(url: str) -> None:
    with tunedb.open(url) as db:
        with db.write() as connection:
            connection.execute(text("ALTER TABLE workload ADD COLUMN colour INTEGER"))
        with pytest.raises(OutdatedDatabaseError, match="colour"):
            migrate.check(db.engine)


def test_tables_are_put_beside_those_of_another_program_only_when_asked_and_leave_them_alone(url: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    with pytest.raises(DatabaseError, match="has tables of another program, such as alembic_version"):
        tunedb.open(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(engine)
    engine.dispose()
    with tunedb.open(url) as db:
        migrate.check(db.engine)
        with db.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"


@pytest.fixture
def old(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database as an earlier release left it: one trial failed, one was confirmed, since 0002 one was retracted.

    In 0004 there are also three records of AutoTVM.
    """
    path = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "fixtures" / f"{request.param}.sql").read_text())
    return f"sqlite:///{path}"


@pytest.mark.parametrize("old", ["0001", "0002", "0003", "0004"], indirect=True)
def test_a_database_of_an_earlier_release_upgrades_and_answers(old: str) -> None:
    with pytest.raises(OutdatedDatabaseError, match="run `tunedb db upgrade`"):
        tunedb.open(old)
    engine = make_engine(old)
    migrate.upgrade(engine)
    migrate.check(engine)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    engine.dispose()
    with tunedb.open(old) as db:
        best = db.best(samples.WORKLOAD, samples.TARGET)
        assert best.trial == samples.trial(2, (0.1, 0.2, 0.3, 0.15, 0.16))
        trials = len(db.history(samples.WORKLOAD))
        with db.session(samples.arguments()) as session:
            session.add(samples.trial(trials))
        assert db.check().problems == ()


@pytest.mark.parametrize("old", ["0004"], indirect=True)
def test_imported_trials_outlive_an_upgrade(old: str, tmp_path: Path) -> None:
    engine = make_engine(old)
    migrate.upgrade(engine)
    engine.dispose()
    log = tmp_path / "some.log"
    log.write_text("\n".join((logs.autotvm(0), logs.autotvm(1), logs.FAILED, logs.autotvm(2))))
    with tunedb.open(old) as db:
        assert db.import_log(str(log)).new == 1
        assert len(db.imported(parse("resnet18.C2"), "1b4ba0f2", n=9)) == 3


@pytest.mark.parametrize("status", ["correct", "fine", ""])
def test_only_a_known_status_is_stored(url: str, status: str) -> None:
    with tunedb.open(url) as db:
        with db.session(samples.arguments()) as session:
            session.add(samples.trial(status=Status.COMPILE))
        update = text("UPDATE trial SET status = :status")
        with (
            pytest.raises(DatabaseError) if status != "correct" else contextlib.nullcontext(),
            db.write() as connection,
        ):
            connection.execute(update, {"status": status})


def test_upgrading_what_is_up_to_date_changes_nothing(url: str) -> None:
    engine = make_engine(url)
    assert migrate.upgrade(engine) is None
    assert migrate.upgrade(engine) == REVISION
    engine.dispose()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(url: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE workload (id INTEGER)"))
    with pytest.raises(Exception, match="workload"):
        migrate.upgrade(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["workload"]
    engine.dispose()


def test_the_declared_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.script_location()))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def _set_revision(url: str, revision: str) -> None:
    with tunedb.open(url) as db, db.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'"))


def test_a_newer_database_is_refused_by_name(url: str) -> None:
    _set_revision(url, "9999")
    with pytest.raises(NewerDatabaseError, match=f"revision 9999, which this .*{REVISION}. does not know: upgrade"):
        tunedb.open(url)
    engine = make_engine(url)
    with pytest.raises(NewerDatabaseError):
        migrate.upgrade(engine)
    engine.dispose()


def test_an_older_database_is_refused_with_the_command_to_run(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "schema"
    shutil.copytree(migrate.script_location(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    newer = f"revision = '0000'\ndown_revision = '{REVISION}'\ndef upgrade() -> None: ...\n"
    (scripts / "versions" / "0000_test.py").write_text(newer)
    tunedb.open(url).close()
    monkeypatch.setattr(migrate, "script_location", lambda: scripts)
    monkeypatch.setattr(migrate, "REVISION", "0000")
    with pytest.raises(OutdatedDatabaseError, match="run `tunedb db upgrade`"):
        tunedb.open(url)
    engine = make_engine(url)
    assert migrate.upgrade(engine) == REVISION
    engine.dispose()
    tunedb.open(url).close()


def test_opening_a_database_that_is_up_to_date_needs_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.sqlite'}"
    tunedb.open(url).close()
    program = f"import sys, tunedb; tunedb.open({url!r}).close(); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
