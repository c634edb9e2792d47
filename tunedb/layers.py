"""A database over others that are only read: a person's own over the team's, say. docs/layers.md explains it.

Answers come from all layers. The better one wins, of equally good ones that of the upper layer, and it says which layer
it is from. What is new goes into the top. A retraction in any layer counts in all.
"""

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar, overload

from sqlalchemy import Engine, select

from tunedb import lookup
from tunedb.compare import Measured
from tunedb.confidence import judge
from tunedb.database import Database, open_to_read
from tunedb.errors import AmbiguousError, DatabaseError, NotFoundError, UnreachableDatabaseError
from tunedb.fallback import SOURCES, Fallback, Source
from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.freshness import Level
from tunedb.lookup import Best
from tunedb.records import Standing, flatten
from tunedb.tables import TRIAL
from tunedb.verifications import Verification
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

_LOG = logging.getLogger("tunedb")
T = TypeVar("T")


def base_urls() -> tuple[str, ...]:
    """The URLs in ``TUNEDB_BASE_URLS``, which semicolons separate; the upper layer first."""
    urls = os.environ.get("TUNEDB_BASE_URLS", "").split(";")
    return tuple(url.strip() for url in urls if url.strip())


class _Known(NamedTuple):
    """Of a trial: its copy that stands, of those that the layers have, and whether one of them has retracted it."""

    standing: Standing
    retracted: bool


