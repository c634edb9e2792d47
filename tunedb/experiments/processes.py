"""The processes that runs are made in."""

import os
import signal


def available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that started the others decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
