"""The short form of ``make soak``, and disks that are full or may not be written to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tunedb
from benchmarks import soak
from tests.tunedb import logs, samples
from tunedb.engine import make_engine
from tunedb.errors import DatabaseError
from tunedb.migrate import check, upgrade
from tunedb.tables import REVISION


def test_a_crowd_of_processes_loses_no_trial_and_is_never_told_of_a_lock(url: str) -> None:
    report = soak.crowd(url, seconds=1, writers=4, readers=2)
    assert report["trials"] > 0
    assert report["best_ms"]["number"] > 0


@pytest.mark.parametrize("kind", list(soak.WORKS))
def test_a_process_that_is_killed_leaves_all_it_had_acknowledged(kind: str) -> None:
    assert soak.kills(3, [kind]) == {kind: 3}


def test_two_programs_that_upgrade_at_once_do_not_collide(tmp_path: Path) -> None:
    soak.prepare(tmp_path, "upgrade")
    started = [soak.start(soak.do_upgrade, tmp_path, seed) for seed in range(4)]
    for process, _ in started:
        process.join()
    assert [process.exitcode for process, _ in started] == [0] * 4
    engine = make_engine(f"sqlite:///{tmp_path}/trials.sqlite")
    assert upgrade(engine) == REVISION
    check(engine)
    engine.dispose()


LIMITED = """
import resource, signal, sys, tunedb
from tunedb.errors import DatabaseError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a disk that is full
with tunedb.open(sys.argv[1]) as db:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        db.import_log(sys.argv[2])
    except DatabaseError as error:
        sys.exit(str(error))
"""


def test_an_import_that_fills_the_disk_is_one_message_and_can_be_made_again(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_text("\n".join(logs.autotvm(0, result=[[1 + index], 0, 1, 1]) for index in range(5000)))
    url = f"sqlite:///{tmp_path / 'trials.sqlite'}"
    root = str(Path(tunedb.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    program = [sys.executable, "-c", LIMITED, url, str(log)]
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "trials.sqlite: the disk " in line
    with tunedb.open(url) as db:
        assert db.stats().trials == 0
        assert db.check().problems == ()
        assert db.import_log(str(log)).new == 5000


def test_a_file_that_may_not_be_written_to_is_explained_and_left_alone(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with tunedb.open(f"sqlite:///{tmp_path / 't.sqlite'}") as db, db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
    (tmp_path / "t.sqlite").chmod(0o444)
    with pytest.raises(DatabaseError, match="is read-only: make it writable"):
        tunedb.open(f"sqlite:///{tmp_path / 't.sqlite'}")
