"""Arguments, URLs and terminals that are not what they should be: one line that says so, and nothing is changed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import logs, samples
from tests.tunedb.test_bad_input import optuna, tables
from tunedb import Database
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.errors import DatabaseError

MATMUL = "matmul(m=4,k=4,n=4)"
LARGEST = 2**31 - 1
FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'own.sqlite'}"
    monkeypatch.setenv("TUNEDB_URL", url)
    return url


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def refused(code: Exit, *arguments: str) -> str:
    """The line that a command ends in, after the usage if that is what was wrong."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    usage = code is Exit.USAGE and result.stderr.startswith("Usage: ")
    *before, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert usage or not before
    return line


@pytest.mark.parametrize(
    "arguments",
    [
        ("top", MATMUL, "-n", str(10**20)),
        ("history", MATMUL, "-n", str(10**20)),
        ("quarantine", "-n", str(10**20)),
        ("verify", MATMUL, "-n", str(10**20)),
        ("best", MATMUL, "--threads", str(10**20)),
        ("tune", MATMUL, "--threads", "100000"),
        ("run", MATMUL, "--default", "--threads", "100000"),
        ("experiment", "run", "--jobs", str(10**9)),
    ],
)
def test_a_number_beyond_all_measure_is_a_mistake_of_usage(arguments: tuple[str, ...]) -> None:
    assert "is not in the range" in refused(Exit.USAGE, *arguments)


@pytest.mark.parametrize("size", [10**6, LARGEST])
@pytest.mark.parametrize("command", [("run", "--default"), ("tune", "--trials", "1")])
def test_what_does_not_fit_into_memory_is_said_in_a_line(command: tuple[str, ...], size: int) -> None:
    line = refused(Exit.FAILED, command[0], f"matmul(m={size},k={size},n={size})", *command[1:])
    assert "not enough memory" in line
    assert "site-packages" not in line


def test_a_text_that_is_not_utf8_is_refused_and_changes_nothing() -> None:
    with tunedb.open() as db, db.session(samples.arguments()) as session:
        session.add(samples.trial())
    with tunedb.open() as db:
        name = fingerprint(db)
    assert "'\\udce9' cannot be written as utf-8" in refused(Exit.USAGE, "retract", name, "--reason", "caf\udce9")
    with tunedb.open() as db:
        assert fingerprint(db) == name


