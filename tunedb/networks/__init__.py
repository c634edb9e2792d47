"""Networks as tuning sees them: workloads, and how much each of them weighs. One TOML file a network.

A file is lines of ``workload = weight``. The weight is how often the network computes the workload in one pass, or any
other positive number. A key with parentheses is quoted; a table's name goes before the names in it, so ``C2`` under
``[resnet18]`` is ``resnet18.C2``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunedb.errors import UnknownNameError
from tuner.errors import TunedbError, WorkloadError
from tuner.workload import Workload, parse

_FOLDER = Path(__file__).parent
_LARGEST = 1 << 20  # bytes of a file: no network has so many layers
_HEAVIEST = 1e12  # weight: sums of times stay finite


class NetworkError(TunedbError):
    """The file of a network is not as it should be; the message says where."""


def names() -> tuple[str, ...]:
    """The networks that come with the program."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load(name: str) -> Mapping[Workload, float]:
    """The weights of a network by its name, or of a user's own file by its path.

    Raises UnknownNameError when there is none, NetworkError for a file that is not as it should be.
    """
    path = _FOLDER / f"{name}.toml" if name in names() else Path(name)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        known = ", ".join(names())
        message = f"no network {name!r}: {error.strerror}; known are {known}, or name a TOML file"
        raise UnknownNameError(message) from error
    if len(text) > _LARGEST:
        raise NetworkError(f"{path}: larger than {_LARGEST >> 20} MiB, so no list of layers")
    try:
        layers = list(_flat(tomllib.loads(text.decode())))
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"{path}: no TOML: {error}") from error
    weights: dict[Workload, float] = {}
    for key, weight in layers:
        try:
            workload = parse(key)
        except WorkloadError as error:
            raise NetworkError(f"{path}: {error}; a key with parentheses or commas is to be quoted") from error
        weights[workload] = weights.get(workload, 0.0) + _weight(path, key, weight)
    if not weights:
        raise NetworkError(f'{path}: it names no workload: write lines such as "resnet18.C2" = 4')
    return weights


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """``resnet18.C2 = 4`` without quotes is a table in TOML, and means the same."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _weight(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _HEAVIEST:
        raise NetworkError(f"{path}: the weight of {key} must be a number above 0 and at most 1e12, not {value!r:.40}")
    return float(value)
