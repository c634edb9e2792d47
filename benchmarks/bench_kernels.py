"""Our kernels beside those of other libraries, in one run: `python -m benchmarks.bench_kernels --help`.

docs/benchmarks.md says how it is measured and how to read it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

import tunedb
from benchmarks.contender import layout_of, workload_of
from benchmarks.race import HERE, Contender, processes, race
from benchmarks.shapes import UNSEEN
from benchmarks.table import OURS, PEAK, Row, render, summary
from tuner.dtype import DTYPES
from tuner.environment import detect
from tuner.errors import TunedbError, WorkloadError
from tuner.target import Target
from tuner.workload import Workload, make, named, parse, random_arrays, reference

LAYOUTS = {
    "own": "Each contender's preferred layout in and out, constant weights packed",
    "NCHW": "NCHW in and out, constant weights packed",
}
BLOCK = 0.025  # seconds that a contender runs before it is another's turn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if max(options.threads) > (cores := Target.host().threads):
            raise TunedbError(
                f"{max(options.threads)} threads need as many cores, and there are {cores}: use --threads"
            )
        if options.json and not (folder := Path(options.json).absolute().parent).is_dir():
            raise TunedbError(f"there is no folder {folder} for --json")
        tasks = {
            workload: task_of(workload) for workload in select(options.workloads, options.dtype, options.tolerance)
        }
        if options.tune:
            tune(list(tasks.values()), options)
        report = measure(tasks, options)
    except TunedbError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if options.json:
        text = json.dumps(report, indent=1) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench_kernels", description="Compare kernels with those of other libraries.")
    parser.add_argument(
        "workloads", nargs="*", default=["resnet18.*"], help="keys, layers, patterns (resnet18.*), or: unseen"
    )
    parser.add_argument("--threads", type=_numbers, default=[1, 2], metavar="N,N", help="default: 1,2")
    parser.add_argument("--layouts", type=_layouts, default=list(LAYOUTS), metavar="L,L", help="default: own,NCHW")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of data, weights and output")
    parser.add_argument("--db", metavar="URL", help="database of our schedules; default: TUNEDB_URL or the user's")
    parser.add_argument("--tune", type=_number, metavar="N", help="tune each workload with N trials into it before")
    pins = "tune with a knob of ours at one value, such as algorithm=direct; may be given several times"
    parser.add_argument("--set", type=_pin, action="append", default=[], metavar="NAME=VALUE", dest="pins", help=pins)
    parser.add_argument(
        "--tolerance", metavar="NUMBER", help="largest error of a right result; default: the workload's"
    )
    parser.add_argument(
        "--rounds", type=_number, default=14, metavar="N", help=f"turns of {1e3 * BLOCK:g} ms; default: 14"
    )
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), metavar="FOLDER", help="their environment")
    parser.add_argument("--json", metavar="FILE", help="write all results there; - writes them instead of the tables")
    return parser


def select(patterns: Sequence[str], dtype: str = "float32", tolerance: str | None = None) -> list[Workload]:
    """The workloads that keys, names and patterns of names stand for, of ``dtype`` and within ``tolerance``.

    Raises WorkloadError.
    """
    chosen: dict[Workload, None] = {}
    for pattern in patterns:
        matches = [workload for name, workload in named().items() if fnmatchcase(name, pattern)]
        found = matches or [parse(key) for key in (UNSEEN if pattern == "unseen" else (pattern,))]
        chosen.update(dict.fromkeys(make(w.operator, **{**dict(w.arguments), "dtype": dtype}) for w in found))
    return [workload.within(tolerance) if tolerance else workload for workload in chosen]


def task_of(workload: Workload) -> dict[str, Any]:
    """What every contender is told. Raises WorkloadError for what not all of them can do."""
    task: dict[str, Any] = {"name": workload.label, "flops": workload.flops, "dtype": workload.text("dtype")}
    task["tolerance"] = workload.tolerance
    if workload.operator in ("dense", "matmul"):
        names = {"M": "m", "K": "ci", "N": "co"} if workload.operator == "dense" else {"M": "m", "K": "k", "N": "n"}
        task |= {"kind": "matmul"} | {letter: workload.size(name) for letter, name in names.items()}
    elif workload.operator in ("conv2d", "depthwise_conv2d"):
        deep = workload.operator == "conv2d"
        channels = workload.size("ci" if deep else "c")
        (k, *_), (stride, *_), (pad, *_) = (workload.sizes(name) for name in ("k", "stride", "pad"))
        h, w = workload.size("h"), workload.size("w")
        task |= {"kind": "conv", "IC": channels, "H": h, "W": w, "OC": workload.size("co") if deep else channels}
        task |= {"K": k, "S": stride, "P": pad, "G": 1 if deep else channels}
        task |= {"OH": (h + 2 * pad - k) // stride + 1, "OW": (w + 2 * pad - k) // stride + 1}
    else:
        raise WorkloadError(f"{workload.label}: {workload.operator} is not part of this benchmark")
    if workload.operator != "matmul" and workload_of(task, "NCHW") != workload:
        raise WorkloadError(
            f"{workload.label}: only batch 1, NCHW, square windows, even padding and no epilogue can be compared here"
        )
    return task


def tune(tasks: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Search for what will then be compared. Raises TunedbError."""
    pins = dict(options.pins)
    with tunedb.open(options.db) as database:
        for threads in options.threads:
            host = Target.host(threads)
            layouts = [(task, layout_of(task, name, host)) for name in options.layouts for task in tasks]
            for workload in dict.fromkeys(workload_of(task, layout) for task, layout in layouts):
                _say(f"tuning {workload.label}, {threads} threads")
                tunedb.tune(workload, db=database, trials=options.tune, threads=threads, pins=pins)


