"""Programs as data, and how the constant operands of one are packed."""

import numpy as np
import pytest

from tests.tuner.kernels import compute
from tuner.build import build
from tuner.codegen.program import Packing, Program
from tuner.errors import ArgumentError
from tuner.schedule import Pack, Reorder, Schedule, Split
from tuner.target import Target
from tuner.workload import parse, random_arrays, reference


def test_a_program_reads_back_from_its_json() -> None:
    workload = parse("dense(m=3,ci=5,co=7,epilogue=bias)")
    target = Target.host(threads=2)
    schedule = Schedule(
        (
            Split("dense", "n", (4,)),
            Reorder("dense", ("m", "n.0", "k", "n.1")),
            Pack("dense", "weight", ("n.0", "k", "n.1")),
            Pack("dense", "data", ("m", "k")),
        )
    )
    program = build(workload, schedule, target)
    assert Program.from_json(program.to_json()) == program
    assert program.workspace_bytes % 64 == 0
    assert program.workspace_bytes >= 3 * 5 * 4
    arrays = random_arrays(workload, 0)
    np.testing.assert_allclose(compute(program, target, arrays), reference(workload, arrays), atol=1e-5)


def test_packing_cuts_pads_and_reorders_the_dimensions() -> None:
    packing = Packing((5, 3), ((2, 4), (3,)), (0, 2, 1))  # [n.0, k, n.1] of a weight [5, 3]
    array = np.arange(15, dtype=np.float32).reshape(5, 3)
    packed = packing.apply(array).reshape(2, 3, 4)
    assert packing.size == packed.size == 24
    for n in range(8):
        expected = array[n] if n < 5 else np.zeros(3)
        np.testing.assert_array_equal(packed[n // 4, :, n % 4], expected)
    with pytest.raises(ArgumentError, match=r"shape \(5, 3\)"):
        packing.apply(array.T)


def test_packing_transforms_a_constant_in_double_precision_and_reads_back() -> None:
    packing = Packing((1, 2), ((1,), (2, 2)), (0, 2, 1), ((1, ((1.0, 2.0**-30), (0.5, -0.5), (0.0, 3.0))),))
    array = np.array([[1.0, 2.0]], np.float32)
    packed = packing.apply(array)
    assert packed.dtype == np.float32
    np.testing.assert_array_equal(packed, np.float32([1.0 + 2.0**-29, 6.0, -0.5, 0.0]))
    assert Packing.from_json(packing.to_json()) == packing


def test_packing_joins_dimensions_and_reads_back() -> None:
    packing = Packing((2, 3, 4), ((2,), (1,), (2, 6)), (0, 1, 3, 2), joined=((0,), (), (2, 1)))
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    packed = packing.apply(array).reshape(2, 1, 6, 2)
    for outer, inner in ((0, 0), (5, 0), (2, 1)):
        joined = 6 * inner + outer  # which is made of the last dimension, and inside it the one before
        np.testing.assert_array_equal(packed[:, 0, outer, inner], array[:, joined % 3, joined // 3])
    assert Packing.from_json(packing.to_json()) == packing
