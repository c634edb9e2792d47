"""What the database teaches about a workload: the trials to learn from, the model, the prior and the report."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, select

from tunedb import registry
from tunedb.fallback import Prediction
from tunedb.lessons import Lesson, LessonRow, imported_number, imported_rows, lessons, unknown
from tunedb.records import read_trial, select_trials
from tunedb.sessions import SessionArguments
from tunedb.tables import SCHEDULE, SESSION, TARGET, TRIAL, WORKLOAD
from tuner.canonical import fingerprint
from tuner.cost_model.global_model import FEATURES, GlobalModel, ModelError, Settings
from tuner.cost_model.held_out import Errors, HeldOut, errors, judge
from tuner.cost_model.training import MOST, TrainingSet, choose
from tuner.errors import ScheduleError
from tuner.features.sketches import distinct_features
from tuner.space import Space
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.transfer import GlobalPrior, Report, Seen, correlation, legal_sample, nothing, prior_from
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

DEFAULT_NAME = "default"
WARM_NAME = "warm"  # of the models that warm starts train
ENOUGH = 4  # workloads tuned on a target beside which the records of other tools mislead (docs/transfer-learning.md)
IMPORTED = 32  # records of a workload that teach all that another machine can
NEARLY = 0.8  # of the trials that are known now, for which a model is as good as a new one
MOST_SCORED = 1_000_000  # configurations of a space, legal or not, that a prediction looks at
_EPOCH = "1970-01-01T00:00:00+00:00"  # when the database held nothing
_WARM = ("start", "trained_on", "until")  # settings of a session that say what it was warmed with
_CHUNK = 500  # rows that one statement names
BESIDE = f"of other tools, which mislead beside {ENOUGH} or more workloads of this target"
NEWER = "newer than the model, which is trained again when a fifth is"
ELSEWHERE = "of other targets, without which this one's held-out workloads are ranked better"


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


def suited(database: "Database", known: Choice, target: Target, settings: Settings) -> registry.StoredModel:
    """The model for ``target`` of what is known: of everything, unless this target's own trials do better alone.

    Better is what ranks this target's held-out workloads better; where none can be held out, everything is used.
    """
    everything = cache(known.read)
    model = _model(database, known, everything, settings)
    own = known.on(target)
    if known.targets == {target.fingerprint} or len({row.group[0] for row in own.rows}) < 2:
        return model
    alone = _model(database, own, lambda: everything().on(target), settings)
    return alone if correlation(alone.held_out, target) > correlation(model.held_out, target) else model


def _model(
    database: "Database", known: Choice, read: Callable[[], Training], settings: Settings
) -> registry.StoredModel:
    """A stored model of these trials, or of nearly all of them, else a new one, which is stored for the next session.

    So training is paid for when a fifth is new, not in each session. Raises ModelError when there is nothing to learn.
    """
    with database.read() as connection:
        stored = registry.of_nearly(connection, known.digest, len(known.rows), known.targets, NEARLY, settings)
    return stored or _store(database, WARM_NAME, read(), settings)


def _store(database: "Database", name: str, known: Training, settings: Settings) -> registry.StoredModel:
    model = GlobalModel.fit(known.data, settings)
    choice, seen = known.choice, Seen.of(known.data)
    basis = registry.Basis(len(choice.rows), tuple(sorted(choice.targets)), dict(Counter(known.lost.values())), seen)
    stored = registry.pack(name, model, choice.digest, settings, known.data, basis)
    with database.write() as connection:
        registry.save(connection, stored)
    return stored


def train(database: "Database", name: str, settings: Settings) -> registry.StoredModel:
    """Train a model on all that the database holds and store it. Raises ModelError when there is nothing to learn."""
    with database.read_layers() as connections:
        known = training(connections, FEATURES[settings.model])
    return _store(database, name, known, settings)


@dataclass(frozen=True)
class Start:
    """How a session begins: the prior, if there is one, the report on it, and what tells such sessions apart."""

    prior: GlobalPrior | None
    report: Report
    identity: Mapping[str, bool | int | float | str | None]


def warm_start(database: "Database", template: Template, space: Space, arguments: SessionArguments) -> Start:
    """What a session of ``arguments`` in ``space`` starts from; begun already, exactly what it was begun with."""
    with database.read() as connection:
        begun = _begun(connection, arguments)
    if begun is not None:
        again = _start(database, template, space, arguments, begun)
        if again.identity == begun:
            return again
    # A new one; or the model is gone, and older trials were added to the database since.
    return _start(database, template, space, arguments, None)


def _start(
    database: "Database", template: Template, space: Space, arguments: SessionArguments, begun: Mapping[str, Any] | None
) -> Start:
    settings = Settings()
    workload, target = arguments.workload, arguments.target
    until = begun["until"] if begun else None
    with database.read_layers() as connections:
        known = chosen(connections, datetime.fromisoformat(until) if until else None, beside=target)
        stored, made, report = None, None, nothing("nothing is stored that could be learned from", known.left_out)
        if begun and begun["trained_on"]:
            stored = registry.of_training(connections[0], begun["trained_on"], settings)
        if not stored and known.rows:
            with contextlib.suppress(ModelError):  # no schedule of all those can be lowered
                stored = suited(database, known, target, settings)
        if stored:
            used = known.on(target) if stored.basis.targets == (target.fingerprint,) else known
            left_out = Counter({**used.left_out, **stored.basis.left_out})
            left_out[NEWER] = max(len(used.rows) - stored.basis.chosen, 0)
            made, report = prior_from(
                stored.model(), stored.basis.seen, known.best(), +left_out, template, workload, target, space
            )
    identity = {
        **arguments.settings,
        "start": "warm",
        "trained_on": stored.training_digest if stored and made else None,
        "until": until or (known.until.isoformat() if known.until else _EPOCH),
    }
    return Start(made, report, identity)


def _begun(connection: Connection, arguments: SessionArguments) -> dict[str, Any] | None:
    """The settings of the newest session that differs from these arguments in nothing but what it was warmed with."""
    wanted = arguments.to_json()
    for known in connection.scalars(select(SESSION.c.arguments).order_by(SESSION.c.created.desc())):
        settings = known.get("settings", {})
        others = {name: value for name, value in settings.items() if name not in _WARM}
        if settings.get("start") == "warm" and {**known, "settings": others} == wanted:
            return dict(settings)
    return None


def evaluate(database: "Database", stored: registry.StoredModel) -> Sequence[tuple[HeldOut, Errors, bool]]:
    """How a stored model ranks the trials of each workload and target in the database, and whether it had seen them.

    Raises ModelError when the program has other features than the model.
    """
    model = stored.model()
    with database.read_layers() as connections:
        data = training(connections, features=model.representation).data
    groups = [data.part([group]) for group in range(len(data.workloads))]
    seen = set(stored.parameters["workloads"])
    scores = [model.predict(group.features) for group in groups]
    return [
        (judge(group, each), errors(group, each), group.workloads[0] in seen)
        for group, each in zip(groups, scores, strict=True)
    ]


def predict(database: "Database", workload: Workload, target: Target) -> Prediction:
    """The schedule that the newest stored model expects to be the fastest; without a model, one is trained and stored.

    Raises ModelError when nothing was measured that a model could be trained on.
    """
    with database.read() as connection:
        stored = registry.newest(connection)
    return predict_with(stored or train(database, DEFAULT_NAME, Settings()), workload, target)


def predict_with(stored: registry.StoredModel, workload: Workload, target: Target) -> Prediction:
    """The schedule that a stored model expects to be the fastest."""
    threads = len(os.sched_getaffinity(0))
    model, template = stored.model(threads), template_for(workload, target)
    space = template.space(workload, target)
    indices = legal_sample(template, workload, target, space, MOST_SCORED, threads)
    if not len(indices):
        raise ScheduleError(f"template {template.key} has no legal configuration of {workload.label}")
    features, places = distinct_features(template, workload, target, space, space.columns(indices))
    config = space.config(int(indices[int(np.argmax(model.predict(features)[places]))]))
    losses = [1 - one.top1 for one in stored.held_out if one.workload.startswith(f"{workload.operator}(")]
    return Prediction(
        workload=workload,
        target=target,
        source="predicted",
        template=template.key,
        config=config,
        schedule=template.schedule(workload, target, config),
        expected_loss=float(np.mean(losses)) if losses else None,
        held_out=len(losses),
        scored=len(indices),
        whole=space.size <= MOST_SCORED,
        model=stored.fingerprint,
    )
