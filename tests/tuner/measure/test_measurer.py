"""Whatever a candidate does, the tuner gets a status and the next candidate is measured as if nothing had happened."""

import threading
from pathlib import Path

import pytest

from tests.tuner.measure import programs
from tuner.codegen.program import Argument, Packing, Program
from tuner.errors import MeasureError
from tuner.measure import Limits, Measurer, Protocol
from tuner.measure.lock import machine_lock
from tuner.target import Target
from tuner.trial import Status
from tuner.workload import matmul

WORKLOAD = programs.WORKLOAD


def test_a_right_program_has_all_its_repeats_and_its_error(measurer: Measurer) -> None:
    result = measurer.measure(WORKLOAD, programs.right())
    assert result.status is Status.CORRECT
    assert len(result.times) == measurer.protocol.repeats
    assert all(time > 0 for time in result.times)
    assert result.error is not None
    assert 0 <= result.error < 1e-6
    assert result.message is None
    assert result.compile_seconds is not None
    assert result.run_seconds is not None


FAILURES = {
    "does not parse": (programs.unparsable(), Status.COMPILE, "expected instruction opcode"),
    "does not verify": (programs.unverifiable(), Status.COMPILE, "does not dominate"),
    "kills the compiler": (programs.no_such_instruction(), Status.COMPILE, "asm"),
    "segfault": (programs.segfault(), Status.RUNTIME, "killed by SIGSEGV (segmentation fault)"),
    "illegal instruction": (programs.illegal_instruction(), Status.RUNTIME, "killed by SIGILL (illegal instruction)"),
    "exit(3)": (programs.ends_with(3), Status.RUNTIME, "ended by exit(3)"),
    "exit(0)": (programs.ends_with(0), Status.RUNTIME, "ended by exit(0)"),
    "prints and crashes": (programs.prints_and_crashes(), Status.RUNTIME, "it printed: garbage"),
    "writes to an input": (programs.writes_to_input(), Status.RUNTIME, "SIGSEGV"),
    "takes too much memory": (programs.allocates(1 << 30), Status.RUNTIME, "SIGSEGV"),
    "wants too much workspace": (programs.right(1 << 30), Status.RUNTIME, "out of memory, more than 256 MiB"),
    "hangs": (programs.hang(), Status.TIMEOUT, "stopped after 1 s"),
    "prints for ever": (programs.prints_for_ever(), Status.TIMEOUT, "spam"),
    "wrong": (programs.wrong(), Status.CORRECTNESS, "error 0.5 of the largest reference value"),
    "wrong later": (programs.right_once(), Status.CORRECTNESS, "error 1 of the largest"),
    "incomplete": (programs.incomplete(), Status.CORRECTNESS, "4 of 16 elements are NaN"),
    "reads its workspace": (programs.reads_workspace(), Status.CORRECTNESS, "16 of 16 elements are NaN"),
    "writes after its output": (programs.out_of_bounds(16), Status.CORRECTNESS, "out of bounds, next to its output"),
    "writes before its output": (programs.out_of_bounds(-1), Status.CORRECTNESS, "out of bounds"),
}


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_is_a_status_with_its_text_and_the_next_program_is_measured(measurer: Measurer, way: str) -> None:
    program, status, text = FAILURES[way]
    result = measurer.measure(WORKLOAD, program)
    assert (result.status, result.times) == (status, ())
    assert result.message is not None
    assert text in result.message
    assert len(result.message) <= 2000
    assert result.message.replace("\n", "").isprintable()
    assert measurer.measure(WORKLOAD, programs.right()).status is Status.CORRECT


def test_the_error_of_a_wrong_result_is_kept(measurer: Measurer) -> None:
    assert measurer.measure(WORKLOAD, programs.wrong()).error == pytest.approx(0.5)
    assert measurer.measure(WORKLOAD, programs.incomplete()).error is None


def test_a_compilation_that_takes_too_long_says_so() -> None:
    with Measurer(Target.host(threads=1), limits=Limits(compile=1e-4)) as impatient:
        result = impatient.measure(WORKLOAD, programs.right())
    assert result.status is Status.COMPILE
    assert result.message == "the compiler was stopped after 0.0001 s"


def test_a_program_that_prints_is_measured_like_any_other(measurer: Measurer) -> None:
    assert measurer.measure(WORKLOAD, programs.prints()).status is Status.CORRECT


def test_memory_within_the_limit_is_granted(measurer: Measurer) -> None:
    assert measurer.measure(WORKLOAD, programs.allocates(64 << 20)).status is Status.CORRECT
    assert measurer.measure(WORKLOAD, programs.right(64 << 20)).status is Status.CORRECT


