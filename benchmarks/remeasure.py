"""Times the schedules of a log again, on equal terms: ``python -m benchmarks.remeasure LOG FOLDER [LABEL ...]``.

A search times its candidates minutes or hours apart, most of them five times, and one that seems slow only once. So the
order of what it has recorded is partly that of the machine's moods. Here all schedules of a workload are compiled first
and then timed in rounds: each round takes one repeat of every schedule, in another random order, with memory of its
own. Of each schedule the fastest half of its repeats are its times, for other work on the machine only makes slower.

FOLDER keeps all times of each workload and target; what it has is not measured again, so that the work can be done in
pieces. At the end FOLDER/LOG is the log with these times, and with the environment and the date of this measurement;
trials whose times FOLDER does not have are left as they are. Programs that were verified before are run in this
process, and their outputs are compared with the reference once more. A log that cannot be read, or that lacks a
LABEL, ends it with exit code 2 before anything is timed.
"""

import argparse
import difflib
import gzip
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunedb.errors import FormatError, NotFoundError
from tunedb.formats import native
from tunedb.formats.common import About, Rejected
from tunedb.formats.source import open_source
from tuner.build import build
from tuner.codegen import cpu
from tuner.environment import detect
from tuner.errors import TunedbError
from tuner.measure.buffers import Buffer
from tuner.measure.protocol import Protocol, take_rounds
from tuner.measure.verify import verify
from tuner.measure.worker import Inputs, load
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.trial import Environment
from tuner.workload import Workload

ROUNDS = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="remeasure", description="Time the schedules of a log again, in rounds.")
    parser.add_argument("log", type=Path)
    parser.add_argument("folder", type=Path, help="where times are kept, and the new log is written")
    parser.add_argument("labels", nargs="*", metavar="LABEL", help="of workloads; all when none is named")
    parser.add_argument("--isa", help="of the target whose trials are timed again, if not all this machine has")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="0: only write the log of what FOLDER has")
    options = parser.parse_args(arguments)
    try:
        remeasure(options.log, options.folder, options.labels, Target.host(1, options.isa), options.rounds)
    except TunedbError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def remeasure(log: Path, folder: Path, labels: Sequence[str], target: Target, rounds: int) -> None:
    """Time what ``log`` has for ``target``, and write it anew. Raises TunedbError before anything is timed."""
    records = list(_records(log))
    found: dict[Workload, dict[Schedule, None]] = {}
    for record in records:
        trial = record.trial
        if trial.times and trial.target == target:
            found.setdefault(trial.workload, {})[trial.schedule] = None
    known = {workload.label: workload for workload in found}
    for label in labels:
        if label not in known:
            near = difflib.get_close_matches(label, known, n=4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known) or 'none at all'}"
            raise NotFoundError(f"{log} has no timed trials of {label!r} on {target.name}; {hint}")
    folder.mkdir(parents=True, exist_ok=True)
    for workload in map(known.__getitem__, dict.fromkeys(labels or known)) if rounds else ():
        place, schedules = _place(folder, workload, target), list(found[workload])
        if not place.exists():
            times = timed(workload, schedules, target, rounds)
            by_schedule = {schedule.fingerprint: each for schedule, each in zip(schedules, times, strict=True)}
            environment = dict(detect().facts)
            place.write_text(json.dumps({"environment": environment, "date": _now(), "times": by_schedule}))
            print(f"{workload.label}: {len(times)} schedules, {rounds} rounds", flush=True)
    with gzip.open(folder / log.name, "wt", encoding="utf-8") as stream:
        for record in _with_new_times(records, folder):
            stream.write(native.encode(record) + "\n")


def timed(workload: Workload, schedules: Sequence[Schedule], target: Target, rounds: int) -> list[list[float]]:
    """Seconds per call of each schedule in each round; of one that does not compute the workload, none."""
    programs = [build(workload, schedule, target) for schedule in schedules]
    modules = [cpu.load(program.ir, target) for program in programs]
    protocol = Protocol()
    inputs = Inputs(workload, protocol.seed)
    alike: dict[str, list[int]] = {}  # by how their operands are packed, which takes longer than running them
    for number, program in enumerate(programs):
        alike.setdefault(json.dumps([argument.to_json() for argument in program.arguments]), []).append(number)
    times: list[list[float]] = [[] for _ in programs]
    usable: dict[int, bool] = {}
    rng = random.Random(0)
    for _ in range(rounds):
        for group in rng.sample(list(alike.values()), len(alike)):
            for number in rng.sample(group, len(group)):
                program = programs[number]
                buffers = [inputs.buffer(argument) for argument in program.arguments]
                loaded = load(modules[number], [*buffers, Buffer((-(-program.workspace_bytes // 4),))])
                inputs.output.poison()
                loaded.timer(1)
                if number not in usable:
                    wrong = verify(inputs.output.array, inputs.reference, inputs.tolerance).problem
                    usable[number] = not wrong
                if usable[number]:
                    times[number] += take_rounds([loaded.timer], protocol, 1)[0]
    return times


def _with_new_times(records: Iterable[native.Record], folder: Path) -> Iterator[native.Record]:
    known: dict[Path, dict[str, Any] | None] = {}
    for record in records:
        trial = record.trial
        place = _place(folder, trial.workload, trial.target)
        if place not in known:
            known[place] = json.loads(place.read_text()) if place.exists() else None
        times = (known[place] or {"times": {}})["times"].get(trial.schedule.fingerprint)
        if trial.times and times and (measured := known[place]):
            environment = Environment(tuple(sorted(measured["environment"].items())))
            created = datetime.fromisoformat(measured["date"])
            fastest = sorted(times)[: (len(times) + 1) // 2]
            trial = replace(trial, times=tuple(fastest), environment=environment, created=created)
            record = replace(record, trial=trial, rounds=tuple((time,) for time in trial.times))
        yield record


def _records(log: Path) -> Iterator[native.Record]:
    with open_source(str(log)) as source:
        for item in native.read(source, About()):
            if isinstance(item, Rejected):
                raise FormatError(f"{log}, line {item.line}: {item.reason}")
            assert isinstance(item.record, native.Record)
            yield item.record


def _place(folder: Path, workload: Workload, target: Target) -> Path:
    return folder / f"{workload.label}.{target.name}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat()


if __name__ == "__main__":
    sys.exit(main())
