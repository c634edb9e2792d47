"""What the database teaches about a workload: the trials to learn from, the model, the prior and the report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from tunedb import registry
from tunedb.fallback import Prediction
from tunedb.records import SCHEDULE, SESSION, TARGET, TRIAL, WORKLOAD, read_trial, select_trials
from tunedb.sessions import SessionArguments
from tuner.canonical import fingerprint
from tuner.cost_model.global_model import GlobalModel, HeldOut, Settings, judge
from tuner.cost_model.training import TrainingSet, choose
from tuner.errors import ScheduleError
from tuner.features.sketches import described, describes, sketch_features
from tuner.space import Space
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.transfer import GlobalPrior, Report, legal_sample, nothing, prior_from
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

DEFAULT_NAME = "default"
MOST_SCORED = 1_000_000  # configurations of a space, legal or not, that a prediction looks at
_EPOCH = "1970-01-01T00:00:00+00:00"  # when the database held nothing
_WARM = ("start", "trained_on", "until")  # settings of a session that say what it was warmed with
_CHUNK = 500  # rows that one statement names


@dataclass(frozen=True)
class Training:
    """The trials to learn from, by fingerprint, and why others are not among them."""

    trials: tuple[Trial, ...]
    data: TrainingSet
    left_out: Mapping[str, int]
    digest: str  # SHA-256 over the sorted fingerprints of the trials
    until: datetime | None  # when the newest trial was begun, of all that were looked at

    def model(self, stored: registry.StoredModel | None, settings: Settings) -> GlobalModel:
        """The model of exactly these trials: the stored one, else a new one."""
        return stored.model() if stored else GlobalModel.fit(self.data, settings)


def training(connections: Sequence[Connection], until: datetime | None = None) -> Training:
    """All that can be learned from the layers of a database; ``until`` leaves out what was begun later."""
    rows = _candidates(connections, until)
    groups = [row.group for row in rows]
    seconds = np.array([np.nan if row.seconds is None else row.seconds for row in rows], dtype=np.float64)
    positions, reasons = choose(groups, seconds)
    left_out = Counter(reasons)
    chosen = [rows[position] for position in positions.tolist()]
    found: dict[str, Trial] = {}
    for connection in connections:
        ids = [row.id for row in chosen if row.layer is connection]
        for start in range(0, len(ids), _CHUNK):
            some = select_trials().where(TRIAL.c.id.in_(ids[start : start + _CHUNK]))
            found |= {trial.fingerprint: read_trial(trial) for trial in connection.execute(some)}
    scheduled = {name: trial for name, trial in sorted(found.items()) if trial.schedule.steps}
    left_out["stored without a schedule"] += len(found) - len(scheduled)
    direct = {name: trial for name, trial in scheduled.items() if describes(trial.schedule)}
    left_out["of an algorithm that the features do not describe"] += len(scheduled) - len(direct)
    scheduled = direct
    data, used = TrainingSet.of(list(scheduled.values()))
    left_out["have a schedule that cannot be lowered"] += int((~used).sum())
    kept = [pair for pair, good in zip(scheduled.items(), used.tolist(), strict=True) if good]
    return Training(
        trials=tuple(trial for _, trial in kept),
        data=data,
        left_out={reason: number for reason, number in left_out.items() if number},
        digest=fingerprint([name for name, _ in kept]),
        until=max((row.created for row in rows), default=None),
    )


class _Candidate(NamedTuple):
    fingerprint: str
    layer: Connection
    id: int  # in its layer
    group: tuple[str, str]  # problem and target: what its time may be compared with
    seconds: float | None
    created: datetime


def _candidates(connections: Sequence[Connection], until: datetime | None) -> list[_Candidate]:
    """What there is to choose from, by fingerprint: each trial once, and none that a layer has retracted."""
    columns = ("id", "fingerprint", "workload_id", "target_id", "seconds", "created", "retracted")
    statement = select(*(TRIAL.c[name] for name in columns)).join_from(TRIAL, SCHEDULE)
    statement = statement.where(SCHEDULE.c.kind == "steps")
    if until is not None:
        statement = statement.where(TRIAL.c.created <= until)
    found: dict[str, _Candidate] = {}
    retracted: set[str] = set()
    for layer in connections:
        workloads, targets = ({row.id: row.fingerprint for row in layer.execute(s)} for s in (_WORKLOADS, _TARGETS))
        for row in layer.execute(statement):
            if row.retracted is not None:
                retracted.add(row.fingerprint)
            group = (workloads[row.workload_id], targets[row.target_id])
            candidate = _Candidate(row.fingerprint, layer, row.id, group, row.seconds, row.created)
            found.setdefault(row.fingerprint, candidate)
    return [found[name] for name in sorted(found.keys() - retracted)]


_WORKLOADS = select(WORKLOAD.c.id, WORKLOAD.c.problem.label("fingerprint"))
_TARGETS = select(TARGET.c.id, TARGET.c.fingerprint)


def train(database: "Database", name: str, settings: Settings) -> registry.StoredModel:
    """Train a model on all that the database holds and store it. Raises ModelError when there is nothing to learn."""
    with database.read_layers() as connections:
        known = training(connections)
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
    identity: Mapping[str, bool | int | float | str | None]


def warm_start(database: "Database", template: Template, space: Space, arguments: SessionArguments) -> Start:
    """What a session of ``arguments`` in ``space`` starts from; begun already, exactly what it was begun with."""
    with database.read() as connection:
        begun = _begun(connection, arguments)
    if begun is not None:
        again = _start(database, template, space, arguments, begun["until"])
        if again.identity == begun:
            return again
    return _start(
        database, template, space, arguments, None
    )  # a new one, or older trials were added to the database since


def _start(
    database: "Database", template: Template, space: Space, arguments: SessionArguments, until: str | None
) -> Start:
    settings = Settings()
    with database.read_layers() as connections:
        known = training(connections, datetime.fromisoformat(until) if until else None)
        stored = registry.of_training(connections[0], known.digest, settings)
    made, report = None, nothing("nothing is stored that could be learned from", known.left_out)
    if any(knob.name == "algorithm" and knob.values != ("direct",) for knob in space.knobs):
        report = nothing("this workload has algorithms that the features do not describe", known.left_out)
    elif known.trials:
        made, report = prior_from(
            known.model(stored, settings),
            known.data,
            known.trials,
            known.left_out,
            template,
            arguments.workload,
            arguments.target,
            space,
        )
    identity = {
        **arguments.settings,
        "start": "warm",
        "trained_on": known.digest if made else None,
        "until": known.until.isoformat() if known.until else _EPOCH,
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


def evaluate(database: "Database", stored: registry.StoredModel) -> Sequence[tuple[HeldOut, bool]]:
    """How a stored model ranks the trials of each workload and target in the database, and whether it had seen them.

    Raises ModelError when the program has other features than the model.
    """
    model = stored.model()
    with database.read_layers() as connections:
        data = training(connections).data
    groups = [data.part([group]) for group in range(len(data.workloads))]
    seen = set(stored.parameters["workloads"])
    return [(judge(group, model.predict(group.features)), group.workloads[0] in seen) for group in groups]


def predict(database: "Database", workload: Workload, target: Target) -> Prediction:
    """The schedule that the newest stored model expects to be the fastest; without a model, one is trained and stored.

    Raises ModelError when nothing was measured that a model could be trained on.
    """
    with database.read() as connection:
        stored = registry.newest(connection)
    return predict_with(stored or train(database, DEFAULT_NAME, Settings()), workload, target)


def predict_with(stored: registry.StoredModel, workload: Workload, target: Target) -> Prediction:
    """The schedule that a stored model expects to be the fastest."""
    model, template = stored.model(), template_for(workload, target)
    space = template.space(workload, target)
    indices = legal_sample(template, workload, target, space, MOST_SCORED)
    indices = indices[described(space, space.columns(indices))] if len(indices) else indices
    if not len(indices):
        raise ScheduleError(f"template {template.key} has no legal configuration of {workload.label}")
    scores = model.predict(sketch_features(template, workload, target, space, space.columns(indices)))
    config = space.config(int(indices[int(np.argmax(scores))]))
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
