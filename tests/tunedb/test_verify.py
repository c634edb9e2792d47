"""Measuring stored trials again: real kernels in a real measuring process, on this machine."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import logs, samples
from tests.tunedb.test_lookup import store
from tests.tuner.measure import programs
from tunedb import Database
from tunedb import verify as verifying
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.compare import Measured
from tunedb.errors import NotFoundError
from tunedb.verifications import Verdict
from tunedb.verify import DRIFT, verify
from tuner.codegen.program import Program
from tuner.target import Target
from tuner.trial import Status, Trial

HERE = Target.host(threads=1)
WORKLOAD = programs.WORKLOAD


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that a real session has filled."""
    url = f"sqlite:///{tmp_path_factory.mktemp('verify') / 'tuned.sqlite'}"
    with tunedb.open(url) as db:
        tunedb.tune(WORKLOAD, db=db, trials=3, threads=1, tuner="random")
    return url


@pytest.fixture
def own(db: Database, tuned: str) -> Database:
    """A database of each kind with the trials of that session."""
    with tunedb.open(tuned) as source:
        db.merge(source)
    return db


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    with tunedb.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as database:
        yield database


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def best(db: Database) -> Measured:
    return db.trial(db.best(WORKLOAD, HERE).fingerprint)


def made_up(db: Database, trial: Trial) -> Measured:
    """``trial`` as the only one of a session, fast enough to be the best."""
    store(db, replace(trial, times=(1e-9,) * 6, sequence=0))
    return best(db)


def instead(monkeypatch: pytest.MonkeyPatch, program: Callable[[], Program]) -> None:
    """What the code generator would make if it were broken."""
    monkeypatch.setattr(verifying, "build", lambda workload, schedule, target: program())


def test_what_is_found_is_stored_beside_the_trial(own: Database) -> None:
    trial = best(own)
    (found,) = verify(own, [trial])
    assert found.status in (Verdict.CONFIRMED, Verdict.DRIFTED)
    assert found.seconds is not None
    assert (found.trial, found.before, found.ratio) == (
        trial.fingerprint,
        trial.seconds,
        found.seconds / trial.seconds,
    )
    assert len(found.times) >= 5
    assert found.error is not None
    assert own.verifications(WORKLOAD) == (found,)
    assert best(own) == trial
    assert own.explain(WORKLOAD, HERE).verifications == (found,)
    assert own.check().problems == ()


def test_a_time_that_is_another_one_now_has_drifted(own: Database) -> None:
    trial = made_up(own, best(own).trial)
    (found,) = verify(own, [trial])
    assert found.status is Verdict.DRIFTED
    assert found.ratio is not None
    assert found.ratio > 1 + DRIFT
    assert best(own) == trial


def test_a_kernel_that_turns_out_wrong_is_forgotten(own: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    right = best(own)
    wrong = made_up(own, right.trial)
    instead(monkeypatch, programs.wrong)
    (found,) = verify(own, [wrong])
    assert (found.status, found.times, found.seconds) == (Verdict.WRONG, (), None)
    assert found.message is not None
    assert "inputs of seed" in found.message
    assert best(own) == right
    assert own.explain(WORKLOAD, HERE).retracted == 1
    assert own.check().problems == ()


def test_a_kernel_that_crashes_is_reported_and_stays(own: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = best(own)
    instead(monkeypatch, programs.segfault)
    (found,) = verify(own, [trial])
    assert found.status is Verdict.FAILED
    assert found.message is not None
    assert found.message.startswith("runtime: the kernel was killed by SIGSEGV")
    assert best(own) == trial


def test_only_what_was_measured_on_this_machine_can_be_verified(db: Database) -> None:
    store(db, samples.trial(0), samples.trial(1, status=Status.RUNTIME, target=HERE))
    elsewhere = db.trial(db.best(samples.WORKLOAD, samples.TARGET).fingerprint)
    with pytest.raises(NotFoundError, match=r"is of cpu-znver5-avx2-2t.*verify it there"):
        verify(db, [elsewhere])
    with db.read() as connection:
        statement = "SELECT fingerprint FROM trial WHERE status = 'runtime'"
        failed = db.trial(connection.exec_driver_sql(statement).scalar_one())
    with pytest.raises(NotFoundError, match="ended as runtime: only one with a time"):
        verify(db, [failed])


def test_a_record_of_another_tool_cannot_be_verified(db: Database, tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_text(logs.autotvm())
    db.import_log(str(log))
    record = db.imported(tunedb.workload("resnet18.C2"))[0].fingerprint
    with pytest.raises(NotFoundError, match="is a record of another tool"):
        db.trial(record)


def test_a_merge_takes_verifications_along(own: Database, other: Database) -> None:
    found = verify(own, [best(own)])
    other.merge(own)
    assert other.verifications(WORKLOAD) == found
    other.merge(own)
    assert other.verifications(WORKLOAD) == found
    assert other.check().problems == ()


def test_a_damaged_verification_is_found(own: Database) -> None:
    verify(own, [best(own)])
    with own.write() as connection:
        connection.exec_driver_sql("UPDATE verification SET seconds = 7")
    assert "7.0 is not the median of its times" in own.check().problems[0]


def test_the_command_shows_before_and_now_and_history_remembers(own: Database, url: str) -> None:
    arguments = (WORKLOAD.key, "--threads", "1", "--db", url)
    assert "now / before" in call("verify", *arguments, "-n", "2").stdout
    name = best(own).fingerprint
    (found,) = json.loads(call("verify", name[:8], "--db", url, "--json").stdout)["verified"]
    assert (found["trial"], found["workload"]) == (name, WORKLOAD.key)
    assert found["status"] in ("confirmed", "drifted")
    history = json.loads(call("history", WORKLOAD.key, "--db", url, "--json").stdout)
    assert len(history["verifications"]) == 3
    assert "3 measured again" in (text := call("history", WORKLOAD.key, "--db", url).stdout)
    assert text.count("  again  ") == 3
    assert "the last of 2 times" in call("best", *arguments, "--explain").stdout
    explained = json.loads(call("best", *arguments, "--explain", "--json").stdout)
    assert len(explained["verifications"]) == 2


def test_the_command_fails_when_an_output_is_wrong(own: Database, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, programs.wrong)
    result = call("verify", WORKLOAD.key, "--threads", "1", "--db", url)
    assert result.exit_code == Exit.FAILED
    assert "wrong" in result.stdout
    assert "1 of 1 trials" in result.stderr
    assert call("verify", "0" * 8, "--db", url).exit_code == Exit.NOT_FOUND
