import gzip
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tunedb
from tests.tunedb import samples
from tunedb import Database
from tunedb.errors import FormatError
from tunedb.formats.common import Imported
from tunedb.formats.registry import FORMATS
from tunedb.formats.selection import Selection
from tunedb.formats.source import open_source
from tunedb.formats.writer import open_writer
from tuner.trial import Status

native = FORMATS["tunedb"]


def imported(database: Database, lines: Iterable[str]) -> Imported:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_bytes("\n".join(line.rstrip("\n") for line in lines).encode("utf-8", "surrogateescape"))
        return database.import_log(str(path), "tunedb")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    with tunedb.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as database:
        yield database


@pytest.fixture
def log(db: Database) -> str:
    """What a database with some trials exports."""
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0, (0.1 + 0.2, 1 / 3, 5e-324)))
        session.add(samples.trial(1, status=Status.RUNTIME, message="signal 11\n\N{SNOWMAN}"))
        session.add(samples.trial(2, (1e-3, 2e-3)))
        session.extend_times(2, (1.5e-3, 1e-3))
    return exported(db)


def exported(db: Database) -> str:
    stream = io.StringIO()
    native.write(db, stream, Selection())
    return stream.getvalue()


def changed(line: str, **fields: Any) -> str:
    return json.dumps({**json.loads(line), **fields})


def test_what_was_exported_and_imported_is_the_same_to_the_last_digit(db: Database, other: Database, log: str) -> None:
    result = imported(other, io.StringIO(log))
    assert (result.read, result.new, result.duplicate, result.quarantined) == (3, 3, 0, 0)
    assert other.history(samples.WORKLOAD) == db.history(samples.WORKLOAD)
    assert other.best(samples.WORKLOAD, samples.TARGET) == db.best(samples.WORKLOAD, samples.TARGET)
    assert exported(other) == log


def test_a_tolerance_comes_along(db: Database, other: Database) -> None:
    tight = samples.WORKLOAD.within(1e-6)
    with db.session(samples.arguments(workload=tight)) as session:
        session.add(samples.trial(0, error=5e-7, workload=tight))
    assert imported(other, exported(db).splitlines()).new == 1
    assert other.best(tight, samples.TARGET).trial.workload == tight
    assert other.best(samples.WORKLOAD, samples.TARGET) == other.best(tight, samples.TARGET)
    assert other.check().problems == ()


def test_importing_twice_adds_nothing(other: Database, log: str) -> None:
    imported(other, io.StringIO(log))
    before = other.stats()
    result = imported(other, io.StringIO(log + log))
    assert (result.read, result.new, result.duplicate, result.quarantined) == (6, 0, 6, 0)
    assert other.stats() == before


def test_importing_into_the_database_it_came_from_adds_nothing(db: Database, log: str) -> None:
    assert imported(db, io.StringIO(log)).duplicate == 3
    assert exported(db) == log


def test_rounds_that_were_confirmed_since_come_along(other: Database, log: str) -> None:
    last = json.loads(log.splitlines()[2])
    earlier = json.dumps({**last, "times": last["times"][:1]})
    imported(other, [earlier])
    assert other.best(samples.WORKLOAD, samples.TARGET).confidence.repeats == 2
    assert imported(other, io.StringIO(log)).duplicate == 1
    assert imported(other, [earlier]).duplicate == 1
    assert other.history(samples.WORKLOAD)[2].times == (1e-3, 2e-3, 1.5e-3, 1e-3)


def test_a_retracted_trial_stays_one(db: Database, other: Database, log: str) -> None:
    imported(other, io.StringIO(log))
    best = db.best(samples.WORKLOAD, samples.TARGET)
    db.retract(best.fingerprint, "the fan was off")
    assert imported(other, io.StringIO(exported(db))).duplicate == 3
    for database in (db, other):
        assert database.best(samples.WORKLOAD, samples.TARGET).fingerprint != best.fingerprint
    assert exported(other) == exported(db)
    assert imported(other, io.StringIO(log)).duplicate == 3  # written before it was retracted
    assert exported(other) == exported(db)


