"""The tuner's end of a measuring process: start it, talk to it within a time limit, and learn how it died."""

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from tuner.errors import TunedbError
from tuner.measure import channel

_START_SECONDS = 60.0  # importing LLVM from a cold disk
_KEPT_OUTPUT = 500  # bytes of what it printed last


class ChildLostError(TunedbError):
    """The process has ended, or was ended as its time was up. The text completes "the kernel was ..."."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Child:
    """One measuring process. It starts in the background; the first answer to ``receive`` says that it is ready."""

    def __init__(self, threads: int, opening: Mapping[str, Any]) -> None:
        """Start it on ``threads`` processors. Raises OSError when there is no process to be had."""
        cpus = choose_cpus(threads)
        self._stream, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a file numpy.py in the folder the user works in is not NumPy
                [sys.executable, "-P", "-m", "tuner.measure.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(threads, cpus),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the tuner; and whatever a kernel forks can be killed with it
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._printed = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stream, selectors.EVENT_READ)
        self._selector.register(self._output, selectors.EVENT_READ)
        self._started = False
        self.workload: str | None = None  # key of the one it is prepared for
        with suppress(OSError):  # it is gone already: the first ``receive`` says why
            channel.send(self._stream, {**opening, "cpus": cpus})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def await_start(self) -> None:
        """Wait until it is ready. Raises ChildLostError."""
        if not self._started:
            self.receive(_START_SECONDS)
            self._started = True

    def send(self, request: Mapping[str, Any], seconds: float) -> None:
        """Hand it a request. Raises ChildLostError."""
        self._printed.clear()
        self._stream.settimeout(seconds)
        try:
            channel.send(self._stream, request)
        except OSError as error:
            raise self._lost() from error

    def receive(self, seconds: float) -> dict[str, Any]:
        """Its next answer. Raises ChildLostError when none comes within ``seconds``; the process is then gone."""
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            ready = {key.fileobj for key, _ in self._selector.select(left)}
            if self._output in ready:  # read even if nobody cares: a full pipe would stop it
                self._keep(os.read(self._output.fileno(), 65536))
            if self._stream in ready:
                self._stream.settimeout(max(left, 0.001))
                try:
                    answer = channel.receive(self._stream)
                except TimeoutError:
                    break
                except (OSError, ValueError) as error:
                    raise self._lost() from error
                if answer is None:
                    raise self._lost()
                return answer
        self.close()
        raise ChildLostError(f"stopped after {seconds:g} s{self._quote()}", timed_out=True)

    def close(self) -> None:
        """End it, and everything it may have started, now. There is nothing in it worth saving."""
        self._kill()
        self._selector.close()
        self._stream.close()
        self._output.close()

    def _kill(self) -> None:
        if self._process.returncode is None:  # not yet waited for, so the id is still its own
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _lost(self) -> ChildLostError:
        """How it ended, after its end of the channel has closed or carried nonsense."""
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            ending = "stopped because it broke the channel to the tuner"
            self._kill()
        else:
            ending = f"killed by {_signal_name(-code)}" if code < 0 else f"ended by exit({code})"
        os.set_blocking(self._output.fileno(), False)
        while chunk := self._output.read(65536):
            self._keep(chunk)
        self.close()
        return ChildLostError(ending + self._quote(), timed_out=False)

    def _keep(self, chunk: bytes) -> None:
        if not chunk:
            self._selector.unregister(self._output)  # it has closed its own output; its answers may still come
        self._printed += chunk
        del self._printed[:-_KEPT_OUTPUT]

    def _quote(self) -> str:
        text = "".join(c if c.isprintable() else " " for c in self._printed.decode(errors="replace"))
        return f"; it printed: {' '.join(text.split())}" if text.strip() else ""


def choose_cpus(threads: int) -> list[int]:
    """One of the processors this process may use for each thread, physical cores first; none if they are too few."""
    if sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        return []
    first_of_core = [cpu for cpu in allowed if _siblings(cpu).split(",")[0].split("-")[0] == str(cpu)]
    others = [cpu for cpu in allowed if cpu not in first_of_core]
    return (first_of_core + others)[:threads]


def _siblings(cpu: int) -> str:
    """The hardware threads of a core as the kernel lists them: "0,64" or "0-1"."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _environment(threads: int, cpus: list[int]) -> dict[str, str]:
    """The tuner's own, less what would change how kernels run.

    OMP_WAIT_POLICY stays unset: libgomp then spins for a few milliseconds between parallel regions, which makes calls
    in a row cheap, and sleeps after that, so that it does not compete with the next compilation as "active" would.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    pinned = {"OMP_PROC_BIND": "true", "OMP_PLACES": ",".join(f"{{{cpu}}}" for cpu in cpus)} if cpus else {}
    return {
        **kept,
        **pinned,
        "OMP_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "false",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({(signal.strsignal(number) or '').lower()})"
    except ValueError:
        return f"signal {number}"
