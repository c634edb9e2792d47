"""The measuring process: compiles a program, runs it, checks its output and times it. It may die at any of these.

Started by ``child.py`` as ``python -m tuner.measure.worker FD``, where FD is its end of the channel. It answers one
request at a time. A request that runs a program has two answers: ``compiled``, after which it waits for ``run`` (the
tuner takes the measuring lock meanwhile), and then the result. ``failed`` may stand in for either.
"""

import ctypes
import json
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tuner.codegen import cpu
from tuner.codegen.program import Argument, Program
from tuner.dtype import DTYPES
from tuner.errors import TunedbError
from tuner.measure import channel, sandbox
from tuner.measure.buffers import Buffer
from tuner.measure.protocol import Protocol, Timer, take_repeats, take_rounds
from tuner.measure.verify import Verdict, verify
from tuner.target import Target
from tuner.trial import Status
from tuner.workload import Workload, parse, random_arrays, reference

_MOST_PACKINGS = 16  # packed copies of constants kept; a search comes back to the same few


class CandidateError(TunedbError):
    """The program being measured failed, and this process survived to tell."""

    def __init__(self, status: Status, message: str, error: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = error


class Inputs:
    """What all programs of a workload are measured with: random inputs, the right answer, and room for their output."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._arrays = random_arrays(workload, seed)
        self._buffers: dict[str, Buffer] = {}
        self.reference = reference(workload, self._arrays)
        self.tolerance = workload.tolerance
        self.output = Buffer(self.reference.shape, DTYPES[workload.operands[-1].dtype])

    def buffer(self, argument: Argument) -> Buffer:
        """The memory that a kernel is given for ``argument``."""
        if argument.role == "output":
            return self.output
        key = json.dumps(argument.to_json())
        if key not in self._buffers:
            if len(self._buffers) >= _MOST_PACKINGS:
                self._buffers.clear()
            array = self._arrays[argument.name]
            self._buffers[key] = Buffer.read_only(argument.packing.apply(array) if argument.packing else array)
        return self._buffers[key]


@dataclass(frozen=True)
class Loaded:
    """A compiled program with everything it needs to be called; ``alive`` keeps that from being freed."""

    timer: Timer
    workspace: Buffer
    alive: tuple[Any, ...]


def load(module: cpu.Module, buffers: list[Buffer]) -> Loaded:
    """Bind the compiled ``module`` to ``buffers``, the last of which is its workspace."""
    pointers = (ctypes.c_void_p * len(buffers))(*(buffer.address for buffer in buffers))
    bench = module.function("bench", ctypes.c_void_p, ctypes.c_int64)

    def timer(calls: int) -> float:
        started = perf_counter()
        bench(pointers, calls)
        return perf_counter() - started

    return Loaded(timer, buffers[-1], (module, buffers, pointers))


class Worker:
    """Answers the requests of one tuner until it closes the channel."""

    def __init__(self, stream: socket.socket, target: Target, protocol: Protocol, memory: int) -> None:
        self._stream = stream
        self._target = target
        self._protocol = protocol
        self._memory = memory
        self._inputs: Inputs | None = None

    def serve(self) -> None:
        answers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "prepare": self._prepare,
            "measure": self._measure,
            "confirm": self._confirm,
            "peak": self._peak,
        }
        while (request := channel.receive(self._stream)) is not None:
            try:
                answer = answers[request["request"]](request)
            except CandidateError as failure:
                answer = {
                    "answer": "failed",
                    "status": failure.status,
                    "message": str(failure),
                    "error": failure.error,
                }
            finally:
                sandbox.unlimit_memory()
            channel.send(self._stream, answer)

    def _prepare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._inputs = None  # freed before the next ones are made
        try:
            self._inputs = Inputs(parse(request["workload"]), self._protocol.seed)
        except (MemoryError, OSError, ValueError) as error:  # of mmap; of NumPy, for more than it can count
            raise CandidateError(Status.RUNTIME, f"not enough memory: {error}") from error
        return {"answer": "prepared"}

    def _measure(self, request: Mapping[str, Any]) -> dict[str, Any]:
        program = Program.from_json(request["program"])
        sandbox.limit_memory(self._memory)
        (module,) = self._compile(program.ir)
        started = perf_counter()
        try:
            loaded = load(module, self._buffers(program))
            self._inputs_now.output.poison()
            loaded.workspace.poison()
            first = loaded.timer(1)
            self._check(loaded)
            times = take_repeats(loaded.timer, self._protocol, request["beat"], first)
            verdict = self._check(loaded)  # a second look: a kernel may be right only when it is called first
        except MemoryError as error:
            raise CandidateError(
                Status.RUNTIME, f"out of memory, more than {self._memory >> 20} MiB: {error}"
            ) from error
        return {
            "answer": "measured",
            "times": times,
            "error": verdict.error,
            "seconds": perf_counter() - started,
        }

    def _confirm(self, request: Mapping[str, Any]) -> dict[str, Any]:
        programs = [Program.from_json(data) for data in request["programs"]]
        sandbox.limit_memory(self._memory)
        modules = self._compile(*(program.ir for program in programs))
        loaded = [load(module, self._buffers(program)) for module, program in zip(modules, programs, strict=True)]
        rounds = take_rounds([one.timer for one in loaded], self._protocol, request["rounds"])
        return {"answer": "confirmed", "times": rounds}

    def _peak(self, request: Mapping[str, Any]) -> dict[str, Any]:
        operands = Buffer((request["floats"],))
        operands.array.fill(0.5)
        (module,) = self._compile(request["ir"])
        loaded = load(module, [operands])
        return {"answer": "measured", "times": take_repeats(loaded.timer, self._protocol, None, loaded.timer(1))}

    def _compile(self, *programs: str) -> list[cpu.Module]:
        """Compile, announce it, and wait for the word to run."""
        started = perf_counter()
        try:
            modules = [cpu.load(ir, self._target) for ir in programs]
        except Exception as error:  # whatever a candidate provokes in the compiler is how this candidate ends
            raise CandidateError(Status.COMPILE, str(error) or type(error).__name__) from error
        channel.send(self._stream, {"answer": "compiled", "seconds": perf_counter() - started})
        if channel.receive(self._stream) is None:
            sys.exit()
        return modules

    def _check(self, loaded: Loaded) -> Verdict:
        """Raises CandidateError when the output is wrong or a guard zone was written to."""
        inputs = self._inputs_now
        for name, buffer in (("output", inputs.output), ("workspace", loaded.workspace)):
            if not buffer.intact():
                raise CandidateError(Status.CORRECTNESS, f"it writes out of bounds, next to its {name}")
        verdict = verify(inputs.output.array, inputs.reference, inputs.tolerance)
        if verdict.problem:
            raise CandidateError(Status.CORRECTNESS, verdict.problem, verdict.error)
        return verdict

    def _buffers(self, program: Program) -> list[Buffer]:
        """One a pointer, the workspace last. Raises MemoryError."""
        try:
            arguments = [self._inputs_now.buffer(argument) for argument in program.arguments]
            return [*arguments, Buffer((-(-program.workspace_bytes // 4),))]
        except OSError as error:  # what mmap says when there is no memory
            raise MemoryError(f"a workspace of {program.workspace_bytes} bytes") from error

    @property
    def _inputs_now(self) -> Inputs:
        assert self._inputs is not None, "the tuner prepares a workload before it sends programs"
        return self._inputs


def main() -> None:
    """Serve the channel whose file descriptor is the first command-line argument."""
    stream = socket.socket(fileno=int(sys.argv[1]))
    opening = channel.receive(stream)
    if opening is None:
        return
    sandbox.enter(opening["cpus"])
    channel.send(stream, {"answer": "ready"})
    target = Target.from_json(opening["target"])
    Worker(stream, target, Protocol(**opening["protocol"]), opening["memory"]).serve()


if __name__ == "__main__":
    main()
