"""What the database teaches about a workload: the trials to learn from, the model, the prior and the report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, select

from tunedb import registry
from tunedb.lessons import Lesson, LessonRow, imported_rows, lessons, unknown
from tunedb.records import SCHEDULE, SESSION, TRIAL, read_trial, select_trials
from tunedb.sessions import SessionArguments
from tuner.canonical import fingerprint
from tuner.cost_model.global_model import FEATURES, GlobalModel, Settings
from tuner.cost_model.held_out import HeldOut, judge
from tuner.cost_model.training import TrainingSet, choose
from tuner.errors import ScheduleError
from tuner.features.sketches import sketch_features
from tuner.schedule import Schedule
from tuner.space import Value
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.transfer import GlobalPrior, Report, correlation, legal_sample, nothing, prior_from
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

DEFAULT_NAME = "default"
MOST_SCORED = 1_000_000  # configurations of a space, legal or not, that a prediction looks at
_EPOCH = "1970-01-01T00:00:00+00:00"  # when the database held nothing
_CHUNK = 500  # rows that one statement names
ELSEWHERE = "of other targets, without which this one's held-out workloads are ranked better"


@dataclass(frozen=True)
class Training:
    """What is learned from, by fingerprint, and why other trials are not among it."""

    examples: Mapping[str, Trial | Lesson]
    data: TrainingSet
    left_out: Mapping[str, int]
    until: datetime | None  # when the newest trial was begun, of all that were looked at

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those of our own templates."""
        return tuple(example for example in self.examples.values() if isinstance(example, Trial))

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted fingerprints."""
        return fingerprint(sorted(self.examples))

    def model(self, connection: Connection, settings: Settings) -> GlobalModel:
        """The model of exactly these trials: the stored one, else a new one."""
        stored = registry.of_training(connection, self.digest, settings)
        return stored.model() if stored else GlobalModel.fit(self.data, settings)

    def on(self, target: Target) -> "Training":
        """What was measured on such a target alone."""
        groups = [group for group, name in enumerate(self.data.targets) if name == target.name]
        examples = {name: each for name, each in self.examples.items() if each.target.name == target.name}
        others = {ELSEWHERE: len(self.examples) - len(examples)}
        return Training(examples, self.data.part(groups), {**self.left_out, **others}, self.until)


def training(connection: Connection, until: datetime | None = None, features: str = "invariant") -> Training:
    """All that can be learned from, imported records among it; ``until`` leaves out what was begun later."""
    rows = [*_own(connection, until), *imported_rows(connection, until)]
    rows.sort(key=lambda row: row.fingerprint)
    seconds = np.array([np.nan if row.seconds is None else row.seconds for row in rows], dtype=np.float64)
    positions, reasons = choose([row.group for row in rows], seconds)
    left_out = Counter(reasons)
    left_out["of other tools, in templates that cannot be lowered"] += unknown(connection)
    chosen = [rows[position] for position in positions.tolist()]
    found: dict[str, Trial | Lesson] = {}
    for start in range(0, len(chosen), _CHUNK):
        part = chosen[start : start + _CHUNK]
        own = [row.id for row in part if not row.imported]
        for row in connection.execute(select_trials().where(TRIAL.c.id.in_(own))):
            trial = read_trial(row)
            if trial.schedule.steps:
                found[row.fingerprint] = trial
        found |= lessons(connection, [row.id for row in part if row.imported])
    left_out["stored without a schedule"] += len(chosen) - len(found)
    examples = dict(sorted(found.items()))
    data, used = TrainingSet.of(list(examples.values()), features)
    left_out["have a schedule that cannot be lowered"] += int((~used).sum())
    return Training(
        examples={name: each for (name, each), good in zip(examples.items(), used.tolist(), strict=True) if good},
        data=data,
        left_out={reason: number for reason, number in left_out.items() if number},
        until=max((row.created for row in rows if row.created is not None), default=None),
    )


def _own(connection: Connection, until: datetime | None) -> list[LessonRow]:
    columns = (TRIAL.c.id, TRIAL.c.fingerprint, TRIAL.c.workload_id, TRIAL.c.target_id, TRIAL.c.seconds)
    statement = select(*columns, TRIAL.c.created).join_from(TRIAL, SCHEDULE)
    statement = statement.where(SCHEDULE.c.kind == "steps", TRIAL.c.retracted.is_(None))
    if until is not None:
        statement = statement.where(TRIAL.c.created <= until)
    return [
        LessonRow(row.id, row.fingerprint, (row.workload_id, row.target_id), row.seconds, row.created, False)
        for row in connection.execute(statement)
    ]


def suited(connection: Connection, known: Training, target: Target, settings: Settings) -> tuple[Training, GlobalModel]:
    """What to learn from for ``target``, and its model: everything, unless this target's own trials do better alone.

    Better is what ranks this target's held-out workloads better; where none can be held out, everything is used.
    """
    model = known.model(connection, settings)
    own = known.on(target)
    if set(known.data.targets) == {target.name} or len(set(own.data.workloads)) < 2:
        return known, model
    alone = own.model(connection, settings)
    return (own, alone) if correlation(alone, target) > correlation(model, target) else (known, model)


def train(database: "Database", name: str, settings: Settings) -> registry.StoredModel:
    """Train a model on all that the database holds and store it. Raises ModelError when there is nothing to learn."""
    with database.read() as connection:
        known = training(connection, features=FEATURES[settings.model])
    model = GlobalModel.fit(known.data, settings)
    stored = registry.pack(name, model, known.digest, settings, known.data)
    with database.write() as connection:
        registry.save(connection, stored)
    return stored


@dataclass(frozen=True)
class Start:
    """How a session begins: the prior, if there is one, the report on it, and what tells such sessions apart."""

    prior: GlobalPrior | None
    report: Report
    identity: Mapping[str, str | None]


def warm_start(database: "Database", template: Template, arguments: SessionArguments) -> Start:
    """What a session of ``arguments`` starts from. One that was begun goes on with exactly what it was begun with."""
    with database.read() as connection:
        begun = _begun(connection, arguments)
    if begun is not None:
        again = _start(database, template, arguments, begun["until"])
        if again.identity == begun:
            return again
    return _start(database, template, arguments, None)  # a new one, or older trials were added to the database since


def _start(database: "Database", template: Template, arguments: SessionArguments, until: str | None) -> Start:
    settings = Settings()
    workload, target = arguments.workload, arguments.target
    with database.read() as connection:
        known = training(connection, datetime.fromisoformat(until) if until else None)
        made, report = None, nothing("nothing is stored that could be learned from", known.left_out)
        if known.examples:
            learned, model = suited(connection, known, target, settings)
            made, report = prior_from(model, learned.data, known.trials, learned.left_out, template, workload, target)
    identity = {
        "start": "warm",
        "trained_on": known.digest if made else None,
        "until": known.until.isoformat() if known.until else _EPOCH,
    }
    return Start(made, report, identity)


def _begun(connection: Connection, arguments: SessionArguments) -> dict[str, Any] | None:
    """The settings of the newest session that differs from these arguments in nothing but what it was warmed with."""
    wanted = {**arguments.to_json(), "settings": None}
    for known in connection.scalars(select(SESSION.c.arguments).order_by(SESSION.c.created.desc())):
        if {**known, "settings": None} == wanted and known.get("settings", {}).get("start") == "warm":
            return dict(known["settings"])
    return None


def evaluate(database: "Database", stored: registry.StoredModel) -> Sequence[tuple[HeldOut, bool]]:
    """How a stored model ranks the trials of each workload and target in the database, and whether it had seen them.

    Raises ModelError when the program has other features than the model.
    """
    model = stored.model()
    with database.read() as connection:
        data = training(connection, features=model.representation).data
    groups = [data.part([group]) for group in range(len(data.workloads))]
    seen = set(stored.parameters["workloads"])
    return [(judge(group, model.predict(group.features)), group.workloads[0] in seen) for group in groups]


@dataclass(frozen=True)
class Prediction:
    """A schedule that was chosen without measuring anything; never to be mistaken for a measured one."""

    workload: Workload
    target: Target
    template: str
    config: Mapping[str, Value]
    schedule: Schedule
    scored: int  # legal candidates, of which this is the best
    whole: bool  # whether these are all there are
    expected_loss: float | None  # mean share of the best speed that was lost on held-out workloads of this operator
    held_out: int  # how many those are
    model: str  # fingerprint

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "target": self.target.to_json(),
            "source": "predicted",
            "verified": False,
            "seconds": None,
            "expected_loss": self.expected_loss,
            "held_out": self.held_out,
            "scored": self.scored,
            "whole_space": self.whole,
            "template": self.template,
            "config": {name: list(v) if isinstance(v, tuple) else v for name, v in self.config.items()},
            "schedule": self.schedule.to_json(),
            "model": self.model,
        }


def predict(database: "Database", workload: Workload, target: Target) -> Prediction:
    """The schedule that the newest stored model expects to be the fastest; without a model, one is trained and stored.

    Raises ModelError when nothing was measured that a model could be trained on.
    """
    with database.read() as connection:
        stored = registry.newest(connection)
    stored = stored or train(database, DEFAULT_NAME, Settings())
    model, template = stored.model(), template_for(workload, target)
    space = template.space(workload, target)
    indices = legal_sample(template, workload, target, space, MOST_SCORED)
    if not len(indices):
        raise ScheduleError(f"template {template.key} has no legal configuration of {workload.label}")
    scores = model.predict(sketch_features(template, workload, target, space, space.columns(indices)))
    config = space.config(int(indices[int(np.argmax(scores))]))
    losses = [1 - one.top1 for one in stored.held_out if one.workload.startswith(f"{workload.operator}(")]
    return Prediction(
        workload,
        target,
        template.key,
        config,
        template.schedule(workload, target, config),
        len(indices),
        space.size <= MOST_SCORED,
        float(np.mean(losses)) if losses else None,
        len(losses),
        stored.fingerprint,
    )
