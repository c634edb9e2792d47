"""One contender in its own process: it prepares a task and runs it in blocks, as the parent asks.

    worker.py FILE THREADS CPUS OPTIONS

FILE defines ``prepare(task, x, w, threads, opts) -> (run, get)``: ``run()`` is timed, ``get()`` gives the output in
plain layout (None where there is nothing to check). Requests and answers are JSON, one a line. Needs only NumPy.
"""

import gc
import importlib.util
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

SAMPLE = 300e-6  # seconds of one sample at least: shorter runs are repeated
WARM_UP = 3e-3  # seconds at the beginning of a block: the contender before has filled the caches with its own data


class Worker:
    """A contender and the task it has prepared."""

    def __init__(self, module, threads, options):
        self.module = module
        self.threads = threads
        self.options = options

    def prepare(self, task, folder):
        """Get ready, and compare the output with the reference. The arrays lie in ``folder``."""
        x, w, reference = (np.load(Path(folder) / f"{name}.npy") for name in ("x", "w", "reference"))
        self.run, get = self.module.prepare(task, x, w, self.threads, self.options)
        self.run()
        error = None
        if get is not None:
            output = np.asarray(get()).reshape(reference.shape)
            error = float(np.abs(output - reference).max() / np.abs(reference).max())
        gc.collect()
        gc.freeze()
        self.repeats = 1
        self.repeats = max(1, math.ceil(SAMPLE / min(self.sample() for _ in range(5))))
        own_flops = getattr(self.module, "flops", None)
        return {
            "error": error,
            "note": getattr(self.module, "NOTE", {}).get(task["name"], ""),
            "flops": own_flops(self.threads) if own_flops else task["flops"],
        }

    def block(self, seconds):
        """Samples, in seconds a call, for as long as told."""
        end = time.perf_counter() + WARM_UP
        while time.perf_counter() < end:
            self.run()
        end = time.perf_counter() + seconds
        samples = []
        while not samples or time.perf_counter() < end:
            samples.append(self.sample())
        return {"samples": samples}

    def sample(self):
        run, turns = self.run, range(self.repeats)
        started = time.perf_counter()
        for _ in turns:
            run()
        return (time.perf_counter() - started) / self.repeats


def main():
    file, threads, cpus, options = sys.argv[1], *map(json.loads, sys.argv[2:])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(make):
        try:
            message = make()
        except Exception as error:  # a contender may fail in any way it likes; it is then left out, with its reason
            message = {"problem": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(message) + "\n")

    if cpus:
        os.sched_setaffinity(0, cpus)
    gc.disable()
    worker = None

    def begin():
        nonlocal worker
        specification = importlib.util.spec_from_file_location("contender", file)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        worker = Worker(module, threads, options)
        return {"version": module.VERSION}

    answer(begin)
    for line in sys.stdin:
        request, arguments = json.loads(line)
        answer(lambda: getattr(worker, request)(**arguments))  # noqa: B023 (called at once)


if __name__ == "__main__":
    main()
