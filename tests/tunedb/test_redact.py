"""Exports that name no host and no user, and passwords that are printed nowhere."""

import csv
import getpass
import io
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import logs, samples
from tests.tunedb.test_lookup import store
from tunedb import Database
from tunedb.cli import main
from tunedb.engine import hide_password, make_engine
from tunedb.errors import DatabaseError
from tunedb.redact import Redactor
from tuner.trial import Environment, Status

SECRETS = ("alpha", "bravo", "charlie", "delta", "kilo.example.org", "oscar")


@pytest.fixture
def named(db: Database, tmp_path: Path) -> Database:
    """A database with a name in every place where an export may find one."""
    environment = Environment((("kernel", "6.1.0-built-by-charlie@delta"), ("llvm", "20.1.8")))
    message = "cannot open /home/bravo/cache/x.o on alpha.kilo.example.org"
    store(
        db,
        replace(samples.trial(0), environment=environment),
        replace(samples.trial(1, status=Status.COMPILE, message=message), environment=environment),
        samples.trial(2, (0.125,)),
    )
    db.retract(db.best(samples.WORKLOAD, samples.TARGET).fingerprint, "oscar@alpha saw /home/bravo full")
    log = tmp_path / "some.log"
    log.write_text(logs.autotvm() + "\n" + logs.autotvm(1, note="measured by bravo at /Users/bravo/tvm"))
    db.import_log(
        str(log), machine="alpha", labels={"owner": "bravo", "note": "the box of oscar@alpha", "cpu": "3700x"}
    )
    (tmp_path / "bravo.json").write_text(json.dumps(logs.t4()))
    db.import_log(str(tmp_path / "bravo.json"), machine="alpha")
    found = db.imported(tunedb.workload("resnet18.C2"))[0]
    db.retract(found.fingerprint, "bravo saw alpha throttle")
    return db


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def exported(url: str, tmp_path: Path, format: str, *more: str) -> str:
    file = tmp_path / f"out.{format}"
    result = call("export", "--format", format, "-o", str(file), "--db", url, *more)
    assert result.exit_code == 0, result.output
    if format != "parquet":
        return file.read_text()
    parquet = pytest.importorskip("pyarrow.parquet")
    return json.dumps(parquet.read_table(file).to_pylist(), default=str)


@pytest.mark.parametrize("format", ["tunedb", "autotvm", "t4", "csv", "parquet"])
def test_no_name_is_left_in_a_redacted_export(named: Database, url: str, tmp_path: Path, format: str) -> None:
    plain = exported(url, tmp_path, format)
    assert any(secret in plain for secret in SECRETS)
    redacted = exported(url, tmp_path, format, "--redact")
    assert [secret for secret in SECRETS if secret in redacted] == []
    assert "anon-" in redacted
    assert "3700x" in redacted or "3700x" not in plain
    assert len(redacted.splitlines()) == len(plain.splitlines())


def test_equal_names_stay_equal_within_a_file_and_change_from_file_to_file(
    named: Database, url: str, tmp_path: Path
) -> None:
    files = [list(csv.DictReader(io.StringIO(exported(url, tmp_path, "csv", "--redact")))) for _ in range(2)]
    machines = [
        {json.loads(row["target_description"])["machine"] for row in rows if row["origin"] != "tunedb"}
        for rows in files
    ]
    assert [len(found) for found in machines] == [1, 1]
    assert machines[0] != machines[1]
    assert not {row["trial"] for row in files[0]} & {row["trial"] for row in files[1]}  # a guess has no yardstick


def test_a_redacted_log_is_imported_again(named: Database, url: str, tmp_path: Path) -> None:
    log = tmp_path / "redacted.jsonl"
    log.write_text(exported(url, tmp_path, "tunedb", "--redact"))
    with tunedb.open(f"sqlite:///{tmp_path / 'fresh.sqlite'}") as fresh:
        assert fresh.import_log(str(log)).new == 3
        assert fresh.best(samples.WORKLOAD, samples.TARGET).seconds == named.best(*QUESTION).seconds
        assert fresh.check().problems == ()


QUESTION = (samples.WORKLOAD, samples.TARGET)


def test_this_machine_and_its_user_are_known_by_name(db: Database) -> None:
    redactor = db.redactor()
    host, user = socket.gethostname(), getpass.getuser()
    text = redactor.text(f"on {host}, by /home/{user}/x")
    assert f" {host}," not in text
    assert f"/{user}/" not in text


def test_a_name_is_found_in_capitals_with_its_domain_and_not_inside_words() -> None:
    redactor = Redactor({"alpha", "al", "root", ""})
    token = redactor.name("alpha")
    assert redactor.text("Alpha, alpha.example.org and ALPHA") == f"{token}, {token} and {token}"
    assert redactor.text("alphabet, an-alpha-particle, root cause, ~20.04") == (
        "alphabet, an-alpha-particle, root cause, ~20.04"
    )
    assert (
        redactor.text(r"C:\Users\bob\x ~carol/y") == rf"C:\Users\{redactor.name('bob')}\x ~{redactor.name('carol')}/y"
    )
    assert Redactor(set()).text("alpha") == "alpha"
    assert Redactor({"alpha"}).name("alpha") != token


