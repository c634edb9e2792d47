"""What a fused epilogue costs: ``python -m benchmarks.bench_epilogues [--db URL] [WORKLOAD ...]``.

One thread. A layer has the best schedule that the database has for it without an epilogue, else default ones. A
residual is as large as the output. So beside the kernel that adds it stand one that does not, followed by a plain read
of as many bytes, and one followed by a pass that adds it. All of them take turns, on the same arrays.
"""

import argparse
import ctypes
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from benchmarks.contender import choose
from tuner.build import build
from tuner.codegen import cpu
from tuner.errors import TunedbError
from tuner.kernel import aligned
from tuner.measure.lock import machine_lock
from tuner.target import Target
from tuner.workload import Workload, make, parse

LAYERS = (*(f"resnet18.C{number}" for number in (2, 5, 7, 12)), *(f"mobilenet.D{number}" for number in (1, 5, 9)))
WORKLOADS = (*(f"{name}(layout=NCHW16c)" for name in LAYERS), "dense(m=1024,ci=1024,co=1024)")
WAYS = {  # by column: the epilogue of the kernel, and the function that is called after it
    "without": ("", "nothing"),
    "bias, ReLU": ("bias+relu", "nothing"),
    "and residual": ("bias+residual+relu", "nothing"),
    "bias, ReLU; a read": ("bias+relu", "read"),
    "bias; a pass of its own": ("bias", "add"),
}
SAMPLE = 2e-3  # seconds
PIECE = 64  # elements that a pass does in each turn

Run = Callable[[int], object]  # so many times


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--db", metavar="URL", help="database of our schedules; default: TUNEDB_URL or the user's")
    parser.add_argument("--rounds", type=int, default=100, help=f"samples of each way, {1e3 * SAMPLE:g} ms long")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is 1 or more")
    target = Target.host(threads=1)
    print("| layer | schedule | output | " + " | ".join(WAYS) + " |")
    print("| --- " * (3 + len(WAYS)) + "|")
    try:
        for workload in map(parse, options.workloads):
            with machine_lock():
                least, *others = race(prepare(workload, target, options.db), options.rounds)
            size = f"{prod(workload.operands[-1].shape) * 4 // 1024} KiB"
            _, source = choose(workload, target, options.db)
            columns = [f"{1e6 * least:.1f} µs", *(f"{100 * (each / least - 1):+.1f} %" for each in others)]
            print("| " + " | ".join([workload.label, source, size, *columns]) + " |", flush=True)
    except TunedbError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(workload: Workload, target: Target, url: str | None) -> list[Run]:
    """How each of ``WAYS`` is run. They share their arrays."""
    best, source = choose(workload, target, url)
    length = -(-prod(workload.operands[-1].shape) // PIECE) * PIECE
    modules = [cpu.load(passes_ir(target.lanes, length), target)]
    bench = modules[0].function("bench", *[ctypes.c_void_p] * 4, ctypes.c_int64)
    arrays = {"output": aligned(length), "residual": aligned(length)}
    bench.keeps_alive = (modules, arrays)

    def pointers(sizes: dict[str, int]) -> ctypes.Array[ctypes.c_void_p]:
        for name in sizes.keys() - arrays.keys():
            arrays[name] = aligned(sizes[name])
        return (ctypes.c_void_p * len(sizes))(*(arrays[name].ctypes.data for name in sizes))

    def run_of(epilogue: str, after: str) -> Run:
        fused = make(workload.operator, **{**dict(workload.arguments), "epilogue": epilogue})
        program = build(fused, best if source == "tuned" else choose(fused, target, url)[0], target)
        modules.append(cpu.load(program.ir, target))
        operands = {argument.name: argument.size for argument in program.arguments}
        given = pointers({**operands, "workspace": max(program.workspace_bytes // 4, 1)})
        ends = pointers({"output": length, "residual": length})
        return partial(bench, modules[-1].address("kernel"), given, modules[0].address(after), ends)

    runs = [run_of(epilogue, after) for epilogue, after in WAYS.values()]
    for array in arrays.values():
        array.fill(0.5)
    return runs


def race(runs: list[Run], rounds: int) -> list[float]:
    """Seconds of each, the median of samples in random order."""
    repeats = [max(1, round(SAMPLE / min(_timed(run, 1) for _ in range(5)))) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for number in random.sample(range(len(runs)), len(runs)):
            _timed(runs[number], max(1, repeats[number] // 8))  # the one before has left other things in the caches
            samples[number].append(_timed(runs[number], repeats[number]))
    return [statistics.median(each) for each in samples]


def _timed(run: Run, times: int) -> float:
    started = time.perf_counter()
    run(times)
    return (time.perf_counter() - started) / times


def passes_ir(lanes: int, length: int) -> str:
    """LLVM IR of ``bench``, which calls two functions in turn, and of those that may come second.

    They are given pointers to the output and the residual, of ``length`` elements.
    """
    vector, zeros = f"<{lanes} x float>", "zeroinitializer"
    read, add = [], []
    for place in range(0, PIECE, lanes):
        where = f"  %o{place} = getelementptr float, ptr %output.at, i64 {place}"
        there = f"  %r{place} = getelementptr float, ptr %residual.at, i64 {place}"
        read += [there, f"  %x{place} = load volatile {vector}, ptr %r{place}"]
        add += [
            where,
            there,
            f"  %x{place} = load {vector}, ptr %o{place}",
            f"  %y{place} = load {vector}, ptr %r{place}",
            f"  %s{place} = fadd {vector} %x{place}, %y{place}",
            f"  %positive{place} = fcmp ogt {vector} %s{place}, {zeros}",
            f"  %m{place} = select <{lanes} x i1> %positive{place}, {vector} %s{place}, {vector} {zeros}",
            f"  store {vector} %m{place}, ptr %o{place}",
        ]
    return "\n".join([_BENCH, _pass("read", read, length), _pass("add", add, length)])


def _pass(name: str, body: list[str], length: int) -> str:
    return "\n".join(
        [
            f"define void @{name}(ptr %args) {{",
            "entry:",
            "  %output = load ptr, ptr %args",
            "  %second = getelementptr ptr, ptr %args, i64 1",
            "  %residual = load ptr, ptr %second",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            "  %output.at = getelementptr float, ptr %output, i64 %i",
            "  %residual.at = getelementptr float, ptr %residual, i64 %i",
            *body,
            f"  %next = add i64 %i, {PIECE}",
            f"  %more = icmp ult i64 %next, {length}",
            "  br i1 %more, label %loop, label %done",
            "done:",
            "  ret void",
            "}",
        ]
    )


_BENCH = """define void @nothing(ptr %args) {
  ret void
}

define void @bench(ptr %first, ptr %operands, ptr %second, ptr %ends, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void %first(ptr %operands)
  call void %second(ptr %ends)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

if __name__ == "__main__":
    sys.exit(main())
