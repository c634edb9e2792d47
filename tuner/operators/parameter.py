"""The parameters of operators: what values they take, and the one normal form and the one text of each value."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from typing import TypeAlias

import numpy as np

from tuner.errors import WorkloadError

Value: TypeAlias = int | str | tuple[int, ...]

EPILOGUES = ("bias", "residual", "relu")  # in the order in which they are applied
BLOCKS = (4, 8, 16, 32, 64)
LARGEST = 2**31 - 1
TOLERANCES = {  # by dtype, what a workload allows that does not say: of max |output - reference| / max |reference|
    "float32": 1e-4,
    "bfloat16": 2e-2,
}


@dataclass(frozen=True)
class Kind:
    """A set of values. ``normal`` gives the normal form of a value or of its text, and None for one outside the set."""

    wanted: str
    normal: Callable[[object], Value | None]


@dataclass(frozen=True)
class Parameter:
    """A named parameter of an operator. One without a default must be given."""

    name: str
    kind: Kind
    default: Value | None = None

    def normal(self, value: object) -> Value:
        """The normal form of ``value``, which may also be its text. Raises WorkloadError for one outside the kind."""
        normal = self.kind.normal(value)
        if normal is None:
            raise WorkloadError(f"{self.name} must be {self.kind.wanted}, not {value!r}")
        return normal

    def states(self, value: Value) -> bool:
        """Whether keys and fingerprints state ``value``: sizes always, options only when not at their default."""
        return self.kind is SIZE or value != self.default


def value_text(value: Value) -> str:
    """The text of a normal value, in its shortest form: (3, 3) is ``3``, (1, 2, 1, 2) is ``1x2``."""
    if not isinstance(value, tuple):
        return str(value)
    if len(value) == 4 and value[:2] == value[2:]:
        value = value[:2]
    if len(set(value)) == 1:
        value = value[:1]
    return "x".join(map(str, value))


def tolerance(value: object) -> float:
    """A tolerance, given as a number or its text. Raises WorkloadError unless it is above 0 and at most 1."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and re.fullmatch(r"[0-9.]{1,30}([eE][+-]?[0-9]{1,3})?", value)):
        with suppress(ValueError):  # "1.2.3"
            if 0 < (number := float(value)) <= 1:  # type: ignore[arg-type]  # it is a number, or looks like one
                return number
    raise WorkloadError(f"tolerance must be a number above 0 and at most 1, such as 1e-5, not {value!r}")


def block(layout: str) -> int | None:
    """The number of channels in a block of a blocked layout (16 for ``NCHW16c``); None for plain NCHW."""
    return None if layout == "NCHW" else int(layout.removeprefix("NCHW").removesuffix("c"))


def _numbers(value: object, smallest: int) -> tuple[int, ...] | None:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,10}(x[0-9]{1,10})*", value):
            return None
        numbers = tuple(map(int, value.split("x")))
    else:
        items = value if isinstance(value, Sequence) else (value,)
        if any(isinstance(item, bool) for item in items):
            return None
        try:
            numbers = tuple(map(index, items))
        except TypeError:
            return None
    return numbers if all(smallest <= number <= LARGEST for number in numbers) else None


def _size(value: object) -> Value | None:
    numbers = _numbers(value, 1)
    return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _pair(value: object) -> Value | None:
    numbers = _numbers(value, 1)
    return (numbers * 2)[:2] if numbers is not None and len(numbers) in (1, 2) else None


def _padding(value: object) -> Value | None:
    numbers = _numbers(value, 0)
    return (numbers * 4)[:4] if numbers is not None and len(numbers) in (1, 2, 4) else None


def _layout(value: object) -> Value | None:
    return value if isinstance(value, str) and value in _LAYOUTS else None


def _epilogue(value: object) -> Value | None:
    if not isinstance(value, str):
        return None
    steps = value.split("+") if value else []
    return value if steps == [step for step in EPILOGUES if step in steps] else None


def _dtype(value: object) -> Value | None:
    return "float32" if value == "float32" else None


_LAYOUTS = ("NCHW", *(f"NCHW{size}c" for size in BLOCKS))

SIZE = Kind(f"a whole number from 1 to {LARGEST}", _size)
PAIR = Kind("one or two whole numbers above 0, written 3 or 3x5", _pair)
PADDING = Kind(
    "whole numbers written 1, 1x2 (vertical x horizontal) or 0x1x2x3 (top x left x bottom x right)", _padding
)
LAYOUT = Kind(f"one of {', '.join(_LAYOUTS)}", _layout)
EPILOGUE = Kind(f"some of {', '.join(EPILOGUES)}, in this order and joined by +", _epilogue)
DTYPE = Kind("float32", _dtype)
