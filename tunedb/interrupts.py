"""Ctrl-C at a moment that suits a write unit: at its end, or where it asks.

Python raises KeyboardInterrupt between any two instructions. One that comes between a BEGIN and the place that knows
how to undo it leaves a transaction open, which locks the database for this very process: marking its session as
interrupted then waits for a minute and fails.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_arrived = False


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Put an interrupt off until the block ends, ``poll`` is called, or a second one comes."""
    global _arrived
    before = signal.getsignal(signal.SIGINT)
    if before in (_note, None) or threading.current_thread() is not threading.main_thread():
        yield  # interrupts are held already, are not Python's to hold, or are raised in another thread
        return
    _arrived = False
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if _arrived:
            _arrived = False
            signal.raise_signal(signal.SIGINT)


def poll() -> None:
    """A safe place in a long write unit. Raises KeyboardInterrupt if one was put off."""
    global _arrived
    if _arrived:
        _arrived = False
        raise KeyboardInterrupt


def _note(signal_number: int, frame: FrameType | None) -> None:
    global _arrived
    if _arrived:
        raise KeyboardInterrupt
    _arrived = True
