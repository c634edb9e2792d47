"""How a time is taken.

A repeat is one call of ``bench(args, n)``: n calls of the kernel back to back on the same arguments, so caches are warm
and the working set is whatever the cache hierarchy keeps of it. n is chosen so that a repeat lasts at least
``min_repeat`` seconds, far above the resolution of the clock. Every repeat is kept, as seconds per call.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Timer: TypeAlias = Callable[[int], float]  # seconds that n calls in a row take


@dataclass(frozen=True)
class Protocol:
    """What a measurement consists of. All times are seconds."""

    repeats: int = 5
    min_repeat: float = 2e-3
    warm_up: float = 10e-3  # running before the first repeat: a second thread's core takes that long to speed up
    slow: float = 1.5  # a candidate that takes this many times as long as the one to beat gets one repeat only
    long: float = 0.05  # a first call that takes so long counts: a cold start is less than a per cent of it
    budget: float = 1.0  # no repeat begins after so much timing; the first one is always taken
    seed: int = 0  # of the random inputs


def calibrate(timer: Timer, min_repeat: float) -> tuple[int, float]:
    """Calls in a repeat, and seconds per call of the run that showed that they last long enough.

    That run and the shorter ones before it warm up caches, page tables and threads; they are no repeats.
    """
    calls = 1
    while (elapsed := timer(calls)) < min_repeat:
        wanted = 1.2 * calls * min_repeat / max(elapsed, 1e-9)
        calls = min(math.ceil(wanted), 100 * calls)
    return calls, elapsed / calls


def take_repeats(timer: Timer, protocol: Protocol, beat: float | None, first: float) -> list[float]:
    """Seconds per call of each repeat; only one for a kernel that is clearly slower than ``beat`` seconds.

    ``first`` is what the first call of all took, in seconds: the one whose output was verified.
    """
    if first >= protocol.long:
        calls, times, quickest = 1, [first], first
    else:
        calls, warm = calibrate(timer, protocol.min_repeat)
        if beat is None or warm <= protocol.slow * beat:
            for _ in range(math.ceil(protocol.warm_up / (calls * warm)) - 1):
                warm = timer(calls) / calls
        times = [timer(calls) / calls]
        quickest = min(warm, times[0])  # one alone could be a hiccup of the machine
    if beat is not None and quickest > protocol.slow * beat:
        return times
    while len(times) < protocol.repeats and sum(times) * calls < protocol.budget:
        times.append(timer(calls) / calls)
    return times


def take_rounds(timers: list[Timer], protocol: Protocol, rounds: int) -> list[list[float]]:
    """``rounds`` repeats of each kernel, round robin, so that a drift of the machine touches all of them alike.

    The kernel before has filled the caches with its own data, and one call does not bring them back: of 5 MB of
    weights some came from memory in each of the first five. So each repeat begins as warm as those of ``take_repeats``.
    """
    calibrated = [calibrate(timer, protocol.min_repeat) for timer in timers]
    times: list[list[float]] = [[] for _ in timers]
    for _ in range(rounds):
        for timer, (calls, warm), taken in zip(timers, calibrated, times, strict=True):
            for _ in range(math.ceil(protocol.warm_up / (calls * warm))):
                timer(calls)
            taken.append(timer(calls) / calls)
    return times
