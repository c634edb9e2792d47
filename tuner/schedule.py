"""A schedule is data: a list of steps that prints, hashes, serialises and replays.

The vocabulary is that of the loop-transformation literature. A step names a stage of the expression (``conv2d``,
``pad``) and loops of it. Splitting the loop ``ow`` twice gives ``ow.0``, ``ow.1`` and ``ow.2``, outermost first.
Factors are integers in a schedule that is compiled. They may also be NumPy columns with one entry a candidate: the same
schedule then stands for all of them at once, which is how a whole space is scored in one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tuner.canonical import fingerprint
from tuner.errors import ScheduleError

Extent = int | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """Base of all steps. ``stage`` is the name of the stage that the step changes."""

    kind: ClassVar[str]
    stage: str

    def to_json(self) -> list[Any]:
        values = [getattr(self, field.name) for field in fields(self)]
        return [self.kind, *(list(value) if isinstance(value, tuple) else value for value in values)]

    def __str__(self) -> str:
        values = [getattr(self, field.name) for field in fields(self)][1:]
        text = ", ".join("(" + ", ".join(map(str, v)) + ")" if isinstance(v, tuple) else str(v) for v in values)
        return f"{self.stage}.{self.kind}({text})"


@dataclass(frozen=True)
class Algorithm(Step):
    """Compute the operator by another expression than the direct one; its stages are what the other steps name."""

    kind: ClassVar[str] = "algorithm"
    name: str


@dataclass(frozen=True)
class Split(Step):
    """Split ``axis`` into ``len(factors) + 1`` loops; ``factors`` are the extents of all but the outermost.

    ``tail`` says what happens to the last, partial tile: "cut" peels it off with exact bounds; "shift" moves it back so
    that it overlaps the one before, which needs each tile to be computed wholly and independently.
    """

    kind: ClassVar[str] = "split"
    axis: str
    factors: tuple[Extent, ...]
    tail: str = "cut"


@dataclass(frozen=True)
class Reorder(Step):
    """Put the loops of the stage in this order, outermost first. All loops are named."""

    kind: ClassVar[str] = "reorder"
    loops: tuple[str, ...]


@dataclass(frozen=True)
class Parallel(Step):
    """Share the iterations of these outermost loops, taken together as one task space, among the threads."""

    kind: ClassVar[str] = "parallel"
    loops: tuple[str, ...]


@dataclass(frozen=True)
class Unroll(Step):
    """Write the bodies of these loops out."""

    kind: ClassVar[str] = "unroll"
    loops: tuple[str, ...]


@dataclass(frozen=True)
class Fence(Step):
    """Keep the turns of these unrolled loops apart: nothing that one of them has loaded is kept for the next.

    Loading again is cheap. Keeping what several steps of a reduction share takes registers that the sums need.
    """

    kind: ClassVar[str] = "fence"
    loops: tuple[str, ...]


@dataclass(frozen=True)
class Vectorize(Step):
    """Run this innermost loop as one vector operation; its extent is the number of lanes."""

    kind: ClassVar[str] = "vectorize"
    loop: str


@dataclass(frozen=True)
class Dot(Step):
    """Do the two turns of this innermost reduction loop as one operation on pairs of bfloat16 operands.

    Only a vectorized loop may be inside it.
    """

    kind: ClassVar[str] = "dot"
    loop: str


@dataclass(frozen=True)
class Matrix(Step):
    """Do the four innermost loops as one product of small matrices, where the target has registers for them.

    ``rows`` is a loop of the output and ``steps`` one of the reduction, around a dot product and a vectorized loop,
    which are its columns. There are at most 16 of each; on targets without such registers the loops are unrolled.
    """

    kind: ClassVar[str] = "matrix"
    rows: str
    steps: str


@dataclass(frozen=True)
class CacheWrite(Step):
    """Accumulate in a local tile for all loops inside ``loop``, and write it back when they are done ("" = no loop)."""

    kind: ClassVar[str] = "cache_write"
    loop: str


@dataclass(frozen=True)
class Pack(Step):
    """Store operand ``tensor`` in the order in which ``loops`` of this stage walk through it.

    A constant operand is packed once, outside the timed call. Any other one is packed by the kernel itself, inside the
    loop ``at`` ("" = before all loops); ``at`` is ignored for constants.
    """

    kind: ClassVar[str] = "pack"
    tensor: str
    loops: tuple[str, ...]
    at: str = ""


@dataclass(frozen=True)
class Prefetch(Step):
    """Ask for what lies ``distance`` elements further on in operand ``tensor``, each time a cache line of it is read.

    It changes no result. Processors do the same by themselves as far as they recognise a pattern.
    """

    kind: ClassVar[str] = "prefetch"
    tensor: str
    distance: int


@dataclass(frozen=True)
class ComputeAt(Step):
    """Compute this stage inside ``loop`` of the stage that reads it: the region needed there ("" = all, before)."""

    kind: ClassVar[str] = "compute_at"
    loop: str


@dataclass(frozen=True)
class Stagger(Step):
    """Leave a cache line free between neighbours along ``axis`` in what this stage makes.

    Elements that are a power of two apart compete for the same few places of a cache.
    """

    kind: ClassVar[str] = "stagger"
    axis: str


@dataclass(frozen=True)
class Inline(Step):
    """Make no tensor of this stage: its definition takes the place of each access to it.

    Where a padding stage is inlined, the multiply-adds with its zeros are left out, not computed.
    """

    kind: ClassVar[str] = "inline"


_KINDS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Algorithm,
        Split,
        Reorder,
        Parallel,
        Unroll,
        Fence,
        Vectorize,
        Dot,
        Matrix,
        CacheWrite,
        Pack,
        Prefetch,
        ComputeAt,
        Stagger,
        Inline,
    )
}
_FIELDS = {name: tuple(field.name for field in fields(step)) for name, step in _KINDS.items()}


@dataclass(frozen=True)
class Schedule:
    """Steps, in the order in which they are applied."""

    steps: tuple[Step, ...] = ()

    def to_json(self) -> list[list[Any]]:
        """Lists of plain integers and strings: ``[["split", "conv2d", "ow", [14], "shift"], ...]``."""
        return [step.to_json() for step in self.steps]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> "Schedule":
        """The schedule that ``to_json`` wrote. Raises ScheduleError naming the first step that is not one."""
        if not isinstance(data, list | tuple):
            raise ScheduleError(f"a schedule is a list of steps, not {data!r}")
        return cls(tuple(_step(number, row) for number, row in enumerate(data)))

    @property
    def fingerprint(self) -> str:
        """Identity of the content, 64 hexadecimal digits."""
        return fingerprint(self.to_json())

    @property
    def algorithm(self) -> str:
        """By which expression the operator is computed."""
        return next((step.name for step in self.steps if isinstance(step, Algorithm)), "direct")

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


_MOST_KNOWN = 2**14
_known: dict[str, Step] = {}  # by their text


def _step(number: int, row: Any) -> Step:
    """The step of a row: one object for all schedules that have it, for thousands are read, and hardly differ."""
    text = repr(row)
    if (step := _known.get(text)) is None:
        step = _read_step(number, row)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[text] = step
    return step


def _read_step(number: int, row: Any) -> Step:
    name = row[0] if isinstance(row, list | tuple) and row else None
    if not isinstance(name, str) or name not in _KINDS:
        raise ScheduleError(f"schedule step {number}: expected one of {', '.join(sorted(_KINDS))} but found {row!r}")
    names = _FIELDS[name]
    if len(row) - 1 != len(names):
        raise ScheduleError(f"schedule step {number}: {name} takes {len(names)} values but {len(row) - 1} were given")
    values: list[Any] = []
    for field, value in zip(names, row[1:], strict=True):
        is_list = isinstance(value, list | tuple)
        items = set(map(type, value)) if is_list else {type(value)}
        wanted = int if field in ("factors", "distance") else str
        if is_list != (field in ("factors", "loops")) or items - {wanted}:
            raise ScheduleError(f"schedule step {number}: {name} has a bad {field}: {value!r}")
        values.append(tuple(value) if is_list else value)
    return _KINDS[name](*values)
