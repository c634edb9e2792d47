"""The measuring process is small, quiet, and ends with its tuner."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.measure.child import choose_cpus

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_it_imports_llvmlite_and_numpy_and_nothing_else_that_is_large() -> None:
    loaded = run("import sys, tuner.measure.worker; print(*sorted({m.split('.')[0] for m in sys.modules}))").split()
    assert {"llvmlite", "numpy", "tuner"} <= set(loaded)
    assert not {"sqlalchemy", "alembic", "xgboost", "sklearn", "scipy", "click", "rich", "tunedb"} & set(loaded)


def test_it_ends_when_the_channel_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.measure.worker", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    ours.close()
    assert process.wait(timeout=30) == 0


@linux_only
@pytest.mark.parametrize("program", ["right", "hang"])
def test_it_is_gone_after_its_tuner_is_killed(program: str) -> None:
    code = f"""
import time
from tests.tuner.measure import programs
from tuner.measure import Limits, Measurer
from tuner.target import Target
with Measurer(Target.host(threads=1), limits=Limits(run=600)) as measurer:
    measurer.measure(programs.WORKLOAD, programs.right())
    print(measurer._child._process.pid, flush=True)
    measurer.measure(programs.WORKLOAD, programs.{program}())
    time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as tuner:
        assert tuner.stdout is not None
        child = int(tuner.stdout.readline())
        assert _alive(child)
        if program == "hang":
            _wait_until(lambda: _processor_ticks(child) > 100)  # a second of computing: it is in the kernel by now
        tuner.send_signal(signal.SIGKILL)
        tuner.wait()
        _wait_until(lambda: not _alive(child))


@linux_only
def test_threads_get_distinct_processors_and_too_many_get_none() -> None:
    allowed = os.sched_getaffinity(0)
    assert len(choose_cpus(1)) == 1
    assert set(choose_cpus(len(allowed))) == allowed
    assert choose_cpus(len(allowed) + 1) == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _processor_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within 30 seconds")
