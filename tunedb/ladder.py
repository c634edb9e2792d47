"""What to run where nothing was measured: rung by rung, from the surest answer down to the template's default schedule.

Every answer but the exact one is a Fallback: labelled, without a time, unverified. What it is expected to lose is found
by answering in the same way for workloads that were measured, as if they had not been (docs/fallback.md).
"""

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import fmean

from sqlalchemy import Connection

from tunedb import lookup
from tunedb.errors import NotFoundError
from tunedb.fallback import SOURCES, Fallback, Source
from tunedb.freshness import Demand, Level, demand
from tunedb.lookup import Best
from tunedb.neighbours import apart_from, fastest, measured, neighbours
from tunedb.places import Place
from tuner.search.candidates import Candidates
from tuner.search.nearest import config_distance, nearest_legal
from tuner.space import Config
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.workload import Workload

_LOG = logging.getLogger("tunedb")

HELD_OUT = 12  # workloads and targets, the nearest ones, on which the loss of an answer is estimated
FEWEST = 8  # configurations that must have been measured of one of them


def answer(
    connection: Connection, workload: Workload, target: Target | None, level: Level, lowest: Source
) -> Best | Fallback:
    """The exact answer, else that of the first rung below which has one, down to ``lowest``.

    Without a target it is for this machine. ``level`` says how fresh a measured time must be, also one that is built
    on. Raises NotFoundError, which says what is stored instead.
    """
    try:
        return lookup.best(connection, workload, target, level)
    except NotFoundError as missing:
        found = fallback(connection, workload, target, level, lowest)
        if found is None:
            raise NotFoundError(f"{missing}; there is no answer of --source {lowest} either") from missing
        return found


def fallback(
    connection: Connection,
    workload: Workload,
    target: Target | None,
    level: Level,
    lowest: Source,
    withdrawn: Set[str] = frozenset(),
) -> Fallback | None:
    """The answer of the first rung below the exact one that has one, down to ``lowest``; None when none has.

    Nothing is taken from the trials whose fingerprints are ``withdrawn``.
    """
    place = target or Target.host()
    wanted = demand(connection, level, workload, place)
    question = _Question(connection, workload, place, template_for(workload, place), wanted, withdrawn)
    for source in SOURCES[1 : SOURCES.index(lowest) + 1]:
        found = _predicted(question) if source == "predicted" else _proposed(question, source)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class _Question:
    connection: Connection
    workload: Workload
    target: Target
    template: Template
    wanted: Demand | None
    withdrawn: Set[str] = frozenset()

    @cached_property
    def neighbours(self) -> Sequence[Place]:
        return neighbours(self.connection, self.workload, self.target)


@dataclass(frozen=True)
class _Proposal:
    """A configuration that need not be in the space that it is proposed for."""

    config: Config
    origin: Best | None = None
    distance: float | None = None


def _propose(question: _Question, source: Source, workload: Workload, target: Target) -> _Proposal | None:
    """What the rung says of any workload and target, as if nothing were known of just these."""
    if source == "default":
        return _Proposal(question.template.default(workload, target))
    algorithms = _algorithms(question.template, workload, target)
    others = [
        place for place in question.neighbours if (place.workload.problem == workload.problem) == (source == "related")
    ]
    others = [place for place in others if (place.workload, place.target) != (workload, target)]
    # A layer with other algorithms to choose from says little about which is the best one here, however alike it is.
    others.sort(
        key=lambda place: (
            _algorithms(question.template, place.workload, place.target) != algorithms,
            apart_from(place, workload, target),
        )
    )
    for place in others:
        best = fastest(
            question.connection,
            place,
            question.template.key,
            algorithms,
            workload.tolerance,
            question.wanted,
            question.withdrawn,
        )
        if best is not None:
            return _Proposal(best.trial.config, best, apart_from(place, workload, target))
    return None


@lru_cache(4096)
def _algorithms(template: Template, workload: Workload, target: Target) -> tuple[str, ...]:
    knobs = template.space(workload, target).knobs
    return tuple(str(value) for knob in knobs if knob.name == "algorithm" for value in knob.values) or ("direct",)


def _proposed(question: _Question, source: Source) -> Fallback | None:
    workload, target, template = question.workload, question.target, question.template
    proposal = _propose(question, source, workload, target)
    if proposal is None:
        return None
    config = template.default(workload, target)
    if proposal.origin is not None:
        space = template.space(workload, target)
        candidates = Candidates(space, lambda columns: template.illegal(workload, target, columns))
        index = nearest_legal(candidates, {**config, **proposal.config})
        if index is None:
            return None
        config = space.config(index)
    losses = _losses(question, source)
    return Fallback(
        workload=workload,
        target=target,
        source=source,
        template=template.key,
        config=config,
        schedule=template.schedule(workload, target, config),
        expected_loss=fmean(losses) if losses else None,
        held_out=len(losses),
        distance=proposal.distance,
        origin=proposal.origin,
    )


def _losses(question: _Question, source: Source) -> Sequence[float]:
    """What the rung would have lost on the nearest of what was measured, each held out in turn.

    They are on the target that is asked about, if any is: what is best on one thread may leave a second one idle, and
    not the other way round. A proposal that was not measured counts as the most similar configuration that was.
    """
    losses: list[float] = []
    here = [place for place in question.neighbours if place.target == question.target]
    for place in here or question.neighbours:
        if len(losses) == HELD_OUT:
            break
        known = measured(question.connection, place, question.template.key)
        if len({str(config) for config, _ in known}) < FEWEST:
            continue
        proposal = _propose(question, source, place.workload, place.target)
        if proposal is not None and (loss := _loss(known, proposal.config)) is not None:
            losses.append(loss)
    return losses


def _loss(known: Sequence[tuple[Config, float]], wanted: Config) -> float | None:
    """The part of the best speed that is lost with the configuration most like ``wanted``, with the slowest of equals.

    Another algorithm is not like it at all: None when no other was measured.
    """
    alike = [one for one in known if one[0].get("algorithm", "direct") == wanted.get("algorithm", "direct")]
    if not alike:
        return None
    _, seconds = min(alike, key=lambda one: (config_distance(one[0], wanted), -one[1]))
    return 1 - min(seconds for _, seconds in known) / seconds


def _predicted(question: _Question) -> Fallback | None:
    """A damaged model is no answer, with a warning."""
    from tunedb import prior, registry
    from tuner.cost_model.global_model import ModelError

    try:
        stored = registry.newest(question.connection)  # a lookup trains none: that writes, and may take long
        return prior.predict_with(stored, question.workload, question.target) if stored else None
    except ModelError as error:
        _LOG.warning("no prediction: %s", error)
        return None
