"""What the database teaches about a workload: the model of its trials, the prior and the report."""

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
from tunedb.sessions import SessionArguments
from tunedb.tables import SESSION
from tunedb.training import Choice, Training, chosen, training
from tuner.cost_model.global_model import FEATURES, GlobalModel, ModelError, Settings
from tuner.cost_model.held_out import Errors, HeldOut, errors, judge
from tuner.errors import ScheduleError
from tuner.space import Space
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.transfer import GlobalPrior, Report, Seen, correlation, legal_sample, nothing, prior_from, scores
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

DEFAULT_NAME = "default"
WARM_NAME = "warm"  # of the models that warm starts train
NEARLY = 0.8  # of the trials that are known now, for which a model is as good as a new one
MOST_SCORED = 1_000_000  # configurations of a space, legal or not, that a prediction looks at
_EPOCH = "1970-01-01T00:00:00+00:00"  # when the database held nothing
_WARM = ("start", "trained_on", "until")  # settings of a session that say what it was warmed with
NEWER = "newer than the model, which is trained again when a fifth is"


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
        return registry.save(connection, stored)[0]


def train(database: "Database", name: str, settings: Settings) -> registry.StoredModel:
    """Train a model on all that the database holds and store it; one that is stored already keeps its name.

    Raises ModelError when there is nothing to learn.
    """
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
    model, template = stored.model(), template_for(workload, target)
    space = template.space(workload, target)
    indices = legal_sample(template, workload, target, space, MOST_SCORED, threads)
    if not len(indices):
        raise ScheduleError(f"template {template.key} has no legal configuration of {workload.label}")
    predicted, _ = scores(model, template, workload, target, space, space.columns(indices))
    config = space.config(int(indices[int(np.argmax(predicted))]))
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
