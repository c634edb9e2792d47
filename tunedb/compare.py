"""A against B: the same workloads on two targets, in two databases, or by two schedules.

Every ratio rests on the raw repeats of the two trials. Each side is one SQL statement, which walks to the
first entry of the index of ``best`` for each of its workloads.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Select, bindparam, select, true

from tunedb import confidence
from tunedb.confidence import Ratio
from tunedb.errors import AmbiguousError, NotFoundError
from tunedb.records import machine_fingerprint, read_trial, select_trials
from tunedb.tables import TARGET, TRIAL, WORKLOAD
from tuner.errors import TunedbError
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tunedb.database import Database

Verdict = Literal["a", "b", "same", "undecided"]


@dataclass(frozen=True)
class Side:
    """Where one half of the comparison comes from. ``target`` is a fingerprint; without one, it is this machine."""

    database: "Database"
    target: str | None = None


@dataclass(frozen=True)
class Measured:
    """A verified trial and its fingerprint."""

    fingerprint: str
    trial: Trial

    @property
    def seconds(self) -> float:
        assert self.trial.seconds is not None  # only such trials are selected
        return self.trial.seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.fingerprint,
            "target": self.trial.target.name,
            "seconds": self.seconds,
            "repeats": len(self.trial.times),
        }


@dataclass(frozen=True)
class Pair:
    """One workload by A and by B. ``ratio`` is B's time by A's: above 1, A is the faster one."""

    a: Measured
    b: Measured
    ratio: Ratio

    @property
    def workload(self) -> Workload:
        return self.a.trial.workload

    @property
    def verdict(self) -> Verdict:
        """Who is faster beyond the noise; "same" is within 1 %, or one and the same trial."""
        if self.a.fingerprint == self.b.fingerprint:
            return "same"
        if self.ratio.different == "yes":
            return "a" if self.ratio.value > 1 else "b"
        return "same" if self.ratio.different == "no" else "undecided"

    def to_json(self) -> dict[str, Any]:
        measured = {"a": self.a.to_json(), "b": self.b.to_json()}
        return {"workload": self.workload.key, **measured, "ratio": self.ratio.to_json(), "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """All workloads that both sides have, and those that only one has."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Workload, ...]
    only_b: tuple[Workload, ...]

    @property
    def geometric_mean(self) -> float:
        """Of the ratios."""
        return math.exp(math.fsum(math.log(pair.ratio.value) for pair in self.pairs) / len(self.pairs))

    @property
    def verdicts(self) -> Mapping[Verdict, int]:
        """How many workloads got which verdict."""
        found = [pair.verdict for pair in self.pairs]
        verdicts: tuple[Verdict, ...] = ("a", "b", "same", "undecided")
        return {verdict: found.count(verdict) for verdict in verdicts}

    def to_json(self) -> dict[str, Any]:
        return {
            "workloads": [pair.to_json() for pair in self.pairs],
            "geometric_mean": self.geometric_mean,
            "verdicts": dict(self.verdicts),
            "only_a": [workload.key for workload in self.only_a],
            "only_b": [workload.key for workload in self.only_b],
        }


def compare(a: Side, b: Side, workloads: Sequence[Workload] = ()) -> Comparison:
    """The best of A against the best of B, for ``workloads`` or for all that both have.

    Raises NotFoundError when there is none that both have.
    """
    first, second = _fastest(a, workloads), _fastest(b, workloads)
    both = sorted(first.keys() & second.keys(), key=_natural)
    if not both:
        raise NotFoundError(_what_is_missing(first, second, workloads))
    return Comparison(
        pairs=tuple(_pair(first[workload], second[workload]) for workload in both),
        only_a=tuple(sorted(first.keys() - second.keys(), key=_natural)),
        only_b=tuple(sorted(second.keys() - first.keys(), key=_natural)),
    )


def compare_trials(a: Side, one: str, b: Side, other: str) -> Comparison:
    """Two trials of one workload, each by the beginning of its fingerprint.

    Raises NotFoundError for one that is not there, and TunedbError for those that have no times to compare.
    """
    pair = [_named(side, name) for side, name in ((a, one), (b, other))]
    if pair[0].trial.workload != pair[1].trial.workload:
        labels = " and ".join(each.trial.workload.label for each in pair)
        raise TunedbError(f"the two trials are of different workloads, {labels}: their times say nothing of each other")
    return Comparison((_pair(*pair),), (), ())


