"""Lowering: the nests that schedules give, and that columns of factors give what integers give."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.build import nest_of
from tuner.loopnest import (
    Nest,
)
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Dot,
    Fence,
    Inline,
    Matrix,
    Pack,
    Parallel,
    Prefetch,
    Reorder,
    Schedule,
    Split,
    Stagger,
    Step,
    Unroll,
    Vectorize,
)
from tuner.space import Flag
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, parse

# A machine that never changes: golden files and spaces must be the same wherever the tests run.
SERVER = Target(
    kind="cpu",
    triple="x86_64-unknown-linux-gnu",
    cpu="znver5",
    features=("avx", "avx2", "avx512f", "fma", "sse2", "sse4.1"),
    model="AMD EPYC",
    vector_bits=512,
    registers=32,
    l1=49152,
    l2=1048576,
    l3=0,
    cores=2,
    threads=2,
)
GOLDEN = Path(__file__).parent / "golden"
MATMUL = "matmul(m=5,k=7,n=9)"
PADDED = "conv2d(n=2,ci=2,h=5,w=7,co=3,k=3,pad=1)"


def default_schedule(workload: Workload) -> Schedule:
    template = template_for(workload, SERVER)
    return template.schedule(workload, SERVER, template.default(workload, SERVER))


# Golden nests ------------------------------------------------------------------------------------------------------

NESTS: dict[str, tuple[str, tuple[Step, ...] | None]] = {
    "matmul": (MATMUL, ()),
    "split": (MATMUL, (Split("matmul", "n", (2, 4)),)),
    "reorder": (MATMUL, (Reorder("matmul", ("n", "k", "m")),)),
    "tile": (
        MATMUL,
        (
            Split("matmul", "m", (2,)),
            Split("matmul", "n", (4,)),
            Reorder("matmul", ("m.0", "n.0", "k", "m.1", "n.1")),
            CacheWrite("matmul", "n.0"),
            Parallel("matmul", ("m.0",)),
            Unroll("matmul", ("m.1",)),
            Vectorize("matmul", "n.1"),
        ),
    ),
    "shift": (
        MATMUL,
        (
            Split("matmul", "n", (4,), "shift"),
            Reorder("matmul", ("m", "n.0", "k", "n.1")),
            CacheWrite("matmul", "n.0"),
            Vectorize("matmul", "n.1"),
        ),
    ),
    "outer_reduction": (
        "dense(m=5,ci=7,co=9,epilogue=bias+relu)",
        (
            Split("dense", "k", (4,)),
            Reorder("dense", ("m", "k.0", "k.1", "n")),
            CacheWrite("dense", "k.0"),
        ),
    ),
    "pack_constant": (
        "dense(m=5,ci=7,co=9)",
        (
            Split("dense", "n", (4,)),
            Reorder("dense", ("m", "n.0", "k", "n.1")),
            CacheWrite("dense", "n.0"),
            Pack("dense", "weight", ("n.0", "k", "n.1")),
        ),
    ),
    "pack_input": (
        MATMUL,
        (
            Split("matmul", "n", (4,)),
            Reorder("matmul", ("n.0", "m", "k", "n.1")),
            CacheWrite("matmul", "m"),
            Vectorize("matmul", "n.1"),
            Pack("matmul", "b", ("k", "n.1"), "n.0"),
        ),
    ),
    "pad_first": (PADDED, (Parallel("pad", ("pn", "pc", "py")),)),
    "pad_at_a_loop": (
        PADDED,
        (
            Split("conv2d", "oh", (2,)),
            Reorder("conv2d", ("n", "oh.0", "co", "oh.1", "ow", "ci", "kh", "kw")),
            ComputeAt("pad", "oh.0"),
        ),
    ),
    "pad_inlined": (
        PADDED,
        (
            Reorder("conv2d", ("n", "co", "oh", "kh", "ci", "kw", "ow")),
            CacheWrite("conv2d", "oh"),
            Unroll("conv2d", ("kw", "ow")),
            Fence("conv2d", ("kw",)),
            Inline("pad"),
        ),
    ),
    "dot": (
        "dense(m=5,ci=7,co=9,dtype=bfloat16)",
        (
            Split("dense", "n", (4,)),
            Split("dense", "k", (2,)),
            Reorder("dense", ("m", "n.0", "k.0", "k.1", "n.1")),
            CacheWrite("dense", "n.0"),
            Vectorize("dense", "n.1"),
            Dot("dense", "k.1"),
            Pack("dense", "weight", ("n.0", "k.0", "n.1", "k.1")),
        ),
    ),
    "matrix": (
        "dense(m=16,ci=32,co=16,dtype=bfloat16)",
        (
            Split("dense", "m", (8,)),
            Split("dense", "k", (16, 2)),
            Reorder("dense", ("m.0", "k.0", "m.1", "k.1", "k.2", "n")),
            CacheWrite("dense", "m.0"),
            Vectorize("dense", "n"),
            Dot("dense", "k.2"),
            Matrix("dense", "m.1", "k.1"),
            Pack("dense", "weight", ("k.0", "k.1", "n", "k.2")),
        ),
    ),
    "split_up": (
        "conv2d(ci=4,h=3,w=4,co=4,k=3,pad=1,layout=NCHW4c)",
        (Algorithm("conv2d", "split"), Unroll("parts", ("pp",)), Unroll("conv2d", ("p", "q"))),
    ),
    "prefetch": ("dense(m=5,ci=7,co=9)", (Prefetch("dense", "weight", 128),)),
    "stagger": (
        "conv2d(n=2,ci=2,h=5,w=7,co=3,k=3,pad=1)",
        (Parallel("pad", ("pn", "pc", "py")), Stagger("pad", "pc")),
    ),
    "winograd": (
        "conv2d(ci=4,h=3,w=4,co=4,k=3,pad=1,layout=NCHW4c,epilogue=relu)",
        (
            Algorithm("conv2d", "winograd2"),
            Reorder("conv2d", ("n", "ty", "cob", "tx", "k", "i", "j", "co")),
            CacheWrite("conv2d", "tx"),
            Parallel("conv2d", ("n", "ty")),
            ComputeAt("output_rows", "tx"),
            Pack("product", "weight", ("mp", "mq", "mo", "mc", "mk", "ml")),
            ComputeAt("product", "ty"),
            ComputeAt("input_tiles", "ty"),
            ComputeAt("input_rows", "bc"),
        ),
    ),
    "resnet18.C7": ("resnet18.C7(layout=NCHW16c,epilogue=bias+residual+relu)", None),
    "mobilenet.D4": ("mobilenet.D4(layout=NCHW16c)", None),
    "matmul.1024": ("matmul.1024", None),
}


@pytest.mark.parametrize("name", NESTS)
def test_a_nest_prints_as_its_golden_file(name: str, request: pytest.FixtureRequest) -> None:
    key, steps = NESTS[name]
    workload = parse(key)
    schedule = default_schedule(workload) if steps is None else Schedule(steps)
    text = "\n".join([f"# {key}", *(f"# {step}" for step in schedule.steps), "", str(nest_of(workload, schedule)), ""])
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if this is meant: pytest --update-golden, and read the difference"


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(NESTS)


def test_the_nests_in_the_documentation_are_golden_files() -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    golden = [path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.txt")]
    assert shown
    assert [text for text in shown if text not in golden] == []


@pytest.mark.parametrize(
    ("key", "axis", "end"),
    [
        ("conv2d(n=3,ci=2,h=5,w=5,co=3,k=3,pad=1)", "n", 3),
        ("depthwise_conv2d(c=5,h=5,w=5,k=3,pad=1)", "c", 5),
    ],
)
def test_a_region_does_not_reach_beyond_the_operand(key: str, axis: str, end: int) -> None:
    """In the last, partial tile of images or channels there is less to pad, and nothing behind it may be read."""
    workload = parse(key)
    schedule = Schedule((Split(workload.operator, axis, (2,)), ComputeAt("pad", f"{axis}.0")))
    (copy,) = [line for line in str(nest_of(workload, schedule)).splitlines() if line.strip().startswith("padded[")]
    assert f"0 <= 2*{axis}.0 + p{axis} < {end}" in copy


# Columns -----------------------------------------------------------------------------------------------------------


def numbers(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a nest that may be a column, with the way to it; and all that may not, as part of the way."""
    if isinstance(node, tuple | list):
        for position, item in enumerate(node):
            yield from numbers(item, f"{path}/{position}")
    elif hasattr(node, "__dataclass_fields__"):
        for name in node.__dataclass_fields__:
            yield from numbers(getattr(node, name), f"{path}/{type(node).__name__}.{name}")
    elif isinstance(node, int | np.integer | np.ndarray) and not isinstance(node, bool):
        yield path, node
    else:
        yield f"{path}={node}", 0


