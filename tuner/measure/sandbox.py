"""What the measuring process does to itself before it runs code that nobody has seen before."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def enter(cpus: list[int]) -> None:
    """Run on ``cpus`` (all if empty), die with the parent, dump no core, be the first to go when memory is short."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":  # elsewhere the end of the channel is what ends an orphan
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if cpus:
        os.sched_setaffinity(0, cpus)
    with suppress(OSError):  # not every container has it
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_memory(extra: int) -> None:
    """Let private memory grow by ``extra`` bytes from here on; an allocation past that fails.

    RLIMIT_DATA counts what can be written to. RLIMIT_AS would also count address space that is only reserved, which is
    64 MiB for the allocator of each thread.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = _private_bytes() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def unlimit_memory() -> None:
    """Take the limit away again, for the work that is not the candidate's."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _private_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    except OSError:  # no /proc: the limit is then a little tighter than asked for
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
