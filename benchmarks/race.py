"""Contenders in their own processes take turns at a task, so that a drift of the machine touches all of them alike."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.measure.child import choose_cpus
from tuner.measure.lock import machine_lock
from tuner.target import Target

HERE = Path(__file__).resolve().parent
PAUSE = 0.012  # seconds before a block: the threads of the contender before go to sleep
TOLERANCE = 1e-4  # of max |output - reference| / max |reference|


@dataclass(frozen=True)
class Contender:
    """``file`` defines ``prepare``; ``openmp`` says that its threads are OpenMP's, to be bound to processors."""

    name: str
    file: Path
    python: Path
    options: Mapping[str, Any]
    openmp: bool = True


@dataclass(frozen=True)
class Result:
    """What a contender did with a task: ``samples`` are seconds a call. With a ``problem`` there are none."""

    samples: tuple[float, ...] = ()
    flops: int = 0
    error: float | None = None
    note: str = ""
    problem: str | None = None


class Process:
    """A contender that runs, bound to ``threads`` cores. ``problem`` says why it does not, once it does not."""

    def __init__(self, contender: Contender, threads: int) -> None:
        """Start it and wait until it has loaded what it needs."""
        self.name = contender.name
        self.version: str | None = None
        self.problem: str | None = None
        self._process: subprocess.Popen[str] | None = None
        cpus = choose_cpus(Target.host().threads)[-threads:]  # the first core serves most interrupts
        arguments = [str(threads), json.dumps(cpus), json.dumps(dict(contender.options))]
        try:
            self._process = subprocess.Popen(
                [str(contender.python), "-P", str(HERE / "worker.py"), str(contender.file), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
                env=_environment(threads, cpus if contender.openmp else []),
            )
        except OSError as error:
            self.problem = (
                f"{contender.python} cannot be started ({error.strerror}); benchmarks/peers/setup.sh makes it"
            )
        else:
            hello = self._receive()
            self.version, self.problem = hello.get("version"), hello.get("problem")

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """The answer; with a ``problem`` in it when there is none."""
        if self._process is None or self.problem:
            return {"problem": self.problem}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # how it ended is read next
            self._process.stdin.write(json.dumps([request, arguments]) + "\n")
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.problem = f"its process ended with {self._process.wait()}"
        return {"problem": self.problem}

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def processes(contenders: Sequence[Contender], threads: int) -> Iterator[list[Process]]:
    """A process for each contender, as long as the block lasts."""
    with ExitStack() as stack:
        started = []
        for contender in contenders:
            process = Process(contender, threads)
            stack.callback(process.stop)
            started.append(process)
        yield started


def race(
    runners: Sequence[Process], task: Mapping[str, Any], folder: Path, rounds: int, seconds: float
) -> dict[str, Result]:
    """``rounds`` blocks of ``seconds`` of each contender, in alternating direction; the arrays lie in ``folder``.

    Nobody else on this machine who respects the measuring lock measures at the same time.
    """
    answers = {p.name: p.ask("prepare", task=task, folder=str(folder)) for p in runners}
    for answer in answers.values():
        error = answer.get("error")
        if error is not None and not error <= task.get("tolerance", TOLERANCE):  # not: it may be NaN
            answer["problem"] = f"wrong result: error {error:.1e}"
    ready = [p for p in runners if "problem" not in answers[p.name]]
    samples: dict[str, list[float]] = {p.name: [] for p in ready}
    with machine_lock():
        for number in range(rounds):
            for process in ready if number % 2 == 0 else reversed(ready):
                time.sleep(PAUSE)
                block = process.ask("block", seconds=seconds)
                samples[process.name] += block.pop("samples", [])
                answers[process.name] |= block  # a problem, if anything
    return {name: _result(answer, samples.get(name, [])) for name, answer in answers.items()}


def _result(answer: Mapping[str, Any], samples: Sequence[float]) -> Result:
    if "problem" in answer:
        return Result(problem=answer["problem"])
    return Result(tuple(samples), answer["flops"], answer["error"], answer["note"])


def _environment(threads: int, places: Sequence[int]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))}
    bound = {"OMP_PROC_BIND": "true", "OMP_PLACES": ",".join(f"{{{cpu}}}" for cpu in places)} if places else {}
    return {
        **kept,
        **bound,
        "OMP_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "false",
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's own, which only compares outputs
        "PYTHONPATH": str(HERE.parent),
    }