def assert_rows_are_nests(columns: Nest, rows: list[Nest]) -> None:
    whole = list(numbers(columns))
    for number, row in enumerate(rows):
        single = list(numbers(row))
        assert [path for path, _ in single] == [path for path, _ in whole]
        for (path, value), (_, column) in zip(single, whole, strict=True):
            assert int(np.broadcast_to(column, len(rows))[number]) == value, f"row {number}, {path}"


@pytest.mark.parametrize(
    "key",
    [
        "resnet18.C2",
        "resnet18.C6(layout=NCHW16c)",
        "resnet18.C7(layout=NCHW16c,epilogue=bias+residual+relu)",
        "conv2d(n=2,ci=13,h=7,w=9,co=13,k=3,stride=2,pad=0x1x2x1)",
        "mobilenet.D4",
        "mobilenet.D4(layout=NCHW8c)",
        "dense(m=7,ci=100,co=50,epilogue=bias)",
        "matmul.1024",
        "batch_matmul(b=3,m=10,k=20,n=30)",
    ],
)
def test_a_nest_of_columns_is_the_nests_of_its_rows(key: str) -> None:
    """The promise that lets a whole space be scored in one pass: a column's row is the integer's nest."""
    workload = parse(key)
    template = template_for(workload, SERVER)
    space = template.space(workload, SERVER)
    kinds = 0
    for index in space.sample(np.random.default_rng(0), 4).tolist():
        # The strings and flags of one configuration give the structure, the integers of many give the columns.
        config = space.config(index)
        numeric = [k.name for k in space.knobs if isinstance(k.values[0], int) and not isinstance(k, Flag)]
        many: dict[str, Any] = dict(space.columns(space.sample(np.random.default_rng(index), 12)))
        schedule = template.schedule(workload, SERVER, {**config, **{name: many[name] for name in numeric}})
        rows = [
            nest_of(
                workload,
                template.schedule(workload, SERVER, {**config, **{name: int(many[name][row]) for name in numeric}}),
            )
            for row in range(12)
        ]
        assert_rows_are_nests(nest_of(workload, schedule), rows)
        kinds += 1
    assert kinds == 4