PASSWORD = "s3cret"
PLACES = [
    f"postgresql+psycopg://tunedb:{PASSWORD}@127.0.0.1:1/x",
    f"postgresql+psycopg://tunedb:{PASSWORD}/1@2@127.0.0.1:1/x",
    f"postgresql+psycopg://tunedb:a {PASSWORD}@127.0.0.1:1/x",
    f"postgresql+psycopg://tunedb:a@{PASSWORD}@127.0.0.1:1/x",
    f"postgresql+psycopg://tunedb@127.0.0.1:1/x?password={PASSWORD}",
    f"postgresql+psycopg:/tunedb:{PASSWORD}@127.0.0.1:1/x",
    f"postgresql+psycopg://tunedb:{PASSWORD}@127.0.0.1:port/x",
    f"mysql://tunedb:{PASSWORD}@127.0.0.1/x",
]
ARGUMENTS = {
    "tune": ("matmul(m=4,k=4,n=4)", "--trials", "2", "--threads", "1", "--tuner", "random"),
    "best": ("matmul(m=4,k=4,n=4)",),
    "top": ("matmul(m=4,k=4,n=4)",),
    "history": ("matmul(m=4,k=4,n=4)",),
    "show": ("matmul(m=4,k=4,n=4)",),
    "run": ("matmul(m=4,k=4,n=4)",),
    "next": ("resnet18",),
    "verify": ("matmul(m=4,k=4,n=4)",),
    "compare": ("--with", "OTHER"),
    "import": ("OTHER.jsonl",),
    "export": (),
    "quarantine": (),
    "merge": ("OTHER",),
    "retract": ("0" * 8, "--reason", "x"),
    "check": (),
    "backup": ("OTHER.sqlite",),
    "stats": (),
    "stale": (),
    "db upgrade": (),
    "db current": (),
    "db check": (),
    "model train": (),
    "model list": (),
    "model show": ("x",),
    "model evaluate": ("x",),
    "model export": ("x", "-o", "OTHER.bin"),
    "model import": ("OTHER.bin",),
    "compact": (),
    "experiment list": (),
    "experiment run": ("no-such-experiment",),
    "experiment report": ("no-such-experiment",),
    "experiment replay": (),
}


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, f"{path} {name}".strip())


def printed(name: str, folder: Path, url: str, *more: str, **environment: str) -> str:
    """All that the command lets out. Another database that it asks for is that of ``url``."""
    arguments = [each.replace("OTHER", url if each == "OTHER" else str(folder / "x")) for each in ARGUMENTS[name]]
    result = call(*name.split(), *arguments, *more, **environment)
    return result.output + result.stderr + repr(result.exception)


def test_every_command_is_asked_for_passwords() -> None:
    assert sorted(ARGUMENTS) == sorted(leaves(main))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_command_prints_the_password_of_a_database_it_cannot_use(name: str, tmp_path: Path) -> None:
    own = f"sqlite:///{tmp_path / 'own.sqlite'}"
    texts = [printed(name, tmp_path, place, "--db", place) for place in PLACES]
    texts.append(printed(name, tmp_path, PLACES[0], "--db", PLACES[0], "--json"))
    texts.append(printed(name, tmp_path, PLACES[0], PLACES[0]))  # an argument too many, perhaps
    texts.append(printed(name, tmp_path, PLACES[0], TUNEDB_URL=PLACES[0]))
    texts.append(printed(name, tmp_path, PLACES[0], "--db", own, TUNEDB_BASE_URLS=PLACES[0]))
    assert [text for text in texts if PASSWORD in text] == []


def test_no_command_prints_the_password_of_its_database(postgres_url: str, url: str, tmp_path: Path) -> None:
    if url != postgres_url or "tunedb@" not in url:
        pytest.skip("only a server has passwords")
    secret = url.replace("tunedb@", f"tunedb:{PASSWORD}@")
    for name in ARGUMENTS:
        for more in ((), ("--json",)):
            assert PASSWORD not in printed(name, tmp_path, secret, "--db", secret, *more), name


@pytest.mark.parametrize("place", PLACES)
def test_no_error_says_a_password(place: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        tunedb.open(place)
    assert PASSWORD not in str(caught.value)


def test_what_hides_a_password_leaves_the_rest() -> None:
    assert hide_password(f"see postgresql://me:{PASSWORD}@host/x?sslpassword={PASSWORD}&y=1, please") == (
        "see postgresql://me:***@host/x?sslpassword=***&y=1, please"
    )
    for harmless in ("sqlite:////home/me/x.sqlite", "postgresql://me@host/x", "at 12:30:00 by me@host"):
        assert hide_password(harmless) == harmless
    assert PASSWORD not in repr(Database(make_engine(PLACES[0])))
