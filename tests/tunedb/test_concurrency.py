"""Several processes, one database. Each really is a process: samples.py, run as a program."""

import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunedb
from tests.tunedb import samples
from tunedb import dialect, interrupts
from tunedb.errors import SessionBusyError


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """Also where whoever started the tests ignores them, as a shell does for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(url: str, seed: int, count: int) -> subprocess.Popen[str]:
    program = [sys.executable, samples.__file__, url, str(seed), str(count)]
    root = str(Path(tunedb.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


def test_processes_that_open_an_empty_database_at_once_and_write_lose_nothing(url: str) -> None:
    processes = [start(url, seed, 100) for seed in range(4)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert [len(text.split()) for text in printed] == [100] * 4
    with tunedb.open(url) as db:
        assert (db.stats().trials, db.stats().sessions, db.stats().schedules) == (400, 4, 100)
        stored = sorted((trial.times[0], trial.sequence) for trial in db.history(samples.WORKLOAD))
    assert stored == [(0.1 + seed, sequence) for seed in range(4) for sequence in range(100)]


def test_a_killed_writer_loses_nothing_it_had_reported_and_the_next_one_goes_on(url: str) -> None:
    with start(url, 0, 100_000) as process:
        assert process.stdout
        reported = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        reported += map(int, process.stdout.read().split())
    assert process.returncode == -signal.SIGKILL
    with tunedb.open(url) as db:
        before = len(db.history(samples.WORKLOAD))
        assert before in (len(reported), len(reported) + 1)  # the last one may be stored and not yet reported
        samples.write(url, 0, before + 10)
        sequences = [trial.sequence for trial in db.history(samples.WORKLOAD)]
    assert sequences == list(range(before + 10))


def test_the_session_of_a_live_process_is_refused(url: str) -> None:
    with start(url, 0, 100_000) as process, tunedb.open(url) as db:
        assert process.stdout
        process.stdout.readline()
        try:
            with pytest.raises(SessionBusyError, match=f"process {process.pid} "):
                db.session(samples.arguments())
        finally:
            process.kill()


def test_a_reader_does_not_keep_a_writer_waiting(url: str) -> None:
    with tunedb.open(url) as db, db.session(samples.arguments()) as session, db.read() as connection:
        session.add(samples.trial(0))
        rows = connection.exec_driver_sql("SELECT sequence FROM trial")
        session.add(samples.trial(1))  # a reader that blocked would end this in a DatabaseError, a minute later
        assert rows.all()


def test_an_interrupt_at_any_moment_leaves_no_transaction_open(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.3)  # a transaction left open would keep the next one waiting so long
    moments = random.Random(0)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    gc.disable()  # Python forgets an interrupt that comes while one of gc.callbacks runs, and Hypothesis has one
    try:
        with tunedb.open(url) as db:
            for seed in range(100):
                reported = interrupted_session(db, seed, moments.uniform(1e-4, 1e-2))
                with db.read() as connection:
                    newest = "SELECT state, id FROM session ORDER BY id DESC LIMIT 1"
                    state, session = connection.exec_driver_sql(newest).one()
                    stored = connection.exec_driver_sql(f"SELECT count(*) FROM trial WHERE session_id = {session}")
                    assert (state, stored.scalar()) in (("interrupted", reported), ("interrupted", reported + 1))
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)


def interrupted_session(db: tunedb.Database, seed: int, seconds: float) -> int:
    """A session that is interrupted after so long; the number of trials it knows to be stored."""
    reported = 0
    with pytest.raises(KeyboardInterrupt), db.session(samples.arguments(seed)) as session:  # noqa: PT012
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for sequence in range(100_000):
            session.add(samples.trial(sequence))
            reported += 1
    return reported


def test_an_interrupt_waits_for_the_end_of_a_write_unit_or_a_safe_place_in_it(url: str) -> None:
    with tunedb.open(url) as db:
        reached = []
        with pytest.raises(KeyboardInterrupt), db.write():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")
        with pytest.raises(KeyboardInterrupt), db.write():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            interrupts.poll()
            reached.append("not this")
        with pytest.raises(KeyboardInterrupt), db.write():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # whoever presses it twice means it
            reached.append("nor this")
    assert reached == ["the end"]