def contenders(layout: str, options: argparse.Namespace) -> list[Contender]:
    """All of them, as they take part in the table of ``layout``."""
    peers, python = options.peers.absolute() / "bin" / "python", Path(sys.executable)
    plain = {"layout": layout}
    both = [
        Contender(PEAK, HERE / "peak.py", python, {}),
        Contender(OURS, HERE / "contender.py", python, {**plain, "db": options.db}),
        Contender("oneDNN", HERE / "peers/raw_onednn.py", peers, plain),
    ]
    if options.dtype != "float32":
        return both
    return [
        *both,
        Contender("oneDNN 2", HERE / "peers/raw_onednn.py", peers, {**plain, "version": 2}),
        Contender("PyTorch", HERE / "peers/pytorch.py", peers, plain),
        # The threads of these are their own, and would inherit the one processor that OpenMP binds the first one to.
        Contender("ONNX Runtime", HERE / "peers/onnx_runtime.py", peers, plain, openmp=False),
        Contender("OpenVINO", HERE / "peers/open_vino.py", peers, plain, openmp=False),
        Contender("LiteRT", HERE / "peers/litert.py", peers, plain, openmp=False),
    ]


def measure(tasks: dict[Workload, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """All tables; printed as soon as each is complete, unless only JSON is wanted."""
    facts = dict(detect().facts)
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": facts,
        "protocol": {"rounds": options.rounds, "block_seconds": BLOCK},
        "versions": {},
        "tables": [],
    }
    out = sys.stderr if options.json == "-" else sys.stdout
    print(f"{report['date']}: {facts['cpu']}, {facts['os']}, kernel {facts['kernel']}", file=out)
    print(f"commit {facts['commit'][:12]}, LLVM {facts['llvm']}", file=out)
    with tempfile.TemporaryDirectory() as name:
        folders = {workload: Path(name) / str(number) for number, workload in enumerate(tasks)}
        for workload, folder in folders.items():
            folder.mkdir()
            store(workload, folder)
        for layout in options.layouts:
            for threads in options.threads:
                rows = []
                with processes(contenders(layout, options), threads) as runners:
                    for workload, task in tasks.items():
                        _say(f"{layout} layout, {threads} threads: {workload.label}")
                        results = race(runners, task, folders[workload], options.rounds, BLOCK)
                        rows.append(Row(workload.label, layout, threads, results))
                    report["versions"] |= {p.name: p.version for p in runners if p.version}
                table = {"layout": layout, "threads": threads, "rows": [row.to_json() for row in rows]}
                report["tables"].append(table | summary(rows))
                print(f"\n## {LAYOUTS[layout]}, {threads} thread{'s' if threads > 1 else ''}\n", file=out)
                print(render(rows), file=out)
                for problem in _problems(rows):
                    print(problem, file=out)
                out.flush()
    print("\nGFLOP/s: median, ± half the interquartile range, share of the peak.", file=out)
    print("; ".join(f"{name}: {version}" for name, version in report["versions"].items()), file=out)
    return report


def store(workload: Workload, folder: Path) -> None:
    """The operands as the contenders get them, and the float64 reference, as files."""
    arrays = random_arrays(workload, seed=0)
    x, w = (arrays[operand.name].astype(np.float32) for operand in workload.operands[:2])
    np.save(folder / "x.npy", x)
    np.save(folder / "w.npy", np.ascontiguousarray(w.T) if workload.operator == "dense" else w)
    np.save(folder / "reference.npy", reference(workload, arrays))


def _problems(rows: Sequence[Row]) -> list[str]:
    """A line for each contender and reason for which it is missing somewhere."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, result in row.results.items():
            if result.problem:
                missing.setdefault((name, result.problem), []).append(row.workload)
    return [
        f"{name} left out of {'every row' if len(layers) == len(rows) else ', '.join(layers)}: {problem}"
        for (name, problem), layers in missing.items()
    ]


def _say(text: str) -> None:
    """Progress, for people who wait."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")]


def _pin(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _layouts(text: str) -> list[str]:
    layouts = text.split(",")
    for layout in layouts:
        if layout not in LAYOUTS:
            raise argparse.ArgumentTypeError(f"unknown layout {layout!r}; choose from {', '.join(LAYOUTS)}")
    return layouts


if __name__ == "__main__":
    sys.exit(main())
