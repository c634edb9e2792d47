"""The results of runs: one JSON file a run, so that a stopped experiment goes on where it was.

A file carries the digest of all that decides its run. One with another digest, of an earlier version of the
experiment or of the program, or of other data, counts as not there.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import tunedb
import tuner
from tunedb.experiments.declared import Experiment, slug
from tuner.canonical import fingerprint
from tuner.experiment.replay import Run


@cache
def program(mode: Literal["replay", "real"]) -> str:
    """Identity of the code that decides what runs of a mode find: its source, comments and all.

    A replay is the engine's work alone; in real sessions the database has its part. The version of a release would
    not tell the commits between two of them apart.
    """
    known = hashlib.sha256()
    for package in (tuner,) if mode == "replay" else (tuner, tunedb):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            known.update(f"{path.relative_to(root.parent)}\n".encode() + path.read_bytes())
    return known.hexdigest()


def digest_of(experiment: Experiment, arm: str, data: str, made_by: str) -> str:
    """Identity of the runs of an arm; ``data`` is that of the trials they are replayed on, ``made_by`` a program's."""
    declared = next(entry for entry in experiment.declared if entry["name"] == arm)
    said = {name: value if isinstance(value, int | str) else str(value) for name, value in declared.items()}
    return fingerprint(
        {
            "arm": said,
            "data": data,
            "knobs": {name: str(value) for name, value in experiment.knobs.items()},
            "mode": experiment.mode,
            "program": made_by,
            "sources": list(experiment.sources),
            "starts": experiment.starts,
            "threads": experiment.threads,
            "folds": experiment.folds,
            "target": experiment.target,
            "trials": experiment.trials,
        }
    )


def place(folder: Path, experiment: str, arm: str, workload: str, seed: int) -> Path:
    """Where the result of a run is kept."""
    return folder / experiment / slug(arm) / slug(workload) / f"{seed}.json"


def save(path: Path, digest: str, run: Run, facts: Mapping[str, Any]) -> None:
    """Write a result; a reader meets the whole file or none."""
    write_json(path, {**facts, "digest": digest, **run.to_json()})


def load(path: Path, digest: str) -> Run | None:
    """The result with that digest; None when there is none."""
    data = read_json(path, digest)
    return Run.from_json(data) if data else None


def read_json(path: Path, digest: str) -> Mapping[str, Any] | None:
    """What ``write_json`` has written with that digest; None when there is no such file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not JSON: then it is made again
        return None
    return data if isinstance(data, dict) and data.get("digest") == digest else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
    part.replace(path)