def test_columns_go_through_every_step() -> None:
    workload = parse(PADDED)
    oh, ow, ci = np.array([1, 2, 3, 8]), np.array([7, 4, 2, 3]), np.array([1, 2, 3, 1])

    def schedule(oh: Any, ow: Any, ci: Any) -> Schedule:
        return Schedule(
            (
                Split("conv2d", "oh", (oh,)),
                Split("conv2d", "ow", (ow,), "shift"),
                Split("conv2d", "ci", (ci,)),
                Reorder("conv2d", ("n", "oh.0", "ow.0", "ci.0", "co", "oh.1", "kh", "kw", "ci.1", "ow.1")),
                CacheWrite("conv2d", "ow.0"),
                Parallel("conv2d", ("n", "oh.0")),
                Unroll("conv2d", ("ci.1",)),
                Vectorize("conv2d", "ow.1"),
                Pack("conv2d", "weight", ("co", "ci.0", "kh", "kw", "ci.1")),
                ComputeAt("pad", "oh.0"),
                Split("pad", "px", (ow,)),
            )
        )

    rows = [nest_of(workload, schedule(*map(int, row))) for row in zip(oh, ow, ci, strict=True)]
    assert_rows_are_nests(nest_of(workload, schedule(oh, ow, ci)), rows)
