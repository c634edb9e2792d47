"""Which stored trials of all layers of a database a model learns from, and why others are left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, select

from tunedb.lessons import Lesson, LessonRow, imported_number, imported_rows, lessons, unknown
from tunedb.records import read_trial, select_trials
from tunedb.tables import SCHEDULE, TARGET, TRIAL, WORKLOAD
from tuner.canonical import fingerprint
from tuner.cost_model.training import MOST, TrainingSet, choose
from tuner.target import Target
from tuner.trial import Trial

ENOUGH = 4  # workloads tuned on a target beside which the records of other tools mislead (docs/transfer-learning.md)
IMPORTED = 32  # records of a workload that teach all that another machine can
BESIDE = f"of other tools, which mislead beside {ENOUGH} or more workloads of this target"
ELSEWHERE = "of other targets, without which this one's held-out workloads are ranked better"
_CHUNK = 500  # rows that one statement names


@dataclass(frozen=True)
class Choice:
    """Which trials are to be learned from, before any is read, and why others are not among them."""

    rows: Sequence[LessonRow]
    left_out: Mapping[str, int]
    until: datetime | None  # when the newest trial was begun, of all that were looked at

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted fingerprints."""
        return fingerprint(sorted(row.fingerprint for row in self.rows))

    @property
    def targets(self) -> set[str]:
        """Fingerprints."""
        return {row.group[1] for row in self.rows}

    def on(self, target: Target) -> "Choice":
        """What was measured on such a target alone."""
        own = [row for row in self.rows if row.group[1] == target.fingerprint]
        others = len(self.rows) - len(own)
        return Choice(own, {**self.left_out, ELSEWHERE: others} if others else self.left_out, self.until)

    def best(self) -> tuple[Trial, ...]:
        """The fastest trial of each of our own templates on each workload and target."""
        best: dict[tuple[object, ...], LessonRow] = {}
        for row in self.rows:
            kind = (*row.group, row.template_id)
            if not row.imported and (kind not in best or _seconds(row) < _seconds(best[kind])):
                best[kind] = row
        return tuple(each for each in _read(list(best.values())).values() if isinstance(each, Trial))

    def read(self, features: str = "invariant") -> "Training":
        """The trials themselves, less those that turn out to have nothing to teach."""
        examples = dict(sorted(_read(self.rows).items()))
        lost = dict.fromkeys((row.fingerprint for row in self.rows), "stored without a schedule")
        data, used = TrainingSet.of(list(examples.values()), features)
        for name, good in zip(list(examples), used.tolist(), strict=True):
            if good:
                del lost[name]
            else:
                lost[name] = "have a schedule that cannot be lowered"
                del examples[name]
        return Training(self, examples, data, lost)


