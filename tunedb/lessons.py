"""What other tools' records teach: those whose template is known, as examples that a model learns from like any trial.

A log says little of its machine. What is not said is taken to be as in most: so features of one machine are right up to
a constant, and times are compared within a machine only.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from tunedb.foreign import ForeignTarget, ForeignTrial
from tuner.errors import ScheduleError
from tuner.foreign_templates import Knobs, is_foreign, knobs_of, wrong
from tuner.target import Target
from tuner.workload import Workload

# Names of processors, as LLVM has them, by their vectors; any other has SSE2, or what the target's -mattr adds.
_CPUS = {
    "avx512": r"skylake-avx512|cascadelake|cooperlake|icelake.*|tigerlake|sapphirerapids|x86-64-v4|znver4",
    "avx2": r"core-avx2|haswell|broadwell|skylake|alderlake|x86-64-v3|znver[123]",
    "avx": r"core-avx-i|corei7-avx|sandybridge|ivybridge|btver2|bdver.",
}
_VECTORS = {"avx512": (("avx2", "avx512f"), 512, 32), "avx2": (("avx2",), 256, 16), "avx": (("avx",), 256, 16)}
_SSE2 = (("sse2",), 128, 16)
_SIZES = {"cores": 8, "threads": 8, "l1": 32, "l2": 512, "l3": 8192}  # caches in KiB


@dataclass(frozen=True)
class Lesson:
    """A foreign record as a model sees it (tuner.features.stored.Example)."""

    workload: Workload
    target: Target
    template: str
    schedule: Knobs
    seconds: float | None


def lesson_of(trial: ForeignTrial) -> Lesson | None:
    """What a record teaches; None when its template or its configuration is not one that can be lowered."""
    if not is_foreign(trial.template) or not isinstance(trial.workload, Workload):
        return None
    try:
        knobs = knobs_of(trial.schedule)
    except ScheduleError:
        return None
    if wrong(trial.template, trial.workload, knobs) is not None:
        return None
    return Lesson(trial.workload, target_of(trial.target), trial.template, knobs, trial.seconds)


@lru_cache(maxsize=1024)
def target_of(foreign: ForeignTarget) -> Target:
    """The machine of a log, as far as it is said: ``-mcpu`` and ``-mattr`` of its target, and labels given at import.

    ``--label`` may say ``cores``, ``threads``, and the caches ``l1``, ``l2`` and ``l3`` in KiB. Other labels, such as
    the network that a layer is from, make no other machine.
    """
    cpu = re.search(r"-mcpu=(\S+)", foreign.target)
    attributes = re.search(r"-mattr=(\S+)", foreign.target)
    name = cpu.group(1) if cpu else "x86-64"
    isa = next((isa for isa, known in _CPUS.items() if re.fullmatch(known, name)), None)
    if attributes:
        isa = next((each for each in _CPUS if f"+{each}" in attributes.group(1)), isa)
    features, bits, registers = _VECTORS[isa] if isa else _SSE2
    labels = dict(foreign.labels)
    size = {key: int(labels[key]) if labels.get(key, "").isdigit() else usual for key, usual in _SIZES.items()}
    return Target(
        kind="cpu",
        triple="x86_64",
        cpu=name,
        features=features,
        model=foreign.machine or foreign.target,
        vector_bits=bits,
        registers=registers,
        l1=size["l1"] << 10,
        l2=size["l2"] << 10,
        l3=size["l3"] << 10,
        cores=size["cores"],
        threads=size["threads"],
    )
