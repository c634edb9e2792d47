"""Whole files that are not what they should be: a line says so, and nothing is lost or written."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import logs
from tunedb.cli import main


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trials.sqlite'}"


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code != 1 or result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.stderr
    return result


def optuna(path: Path) -> Path:
    """A database such as Optuna makes, as far as it matters here."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR(512));"
            "CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, number INTEGER, study_id INTEGER);"
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"
            "INSERT INTO studies VALUES (1, 'theirs'); INSERT INTO alembic_version VALUES ('v3.2.0.a')"
        )
    return path


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        ("{}".encode("utf-16"), "in no format that tunedb knows"),
        (logs.autotvm().encode("utf-32"), "in no format that tunedb knows"),
        (b"\x1f\x8b\x08", "ends in the middle of its gzip stream"),
        (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 100, "is a damaged gzip file"),
        (b"%PDF-1.7", "in no format that tunedb knows"),
    ],
)
def test_a_file_that_is_no_log_is_refused_in_a_line(tmp_path: Path, url: str, content: bytes, message: str) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(content)
    result = call("import", str(path), "--db", url)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line


def test_a_folder_is_no_log(tmp_path: Path, url: str) -> None:
    assert "Is a directory" in call("import", str(tmp_path), "--db", url).stderr


def test_the_database_of_another_program_is_no_log(tmp_path: Path, url: str) -> None:
    path = optuna(tmp_path / "optuna.sqlite")
    assert "in no format that tunedb knows" in call("import", str(path), "--db", url).stderr


def test_the_database_of_another_program_is_not_merged_and_not_written_to(tmp_path: Path, url: str) -> None:
    path = optuna(tmp_path / "optuna.sqlite")
    before = tables(path)
    result = call("merge", str(path), "--db", url)
    assert (result.exit_code, "has no tables of tunedb" in result.stderr) == (4, True)
    assert tables(path) == before


def test_records_of_several_formats_in_one_file_are_told_apart(tmp_path: Path, url: str) -> None:
    path = tmp_path / "mixed.log"
    path.write_text("\n".join([logs.autotvm(), logs.ansor(), logs.metaschedule(), "hello", logs.autotvm(1)]))
    assert call("import", str(path), "--db", url).exit_code == 0
    with tunedb.open(url) as db:
        number, kept = db.quarantine()
        assert (db.stats().trials, number, [each.line for each in kept]) == (2, 3, [2, 3, 4])


def test_a_line_of_100_megabytes_is_put_aside_in_little_memory(tmp_path: Path, url: str) -> None:
    path = tmp_path / "long.log.gz"
    line = logs.autotvm().encode()
    path.write_bytes(gzip.compress(line + b"\n{" + b"x" * 100_000_000 + b"\n" + line.replace(b"0.25", b"0.5"), 1))
    assert call("import", str(path), "--db", url).exit_code == 0
    with tunedb.open(url) as db:
        assert (db.stats().trials, db.quarantine()[0]) == (2, 1)


def test_a_document_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedb.formats.source.LARGEST_DOCUMENT", 1_000_000)
    path = tmp_path / "bomb_T4.json"
    path.write_bytes(gzip.compress(b'{"invalidity": 1, "configuration": [' + b"0," * 10_000_000, 1))
    assert "too large for one document" in call("import", str(path), "--db", url).stderr
