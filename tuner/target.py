"""A target: the machine a schedule is tuned for, and how many of its threads are used. All of it is identity."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tuner.canonical import fingerprint
from tuner.errors import TunedbError

ISAS = ("amx", "avx512", "avx2", "sse4")  # what the features of an x86 host can be limited to, the widest first

# How the names of the features begin that go beyond each of these, and are left out with it as the limit.
_BEYOND = {
    "avx512": ("amx",),
    "avx2": ("avx512", "avx10", "amx"),
    "sse4": ("avx", "amx", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "sha512", "sm3", "sm4"),
}


class TargetError(TunedbError):
    """A target that this machine cannot be, or a stored one that cannot be read."""


@dataclass(frozen=True)
class Target:
    """``features`` are the LLVM names of all enabled features, sorted. Caches are in bytes; ``l3`` is 0 when unknown.

    ``registers`` counts vector registers, ``cores`` the physical cores of the machine, ``threads`` those a kernel uses.
    """

    kind: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    model: str
    vector_bits: int
    registers: int
    l1: int
    l2: int
    l3: int
    cores: int
    threads: int

    @property
    def lanes(self) -> int:
        """The float32 elements of one vector register."""
        return self.vector_bits // 32

    @property
    def isa(self) -> str:
        """The widest family of vector instructions: amx, avx512, avx2, sse4, sse2 or neon."""
        levels = {
            "amx-bf16": "amx",
            "avx512f": "avx512",
            "avx2": "avx2",
            "sse4.1": "sse4",
            "sse2": "sse2",
            "neon": "neon",
        }
        return next((level for feature, level in levels.items() if feature in self.features), "scalar")

    @property
    def name(self) -> str:
        """A short name for people, such as ``cpu-znver5-avx512-2t``."""
        return f"{self.kind}-{self.cpu}-{self.isa}-{self.threads}t"

    @property
    def llvm_features(self) -> str:
        """The features as LLVM reads them; absent vector levels are switched off, as the CPU's name implies them."""
        levels = ("avx", "avx2", "avx512f", "amx-tile") if self.triple.startswith("x86_64") else ()
        absent = [feature for feature in levels if feature not in self.features]
        return ",".join([*(f"+{feature}" for feature in self.features), *(f"-{feature}" for feature in absent)])

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the content, 64 hexadecimal digits."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All fields by name; the features as a list."""
        return {**asdict(self), "features": list(self.features)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Target":
        """The target that ``to_json`` wrote. Raises TargetError naming the first field that is not as written."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = data.get(field.name)
            if field.name == "features":
                good = isinstance(value, list) and all(isinstance(item, str) for item in value)
            else:
                good = type(value) is field.type
            if not good:
                raise TargetError(f"target: {field.name} is missing or has a bad value: {value!r}")
            values[field.name] = tuple(value) if isinstance(value, list) else value
        unknown = sorted(set(data) - set(values))
        if unknown:
            raise TargetError(f"target: unknown field {unknown[0]}; was it written by a newer version?")
        return cls(**values)

    @classmethod
    def host(cls, threads: int | None = None, isa: str | None = None) -> "Target":
        """This machine. ``threads`` defaults to the physical cores this process may use; ``isa`` limits the vectors.

        Raises TargetError for an ``isa`` that is unknown or that this machine does not have.
        """
        if threads is not None and threads < 1:
            raise TargetError(f"threads must be 1 or more, not {threads}")
        target = _limited(_host(), isa)
        return target if threads is None else replace(target, threads=threads)


def narrower(threads: int) -> tuple[Target, ...]:
    """This machine with each of the narrower vectors that it can be limited to."""
    own = Target.host().isa
    return tuple(Target.host(threads, isa) for isa in ISAS[ISAS.index(own) + 1 :]) if own in ISAS else ()


def aarch64(threads: int = 1) -> Target:
    """Any 64-bit ARM processor: code for it can be generated everywhere, though it runs only there or emulated."""
    return Target(
        kind="cpu",
        triple="aarch64-unknown-linux-gnu",
        cpu="generic",
        features=("neon",),
        model="any AArch64",
        vector_bits=128,
        registers=32,
        l1=32 * 1024,
        l2=512 * 1024,
        l3=0,
        cores=threads,
        threads=threads,
    )


def _limited(target: Target, isa: str | None) -> Target:
    if isa is None or isa == target.isa:
        return target
    if isa not in ISAS:
        raise TargetError(f"unknown isa {isa!r}; choose one of {', '.join(ISAS)}")
    if target.isa not in ISAS or ISAS.index(isa) < ISAS.index(target.isa):
        raise TargetError(f"this machine has no {isa}; its widest vectors are {target.isa}")
    features = tuple(feature for feature in target.features if not feature.startswith(_BEYOND[isa]))
    bits, registers = _vectors(features)
    return replace(target, features=features, vector_bits=bits, registers=registers)


def _vectors(features: tuple[str, ...]) -> tuple[int, int]:
    """Width in bits and number of the vector registers."""
    if "avx512f" in features:
        return 512, 32
    if "avx2" in features:
        return 256, 16
    return 128, 32 if "neon" in features else 16


@cache
def _host() -> Target:
    import llvmlite.binding as llvm  # here, so that what only reads targets needs no LLVM

    features = tuple(sorted(name for name, on in llvm.get_host_cpu_features().items() if on))
    bits, registers = _vectors(features)
    cores, usable = _cores()
    return Target(
        kind="cpu",
        triple=llvm.get_process_triple(),
        cpu=llvm.get_host_cpu_name(),
        features=features,
        model=cpu_model(),
        vector_bits=bits,
        registers=registers,
        l1=_cache_bytes(1) or 32 * 1024,
        l2=_cache_bytes(2) or 512 * 1024,
        l3=_cache_bytes(3),
        cores=cores,
        threads=usable,
    )


def cpu_model() -> str:
    """The name that the processor gives itself, such as ``AMD EPYC``; the architecture when it gives none."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return " ".join((match.group(1) if match else platform.processor() or platform.machine() or "unknown").split())


def _cores() -> tuple[int, int]:
    """Physical cores: all of the machine, and those this process may run on."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    every: dict[int, str] = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*"):
        try:
            every[int(folder.name[3:])] = (folder / "topology/core_cpus_list").read_text().strip()
        except OSError:
            continue  # an offline CPU, or a system that does not say
    usable = {core for cpu, core in every.items() if cpu in allowed}
    return (len(set(every.values())), len(usable)) if usable else (os.cpu_count() or 1, len(allowed))


def _cache_bytes(level: int) -> int:
    """Size in bytes of the data or unified cache of ``level`` that a core sees; 0 when the system does not say."""
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            found, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if found == str(level) and kind != "Instruction" and (match := re.fullmatch(r"(\d+)([KMG]?)", size)):
            return int(match.group(1)) << (10 * " KMG".index(match.group(2) or " "))
    return 0
