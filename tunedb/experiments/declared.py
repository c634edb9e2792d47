"""What an experiment is: a TOML file with a question, workloads, arms and goals, as docs/experiments.md says."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

from tuner.errors import TunedbError
from tuner.experiment.arms import Arm, arm
from tuner.workload import parse

REAL = {"random": "random", "genetic": "genetic", "model": "model", "warm": "model"}
"""What an arm is in real mode: the tuner of ``tunedb tune``, with --cold for ``model`` and without for ``warm``."""

Item = TypeVar("Item")


class ExperimentError(TunedbError):
    """An experiment's file that cannot be read, or data that does not answer its question."""


@dataclass(frozen=True)
class Goal:
    """What an arm is to reach: ``share`` of the best in at most ``median`` and ``p90`` trials, or to be ``faster``.

    ``faster`` times quicker, in seconds, than the arm ``than`` to what that has reached after ``at`` trials, give or
    take 1 %. Or, with ``never_worse``, to have found as much as ``than`` with as many trials.
    """

    arm: str
    share: float = 0.95
    median: int = 0
    p90: int = 0
    than: str = ""
    at: int = 0
    faster: float = 0.0
    never_worse: bool = False


@dataclass(frozen=True)
class Reference:
    """A figure from elsewhere that the report shows beside the arms: what it is of, and under which conditions.

    ``trials`` says, by workload, after how many trials it has 95, 99 and 100 % of its own long search's result.
    """

    name: str
    text: str
    trials: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One question, and the runs that answer it: every arm on every workload with every seed."""

    name: str
    title: str
    question: str
    mode: Literal["replay", "real"]
    data: Path | None  # exported trials, to replay or to learn from
    workloads: tuple[str, ...]
    sources: tuple[str, ...]
    folds: int  # of the sources; a workload learns from those of the other folds, of all others when there are none
    target: str  # by name; needed when the data have several
    source_targets: Mapping[str, str]  # the target of the sources, by arm, when it is another one
    knobs: Mapping[str, Any]  # only configurations with these values
    threads: int  # of a kernel; real only
    starts: bool  # whether sessions begin with the default schedule and its rivals; real only
    trials: int
    seeds: int
    figures: tuple[str, ...]
    arms: tuple[Arm, ...]
    declared: tuple[Mapping[str, Any], ...]  # the arms as the file says them
    goals: tuple[Goal, ...]
    references: tuple[Reference, ...]

    def sources_of(self, label: str) -> tuple[str, ...]:
        """What is learned from before a workload is tuned: never itself."""
        if label not in self.sources:
            return self.sources
        fold = self.sources.index(label) % self.folds if self.folds else None
        return tuple(
            name
            for number, name in enumerate(self.sources)
            if name != label and (fold is None or number % self.folds != fold)
        )


FIGURES = ("trials", "seconds", "bars")
_FIELDS: Mapping[str, type] = {
    "title": str,
    "question": str,
    "mode": str,
    "data": str,
    "workloads": list,
    "sources": list,
    "folds": int,
    "target": str,
    "knobs": dict,
    "threads": int,
    "starts": bool,
    "trials": int,
    "seeds": int,
    "figures": list,
    "arms": list,
    "goals": list,
    "references": list,
}
_NEEDED = ("title", "question", "mode", "workloads", "trials", "arms")
_KINDS = {int: "a whole number", str: "a text"}
_OF_ARMS = ("name", "tuner", "stretch", "source_target")


def read(path: Path) -> Experiment:
    """The experiment of a file. Raises ExperimentError, which names the file and what is wrong with it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} is no TOML: {error}") from error
    try:
        return _experiment(path, data)
    except TunedbError as error:
        raise ExperimentError(f"{path}: {error}") from error


def find(folder: Path) -> list[Experiment]:
    """The experiments of a folder, by name. Raises ExperimentError when there are none."""
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise ExperimentError(f"there is no experiment in {folder}: name the folder of the TOML files with --folder")
    return [read(path) for path in paths]


def _experiment(path: Path, data: Mapping[str, Any]) -> Experiment:
    _check_fields(data)
    figures = tuple(data.get("figures", ["trials"]))
    if unknown := [name for name in figures if name not in FIGURES]:
        raise ExperimentError(f"there is no figure {unknown[0]!r}: use {', '.join(FIGURES)}")
    arms = _arms(data)
    return Experiment(
        name=path.stem,
        title=data["title"],
        question=data["question"],
        mode=data["mode"],
        data=path.parent / data["data"] if data.get("data") else None,
        workloads=_labels(data["workloads"]),
        sources=_labels(data.get("sources", [])),
        folds=_positive(data, "folds", 0),
        target=data.get("target", ""),
        source_targets={entry["name"]: entry["source_target"] for entry in data["arms"] if "source_target" in entry},
        knobs=data.get("knobs", {}),
        threads=_positive(data, "threads", 1),
        starts=data.get("starts", True),
        trials=_positive(data, "trials", 1),
        seeds=_positive(data, "seeds", 5),
        figures=figures,
        arms=arms,
        declared=tuple(data["arms"]),
        goals=_goals(data, [each.name for each in arms]),
        references=_references(data),
    )


