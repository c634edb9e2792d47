"""The rules of loop nests: the verifier refuses what breaks one of them."""

import pytest

from tuner.errors import ScheduleError
from tuner.loopnest import (
    Affine,
    Binary,
    Buffer,
    Constant,
    Kind,
    Load,
    Loop,
    Nest,
    Node,
    Scope,
    Store,
    When,
    Within,
    verify,
)

OUT, SOURCE = Buffer("out", 8, Scope.ARGUMENT), Buffer("source", 8, Scope.ARGUMENT)


def loop(name: str, *body: Node, kind: Kind = Kind.SERIAL, extent: int = 8, step: int = 1) -> Loop:
    return Loop(name, name.split(".")[0], extent, step, kind, "cut", body)


def nest(*body: Node) -> Nest:
    return Nest(body, (("i", 8), ("j", 8)), ())


def at(*loops: str) -> Affine:
    return Affine(tuple((name, 1) for name in loops))


COPY = Store(OUT, at("i"), Load(SOURCE, at("i")))
ZERO = Store(OUT, Affine(), Constant(0.0))

BROKEN: dict[str, tuple[Nest, str]] = {
    "a loop in itself": (nest(loop("i", loop("j", loop("i", COPY)))), "loop i is nested in itself"),
    "no turns": (nest(loop("i", COPY, extent=0)), "loop i has no iterations"),
    "parallel inside serial": (
        nest(loop("j", loop("i", COPY, kind=Kind.PARALLEL))),
        "parallel loop i is not outermost",
    ),
    "a loop inside a vector": (nest(loop("i", loop("j", COPY), kind=Kind.VECTORIZED)), "j is inside a vectorized loop"),
    "a vector with a step": (nest(loop("i", COPY, kind=Kind.VECTORIZED, step=2)), "vectorized loop i has a step of 2"),
    "an index of a closed loop": (nest(loop("j", ZERO), COPY), "out is indexed by loop i, which is not open there"),
    "a value of a closed loop": (
        nest(loop("i", Store(OUT, at("i"), Binary("add", Load(SOURCE, at("i")), Load(SOURCE, at("j")))))),
        "indexed by loop j",
    ),
    "a guard on a closed loop": (
        nest(loop("i", Store(OUT, at("i"), Within(((at("j"), 8),), Load(SOURCE, at("i")))))),
        "indexed by loop j",
    ),
    "a condition on a closed loop": (
        nest(loop("i", When(("j",), "first", (COPY,), ()))),
        "a condition reads loop j, which is not open there",
    ),
    "a broken rule under a condition": (nest(loop("j", When(("j",), "last", (ZERO,), (COPY,)))), "indexed by loop i"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_verifier_refuses_a_nest_with(case: str) -> None:
    broken, message = BROKEN[case]
    with pytest.raises(ScheduleError, match=message):
        verify(broken)


def test_the_verifier_lets_a_good_nest_pass() -> None:
    verify(nest(loop("j", loop("i", COPY, kind=Kind.VECTORIZED), kind=Kind.PARALLEL), loop("i", COPY)))
    verify(nest(loop("i", When(("i",), "first", (COPY,), (ZERO,)))))
