"""What an epilogue is compared with does the same, and every way that is timed can be run."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_epilogues import PIECE, WAYS, main, passes_ir
from tuner.codegen import cpu
from tuner.kernel import aligned
from tuner.target import Target


def test_a_pass_of_its_own_adds_the_residual_to_the_output_and_leaves_no_negative() -> None:
    target, length = Target.host(threads=1), 3 * PIECE
    output, residual = aligned(length), aligned(length)
    rng = np.random.default_rng(0)
    output[:], residual[:] = rng.standard_normal((2, length))
    expected = np.maximum(output + residual, 0)
    module = cpu.load(passes_ir(target.lanes, length), target)
    module.function("add", ctypes.c_void_p)((ctypes.c_void_p * 2)(output.ctypes.data, residual.ctypes.data))
    assert np.array_equal(output, expected)


def test_all_ways_are_timed_whatever_the_size_of_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "conv2d(n=1,ci=3,h=5,w=5,co=7,k=3,pad=1)"
    assert main(["--db", f"sqlite:///{tmp_path / 'empty.sqlite'}", "--rounds", "1", key]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith(f"| {key} | default | 0 KiB | ")
    assert row.count("%") == len(WAYS) - 1


def test_a_workload_without_epilogues_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--db", f"sqlite:///{tmp_path / 'empty.sqlite'}", "--rounds", "1", "matmul(m=2,k=2,n=2)"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
