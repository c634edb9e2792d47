"""Tensor expressions: the E of the method. What is computed, with no word on how.

An expression is a list of stages in the order of their dependence. A stage defines each element of one tensor: a copy
with zeros around it (padding), or a sum over reduction axes with an epilogue applied to the finished sum::

    n, m, k = Axis("n", 8), Axis("m", 4), Axis("k", 16, reduce=True)
    Stage("matmul", c, (m, n), (k,), a[m, k] * b[k, n])

Indices are affine in the axes, which is all that dense linear algebra and convolution need.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import cast

import numpy as np

from tuner.loopnest import Affine, Map


@dataclass(frozen=True)
class Axis:
    """An index variable running from 0 to ``extent``."""

    name: str
    extent: int
    reduce: bool = False

    @property
    def affine(self) -> Affine:
        return Affine(((self.name, 1),))

    def __mul__(self, factor: int) -> Affine:
        return self.affine * factor

    def __add__(self, other: "Axis | Affine") -> Affine:
        return self.affine + (other.affine if isinstance(other, Axis) else other)

    def __sub__(self, constant: int) -> Affine:
        return self.affine + Affine(constant=-constant)


@dataclass(frozen=True)
class Tensor:
    """A named array in row-major order, of float32 or of what ``dtype`` names.

    ``role``: input, constant, output, intermediate of two stages, or table: ``values`` that are known when compiling.
    ``maps`` make a constant out of the operand of its name before it is packed, outside the kernel. With ``parts``, its
    first dimension are the parts that a ``Part`` of that operand would have, the smallest first. With ``joined``, each
    of its dimensions is made of these dimensions of the operand, the outermost first, or has one element.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    values: tuple[float, ...] = ()
    maps: tuple[Map, ...] = ()
    dtype: str = "float32"
    parts: int = 1
    joined: tuple[tuple[int, ...], ...] = ()

    def __getitem__(self, indices: "tuple[Axis | Affine, ...] | Axis | Affine") -> "Access":
        indices = indices if isinstance(indices, tuple) else (indices,)
        return Access(self, tuple(i.affine if isinstance(i, Axis) else i for i in indices))


class Operand:
    """Arithmetic shared by all nodes of an expression."""

    def __add__(self, other: "Scalar") -> "Binary":
        return Binary("add", cast("Scalar", self), other)

    def __mul__(self, other: "Scalar") -> "Binary":
        return Binary("mul", cast("Scalar", self), other)


@dataclass(frozen=True)
class Access(Operand):
    """One element of a tensor."""

    tensor: Tensor
    indices: tuple[Affine, ...]


@dataclass(frozen=True)
class Inside(Operand):
    """``access`` where every ``0 <= affine < bound``, else zero."""

    conditions: tuple[tuple[Affine, int], ...]
    access: Access


@dataclass(frozen=True)
class Number(Operand):
    """A constant."""

    value: float


@dataclass(frozen=True)
class Binary(Operand):
    """``add``, ``mul`` or ``max``."""

    operator: str
    left: "Scalar"
    right: "Scalar"


@dataclass(frozen=True)
class Part(Operand):
    """A float32 as a sum of bfloat16: part 0 is the nearest one, part 1 the one nearest to what is left."""

    value: "Access | Inside"
    number: Affine


@dataclass(frozen=True)
class Total(Operand):
    """In an epilogue: the finished sum of the stage's reduction."""


Scalar = Access | Inside | Number | Binary | Part | Total


def relu(value: Scalar) -> Binary:
    """``max(value, 0)``; a NaN stays one."""
    return Binary("max", value, Number(0.0))


@dataclass(frozen=True)
class Stage:
    """``output[axes] = epilogue(sum over reduce of body)``, or ``= body`` when nothing is reduced.

    ``place`` says which element of the output that is, when it is not ``output[axes]``; where a condition of it does
    not hold there is none.
    """

    name: str
    output: Tensor
    axes: tuple[Axis, ...]
    reduce: tuple[Axis, ...]
    body: Scalar
    epilogue: Scalar = Total()
    place: Access | Inside | None = None

    @property
    def all_axes(self) -> tuple[Axis, ...]:
        return self.axes + self.reduce

    @cached_property
    def multiply_adds(self) -> float:
        """By its definition; where extents are columns, those of the first candidate."""
        extents = (axis.extent for axis in self.all_axes)
        first = (extent if isinstance(extent, int) else int(np.ravel(extent)[0]) for extent in extents)
        return float(prod(first)) if self.reduce else 0.0


@dataclass(frozen=True)
class Expression:
    """Stages in the order of their dependence; the last one makes the output."""

    stages: tuple[Stage, ...]

    @property
    def main(self) -> Stage:
        return self.stages[-1]
