"""The tuner's side of measuring: from a program to its times, or to the way in which it failed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from types import TracebackType
from typing import Any

from tuner.codegen.program import Program
from tuner.errors import MeasureError
from tuner.measure.child import Child, ChildLostError
from tuner.measure.lock import machine_lock
from tuner.measure.peak import peak_floats, peak_flops, peak_ir
from tuner.measure.protocol import Protocol
from tuner.target import Target
from tuner.trial import Status
from tuner.workload import Workload

_PREPARE_SECONDS = 300.0  # for the reference of a workload, which no candidate is to blame for
_LONGEST_MESSAGE = 2000  # characters


@dataclass(frozen=True)
class Limits:
    """What one candidate may use: seconds to compile, seconds to be verified and timed, bytes of memory of its own."""

    compile: float = 10.0
    run: float = 10.0
    memory: int = 2 << 30


@dataclass(frozen=True)
class Measurement:
    """How one candidate did. ``times`` are raw repeats in seconds per call; there are none unless it is correct."""

    status: Status
    times: tuple[float, ...] = ()
    error: float | None = None  # max |output - reference| / max |reference|
    message: str | None = None  # why it failed
    compile_seconds: float | None = None
    run_seconds: float | None = None  # wall time of verifying and timing


DEFAULT_LIMITS = Limits()
DEFAULT_PROTOCOL = Protocol()


class Measurer:
    """Measures programs for ``target`` in a process of its own, and replaces that when a program breaks it.

    A context manager; use it from one thread. No candidate makes it raise. It raises MeasureError when there is no
    measuring process to be had, or when the process cannot make the inputs of a workload.
    """

    def __init__(
        self, target: Target, *, limits: Limits = DEFAULT_LIMITS, protocol: Protocol = DEFAULT_PROTOCOL
    ) -> None:
        self.target = target
        self.limits = limits
        self.protocol = protocol
        self._child: Child | None = None

    def __enter__(self) -> "Measurer":
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def measure(self, workload: Workload, program: Program, beat: float | None = None) -> Measurement:
        """Compile, verify and time ``program``. Clearly slower than ``beat`` seconds, it gets fewer repeats."""
        child = self._prepared(workload)
        compile_seconds = started = None
        try:
            child.send({"request": "measure", "program": program.to_json(), "beat": beat}, self.limits.compile)
            answer = child.receive(self.limits.compile)
            if answer["answer"] == "compiled":
                compile_seconds = float(answer["seconds"])
                with machine_lock():
                    started = perf_counter()
                    child.send({"request": "run"}, self.limits.run)
                    answer = child.receive(self.limits.run)
        except ChildLostError as loss:
            self._replace()
            status, message = _blame(loss, compiled=compile_seconds is not None)
            answer = {"answer": "failed", "status": status, "message": message, "error": None}
        except BaseException:  # an interrupt: the process is in the middle of something that nobody waits for
            self._discard()
            raise
        run_seconds = None if started is None else perf_counter() - started
        if answer["answer"] == "measured":
            return Measurement(
                Status.CORRECT, tuple(answer["times"]), answer["error"], None, compile_seconds, answer["seconds"]
            )
        if started is not None and child is self._child:
            self._replace()  # it lives, but who knows where else a wrong program has written
        message = _shorten(answer["message"])
        return Measurement(Status(answer["status"]), (), answer["error"], message, compile_seconds, run_seconds)

    def confirm(self, workload: Workload, programs: Sequence[Program], rounds: int) -> list[tuple[float, ...]]:
        """``rounds`` more repeats of each of these verified programs, taken in turn, in seconds per call.

        All are empty when one of them breaks the process, or does not finish within the run limit for each repeat.
        """
        if not programs:
            return []
        answer = self._timed(
            self._prepared(workload),
            {"request": "confirm", "programs": [program.to_json() for program in programs], "rounds": rounds},
            Limits(compile=len(programs) * self.limits.compile, run=len(programs) * (rounds + 2) * self.limits.run),
        )
        return [tuple(times) for times in answer["times"]] if answer["answer"] == "confirmed" else [()] * len(programs)

    def peak(self) -> float:
        """FLOP/s of ``target.threads`` threads that compute in registers only, from the best of the repeats.

        Raises MeasureError when the target cannot run its own instructions.
        """
        request = {"request": "peak", "ir": peak_ir(self.target), "floats": peak_floats(self.target)}
        answer = self._timed(self._ready(), request, self.limits)
        if answer["answer"] != "measured":
            raise MeasureError(f"cannot measure the peak of {self.target.name}: {answer['message']}")
        return peak_flops(self.target) / float(min(answer["times"]))

    def _timed(self, child: Child, request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """The final answer to a request for times of trusted programs; a failed one if the process is lost."""
        try:
            child.send(request, limits.compile)
            answer = child.receive(limits.compile)
            if answer["answer"] == "compiled":
                with machine_lock():
                    child.send({"request": "run"}, limits.run)
                    answer = child.receive(limits.run)
        except ChildLostError as loss:
            self._replace()
            answer = {"answer": "failed", "message": str(loss)}
        except BaseException:
            self._discard()
            raise
        return answer

    def _prepared(self, workload: Workload) -> Child:
        """A living process that has the inputs and the reference of ``workload``."""
        child = self._ready()
        if child.workload != workload.key:
            try:
                child.send({"request": "prepare", "workload": workload.key}, _PREPARE_SECONDS)
                answer = child.receive(_PREPARE_SECONDS)
            except ChildLostError as loss:
                self._discard()
                raise MeasureError(f"cannot compute the reference of {workload.label}: {loss}") from loss
            if answer["answer"] != "prepared":
                raise MeasureError(f"cannot compute the reference of {workload.label}: {answer['message']}")
            child.workload = workload.key
        return child

    def _ready(self) -> Child:
        """A living process. One that died while nobody asked it for anything is no candidate's fault."""
        if self._child is None or not self._child.alive:
            self._replace()
        child = self._child
        assert child is not None
        try:
            child.await_start()
        except ChildLostError as loss:
            self._discard()
            raise MeasureError(f"the measuring process did not start: {loss}") from loss
        return child

    def _start(self) -> None:
        opening = {
            "target": self.target.to_json(),
            "protocol": asdict(self.protocol),
            "memory": self.limits.memory,
        }
        try:
            self._child = Child(self.target.threads, opening)
        except OSError as error:
            raise MeasureError(f"cannot start a measuring process: {error.strerror or error}") from error

    def _discard(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _replace(self) -> None:
        """A new process comes up while the tuner thinks about what to measure next."""
        self._discard()
        self._start()


def _blame(loss: ChildLostError, *, compiled: bool) -> tuple[Status, str]:
    if compiled:
        return (Status.TIMEOUT if loss.timed_out else Status.RUNTIME), f"the kernel was {loss}"
    return Status.COMPILE, f"the compiler was {loss}"


def _shorten(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 4] + " ..."
