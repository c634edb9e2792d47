"""The environment of a measurement: which versions and settings a time was taken with."""

import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuner.target import cpu_model
from tuner.trial import Environment

PROTOCOL = "1"  # the version of how times are taken; a change that moves times raises it

_UNKNOWN = "unknown"
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@cache
def detect() -> Environment:
    """The environment of this process. It never fails: what it cannot find out is "unknown" (no governor: absent)."""
    facts = {
        "commit": _commit(Path(__file__).resolve().parents[1]),
        "cpu": cpu_model(),
        "kernel": platform.release() or _UNKNOWN,
        "llvm": _llvm(),
        "llvmlite": _version("llvmlite"),
        "numpy": _version("numpy"),
        "os": _system(),
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "tunedb": _version("tunedb"),
    }
    with suppress(OSError):  # a virtual machine, or no Linux
        facts["governor"] = _GOVERNOR.read_text().strip()
    return Environment(tuple(sorted(facts.items())))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _UNKNOWN


def _llvm() -> str:
    try:
        import llvmlite.binding as llvm
    except (ImportError, OSError):  # not installed, or its library does not load
        return _UNKNOWN
    return ".".join(map(str, llvm.llvm_version_info))


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system() or _UNKNOWN


def _commit(root: Path) -> str:
    """The commit of the checkout at ``root``; an installed package has none, whatever repository it lies in."""
    if not (root / ".git").exists():
        return _UNKNOWN
    command = ["git", "-C", str(root), "rev-parse", "--verify", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    return result.stdout.strip() if result.returncode == 0 else _UNKNOWN