def test_a_clearly_slow_candidate_gets_fewer_repeats(measurer: Measurer) -> None:
    assert len(measurer.measure(WORKLOAD, programs.slow(10_000), beat=1e-9).times) == 1
    assert len(measurer.measure(WORKLOAD, programs.slow(10_000), beat=1.0).times) == measurer.protocol.repeats


def test_the_process_is_kept_from_trial_to_trial(measurer: Measurer) -> None:
    measurer.measure(WORKLOAD, programs.right())
    child = measurer._child
    measurer.measure(WORKLOAD, programs.unparsable())
    measurer.measure(WORKLOAD, programs.right())
    assert measurer._child is child


def test_a_process_that_died_between_trials_is_replaced(measurer: Measurer) -> None:
    measurer.measure(WORKLOAD, programs.right())
    assert measurer._child is not None
    measurer._child._kill()
    assert measurer.measure(WORKLOAD, programs.right()).status is Status.CORRECT


def test_workloads_can_alternate(measurer: Measurer) -> None:
    other = matmul(m=4, k=4, n=5)
    program = Program(programs.right().ir, tuple(Argument(o.name, o.role, o.shape) for o in other.operands), 0, 1)
    assert measurer.measure(other, program).status is Status.CORRECTNESS
    assert measurer.measure(WORKLOAD, programs.right()).status is Status.CORRECT


def test_an_operand_is_packed_as_the_program_asks(measurer: Measurer) -> None:
    a, b, output = programs.ARGUMENTS
    transposed = Argument(b.name, b.role, b.shape, Packing((4, 4), ((4,), (4,)), (1, 0)))
    program = Program(programs.right().ir, (a, transposed, output), 0, 1)
    assert measurer.measure(WORKLOAD, program).status is Status.CORRECTNESS
    cut = Argument(b.name, b.role, b.shape, Packing((4, 4), ((2, 2), (4,)), (0, 1, 2)))
    assert measurer.measure(WORKLOAD, Program(programs.right().ir, (a, cut, output), 0, 1)).status is Status.CORRECT


def test_confirming_gives_each_program_its_rounds(measurer: Measurer) -> None:
    times = measurer.confirm(WORKLOAD, [programs.right(), programs.slow(100_000), programs.right(64)], rounds=3)
    assert [len(taken) for taken in times] == [3, 3, 3]
    assert min(times[1]) > max(times[0])
    assert measurer.confirm(WORKLOAD, [], rounds=3) == []


def test_confirming_programs_that_break_the_process_adds_nothing(measurer: Measurer) -> None:
    assert measurer.confirm(WORKLOAD, [programs.right(), programs.segfault()], rounds=2) == [(), ()]
    assert measurer.confirm(WORKLOAD, [programs.right(), programs.unparsable()], rounds=2) == [(), ()]
    assert measurer.measure(WORKLOAD, programs.right()).status is Status.CORRECT


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_is_above_what_any_kernel_does(threads: int) -> None:
    with Measurer(Target.host(threads=threads)) as measurer:
        peak = measurer.peak()
        times = measurer.measure(WORKLOAD, programs.right()).times
    assert peak > WORKLOAD.flops / min(times)


def test_the_peak_of_a_target_that_is_not_this_machine_is_refused() -> None:
    target = Target.from_json({**Target.host(threads=1).to_json(), "triple": "nonsense-none-none"})
    with Measurer(target) as measurer, pytest.raises(MeasureError, match="cannot measure the peak"):
        measurer.peak()


def test_only_one_tuner_times_at_a_time(measurer: Measurer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measurer.measure(WORKLOAD, programs.right())
    statuses: list[Status] = []
    other = threading.Thread(target=lambda: statuses.append(measurer.measure(WORKLOAD, programs.right()).status))
    with machine_lock():
        other.start()
        other.join(0.3)
        assert statuses == []
    other.join()
    assert statuses == [Status.CORRECT]


def test_an_interpreter_that_cannot_start_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with (
        Measurer(Target.host(threads=1)) as measurer,
        pytest.raises(MeasureError, match="did not start: ended by exit"),
    ):
        measurer.measure(WORKLOAD, programs.right())


def test_an_interrupt_leaves_no_process_in_the_middle_of_a_run(
    measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.measure.measurer.machine_lock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(WORKLOAD, programs.hang())
    monkeypatch.undo()
    assert measurer.measure(WORKLOAD, programs.right()).status is Status.CORRECT


def test_a_protocol_of_one_repeat_is_one_repeat() -> None:
    with Measurer(Target.host(threads=1), protocol=Protocol(repeats=1)) as measurer:
        assert len(measurer.measure(WORKLOAD, programs.right()).times) == 1