@pytest.mark.parametrize("name", ["caf\udce9", "two\nlines"])
def test_a_database_whose_name_cannot_be_shown_is_refused_and_not_made(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "signs that cannot be shown" in refused(Exit.DATABASE, "stats", "--db", f"sqlite:///{folder}/{name}.sqlite")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device to write to")
def test_an_output_that_takes_nothing_more_is_one_line() -> None:
    command = [sys.executable, "-m", "tunedb", "best", MATMUL, "--source", "default", "--json"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (Exit.FAILED, "Error: the output: No space left on device\n")


def test_a_reader_who_has_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "tunedb", "show", MATMUL, "--default", "--what", "asm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""


def test_an_interrupt_before_anything_is_begun_is_no_traceback() -> None:
    program = """if True:
        import os, signal, sys

        class Interrupting:
            def find_spec(self, name, *rest):
                if name == "sqlalchemy":
                    os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        sys.meta_path.insert(0, Interrupting())
        sys.argv[1:] = ["stats"]
        from tunedb.__main__ import run
        run()"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("command", [("merge",), ("compare", "--with")])
def test_the_other_database_is_only_read(tmp_path: Path, command: tuple[str, ...]) -> None:
    with tunedb.open() as db, db.session(samples.arguments()) as session:
        session.add(samples.trial())
    theirs = optuna(tmp_path / "optuna.sqlite")
    before = tables(theirs)
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    for other in (theirs, empty):
        assert "has no tables of tunedb" in refused(Exit.DATABASE, *command, str(other))
    assert (tables(theirs), empty.stat().st_size) == (before, 0)
    missing = tmp_path / "missing.sqlite"
    assert "is no file" in refused(Exit.USAGE, *command, str(missing))
    assert "is not there" in refused(Exit.DATABASE, *command, f"sqlite:///{missing}")
    assert "in memory" in refused(Exit.DATABASE, *command, "sqlite://")
    assert not missing.exists()


@pytest.mark.parametrize("command", [("stats",), ("check",), ("best", MATMUL), ("import", os.devnull), ("merge", "X")])
def test_the_database_of_another_program_gets_no_tables_by_the_way(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = optuna(tmp_path / "optuna.sqlite")
    before = tables(path)
    with tunedb.open(f"sqlite:///{tmp_path / 'other.sqlite'}"):
        pass
    arguments = [str(tmp_path / "other.sqlite") if each == "X" else each for each in command]
    line = refused(Exit.DATABASE, *arguments, "--db", f"sqlite:///{path}")
    assert "has tables of another program, such as alembic_version" in line
    assert tables(path) == before


def test_a_backup_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    assert "cannot be written" in refused(Exit.DATABASE, "backup", "/proc/nothing.sqlite")
    assert call("backup", str(tmp_path / "copy.sqlite")).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.sqlite"]


def test_the_json_of_an_import_has_the_files_that_cannot_be_read_too(tmp_path: Path) -> None:
    good = tmp_path / "good.log"
    good.write_text(logs.autotvm())
    result = call("import", "nothing.log", str(tmp_path), str(good), "--json")
    assert result.exit_code == Exit.FAILED
    found = [json.loads(f"{{{text}") for text in result.stdout.split("\n{")[1:]]
    found.insert(0, json.loads(result.stdout.partition("\n{")[0]))
    assert [(each["format"], each["new"], each["error"] is None) for each in found] == [
        (None, 0, False),
        (None, 0, False),
        ("autotvm", 1, True),
    ]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("sqlite:///x.sqlite?mode=ro", "takes no options"),
        ("sqlite:///x.sqlite?timeout=abc", "takes no options"),
        ("sqlite+aiosqlite:///x.sqlite", "is not a database tunedb knows"),
        ("postgresql+psycopg2://host/x", "is not a database tunedb knows"),
        ("postgresql+nothing://host/x", "is not a database tunedb knows"),
        ("postgresql://me:an@other@host/x", "write %40 for it"),
        ("sqlite:///" + 300 * "x", "File name too long"),
    ],
)
def test_a_url_that_cannot_work_says_why(place: str, message: str) -> None:
    assert message in refused(Exit.FAILED if "long" in message else Exit.DATABASE, "stats", "--db", place)


def test_a_database_without_tables_is_not_as_expected(tmp_path: Path) -> None:
    line = refused(Exit.DATABASE, "db", "check", "--db", f"sqlite:///{tmp_path / 'new.sqlite'}")
    assert line.endswith("is at revision none, this tunedb needs 0005: run `tunedb db upgrade`")


def test_a_base_in_memory_is_refused(own_database: str) -> None:
    with tunedb.open(own_database, bases=["sqlite://"]) as db, pytest.raises(DatabaseError, match="in memory"):
        db.best(samples.WORKLOAD)


def test_control_characters_of_a_log_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[2J.log"
    target = json.loads(logs.autotvm())["input"]
    target[0] = "llvm -mcpu=\x1b[31mred"
    path.write_text(logs.autotvm(input=target) + "\n{\x1b]0;title\x07 nonsense\n")
    call("import", str(path), "--format", "autotvm", "--machine", "box")
    for command in (("quarantine",), ("best", "resnet18.C2", "--source", "imported"), ("import", f"{path}x")):
        result = call(*command)
        assert "\\x1b" in result.output
        assert not set(result.output) & {"\x1b", "\x07"}
    assert call("quarantine", "--json").exit_code == 0


@pytest.mark.parametrize("name", ["", " ", "a\x1b[31m", "a\nb"])
def test_a_name_that_nobody_could_type_is_refused(tmp_path: Path, name: str) -> None:
    log = tmp_path / "some.log"
    log.write_text(logs.autotvm())
    for command in (["model", "train"], ["model", "import", str(log)]):
        assert "is no name" in refused(Exit.USAGE, *command, "--name", name)
    assert "is no name" in refused(Exit.USAGE, "import", str(log), "--machine", name)


@pytest.mark.parametrize("content", [b"", b"[]\n", b"{}\n", b"[" * 100_000, b"\xff\n", b'{"format": "tunedb-model"}\n'])
def test_what_is_no_model_is_refused_by_the_name_of_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.model"
    path.write_bytes(content)
    line = refused(Exit.FAILED, "model", "import", str(path), "--name", "mine")
    assert line.startswith(f"Error: {path}: it is no model that `tunedb model export` has written")


def test_an_experiment_is_missed_in_a_folder_that_has_none(tmp_path: Path) -> None:
    line = refused(Exit.USAGE, "experiment", "run", "mine", "--folder", str(tmp_path))
    assert line.endswith("name the folder of the TOML files with --folder")


def test_a_trial_is_as_fast_as_itself(own_database: str) -> None:
    with tunedb.open() as db, db.session(samples.arguments()) as session:
        session.add(samples.trial(times=(0.1, 0.2, 0.3)))
    with tunedb.open() as db:
        name = fingerprint(db)
    found = json.loads(call("compare", name, name, "--json").stdout)
    assert found["verdicts"] == {"a": 0, "b": 0, "same": 1, "undecided": 0}


def fingerprint(db: Database) -> str:
    return db.best(samples.WORKLOAD, samples.TARGET).fingerprint
