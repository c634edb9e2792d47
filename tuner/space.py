"""Search spaces: knobs, and the one integer that stands for a configuration.

A space is the product of its knobs. A configuration is numbered in mixed radix, the first knob being the most
significant digit, so the size is known and any configuration is reached without enumerating the others. Work on many
candidates at once happens on NumPy arrays of indices, of digits (one column a knob) or of values (see ``columns``).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tuner.canonical import fingerprint
from tuner.errors import KnobError, ScheduleError

Value: TypeAlias = int | str | tuple[int, ...]
Config: TypeAlias = Mapping[str, Value]
Indices: TypeAlias = npt.NDArray[np.int64]
Columns: TypeAlias = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Knob:
    """A named choice among distinct values, which are all integers, all strings, or all tuples of one length.

    ``first`` is the number of the first value in columns where values are strings. It is not 0 for a knob that was
    pinned to a value: that keeps its number, so that what is written for the whole knob is right for the pinned one.
    ``absent`` is what a configuration means that does not name the knob: one from before there was any.

    Raises:
        ScheduleError: there are no values, they are of different kinds, or one is given twice.
    """

    name: str
    values: tuple[Value, ...]
    first: int = 0
    absent: Value | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise ScheduleError(f"knob {self.name} has no values to choose from")
        if len({_shape(value) for value in self.values}) > 1:
            raise ScheduleError(f"knob {self.name} mixes kinds of values: {_some(self.values)}")
        if len(set(self.values)) < len(self.values):
            raise ScheduleError(f"knob {self.name} has the same value twice: {_some(self.values)}")

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """The values as numbers, (values, width): a string is its position, a tuple has a column for each item."""
        rows = [number if isinstance(value, str) else value for number, value in enumerate(self.values, self.first)]
        return np.array(rows, dtype=np.int64).reshape(len(rows), -1)

    def pinned(self, wanted: object) -> "Knob":
        """This knob with one value, which may be given as its text (``8x2`` is a tuple). Raises KnobError."""
        for position, value in enumerate(self.values):
            if value_text(value) == value_text(wanted):
                return replace(self, values=(value,), first=self.first + position)
        raise KnobError(f"knob {self.name} cannot be {value_text(wanted)}; it is one of {_some(self.values)}")


@dataclass(frozen=True)
class Split(Knob):
    """The factors into which a loop is split, outermost first: a choice among given tuples."""

    values: tuple[tuple[int, ...], ...]
    first: int = 0
    absent: Value | None = None

    @classmethod
    def of(cls, name: str, extent: int, parts: int) -> "Split":
        """Every way to write ``extent`` as an ordered product of ``parts`` factors."""
        return cls(name, tuple(_factorisations(extent, parts)))


@dataclass(frozen=True)
class Choice(Knob):
    """One of several integers or strings."""


@dataclass(frozen=True)
class Flag(Knob):
    """Off (0) or on (1)."""

    values: tuple[Value, ...] = (0, 1)


class Space:
    """All configurations of some knobs.

    Raises:
        ScheduleError: two knobs have one name, or there are 2**63 configurations or more.
    """

    def __init__(self, knobs: Iterable[Knob]) -> None:
        self.knobs = tuple(knobs)
        names = [knob.name for knob in self.knobs]
        if len(set(names)) < len(names):
            raise ScheduleError(f"two knobs have the same name: {', '.join(sorted(names))}")
        self.radices = np.array([len(knob.values) for knob in self.knobs], dtype=np.int64)
        self.size = prod(len(knob.values) for knob in self.knobs)
        if self.size >= 2**63:
            raise ScheduleError(f"a space of {self.size} configurations is too large; the limit is 2**63")
        self._weights = np.array([prod(self.radices[i + 1 :].tolist()) for i in range(len(names))], dtype=np.int64)
        self._positions = [{value: i for i, value in enumerate(knob.values)} for knob in self.knobs]
        self._tables = [knob.table for knob in self.knobs]

    def __len__(self) -> int:
        return self.size

    @property
    def fingerprint(self) -> str:
        """Identity of the content: equal spaces number the same configurations alike."""
        return fingerprint([[knob.name, [_json(value) for value in knob.values]] for knob in self.knobs])

    def config(self, index: int) -> dict[str, Value]:
        """The configuration number ``index``. Raises ScheduleError when there is none."""
        if not 0 <= index < self.size:
            raise ScheduleError(f"configuration {index} is outside the space of {self.size}")
        digits = self.digits(np.array([index]))[0]
        return {knob.name: knob.values[digit] for knob, digit in zip(self.knobs, digits, strict=True)}

    def index(self, config: Mapping[str, Value | Sequence[int]]) -> int:
        """The number of ``config``; a list does for a tuple, as in JSON.

        Raises:
            ScheduleError: a knob is missing or unknown, or has a value that is not in the space.
        """
        unknown = sorted(set(config) - {knob.name for knob in self.knobs})
        if unknown:
            raise ScheduleError(f"the space has no knob {unknown[0]!r}; its knobs are {self._names()}")
        index = 0
        for knob, positions, weight in zip(self.knobs, self._positions, self._weights.tolist(), strict=True):
            value = config.get(knob.name, knob.absent)
            if value is None:
                raise ScheduleError(f"the configuration does not say the value of knob {knob.name!r}")
            position = positions.get(tuple(value) if isinstance(value, list) else value)  # type: ignore[arg-type]
            if position is None:
                raise ScheduleError(f"knob {knob.name!r} cannot be {value!r}; it is one of {_some(knob.values)}")
            index += position * weight
        return index

    def pinned(self, pins: Mapping[str, object]) -> "Space":
        """The part of this space where knobs have the values of ``pins``, given as values or as their text.

        Raises:
            KnobError: there is no such knob, or it has no such value.
        """
        names = [knob.name for knob in self.knobs]
        for name in pins:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=4)
                hint = f"did you mean {' or '.join(near)}?" if near else f"its knobs are {self._names()}"
                raise KnobError(f"the space has no knob {name!r}; {hint}")
        return Space(knob.pinned(pins[knob.name]) if knob.name in pins else knob for knob in self.knobs)

    def digits(self, indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The position of every knob's value, (N, knobs), for N configurations."""
        rest = np.asarray(indices, dtype=np.int64)
        digits = np.empty((len(self.knobs), len(rest)), dtype=np.int64)
        for place in reversed(range(len(self.knobs))):  # dividing by a number is quicker than dividing by an array
            above = rest // self.radices[place]
            digits[place] = rest - above * self.radices[place]
            rest = above
        return digits.T

    def indices(self, digits: npt.NDArray[np.int64]) -> Indices:
        """The inverse of ``digits``."""
        return digits @ self._weights

    def columns(self, indices: npt.ArrayLike) -> Columns:
        """The values of N configurations as int64 columns.

        An integer is itself and a string its position among the knob's values, those of the whole knob if it is
        pinned; the items of a tuple knob ``tile`` are the columns ``tile.0``, ``tile.1``, ...
        """
        columns: Columns = {}
        for knob, table, digit in zip(self.knobs, self._tables, self.digits(indices).T, strict=True):
            if isinstance(knob.values[0], tuple):
                columns.update({f"{knob.name}.{item}": column[digit] for item, column in enumerate(table.T)})
            else:
                columns[knob.name] = table[digit, 0]
        return columns

    def sample(self, rng: np.random.Generator, count: int) -> Indices:
        """``count`` distinct random configurations (all of them, shuffled, when there are fewer)."""
        if count < 10_000 or not 4 * count < self.size < 50 * count:
            return rng.choice(self.size, size=min(count, self.size), replace=False).astype(np.int64)
        # Here NumPy would write down the whole space. So a quarter more are drawn, of which 1.07 times as many as are
        # wanted differ even in the smallest space, and the first of these are taken.
        drawn = rng.integers(self.size, size=5 * count // 4)
        # Sorting pairs that are written as numbers takes a tenth of the time of finding the order of what was drawn.
        value, place = np.divmod(np.sort(drawn * len(drawn) + np.arange(len(drawn))), len(drawn))
        first = place[np.diff(value, prepend=-1) > 0]
        return np.asarray(drawn[np.sort(first)[:count]], dtype=np.int64)

    def _names(self) -> str:
        return ", ".join(knob.name for knob in self.knobs)


def value_text(value: object) -> str:
    """The text of a value: ``8x2`` of a tuple."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _factorisations(extent: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(extent,)]
    divisors = [d for d in range(1, extent + 1) if extent % d == 0]
    return [(d, *rest) for d in divisors for rest in _factorisations(extent // d, parts - 1)]


def _shape(value: Value) -> object:
    return len(value) if isinstance(value, tuple) else type(value)


def _json(value: Value) -> int | str | list[int]:
    return list(value) if isinstance(value, tuple) else value


def _some(values: Sequence[Value]) -> str:
    shown = ", ".join(value_text(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} in all)"