@dataclass(frozen=True)
class Training:
    """What is learned from, by fingerprint, of what was chosen, and why the rest of that turned out to be ``lost``."""

    choice: Choice
    examples: Mapping[str, Trial | Lesson]
    data: TrainingSet
    lost: Mapping[str, str]  # reasons by fingerprint

    @property
    def left_out(self) -> dict[str, int]:
        """How many trials are not among it, for which reasons."""
        return {**self.choice.left_out, **Counter(self.lost.values())}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those of our own templates."""
        return tuple(example for example in self.examples.values() if isinstance(example, Trial))

    def on(self, target: Target) -> "Training":
        """What ``choice.on(target)`` would read: so nothing is read and described twice."""
        own = self.choice.on(target)
        names = {row.fingerprint for row in own.rows}
        # In the order of the groups of the training set: that in which they are met.
        groups = dict.fromkeys((each.workload.problem, each.target) for each in self.examples.values())
        here = [number for number, (_, machine) in enumerate(groups) if machine == target]
        return Training(
            own,
            {name: each for name, each in self.examples.items() if name in names},
            self.data.part(here),
            {name: reason for name, reason in self.lost.items() if name in names},
        )


def training(connections: Sequence[Connection], features: str = "invariant") -> Training:
    """All that the layers of a database teach, imported records too."""
    return chosen(connections).read(features)


def chosen(connections: Sequence[Connection], until: datetime | None = None, beside: Target | None = None) -> Choice:
    """What to learn from; ``until`` leaves out what was begun later.

    With ``beside``, what is wanted is a prior for that target: a few imported records of each workload teach all that
    another machine can, and none are asked when enough workloads were tuned on the target itself.
    """
    own = _own_rows(connections, until)
    positions, reasons = _choose(own)
    rows, left_out = [own[position] for position in positions], Counter(reasons)
    newest = [row.created for row in own if row.created is not None]
    if beside and len({row.group[0] for row in rows if row.group[1] == beside.fingerprint}) >= ENOUGH:
        left_out[BESIDE] += sum(imported_number(layer, until) for layer in connections)
    else:
        imported = _imported_rows(connections, until)
        positions, reasons = _choose(imported, IMPORTED if beside else MOST)
        rows += [imported[position] for position in positions]
        left_out.update(reasons)
        newest += [row.created for row in imported if row.created is not None]
    left_out["of other tools, in templates that cannot be lowered"] += sum(map(unknown, connections))
    return Choice(rows, {reason: count for reason, count in left_out.items() if count}, max(newest, default=None))


def _choose(rows: Sequence[LessonRow], most: int = MOST) -> tuple[list[int], Mapping[str, int]]:
    seconds = np.array([np.nan if row.seconds is None else row.seconds for row in rows], dtype=np.float64)
    positions, reasons = choose([row.group for row in rows], seconds, most)
    return positions.tolist(), reasons


def _seconds(row: LessonRow) -> float:
    return float("inf") if row.seconds is None else row.seconds


def _read(rows: Sequence[LessonRow]) -> dict[str, Trial | Lesson]:
    """By fingerprint; not those that have no schedule, or none that can be lowered."""
    members: dict[tuple[Connection, bool], list[int]] = {}
    for row in rows:
        members.setdefault((row.layer, row.imported), []).append(row.id)
    found: dict[str, Trial | Lesson] = {}
    for (layer, imported), ids in members.items():
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            if imported:
                found |= lessons(layer, some)
            else:
                trials = layer.execute(select_trials().where(TRIAL.c.id.in_(some)))
                found |= {row.fingerprint: trial for row in trials if (trial := read_trial(row)).schedule.steps}
    return found


def _own_rows(connections: Sequence[Connection], until: datetime | None) -> list[LessonRow]:
    """Our own trials by fingerprint: each once, and none that a layer has retracted."""
    columns = ("id", "fingerprint", "workload_id", "target_id", "template_id", "seconds", "created", "retracted")
    statement = select(*(TRIAL.c[name] for name in columns)).join_from(TRIAL, SCHEDULE)
    statement = statement.where(SCHEDULE.c.kind == "steps")
    if until is not None:
        statement = statement.where(TRIAL.c.created <= until)
    found: dict[str, LessonRow] = {}
    retracted: set[str] = set()
    for layer in connections:
        workloads, targets = ({row.id: row.fingerprint for row in layer.execute(s)} for s in (_WORKLOADS, _TARGETS))
        for id, name, workload, target, template, seconds, created, gone in layer.execute(statement):
            if gone is not None:
                retracted.add(name)
            group = (workloads[workload], targets[target])
            found.setdefault(name, LessonRow(name, layer, id, group, template, seconds, created, False))
    return [found[name] for name in sorted(found.keys() - retracted)]


def _imported_rows(connections: Sequence[Connection], until: datetime | None) -> list[LessonRow]:
    """Records of other tools by fingerprint, each once."""
    found: dict[str, LessonRow] = {}
    for layer in connections:
        workloads = {row.id: row.fingerprint for row in layer.execute(_WORKLOADS)}
        for made in imported_rows(layer, until, workloads):
            found.setdefault(made.fingerprint, made)
    return [found[name] for name in sorted(found)]


_WORKLOADS = select(WORKLOAD.c.id, WORKLOAD.c.problem.label("fingerprint"))
_TARGETS = select(TARGET.c.id, TARGET.c.fingerprint)
