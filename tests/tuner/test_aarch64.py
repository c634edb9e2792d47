"""Code for another architecture: linked by a cross compiler, run under an emulator, compared with the reference."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.tuner.kernels import allowed
from tests.tuner.schedules import random_schedule, random_workload
from tuner.build import build
from tuner.codegen.cpu import assembly, object_code
from tuner.codegen.program import Program
from tuner.errors import ScheduleError
from tuner.operators.winograd import TILES
from tuner.schedule import Schedule
from tuner.target import Target, aarch64
from tuner.templates import template_for
from tuner.workload import Workload, parse, random_arrays, reference

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
TARGET = aarch64(threads=2)
WITH_BF16 = replace(TARGET, features=("bf16", "fp-armv8", "neon"))

emulated = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"needs {COMPILER} and {EMULATOR} (Debian: gcc-aarch64-linux-gnu, qemu-user)",
)

KEYS = [
    "conv2d(ci=13,h=7,w=7,co=13,k=3,pad=1)",
    "conv2d(n=2,ci=5,h=9,w=11,co=20,k=3x2,stride=2x1,pad=0x1x2x1,epilogue=bias+residual+relu)",
    "conv2d(ci=3,h=11,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,epilogue=bias+relu)",
    "conv2d(ci=8,h=8,w=9,co=24,k=1,layout=NCHW8c,epilogue=residual)",
    "conv2d(ci=16,h=7,w=5,co=16,k=3,pad=1,layout=NCHW4c,epilogue=bias+relu)",
    "depthwise_conv2d(n=2,c=13,h=7,w=7,k=3,pad=1,epilogue=bias+relu)",
    "depthwise_conv2d(c=16,h=9,w=8,k=5x3,stride=2,pad=2x1,layout=NCHW8c)",
    "dense(m=5,ci=13,co=35,epilogue=bias+relu)",
    "matmul(m=13,k=70,n=35)",
    "batch_matmul(b=3,m=7,k=13,n=17)",
]
NARROW = [
    "conv2d(ci=3,h=11,w=11,co=16,k=3,stride=2,pad=1,layout=NCHW16c,dtype=bfloat16,epilogue=bias+residual+relu)",
    "dense(m=5,ci=13,co=35,dtype=bfloat16)",
]
WINOGRAD = "conv2d(n=2,ci=16,h=9,w=11,co=16,k=3,pad=1x0x2x1,layout=NCHW8c,epilogue=bias+residual+relu)"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program that hands its input to a kernel."""
    compiled = tmp_path_factory.mktemp("aarch64") / "emulate.o"
    source = Path(__file__).parent / "emulate.c"
    subprocess.run([COMPILER, "-O2", "-Wall", "-Werror", "-c", source, "-o", compiled], check=True)
    return compiled


def run(
    program: Program, arrays: dict[str, npt.NDArray[Any]], driver: Path, target: Target = TARGET
) -> npt.NDArray[Any]:
    """The output of ``program`` under the emulator. What it may write to is NaN before."""
    kernel = driver.with_name("kernel.o")
    kernel.write_bytes(object_code(program.ir, target))
    executable = driver.with_name("kernel")
    subprocess.run([COMPILER, "-static", "-fopenmp", driver, kernel, "-o", executable], check=True)
    *inputs, output = program.arguments
    given = [one.packing.apply(arrays[one.name]) if one.packing else arrays[one.name] for one in inputs]
    given.append(np.full(output.shape, np.nan, output.stored))
    numbers = [np.int64(len(given)).tobytes(), np.int64(program.workspace_bytes).tobytes()]
    blocks = [np.int64(array.nbytes).tobytes() + array.tobytes() for array in given]
    ended = subprocess.run([EMULATOR, executable], input=b"".join(numbers + blocks), capture_output=True, check=False)
    assert ended.returncode == 0, f"exit status {ended.returncode} (3: written beside an array): {ended.stderr!r}"
    return np.frombuffer(ended.stdout, output.stored).reshape(output.shape)


def assert_right(workload: Workload, schedule: Schedule, driver: Path, target: Target = TARGET) -> None:
    arrays = random_arrays(workload, seed=0)
    expected = reference(workload, arrays)
    result = run(build(workload, schedule, target), arrays, driver, target)
    difference = np.subtract(result, expected, dtype=np.float64)
    error = np.abs(difference).max() / (np.abs(expected).max() or 1.0)
    assert error <= allowed(workload, schedule), f"{workload}\n{schedule}"  # a NaN is no result


@emulated
@pytest.mark.parametrize("key", KEYS)
def test_legal_configurations_give_the_result_of_the_reference(key: str, driver: Path) -> None:
    workload = parse(key)
    template = template_for(workload, TARGET)
    space = template.space(workload, TARGET)
    indices = space.sample(np.random.default_rng(len(key)), 2000)
    legal = indices[~template.illegal(workload, TARGET, space.columns(indices))].tolist()
    for index in [*legal[:2], space.index(template.default(workload, TARGET))]:
        assert_right(workload, template.schedule(workload, TARGET, space.config(index)), driver)


@emulated
@pytest.mark.parametrize("target", [TARGET, WITH_BF16], ids=["by widening", "with dot products"])
@pytest.mark.parametrize("key", NARROW)
def test_bfloat16_gives_the_result_of_the_reference(key: str, target: Target, driver: Path) -> None:
    workload = parse(key)
    template = template_for(workload, target)
    assert_right(workload, template.schedule(workload, target, template.default(workload, target)), driver, target)


@emulated
@pytest.mark.parametrize("algorithm", TILES)
def test_winograd_gives_the_result_of_the_reference(algorithm: str, driver: Path) -> None:
    workload = parse(WINOGRAD)
    template = template_for(workload, TARGET)
    # Larger tiles are legal only where they save something, which this small image does not show.
    space = template.space(workload, TARGET).pinned({"algorithm": "winograd2"})
    indices = space.sample(np.random.default_rng(0), 2000)
    legal = indices[~template.illegal(workload, TARGET, space.columns(indices))].tolist()
    assert legal
    for index in legal[:2]:
        config = {**space.config(index), "algorithm": algorithm}
        assert_right(workload, template.schedule(workload, TARGET, config), driver)


@emulated
@pytest.mark.parametrize("operator", ["conv2d", "depthwise_conv2d", "dense", "matmul"])
def test_random_schedules_give_the_result_of_the_reference(operator: str, driver: Path) -> None:
    rng, done = Random(operator), 0
    while done < 4:
        workload = random_workload(rng, operator)
        try:
            schedule = random_schedule(rng, workload)
            build(workload, schedule, TARGET)
        except ScheduleError:
            continue
        assert_right(workload, schedule, driver)
        done += 1


def test_the_code_is_that_of_the_other_architecture_alone() -> None:
    """Needs no emulator: LLVM brings every architecture along."""
    workload = parse("resnet18.C6(layout=NCHW16c)")
    template = template_for(workload, TARGET)
    program = build(workload, template.schedule(workload, TARGET, template.default(workload, TARGET)), TARGET)
    text = assembly(program.ir, TARGET)
    assert "fmla\tv" in text
    assert "xmm" not in text
    assert "x86" not in program.ir
    assert object_code(program.ir, TARGET)[:20] == b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x01\x00\xb7\x00"
