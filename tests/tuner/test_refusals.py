"""Lowering: a schedule that is not legal is refused in one line, which begins with its step."""

import pytest

from tuner.build import nest_of
from tuner.errors import ScheduleError
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Inline,
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
from tuner.workload import parse

MATMUL = "matmul(m=5,k=7,n=9)"
PADDED = "conv2d(n=2,ci=2,h=5,w=7,co=3,k=3,pad=1)"
SPLIT_N = Split("matmul", "n", (4,))
WINOGRAD = "conv2d(ci=4,h=4,w=4,co=4,k=3,pad=1,layout=NCHW4c)"
BLOCKED = "conv2d(ci=16,h=5,w=5,co=8,k=1,layout=NCHW8c)"

REFUSED: dict[str, tuple[str, tuple[Step, ...], str]] = {
    "a stage that is not there": (MATMUL, (Unroll("pad", ("m",)),), "no stage pad, only matmul"),
    "an axis that is not there": (MATMUL, (Split("matmul", "q", (2,)),), "no axis q left to split, only m, n, k"),
    "an axis split twice": (MATMUL, (SPLIT_N, SPLIT_N), "no axis n left to split, only m, n.0, n.1, k"),
    "a loop split again": (MATMUL, (SPLIT_N, Split("matmul", "n.1", (2,))), "no axis n.1 left to split"),
    "a factor of zero": (MATMUL, (Split("matmul", "n", (0,)),), "factors are integers of at least 1"),
    "a tail nobody knows": (MATMUL, (Split("matmul", "n", (4,), "mask"),), "the tail is cut or shift"),
    "an order without a loop": (MATMUL, (Reorder("matmul", ("m", "n")),), "the loops are m, n, k; name each of them"),
    "an order with a loop twice": (MATMUL, (Reorder("matmul", ("m", "n", "k", "k")),), "name each of them once"),
    "a loop outside the one it was split from": (
        MATMUL,
        (SPLIT_N, Reorder("matmul", ("m", "n.1", "n.0", "k"))),
        r"the loops of axis n must be in the order n\.0, n\.1",
    ),
    "parallel loops that are not outermost": (MATMUL, (Parallel("matmul", ("n",)),), "must be the outermost ones"),
    "a parallel reduction": (
        MATMUL,
        (Reorder("matmul", ("k", "m", "n")), Parallel("matmul", ("k",))),
        "a reduction loop cannot be parallel",
    ),
    "parallel loops that are moved inside": (
        MATMUL,
        (Parallel("matmul", ("m",)), Reorder("matmul", ("n", "m", "k"))),
        "splits come first in a stage, then its reorder",
    ),
    "two parallel loops of one axis": (
        MATMUL,
        (Split("matmul", "m", (2,)), Parallel("matmul", ("m.0", "m.1"))),
        "two parallel loops of one axis",
    ),
    "parallel loops inside the local tile": (
        MATMUL,
        (Parallel("matmul", ("m",)), CacheWrite("matmul", "")),
        "the parallel loop m is inside the local tile",
    ),
    "a vectorized loop that is not innermost": (MATMUL, (Vectorize("matmul", "n"),), "must be the innermost one"),
    "a vectorized reduction": (MATMUL, (Vectorize("matmul", "k"),), "not a reduction"),
    "a vectorized loop that is moved outside": (
        MATMUL,
        (
            Reorder("matmul", ("m", "k", "n")),
            CacheWrite("matmul", "m"),
            Vectorize("matmul", "n"),
            Reorder("matmul", ("m", "n", "k")),
        ),
        "splits come first in a stage, then its reorder",
    ),
    "a vectorized loop outside the local tile": (
        MATMUL,
        (Reorder("matmul", ("m", "k", "n")), CacheWrite("matmul", "n"), Vectorize("matmul", "n")),
        "the vectorized loop n is outside the local tile",
    ),
    "a loop annotated twice": (
        MATMUL,
        (Parallel("matmul", ("m",)), Unroll("matmul", ("m",))),
        "loop m is already parallel",
    ),
    "a tile at a loop that is not there": (MATMUL, (CacheWrite("matmul", "q"),), "no loop q, only m, n, k"),
    "a tile at a loop that is split later": (
        MATMUL,
        (CacheWrite("matmul", "m"), Split("matmul", "m", (2,))),
        "splits come first in a stage, then its reorder",
    ),
    "a shifted tail inside the local tile": (
        MATMUL,
        (Split("matmul", "n", (4,), "shift"), CacheWrite("matmul", "m")),
        "shifted tail inside the local tile",
    ),
    "a shifted tail and a reduction outside the tile": (
        MATMUL,
        (
            Split("matmul", "n", (4,), "shift"),
            Reorder("matmul", ("m", "n.0", "k", "n.1")),
            CacheWrite("matmul", "k"),
        ),
        "needs all reduction loops inside",
    ),
    "an operand that is not there": (MATMUL, (Pack("matmul", "c", ("m",)),), "nothing reads an operand c"),
    "a pack by the wrong loops": (
        MATMUL,
        (Pack("matmul", "b", ("m", "k")),),
        "the loops that walk through b there are n, k",
    ),
    "a constant packed by too few loops": (
        "dense(m=5,ci=7,co=9)",
        (Pack("dense", "weight", ("k",)),),
        "the loops that walk through weight are n, k",
    ),
    "a pack by loops that are split later": (
        MATMUL,
        (Pack("matmul", "b", ("k", "n")), SPLIT_N),
        "splits come first in a stage, then its reorder",
    ),
    "a pack by a shifted loop": (
        MATMUL,
        (Split("matmul", "n", (4,), "shift"), Pack("matmul", "b", ("n.0", "k", "n.1"))),
        "shifted tail and cannot index a packed operand",
    ),
    "an input packed by loops the wrong way round": (
        MATMUL,
        (SPLIT_N, Pack("matmul", "b", ("k", "n.1", "n.0"))),
        r"the loops of axis n must be in the order n\.0, n\.1",
    ),
    "a pack inside the local tile": (MATMUL, (Pack("matmul", "b", ("n",), "k"),), "loop k is inside the local tile"),
    "a pack between parallel loops": (
        MATMUL,
        (Parallel("matmul", ("m", "n")), Pack("matmul", "a", ("k",), "m")),
        "inside the parallel task space, choose n or deeper",
    ),
    "a pack at a loop that is not there": (MATMUL, (Pack("matmul", "b", ("n", "k"), "q"),), "no loop q"),
    "a stage computed at a loop that is not there": (PADDED, (ComputeAt("pad", "q"),), "no loop q, only n, co, oh"),
    "a stage computed inside the tile": (PADDED, (ComputeAt("pad", "kh"),), "loop kh is inside the local tile"),
    "a parallel stage inside a loop": (
        PADDED,
        (ComputeAt("pad", "n"), Parallel("pad", ("pn",))),
        "computed inside a loop and cannot be parallel",
    ),
    "a stage computed at two loops": (PADDED, (ComputeAt("pad", "n"), ComputeAt("pad", "oh")), "has a place already"),
    "a second local tile": (MATMUL, (CacheWrite("matmul", "m"), CacheWrite("matmul", "n")), "a local tile already"),
    "an operand packed twice": (
        MATMUL,
        (Pack("matmul", "b", ("k", "n")), Pack("matmul", "b", ("n", "k"))),
        "b is packed already",
    ),
    "a prefetch of what is not read": (MATMUL, (Prefetch("matmul", "c", 64),), "nothing reads an operand c there"),
    "a prefetch of what is here": (MATMUL, (Prefetch("matmul", "b", 0),), "the distance is an integer of at least 1"),
    "two prefetches": (
        MATMUL,
        (Prefetch("matmul", "b", 64), Prefetch("matmul", "b", 128)),
        "b is prefetched already",
    ),
    "a gap in the output": (PADDED, (Stagger("conv2d", "co"),), "stagger is not for stage conv2d"),
    "a gap inside the last axis": (PADDED, (Stagger("pad", "px"),), "the axis must be one of pn, pc, py"),
    "two gaps": (PADDED, (Stagger("pad", "pn"), Stagger("pad", "pc")), "the stage is staggered already"),
    "a main stage computed elsewhere": (PADDED, (ComputeAt("conv2d", "oh"),), "is not for stage conv2d"),
    "a local tile of a stage that sums nothing": (PADDED, (CacheWrite("pad", "py"),), "is not for stage pad"),
    "a pack of a stage that sums nothing": (
        PADDED,
        (Pack("pad", "data", ("pn", "pc", "py", "px")),),
        "not for stage pad",
    ),
    "an algorithm that does not apply": (
        BLOCKED,
        (Algorithm("conv2d", "winograd2"),),
        "winograd is for 3x3 kernels",
    ),
    "two algorithms": (
        PADDED,
        (Algorithm("conv2d", "direct"), Algorithm("conv2d", "direct")),
        "one algorithm is chosen at most",
    ),
    "an algorithm of a stage that is no operator": (PADDED, (Algorithm("pad", "direct"),), "for the stage conv2d"),
    "a stage of a chain that is inlined": (
        WINOGRAD,
        (Algorithm("conv2d", "winograd2"), Inline("product")),
        "inline is not for stage product",
    ),
    "a stage computed in a loop that is not around its reader": (
        WINOGRAD,
        (
            Algorithm("conv2d", "winograd2"),
            ComputeAt("output_rows", "tx"),
            ComputeAt("product", "ty"),
            ComputeAt("input_tiles", "tx"),
        ),
        "no loop tx, only n, cob, ty, mp",
    ),
    "a pack of what another stage computes in part": (
        PADDED,
        (ComputeAt("pad", "n"), Pack("conv2d", "padded", ("ci", "oh", "ow", "kh", "kw"), "n")),
        "padded is made by a stage of its own",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_legal_is_refused_by_its_step(case: str) -> None:
    key, steps, message = REFUSED[case]
    with pytest.raises(ScheduleError, match=message) as caught:
        nest_of(parse(key), Schedule(steps))
    assert "\n" not in str(caught.value)
