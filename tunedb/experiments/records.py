"""All that a database holds, as layers to hold out: our own trials, and other tools' records that can be lowered.

What was said at import decides the groups: ``--machine`` is the machine, ``--label network=NAME`` the network, and
``--label tuner=NAME`` whose history it is. Our own trials say all that themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Text, select
from sqlalchemy import cast as sql_cast

from tunedb.foreign import ForeignTarget
from tunedb.lessons import target_of
from tunedb.records import read_schedule, read_target, read_workload
from tunedb.tables import SCHEDULE, SESSION, TARGET, TEMPLATE, TRIAL, WORKLOAD
from tuner.cost_model.training import FEWEST, SHORTEST
from tuner.errors import ScheduleError
from tuner.experiment.holdout import Layer
from tuner.features.stored import stored_features
from tuner.foreign_templates import is_foreign, knobs_of, wrong
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import Workload

Knobs = Mapping[str, Any]


@dataclass(frozen=True)
class _Example:
    """tuner.features.stored.Example"""

    workload: Workload
    target: Target
    template: str
    schedule: Schedule | Mapping[str, int]
    seconds: float | None


@dataclass
class _Gathered:
    """What is known of a workload on a machine while the rows are read."""

    workload: Workload
    target: Target
    template: str
    networks: set[str] = field(default_factory=set)
    schedules: list[Schedule | Mapping[str, int]] = field(default_factory=list)
    knobs: list[Knobs] = field(default_factory=list)
    times: list[list[float]] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)  # of a schedule's id
    histories: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # of a tuner and a session


def layers(connection: Connection) -> tuple[list[Layer], int]:
    """The layers of a database with enough timed records, and how many records are of no known template."""
    statement = (
        select(
            WORKLOAD.c.key.label("workload"),
            sql_cast(TARGET.c.description, Text).label("target"),
            (TEMPLATE.c.name + "/" + TEMPLATE.c.version).label("template"),
            SCHEDULE.c.id,
            SCHEDULE.c.kind,
            sql_cast(SCHEDULE.c.steps, Text).label("steps"),
            sql_cast(SESSION.c.arguments, Text).label("arguments"),
            SESSION.c.id.label("session"),
            TRIAL.c.config,
            TRIAL.c.seconds,
        )
        .select_from(
            TRIAL.join(WORKLOAD)
            .join(TARGET)
            .join(TEMPLATE)
            .join(SCHEDULE)
            .join(SESSION, TRIAL.c.session_id == SESSION.c.id)
        )
        .where(TRIAL.c.retracted.is_(None))
        .order_by(TRIAL.c.created, TRIAL.c.id)
    )
    gathered: dict[tuple[str, Target, str], _Gathered] = {}
    origins: dict[tuple[str, str, str, int], _Origin | None] = {}
    left_out = 0
    for row in connection.execute(statement.execution_options(yield_per=1000)):
        key = (row.workload, row.target, row.template, row.session)
        if key not in origins:
            origins[key] = _origin(row)
        origin = origins[key]
        if origin is None or not _add(gathered, origin, row):
            left_out += 1
    found = [_layer(each) for each in gathered.values()]
    return [layer for layer in found if int(np.isfinite(layer.seconds).sum()) >= FEWEST], left_out


@dataclass(frozen=True)
class _Origin:
    """What the rows of one session share."""

    workload: Workload
    target: Target
    template: str
    network: str | None
    tuner: str
    session: str


def _origin(row: Any) -> _Origin | None:
    """None for records of other tools whose template is not known here."""
    arguments = json.loads(row.arguments)
    if row.kind == "steps":
        workload = read_workload(row.workload)
        network, dot, _ = workload.label.partition(".")
        tuner = str(arguments.get("tuner", "unknown"))
        start = arguments.get("settings", {}).get("start")
        name = f"{tuner}, {start}" if start else tuner
        return _Origin(
            workload, read_target(row.target), row.template, network if dot else None, name, str(row.session)
        )
    if not is_foreign(row.template) or ":" in row.workload.partition("(")[0]:
        return None
    foreign = ForeignTarget.from_json(json.loads(row.target))
    labels = dict(foreign.labels)
    return _Origin(
        read_workload(row.workload),
        target_of(foreign),
        row.template,
        labels.get("network"),
        labels.get("tuner", f"{foreign.format}, as stored"),
        f"{labels.get('network', '')} {row.session}",
    )


def _add(gathered: dict[tuple[str, Target, str], _Gathered], origin: _Origin, row: Any) -> bool:
    """Add a record; whether its schedule can be lowered."""
    place = (origin.workload.key, origin.target, origin.template)
    if place not in gathered:
        gathered[place] = _Gathered(origin.workload, origin.target, origin.template)
    layer = gathered[place]
    position = layer.positions.get(row.id)
    if position is None:
        if row.kind == "steps":
            schedule: Schedule | Mapping[str, int] = read_schedule(row.steps)
            knobs: Knobs = row.config
        else:
            try:
                schedule = knobs = knobs_of(json.loads(row.steps))
            except ScheduleError:
                return False
            if wrong(origin.template, origin.workload, schedule) is not None:
                return False
        position = layer.positions[row.id] = len(layer.schedules)
        layer.schedules.append(schedule)
        layer.knobs.append(knobs)
        layer.times.append([])
    if row.seconds is not None and row.seconds >= SHORTEST:
        layer.times[position].append(row.seconds)
    if origin.network:
        layer.networks.add(origin.network)
    layer.histories.setdefault((origin.tuner, origin.session), []).append(position)
    return True


def _layer(gathered: _Gathered) -> Layer:
    flat = [_flat(knobs) for knobs in gathered.knobs]
    names = tuple(sorted(flat[0]))
    words = np.array([isinstance(flat[0][name], str) for name in names], dtype=np.bool_)
    seconds = np.array([np.median(times) if times else np.inf for times in gathered.times])
    examples = [
        _Example(gathered.workload, gathered.target, gathered.template, schedule, None)
        for schedule in gathered.schedules
    ]
    histories: dict[str, list[npt.NDArray[np.int64]]] = {}
    for (tuner, _), order in gathered.histories.items():
        histories.setdefault(tuner, []).append(np.array(list(dict.fromkeys(order)), dtype=np.int64))
    return Layer(
        gathered.workload,
        gathered.target,
        frozenset(gathered.networks),
        gathered.template,
        names,
        words,
        np.array([[_number(knobs.get(name, 0)) for name in names] for knobs in flat]),
        stored_features(examples),
        seconds,
        histories,
    )


def _flat(knobs: Knobs) -> dict[str, int | str]:
    """The items of a list as knobs of their own."""
    flat: dict[str, int | str] = {}
    for name, value in knobs.items():
        items = {f"{name}.{place}": item for place, item in enumerate(value)} if isinstance(value, list) else None
        flat |= items or {name: value}
    return flat


def _number(value: int | str) -> float:
    """A number as log2, a word as a number that no other word has."""
    return float(int.from_bytes(value.encode()[:6]) if isinstance(value, str) else np.log2(1 + value))