class Layered(Database):
    """A database whose answers also come from ``bases``. All else is that of the database alone."""

    def __init__(self, engine: Engine, bases: Sequence[str]) -> None:
        super().__init__(engine)
        self._urls = tuple(bases)
        self._layers: tuple[Database, ...] | None = None

    @property
    def layers(self) -> tuple[Database, ...]:
        """This database alone, then those bases that can be reached. They are opened when they are first needed.

        One that cannot be reached is left out, with a warning. Raises DatabaseError for one of another revision.
        """
        if self._layers is None:
            bases = [base for url in self._urls if (base := _open(url)) is not None]
            self._layers = (Database(self._engine), *bases)
        return self._layers

    def close(self) -> None:
        for layer in self._layers or ():
            layer.close()
        super().close()

    @overload
    def best(
        self,
        workload: Workload,
        target: Target | None = None,
        *,
        freshness: Level = "any",
        source: Literal["exact"] = "exact",
    ) -> Best: ...

    @overload
    def best(
        self, workload: Workload, target: Target | None = None, *, freshness: Level = "any", source: Source
    ) -> Best | Fallback: ...

    def best(
        self,
        workload: Workload,
        target: Target | None = None,
        *,
        freshness: Level = "any",
        source: Source = "exact",
    ) -> Best | Fallback:
        """As of a single database; an exact answer of any layer goes before all others."""
        try:
            (fastest,) = self.top(workload, 1, target, freshness=freshness)
            if target is None:  # the runner-up is that of its number of threads
                (fastest,) = self.top(workload, 1, fastest.target, freshness=freshness)
            return fastest
        except NotFoundError as missing:
            if source == "exact":
                raise
            answers = [self._fallback(layer, workload, target, freshness, source) for layer in self.layers]
            found = min((answer for answer in answers if answer), key=_risk, default=None)
            if found is None:
                raise NotFoundError(f"{missing}; there is no answer of --source {source} either") from missing
            return found

    def _fallback(
        self, layer: Database, workload: Workload, target: Target | None, freshness: Level, source: Source
    ) -> Fallback | None:
        """What the layer answers without what is retracted in another one."""
        from tunedb.ladder import fallback  # as for ``Database.best``

        withdrawn: set[str] = set()
        while True:
            with layer.read() as connection:
                found = fallback(connection, workload, target, freshness, source, withdrawn)
            if found is None or found.origin is None:
                return found
            name = found.origin.fingerprint
            if not self._known({name})[name].retracted:
                return found
            withdrawn.add(name)

    def top(
        self, workload: Workload, n: int = 10, target: Target | None = None, *, freshness: Level = "any"
    ) -> tuple[Best, ...]:
        """As of a single database."""
        listed = self._listed(workload, n + 1, target, freshness)
        # As after a merge, the best of all is among the best of each; of equal ones, the upper layer's stays first.
        fastest: dict[tuple[str, str], Best] = {}
        for best in sorted(listed, key=lambda best: best.seconds):
            fastest.setdefault((best.schedule.fingerprint, best.target.fingerprint), best)
        ranking = list(fastest.values())
        following = [*(best.trial.times for best in ranking[1:]), None]
        pairs = list(zip(ranking, following, strict=True))[:n]
        return tuple(replace(best, confidence=judge(best.trial.times, times)) for best, times in pairs)

    def _listed(self, workload: Workload, n: int, target: Target | None, freshness: Level) -> list[Best]:
        """The ``n`` fastest schedules of each layer, by trials that count in all layers together.

        As after a merge, what a layer has retracted does not count, and of copies one stands. Which trials these are
        is known when they are listed; then each layer is asked anew, without those that do not count.
        """
        aside: dict[str, set[str]] = {layer.url: set() for layer in self.layers}

        def top_of(layer: Database) -> list[Best]:
            without = aside[layer.url]
            with layer.read() as connection:
                # The more are in vain, the more are looked at in one turn.
                found = lookup.top(connection, workload, n + len(without), target, freshness, without)
            return [replace(best, layer=layer.url) for best in found]

        while True:
            try:
                answers = self._ask(top_of)
            except NotFoundError as missing:
                if any(aside.values()):
                    what = f"every verified trial of {workload.label} is retracted in one of the layers"
                    raise NotFoundError(what) from missing
                raise
            known = self._known({best.fingerprint for _, listed in answers for best in listed})
            in_vain = {
                layer.url: {
                    best.fingerprint
                    for best in listed
                    if known[best.fingerprint] != _Known(Standing.of(best.trial.times), retracted=False)
                }
                for layer, listed in answers
            }
            if not any(in_vain.values()):
                return [best for _, listed in answers for best in listed[:n]]
            for url, names in in_vain.items():
                aside[url] |= names

    def history(self, workload: Workload, target: Target | str | None = None) -> tuple[Trial, ...]:
        """All trials of ``workload`` in any layer, oldest first; of one that several have, the copy that stands."""
        found: dict[tuple[Any, ...], Trial] = {}
        for layer in self.layers:
            for trial in layer.history(workload, target):
                identity = (trial.created, trial.sequence, trial.schedule.fingerprint, trial.target.fingerprint)
                known = found.get(identity)
                if known is None or Standing.of(known.times) < Standing.of(trial.times):
                    found[identity] = trial
        return tuple(sorted(found.values(), key=lambda trial: trial.created))

    def trial(self, name: str) -> Measured:
        """The trial whose fingerprint begins with ``name``, from the first layer that has it. Raises NotFoundError."""
        return self._ask(lambda layer: layer.trial(name))[0][1]

    def verifications(self, workload: Workload) -> tuple[Verification, ...]:
        """What measuring trials of ``workload`` again has found, oldest first."""
        found = {each.fingerprint: each for layer in self.layers for each in layer.verifications(workload)}
        return tuple(sorted(found.values(), key=lambda each: each.created))

    def imported(
        self, workload: Workload | ForeignWorkload, target: str | None = None, n: int = 1
    ) -> tuple[ForeignTrial, ...]:
        """As of a single database."""
        of_each = n
        while True:
            answers = self._ask(lambda layer: layer.imported(workload, target, of_each))  # noqa: B023  # at once
            found = {trial.fingerprint: trial for _, trials in reversed(answers) for trial in trials}
            names = sorted({trial.target.name for trial in found.values()})
            if len(names) > 1:
                raise AmbiguousError(f"{len(names)} targets in the layers: name one with --target: {', '.join(names)}")
            known = self._known(set(found))
            last = min((trials[-1].seconds or 0.0 for _, trials in answers if len(trials) == of_each), default=math.inf)
            left = [
                trial for name, trial in found.items() if not known[name].retracted and (trial.seconds or 0.0) <= last
            ]
            if len(left) >= n or last == math.inf:
                break
            of_each *= 4
        if not left:
            raise NotFoundError(f"every record of {workload.label} is retracted in one of the layers")
        return tuple(sorted(left, key=lambda trial: (trial.seconds or 0.0, trial.fingerprint))[:n])

    def _ask(self, question: Callable[[Database], T]) -> list[tuple[Database, T]]:
        """The answers of the layers that have one. Raises AmbiguousError, and the top's NotFoundError when none has."""
        answers: list[tuple[Database, T]] = []
        missing: list[NotFoundError] = []
        for layer in self.layers:
            try:
                answers.append((layer, question(layer)))
            except AmbiguousError:
                raise
            except NotFoundError as error:
                missing.append(error)
        if not answers:
            more = len(missing) - 1
            raise NotFoundError(f"{missing[0]}; nor is there an answer in {more} base{'s' * (more != 1)}")
        return answers

    def _home(self, best: Best) -> Database:
        return next(layer for layer in self.layers if layer.url == best.layer)

    def _known(self, trials: set[str]) -> dict[str, _Known]:
        """What all layers together know of the trials with these fingerprints."""
        columns = (TRIAL.c.fingerprint, TRIAL.c.retracted, TRIAL.c.times)
        found: dict[str, _Known] = {}
        for layer in self.layers:
            with layer.read() as connection:
                for name, retracted, rounds in connection.execute(select(*columns).where(columns[0].in_(trials))):
                    here = _Known(Standing.of(flatten(rounds)), retracted is not None)
                    known = found.get(name, here)
                    found[name] = _Known(max(known.standing, here.standing), known.retracted or here.retracted)
        return found


def _risk(answer: Fallback) -> tuple[int, float]:
    """The surer way to answer first, then the smaller expected loss; an unknown one is the largest."""
    return SOURCES.index(answer.source), 1.0 if answer.expected_loss is None else answer.expected_loss


def _open(url: str) -> Database | None:
    """A base; None, with a warning, when there is no way to it now."""
    try:
        return open_to_read(url)
    except UnreachableDatabaseError as error:
        _LOG.warning("a base of TUNEDB_BASE_URLS is left out: %s", error)
        return None
    except DatabaseError as error:
        raise type(error)(f"a base of TUNEDB_BASE_URLS: {error}") from error