def _check_fields(data: Mapping[str, Any]) -> None:
    """That the fields are known, of their types, and those there that are needed."""
    for name, value in data.items():
        if name not in _FIELDS:
            raise ExperimentError(f"unknown field {name!r}; known are {', '.join(_FIELDS)}")
        if type(value) is not _FIELDS[name]:
            raise ExperimentError(f"{name} has to be of type {_FIELDS[name].__name__}, not {value!r:.40}")
    for name in _NEEDED:
        if not data.get(name):
            raise ExperimentError(f"{name} is missing")
    mode = data["mode"]
    if mode not in ("replay", "real"):
        raise ExperimentError(f"mode is {mode!r}: it has to be replay or real")
    if unknown := [value for value in data.get("knobs", {}).values() if type(value) not in (int, str)]:
        raise ExperimentError(f"knobs has {unknown[0]!r:.40}: a value of a knob is a number or a word")
    if not data.get("data") and (mode == "replay" or data.get("sources")):
        raise ExperimentError("data is missing: the file of exported trials to replay, or to learn from")


def _arms(data: Mapping[str, Any]) -> tuple[Arm, ...]:
    arms = tuple(_arm(entry, data["mode"], bool(data.get("sources"))) for entry in data["arms"])
    folders = [slug(each.name) for each in arms]
    if twice := [each.name for each in arms if folders.count(slug(each.name)) > 1]:
        raise ExperimentError(f"two arms are called {twice[0]!r}, or nearly so: their results would be in one folder")
    return arms


def _goals(data: Mapping[str, Any], arms: Sequence[str]) -> tuple[Goal, ...]:
    goals = tuple(_item(Goal, entry, "goals") for entry in data.get("goals", []))
    for name in (named for goal in goals for named in (goal.arm, goal.than) if named):
        if name not in arms:
            raise ExperimentError(f"goals name an arm {name!r}; there are {', '.join(arms)}")
    for goal in goals:
        if (goal.faster or goal.never_worse) and not goal.than:
            raise ExperimentError(f"goals: than is missing, the arm that {goal.arm!r} is compared with")
        if goal.faster and not (goal.faster > 0 and 1 <= goal.at <= data["trials"]):
            raise ExperimentError(
                f"goals: faster is {goal.faster:g} and at is {goal.at}: at is 1 to {data['trials']} trials"
            )
        if not 0 < goal.share <= 1:
            raise ExperimentError(f"goals: share is {goal.share:g}: it has to be above 0, and at most 1")
    return goals


def _references(data: Mapping[str, Any]) -> tuple[Reference, ...]:
    references = tuple(_item(Reference, entry, "references") for entry in data.get("references", []))
    for name, said in (named for reference in references for named in reference.trials.items()):
        if name not in data["workloads"]:
            raise ExperimentError(f"references name a workload {name!r}; there are {', '.join(data['workloads'])}")
        if not isinstance(said, str):
            raise ExperimentError(f"references: the trials of {name} are {said!r:.40}: write them as a text")
    return references


def _arm(entry: Any, mode: str, sources: bool) -> Arm:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(entry.get("tuner"), str):
        raise ExperimentError("an arm needs a name and a tuner")
    for name, kind in (("stretch", int), ("source_target", str)):
        if name in entry and type(entry[name]) is not kind:
            raise ExperimentError(f"arm {entry['name']!r}: {name} is {entry[name]!r:.40}: it has to be {_KINDS[kind]}")
    options = {name: value for name, value in entry.items() if name not in _OF_ARMS}
    made = arm(entry["name"], entry["tuner"], options, entry.get("stretch", 1))
    if mode == "real" and (entry["tuner"] not in REAL or len(entry) > 2):
        raise ExperimentError(f"arm {made.name!r}: in real mode an arm is one of {', '.join(REAL)}, without options")
    if made.way.sourced and not sources:
        raise ExperimentError(f"arm {made.name!r} learns from other workloads, and there are no sources")
    return made


def _item(kind: type[Item], entry: Any, where: str) -> Item:
    known = {field.name: get_origin(field.type) or field.type for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(entry, dict) or set(entry) - set(known):
        raise ExperimentError(f"{where}: {entry!r:.60} is not made of {', '.join(known)}")
    for name, value in entry.items():
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise ExperimentError(f"{where}: {name} is {value!r}")
    try:
        return kind(**entry)
    except TypeError as error:
        raise ExperimentError(f"{where}: {entry!r:.60} lacks one of {', '.join(known)}") from error


def _labels(names: Sequence[Any]) -> tuple[str, ...]:
    """The labels of workloads, however they are written. Raises WorkloadError, and ExperimentError for one twice."""
    labels = tuple(parse(str(name)).label for name in names)
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ExperimentError(f"{twice[0]} is named twice")
    return labels


def slug(text: str) -> str:
    """``text`` as a file name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "-", text).strip("-") or "-"


def _positive(data: Mapping[str, Any], name: str, default: int) -> int:
    value: int = data.get(name, default)
    if name in data and value < 1:
        raise ExperimentError(f"{name} is {value}: it has to be 1 or more")
    return value
