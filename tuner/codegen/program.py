"""A kernel in LLVM IR as plain data: what the measuring process and the run-time kernel both need, and nothing else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.dtype import DTYPES
from tuner.errors import ArgumentError
from tuner.loopnest import Map


@dataclass(frozen=True)
class Packing:
    """How a constant operand is laid out for the kernel: each dimension cut into parts, the parts put in a new order.

    With ``joined``, the array first becomes one whose dimensions are each made of these, the outermost first.
    ``maps`` come next, (dimension, matrix by rows): that dimension is multiplied with the matrix, in float64.
    ``parts[d]`` are the extents of dimension ``d``, outermost first; their product may exceed the dimension, and the
    excess is filled with zeros. ``order`` lists the parts, numbered through all dimensions, outermost first. The
    packed elements are of ``dtype``. With ``split``, each is a sum of so many: a new first dimension, the smallest
    first.
    """

    shape: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    maps: tuple[Map, ...] = ()
    dtype: str = "float32"
    split: int = 1
    joined: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """Number of elements of the packed operand."""
        return math.prod(math.prod(part) for part in self.parts)

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The packed copy of ``array``, one-dimensional. Raises ArgumentError when its shape is not the operand's."""
        if array.shape != self.shape:
            raise ArgumentError(f"expected an array of shape {self.shape} but got {array.shape}")
        if self.joined:
            order = [dimension for group in self.joined for dimension in group]
            sizes = [math.prod(self.shape[dimension] for dimension in group) for group in self.joined]
            array = array.transpose(order).reshape(sizes)
        for dimension, matrix in self.maps:
            mapped = np.tensordot(np.array(matrix), array.astype(np.float64), (1, dimension))
            array = np.moveaxis(mapped, 0, dimension)
        array = _as_sum(array, self.split) if self.split > 1 else array.astype(DTYPES[self.dtype])
        excess = [(0, math.prod(part) - extent) for part, extent in zip(self.parts, array.shape, strict=True)]
        if any(after for _, after in excess):
            array = np.pad(array, excess)
        extents = [extent for part in self.parts for extent in part]
        return np.ascontiguousarray(array.reshape(extents).transpose(self.order)).reshape(-1)

    def to_json(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "parts": [list(part) for part in self.parts],
            "order": list(self.order),
            "dtype": self.dtype,
            "split": self.split,
            "joined": [list(group) for group in self.joined],
            "maps": [[dimension, [list(row) for row in matrix]] for dimension, matrix in self.maps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Packing":
        maps = tuple((dimension, tuple(tuple(row) for row in matrix)) for dimension, matrix in data["maps"])
        parts = tuple(tuple(part) for part in data["parts"])
        joined = tuple(tuple(group) for group in data["joined"])
        return cls(tuple(data["shape"]), parts, tuple(data["order"]), maps, data["dtype"], data["split"], joined)


def _as_sum(array: npt.NDArray[Any], parts: int) -> npt.NDArray[Any]:
    """``array`` as a sum of bfloat16 along a new first dimension, the smallest part first."""
    result = []
    for _ in range(parts):
        result.append(array.astype(DTYPES["bfloat16"]))
        array = array - result[-1].astype(np.float32)
    return np.stack(result[::-1])


@dataclass(frozen=True)
class Argument:
    """One pointer that the kernel takes.

    ``shape`` and ``dtype`` are the operand's own; a packed one is stored as ``packing`` says.
    """

    name: str
    role: str  # input, constant or output
    shape: tuple[int, ...]
    packing: Packing | None = None
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of elements behind the pointer."""
        return self.packing.size if self.packing else math.prod(self.shape)

    @property
    def stored(self) -> np.dtype[Any]:
        """The type of those elements."""
        return DTYPES[self.packing.dtype if self.packing else self.dtype]

    def to_json(self) -> dict[str, Any]:
        packing = self.packing.to_json() if self.packing else None
        shape = list(self.shape)
        return {"name": self.name, "role": self.role, "shape": shape, "dtype": self.dtype, "packing": packing}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Argument":
        packing = Packing.from_json(data["packing"]) if data["packing"] else None
        return cls(data["name"], data["role"], tuple(data["shape"]), packing, data["dtype"])


@dataclass(frozen=True)
class Program:
    """LLVM IR with two functions, and what to call them with.

    ``void @kernel(ptr args)`` runs once; ``void @bench(ptr args, i64 n)`` runs it ``n`` times. ``args`` is an array of
    pointers: the arguments in order, then a workspace of ``workspace_bytes``, aligned to 64 bytes.
    """

    ir: str
    arguments: tuple[Argument, ...]
    workspace_bytes: int
    threads: int

    def to_json(self) -> dict[str, Any]:
        return {
            "ir": self.ir,
            "arguments": [argument.to_json() for argument in self.arguments],
            "workspace_bytes": self.workspace_bytes,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Program":
        arguments = tuple(Argument.from_json(item) for item in data["arguments"])
        return cls(data["ir"], arguments, data["workspace_bytes"], data["threads"])
