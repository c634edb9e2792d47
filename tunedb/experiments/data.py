"""The stored trials that an experiment is replayed on: an exported log, or a database. Both are only read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import tunedb
from tunedb.errors import FormatError
from tunedb.experiments.declared import Experiment, ExperimentError
from tunedb.formats import native
from tunedb.formats.common import About, Rejected
from tunedb.formats.source import open_source
from tunedb.records import read_trial, select_trials
from tunedb.tables import TRIAL
from tuner.errors import ScheduleError
from tuner.experiment.arms import Arm, Setup
from tuner.experiment.pool import Pool, pools
from tuner.trial import Trial


@dataclass(frozen=True, eq=False)
class Data:
    """Pools by the workload's label and the target's name, and the identity of the trials they were made of."""

    digest: str
    pools: Mapping[tuple[str, str], Pool]
    trials: int
    facts: Mapping[str, str]  # with what they were measured; of several environments the commonest value

    def pool(self, label: str, target: str, knobs: Mapping[str, int | str]) -> Pool:
        """The pool of a workload. Raises ExperimentError, which says what there is instead."""
        targets = [name for known, name in self.pools if known == label]
        if target and target not in targets:
            raise ExperimentError(
                f"no trial of {label} on {target!r} is stored; targets: {', '.join(targets) or 'none'}"
            )
        if not targets:
            raise ExperimentError(f"no trial of {label} is stored that could be replayed")
        if len(targets) > 1 and not target:
            raise ExperimentError(f"{label} has trials on {', '.join(sorted(targets))}: say which with target")
        pool = self.pools[label, target or targets[0]]
        try:
            return _only(pool, tuple(sorted(knobs.items())))
        except ScheduleError as error:
            raise ExperimentError(str(error)) from error


@lru_cache(512)  # the same object each time: what is learned from it is remembered
def _only(pool: Pool, knobs: tuple[tuple[str, int | str], ...]) -> Pool:
    return pool.only(dict(knobs)) if knobs else pool


@lru_cache(2)
def load(source: str) -> Data:
    """The trials of an exported log, or of the database at a URL.

    Raises ExperimentError when nothing can be replayed, FormatError for a file that cannot be read.
    """
    trials, digest = _of_database(source) if "://" in source else _of_log(source)
    found = pools(trials)
    if not found:
        raise ExperimentError(f"{source} has no trial that could be replayed")
    counts: dict[tuple[str, str], int] = {}
    for trial in trials:
        for fact in trial.environment.facts:
            counts[fact] = counts.get(fact, 0) + 1
    facts = dict(sorted(counts, key=lambda fact: counts[fact]))
    return Data(digest, found, len(trials), dict(sorted(facts.items())))


def _of_log(path: str) -> tuple[list[Trial], str]:
    trials: list[Trial] = []
    with open_source(path) as source:
        for item in native.read(source, About()):
            if isinstance(item, Rejected):
                raise FormatError(f"{path}, line {item.line}: {item.reason}")
            assert isinstance(item.record, native.Record)
            if item.record.retracted is None:
                trials.append(item.record.trial)
    return trials, hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _of_database(url: str) -> tuple[list[Trial], str]:
    statement = select_trials().where(TRIAL.c.retracted.is_(None)).order_by(TRIAL.c.fingerprint)
    known = hashlib.sha256()
    trials: list[Trial] = []
    with tunedb.open(url) as db, db.read() as connection:
        for row in connection.execute(statement.execution_options(yield_per=1000)):
            trials.append(read_trial(row))
            known.update(f"{row.fingerprint} {len(trials[-1].times)}\n".encode())
    return trials, known.hexdigest()


def setup_of(data: Data, experiment: Experiment, arm: Arm, label: str, seed: int) -> Setup:
    """What a run of ``arm`` on a workload has: its pool, and those of the other workloads that it learns from."""
    pool = data.pool(label, experiment.target, experiment.knobs)
    return Setup(pool, sources_of(data, experiment, arm, label, pool.target.name), seed)


def sources_of(data: Data, experiment: Experiment, arm: Arm, label: str, here: str) -> tuple[Pool, ...]:
    """What ``arm`` learns from before it tunes a workload on the target of the name ``here``."""
    elsewhere = experiment.source_targets.get(arm.name, experiment.target or here)
    names = experiment.sources_of(label) if arm.way.sourced else ()
    return tuple(data.pool(name, elsewhere, experiment.knobs) for name in names)
