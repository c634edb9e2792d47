"""LLVM IR as text that is written in pieces: straight stretches, loops and branches.

A stretch keeps its first lines apart, so that an address can be computed where the loop counter it needs is made,
however deep inside it is first used. Text is written instead of an object model because it is several times quicker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Value:
    """An SSA value or a literal; ``lanes`` is 0 for a scalar.

    ``element`` is the type in LLVM: float, i16 (a bfloat16 as it lies in memory) or i32 (a pair of those).
    """

    name: str
    lanes: int = 0
    element: str = "float"

    @property
    def type(self) -> str:
        return vector_type(self.element, self.lanes)


def vector_type(element: str, lanes: int) -> str:
    """The IR's name of ``lanes`` elements; 0 lanes are a scalar."""
    return f"<{lanes} x {element}>" if lanes else element


@dataclass
class Stretch:
    """Straight text: a loop body or a branch. ``top`` is placed before ``lines``."""

    top: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    known: dict[tuple[str, str, int], str] = field(default_factory=dict)  # pointers, sums and tests found in ``top``
    masks: dict[tuple[object, ...], str] = field(default_factory=dict)  # tests of lanes found in ``lines``
    loads: dict[str, dict[tuple[object, ...], Value]] = field(default_factory=dict)
    tiles: dict[int, tuple[str, int]] = field(default_factory=dict)  # what matrix registers hold: pointer and distance


def identifier(name: str) -> str:
    """The IR's name of a pointer."""
    return f'%"{name}"'


class Writer:
    """Writes the body of one function."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = [Stretch()]
        self.block = "entry"
        self.count = 0

    def _close(self) -> None:
        """Called where a straight stretch of text ends: what was held back must be written now."""

    def _fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _line(self, text: str) -> None:
        self.stretches[-1].lines.append("  " + text)

    def _label(self, label: str) -> None:
        self.stretches[-1].lines.append(f"{label}:")
        self.block = label

    def _fence(self) -> None:
        """Let nothing that was loaded before be kept in a register for what follows, nor loads of that come before.

        LLVM selects and orders instructions a block at a time: the steps of an unrolled reduction that share loads
        would hold them all at once, and spill the sums. A fence within the thread orders memory accesses and is no
        instruction.
        """
        self._line('fence syncscope("singlethread") acq_rel')
        self._forget()

    @contextmanager
    def _piece(self) -> Iterator[None]:
        """Text that is written apart and put in place when it is complete."""
        stretch = Stretch()
        self.stretches.append(stretch)
        yield
        self._close()
        self.stretches.pop()
        self.stretches[-1].lines += stretch.top + stretch.lines
        self._forget()

    def _forget(self) -> None:
        """What was loaded before is not known any more."""
        self.stretches[-1].loads.clear()
        self.stretches[-1].tiles.clear()

    def _all(self, conditions: Sequence[str], type_: str) -> str:
        result = conditions[0]
        for other in conditions[1:]:
            both = f"%{self._fresh('and')}"
            self._line(f"{both} = and {type_} {result}, {other}")
            result = both
        return result

    def _branch(self, condition: str) -> Iterator[bool]:
        """Write two alternatives: yields whether the condition holds, while the text of either is being collected."""
        self._close()
        yes, no, end = (self._fresh(stem) for stem in ("then", "else", "end"))
        self._line(f"br i1 {condition}, label %{yes}, label %{no}")
        for taken, label in ((True, yes), (False, no)):
            self._label(label)
            with self._piece():
                yield taken
            self._line(f"br label %{end}")
        self._label(end)

    @contextmanager
    def _turns(self, begin: str, end: str) -> Iterator[str]:
        """A counting loop from ``begin`` to ``end``; yields the counter's name. Tests before the first turn."""
        self._close()
        head, body, done = (self._fresh(stem) for stem in ("head", "body", "done"))
        counter, following, more = (f"%{self._fresh(stem)}" for stem in ("i", "next", "more"))
        before = self.block
        self._line(f"br label %{head}")
        self._label(head)
        phi = len(self.stretches[-1].lines)
        self._line(f"{more} = icmp slt i64 {counter}, {end}")
        self._line(f"br i1 {more}, label %{body}, label %{done}")
        self._label(body)
        with self._piece():
            yield counter
        self._line(f"{following} = add nuw nsw i64 {counter}, 1")
        self._line(f"br label %{head}")
        self.stretches[-1].lines.insert(
            phi, f"  {counter} = phi i64 [{begin}, %{before}], [{following}, %{self.block}]"
        )
        self._label(done)

    @contextmanager
    def _counted(self, begin: int, end: int) -> Iterator[str]:
        """A loop over known bounds with at least one turn: the test is at its end."""
        self._close()
        body, done = self._fresh("body"), self._fresh("done")
        counter, following, more = (f"%{self._fresh(stem)}" for stem in ("i", "next", "more"))
        before = self.block
        self._line(f"br label %{body}")
        self._label(body)
        phi = len(self.stretches[-1].lines)
        with self._piece():
            yield counter
        self._line(f"{following} = add nuw nsw i64 {counter}, 1")
        self._line(f"{more} = icmp ult i64 {following}, {end}")
        self._line(f"br i1 {more}, label %{body}, label %{done}")
        self.stretches[-1].lines.insert(
            phi, f"  {counter} = phi i64 [{begin}, %{before}], [{following}, %{self.block}]"
        )
        self._label(done)
