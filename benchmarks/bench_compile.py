"""What a candidate costs before it runs: ``python -m benchmarks.bench_compile [--candidates N] [WORKLOAD ...]``.

Printed are, for random legal candidates of each template, layout, algorithm and kind of lanes, the medians of the
milliseconds from schedule to IR (build) and from there to machine code (compile), and below what 90 % of both are. The
milliseconds are those of the processor, in one thread: so other programs hardly count.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np

from tuner.build import build
from tuner.codegen.cpu import load
from tuner.errors import WorkloadError
from tuner.search.candidates import Candidates
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, parse

IMAGES = (*(f"resnet18.C{number}" for number in (1, 2, 3, 5, 6, 9, 12)), *(f"mobilenet.D{n}" for n in (1, 2, 5, 9)))
WORKLOADS = (
    *(f"{name}(layout=NCHW16c)" for name in IMAGES),
    *IMAGES,
    "matmul.1024",
    "matmul(m=192,k=768,n=289)",
    "dense(m=1,ci=512,co=1000)",
    "batch_matmul(b=12,m=128,k=64,n=128)",
)
# Knobs that make another kind of program; direct and with lanes of channels is the plain one.
KINDS = ("algorithm", "lanes")


def main() -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--candidates", type=int, default=10, help="of each kind for each workload")
    arguments = parser.parse_args()
    costs: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    try:
        workloads = [parse(key) for key in arguments.workloads]
    except WorkloadError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    for workload in workloads:
        for kind, build_ms, compile_ms in _costs(workload, arguments.candidates):
            costs.setdefault(kind, []).append((build_ms, compile_ms))
    print("| template | layout | kind | candidates | build | compile | both | of all, 90 % are below |")
    print("| --- " * 8 + "|")
    for kind, members in costs.items():
        both = [sum(pair) for pair in members]
        medians = [statistics.median(column) for column in (*zip(*members, strict=True), both)]
        numbers = [len(members), *medians, float(np.percentile(both, 90))]
        print("| " + " | ".join([*kind, *(f"{number:.0f}" for number in numbers)]) + " |")
    return 0


def _costs(workload: Workload, count: int) -> Iterator[tuple[tuple[str, ...], float, float]]:
    """Kind, milliseconds of building and of compiling of ``count`` candidates of each kind that a workload has."""
    target = Target.host(threads=1)
    template = template_for(workload, target)
    space = template.space(workload, target)
    kinds: list[dict[str, object]] = [{}]
    for knob in (knob for knob in space.knobs if knob.name in KINDS):
        kinds = [{**kind, knob.name: value} for kind in kinds for value in knob.values]
    layout = str(dict(workload.arguments).get("layout", ""))
    for pins in kinds:
        if str(pins.get("algorithm")).startswith("winograd") and pins.get("lanes") == "pixels":
            continue  # these have no such lanes
        part = space.pinned(pins)
        candidates = Candidates(part, lambda columns: template.illegal(workload, target, columns))
        for index in candidates.random(np.random.default_rng(0), count).tolist():
            schedule = template.schedule(workload, target, part.config(index))
            begin = time.process_time()
            program = build(workload, schedule, target)
            built = time.process_time()
            load(program.ir, target)
            compiled = time.process_time()
            name = ", ".join(str(value) for value in pins.values() if value not in ("direct", "channels"))
            yield (template.name, layout, name), 1e3 * (built - begin), 1e3 * (compiled - built)


if __name__ == "__main__":
    sys.exit(main())
