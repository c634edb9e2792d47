"""Long logs, which a process beside this one reads."""

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunedb
from tests.tunedb import logs
from tunedb import Database, beside
from tunedb.beside import Reader
from tunedb.errors import FormatError
from tunedb.formats.common import About
from tunedb.formats.selection import Selection

ORIGINAL = beside.are_long
LINES = [logs.autotvm(index % 7, result=[[1e-3 + index * 1e-9], 0, 1, logs.START + index]) for index in range(2500)]
MIXED = ["# a comment", *LINES, logs.FAILED, "nonsense", logs.autotvm(3, note={"by": "\N{SNOWMAN}"}), *LINES[:10]]


@pytest.fixture(autouse=True)
def every_log_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunedb.importing.are_long", lambda paths: True)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, *lines: str) -> str:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    return write


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> "list[subprocess.Popen[bytes]]":
    """The processes that were started to read."""
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(beside.subprocess, "Popen", start)
    return processes


def test_what_is_read_beside_is_what_is_read_here(
    db: Database, tmp_path: Path, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write("mixed.log", *MIXED)
    reported = db.import_log(log, machine="alpha", labels={"cpu": "3700x"})
    monkeypatch.setattr("tunedb.importing.are_long", lambda paths: False)
    with tunedb.open(f"sqlite:///{tmp_path / 'here.sqlite'}") as here:
        assert here.import_log(log, machine="alpha", labels={"cpu": "3700x"}) == reported
        assert list(Selection().foreign(here)) == list(Selection().foreign(db))
        assert [each.reason for each in here.quarantine()[1]] == [each.reason for each in db.quarantine()[1]]
    assert (reported.read, reported.duplicate, reported.quarantined) == (2513, 10, 1)


def test_a_cut_log_gives_what_came_before(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "cut.log.gz"
    path.write_bytes(gzip.compress("\n".join(LINES).encode())[:-20])
    with pytest.raises(FormatError, match="ends in the middle of its gzip stream"):
        db.import_log(str(path))
    assert db.stats().trials > 1000


def test_a_log_that_is_given_up_does_not_disturb_the_next(db: Database, write: Callable[..., str]) -> None:
    bad, good = write("bad.log", LINES[0], "nonsense", *LINES), write("good.log", *LINES[:20])
    first, second, third = db.import_logs([bad, good, bad], strict=True)
    assert "line 2" in (first.error or "")
    assert (first.read, first.new, second.new, second.error, third.new) == (0, 0, 20, None, 0)
    assert db.stats().trials == 20


def test_nothing_is_left_behind_by_who_stops_in_the_middle(
    db: Database, write: Callable[..., str], started: "list[subprocess.Popen[bytes]]"
) -> None:
    reports = db.import_logs([write("one.log", *LINES), write("two.log", *LINES)])
    next(reports)
    (process,) = started
    assert process.poll() is None
    reports.close()
    assert process.returncode is not None


def test_logs_that_share_a_write_unit_are_reported_when_they_are_stored(
    db: Database, url: str, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(f"{number}.log", *LINES[500 * number : 500 * number + 500]) for number in range(5)]
    monkeypatch.setattr("tunedb.importing.UNIT", 1200)
    stored = []
    with tunedb.open(url) as another:
        for report in db.import_logs(paths):
            with another.write():  # nobody has to wait for who got a report
                stored.append((report.file, report.new, another.stats().trials))
    expected = [1500, 1500, 1500, 2500, 2500]  # the unit ends with the third of them, and with the last
    assert stored == [(f"{number}.log", 500, trials) for number, trials in enumerate(expected)]


def test_a_failure_takes_back_what_was_not_reported(
    db: Database, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(f"{number}.log", *LINES[500 * number : 500 * number + 500]) for number in range(4)]
    monkeypatch.setattr("tunedb.importing.UNIT", 900)
    polls = iter([None] * 3)

    def poll() -> None:
        try:
            next(polls)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("tunedb.importing.interrupts.poll", poll)
    reported = []
    with pytest.raises(KeyboardInterrupt):
        reported.extend(report.file for report in db.import_logs(paths))
    assert (reported, db.stats().trials) == (["0.log", "1.log"], 1000)  # the third was written and taken back
    monkeypatch.undo()
    assert [report.new for report in db.import_logs(paths)] == [0, 0, 500, 500]


def test_the_process_does_not_outlive_who_was_killed(
    write: Callable[..., str], started: "list[subprocess.Popen[bytes]]"
) -> None:
    Reader().ask(write("long.log", *LINES * 10), "autotvm", About())
    (process,) = started
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdin.close()
    process.stdout.close()
    process.wait(60)


def test_a_log_that_vanishes_is_one_line(tmp_path: Path) -> None:
    with Reader() as reader:
        reader.ask(str(tmp_path / "gone.log"), "autotvm", About())
        (batch,) = reader.batches()
    assert "No such file" in (batch.error or "")
    assert batch.read == 0


def test_a_reader_that_dies_is_one_line(write: Callable[..., str]) -> None:
    with Reader() as reader:
        reader.ask(write("one.log", *LINES * 20), "no such format", About())
        with pytest.raises(FormatError, match=r"one\.log: the process that read it has died"):
            list(reader.batches())


def test_only_what_takes_longer_than_a_start_is_read_beside(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.log", tmp_path / "packed.log.gz"
    plain.write_bytes(b"x" * (10 << 20))
    packed.write_bytes(b"\x1f\x8b" + b"x" * (1 << 20))
    assert not ORIGINAL([str(plain), "-", str(tmp_path)])
    assert ORIGINAL([str(plain), str(plain)])
    assert ORIGINAL([str(packed)])