def _natural(workload: Workload) -> list[str]:
    """The order in which people list layers: C2 before C10."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", workload.label)]


def _pair(a: Measured, b: Measured) -> Pair:
    return Pair(a, b, confidence.ratio(a.trial.times, b.trial.times))


def _named(side: Side, name: str) -> Measured:
    with side.database.read() as connection:
        found = stored_trial(connection, name)
    if not found.trial.times:
        raise TunedbError(f"trial {found.fingerprint[:12]} ended as {found.trial.status}: it has no times to compare")
    return found


def stored_trial(connection: Connection, name: str) -> Measured:
    """The trial of ours whose fingerprint begins with ``name``, 8 or more characters of it. Raises NotFoundError."""
    if len(name) < 8:
        raise NotFoundError(f"{name!r} is too short to name a trial: give 8 or more characters of its fingerprint")
    rows = connection.execute(_NAMED, {"low": name, "high": name + "g"}).all()  # g comes after all hexadecimal digits
    if not rows and connection.execute(_ANY_NAMED, {"low": name, "high": name + "g"}).first():
        raise NotFoundError(
            f"{name} is a record of another tool: settings of another compiler's template, and no program to run here"
        )
    if not rows:
        raise NotFoundError(f"no trial of ours has a fingerprint that begins with {name}: `tunedb top` prints them")
    if len(rows) > 1:
        raise AmbiguousError(f"several trials' fingerprints begin with {name}: give more characters")
    return Measured(rows[0].fingerprint, read_trial(rows[0]))


def _fastest(side: Side, workloads: Sequence[Workload]) -> dict[Workload, Measured]:
    """The fastest verified trial of each workload on the side's target."""
    where = side.target or machine_fingerprint(Target.host())
    statement = _statement("fingerprint" if side.target else "machine", bool(workloads))
    values: dict[str, Any] = {"where": where}
    if workloads:
        values["workloads"] = [workload.fingerprint for workload in workloads]
    with side.database.read() as connection:
        rows = connection.execute(statement, values).all()
    found: dict[Workload, Measured] = {}
    for row in rows:  # fastest first: a machine may have several targets, one a number of threads
        trial = read_trial(row)
        found.setdefault(trial.workload, Measured(row.fingerprint, trial))
    return found


def _what_is_missing(
    first: Mapping[Workload, Measured], second: Mapping[Workload, Measured], asked: Sequence[Workload]
) -> str:
    what = asked[0].label if len(asked) == 1 else "these workloads" if asked else "any workload"
    if not first and not second:
        return f"neither A nor B has a verified trial of {what}"
    if first and second:
        return "there is no workload that both A and B have a verified trial of"
    return f"{'A' if second else 'B'} has no verified trial of {what}"


@cache
def _statement(where: str, chosen: bool) -> Select[Any]:
    each, place, what = TRIAL.alias("each"), TARGET.alias("place"), WORKLOAD.alias("what")
    first = (
        select(each.c.id)
        .where(each.c.workload_id == what.c.id, each.c.target_id == place.c.id, each.c.verified)
        .order_by(each.c.seconds, each.c.created.desc(), each.c.fingerprint)
        .limit(1)
        .correlate(place, what)
        .scalar_subquery()
    )
    firsts = select(first).select_from(what.join(place, true())).where(place.c[where] == bindparam("where"))
    if chosen:
        firsts = firsts.where(what.c.fingerprint.in_(bindparam("workloads", expanding=True)))
    return select_trials().where(TRIAL.c.id.in_(firsts)).order_by(TRIAL.c.seconds)


_ANY_NAMED = select(TRIAL.c.id).where(TRIAL.c.fingerprint.between(bindparam("low"), bindparam("high"))).limit(1)
_NAMED = select_trials().where(TRIAL.c.fingerprint.between(bindparam("low"), bindparam("high"))).limit(2)
