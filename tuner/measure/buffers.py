"""Memory for the arguments of a kernel, with guard zones around it."""

import ctypes
import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.dtype import DTYPES

_PAGE = mmap.PAGESIZE
_HUGE = 4 << 20  # bytes from which NumPy asks for huge pages; a kernel should be measured with what it will be run on
_PROT_READ = 1


class Buffer:
    """``shape`` values at a page boundary, and a page or more of guard zone before and after.

    Guard zones are NaN when read as numbers of any kind: a kernel that reads past the end of an input and uses what it
    finds gives a wrong result, and one that writes there is found by ``intact``.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any] = DTYPES["float32"]) -> None:
        size = dtype.itemsize * math.prod(shape)
        pages = -(-size // _PAGE) + 2
        self._map = mmap.mmap(-1, pages * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        data = np.frombuffer(self._map, np.uint8)
        self._guards = (data[:_PAGE], data[_PAGE + size :])
        for guard in self._guards:
            guard.fill(0xFF)
        self.array: npt.NDArray[Any] = data[_PAGE : _PAGE + size].view(dtype).reshape(shape)
        self.address: int = self.array.ctypes.data

    @classmethod
    def read_only(cls, values: npt.NDArray[Any]) -> "Buffer":
        """A copy of ``values`` that later trials can trust: a kernel that writes to it is killed on the spot."""
        buffer = cls(values.shape, values.dtype)
        buffer.array[...] = values
        start, size = buffer.address - _PAGE, len(buffer._map)
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), _PROT_READ) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        return buffer

    def poison(self) -> None:
        """Fill it with NaN, so that what a kernel does not write, or reads before writing, shows."""
        self.array.fill(np.nan)

    def intact(self) -> bool:
        """Whether nobody has written to the guard zones."""
        return all(bool((guard == 0xFF).all()) for guard in self._guards)