def test_a_trial_that_was_retracted_elsewhere_is_imported_as_such(db: Database, other: Database, log: str) -> None:
    db.retract(db.best(samples.WORKLOAD, samples.TARGET).fingerprint, "the fan was off")
    assert imported(other, io.StringIO(exported(db))).new == 3
    assert other.best(samples.WORKLOAD, samples.TARGET).trial == db.best(samples.WORKLOAD, samples.TARGET).trial
    assert other.check().problems == ()


def test_an_imported_session_can_be_continued(other: Database, log: str) -> None:
    imported(other, io.StringIO(log))
    with other.session(samples.arguments()) as session:
        assert len(session.trials()) == 3
        session.add(samples.trial(3))
    assert other.stats().sessions == 1


def test_a_file_says_nothing_of_the_host_or_the_process(log: str) -> None:
    assert set(json.loads(log.splitlines()[0])["session"]) == {"arguments", "created"}


def test_an_export_can_be_of_one_workload(db: Database, log: str) -> None:
    stream = io.StringIO()
    assert native.write(db, stream, Selection(tunedb.matmul(m=1, k=1, n=1))) == 0
    assert native.write(db, stream, Selection(samples.WORKLOAD, samples.TARGET.fingerprint)) == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"version": 2}, "version 2 of the format; this tunedb reads 1: upgrade tunedb"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"retracted": 7}, "retracted must be text"),
        ({"workload": "matmul(m=1"}, "at position"),
        ({"workload": 7}, "workload must be text"),
        ({"workload": f"matmul(m={10**9},k={10**9},n=9)"}, "larger than any machine"),
        ({"target": {}}, "target: kind is missing"),
        ({"environment": {"llvm": 20}}, "environment.llvm must be text"),
        ({"template": "matmul"}, "template must be NAME/VERSION"),
        ({"config": {"tile": 0.5}}, "config.tile must be"),
        ({"schedule": [["bend", "matmul"]]}, "schedule step 0"),
        ({"status": "fine"}, "status must be one of correct, compile"),
        ({"status": []}, "status must be one of correct, compile"),
        ({"times": [0.5]}, "times must be a list of rounds"),
        ({"times": [[0.0]]}, "times must be positive"),
        ({"times": []}, "a correct trial must have times"),
        ({"error": -1}, "error must be a number"),
        ({"error": 10**400}, "too large"),
        ({"sequence": 2**40}, "sequence must be a number"),
        ({"created": "2026-01-31T12:00:00"}, "created must be a date in UTC"),
        ({"created": "yesterday"}, "yesterday"),
        ({"message": "\ud800"}, "not UTF-8"),
        ({"session": {"arguments": {"rate": 0.5}, "created": "2026-01-31T12:00:00Z"}}, "a float"),
    ],
)
def test_a_bad_record_is_reported_and_the_others_are_kept(
    other: Database, log: str, fields: dict[str, Any], reason: str
) -> None:
    lines = log.splitlines()
    result = imported(other, [changed(lines[0], **fields), "", lines[2]])
    assert (result.read, result.new, result.quarantined) == (2, 1, 1)
    assert result.rejected[0].line == 1
    assert reason in result.rejected[0].reason


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "[" * 100_000,
        "[" * 400 + "]" * 400,
        '{"a": 1, "a": 2}',
        '{"error": NaN}',
        "\udcff\udcfe",
        "null",
        '"\udcff"',
    ],
)
def test_a_line_that_is_no_record_is_reported(other: Database, line: str) -> None:
    assert imported(other, [line]).quarantined == 1


def test_another_trial_in_a_place_that_is_taken_is_reported(other: Database, log: str) -> None:
    first = log.splitlines()[0]
    result = imported(other, [first, changed(first, created="2026-01-31T12:00:01+00:00")])
    assert (result.new, result.quarantined) == (1, 1)
    assert "another trial is stored as number 0" in result.rejected[0].reason


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_files_are_packed_and_unpacked(tmp_path: Path, log: str, name: str) -> None:
    path = tmp_path / name
    with open_writer(str(path)) as stream:
        stream.write(log)
    with open_source(str(path)) as source:
        assert source.document().decode() == log
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_a_packed_file_that_ends_early_is_explained(other: Database, tmp_path: Path, log: str) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(log.encode())[:-20])
    with pytest.raises(FormatError, match="ends in the middle"):
        other.import_log(str(path))
    assert other.stats().trials == 2


def test_a_file_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"), open_source(str(tmp_path / "none")):
        pass
