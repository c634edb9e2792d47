"""Canonical JSON and the fingerprints made of it: content is identity.

Two machines that describe the same thing write the same bytes: keys sorted, no spaces, ASCII only, and no floating
point numbers, whose text depends on the writer.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"


def canonical_json(value: Json) -> str:
    """The one text of ``value``. Raises TypeError for floats and for anything JSON does not know."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Json) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def _refuse_floats(value: Json) -> None:
    if isinstance(value, float):
        raise TypeError(f"a float has no canonical text: {value!r}")
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            _refuse_floats(item)
