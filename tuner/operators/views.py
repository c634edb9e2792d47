"""A convolution seen as another one: the same sums over the same memory, by other sizes.

``flat``: a kernel of one pixel does not know rows, so an image is one row of pixels.
``joined``: where all channels are one block of the layout, what the kernel sees of a row of pixels is one stretch of
memory: so columns and channels are columns of one channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tuner.operators.image import channel_block

if TYPE_CHECKING:
    from tuner.workload import Workload

# Of which dimensions of the weight [co, ci, kh, kw] each dimension of the weight of a joined convolution is made.
JOINED = ((0,), (), (2,), (3, 1))


def seen(workload: Workload, algorithm: str) -> Workload:
    """The convolution whose expression ``algorithm`` takes; most take that of ``workload`` itself.

    The sums of ``split`` are flat or joined where they can be: the latter where a row of the kernel is no longer than a
    block of the layout. Such a row is made even, by one element more in the data and a weight of zero.
    """
    if algorithm == "flat" or (algorithm == "split" and is_flat(workload)):
        return _as_row(workload)
    if algorithm == "joined":
        return _as_columns(workload)
    if algorithm == "split" and _neighbours(workload) and workload.sizes("k")[1] > 1:
        even = _as_columns(workload, even=True)
        row = even.sizes("k")[1]
        return even if channel_block(workload.text("layout"), row) == row else workload
    return workload


def is_flat(workload: Workload) -> bool:
    """Whether ``workload`` can be seen as ``flat``."""
    window = (workload.sizes("k"), workload.sizes("stride"), workload.sizes("pad"))
    return window == ((1, 1), (1, 1), (0, 0, 0, 0))


def is_joined(workload: Workload) -> bool:
    """Whether ``workload`` can be seen as ``joined``."""
    return workload.size("ci") > 1 and _neighbours(workload)


def _neighbours(workload: Workload) -> bool:
    """Whether all that the kernel sees of a row of pixels lies side by side."""
    channels = workload.size("ci")
    return channel_block(workload.text("layout"), channels) == channels and workload.sizes("dilation")[1] == 1


def _as_row(workload: Workload) -> Workload:
    return _with(workload, h=1, w=workload.size("h") * workload.size("w"))


def _as_columns(workload: Workload, even: bool = False) -> Workload:
    """With ``even``, a kernel of odd width has one column more, and the image one more to the right for it."""
    ci, (kh, kw), (top, left, bottom, right) = workload.size("ci"), workload.sizes("k"), workload.sizes("pad")
    (down, along), (apart, _) = workload.sizes("stride"), workload.sizes("dilation")
    more = kw * ci % 2 if even else 0
    return _with(
        workload,
        ci=1,
        w=workload.size("w") * ci,
        k=(kh, kw * ci + more),
        stride=(down, along * ci),
        pad=(top, left * ci, bottom, right * ci + more),
        dilation=(apart, 1),
    )


def _with(workload: Workload, **sizes: int | tuple[int, ...]) -> Workload:
    return replace(workload, arguments=tuple({**dict(workload.arguments), **sizes}.items()))
