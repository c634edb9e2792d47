"""Experiments on this machine: sessions against the clock, and what they found, timed again on equal terms.

A session is what ``tunedb tune`` does, in a process and with a database of its own, so that it finds nothing of the
other sessions. The best of many noisy times is lucky as well as fast, the more of them the luckier. So what a session
found is not judged by its own times: all schedules that led a session of a workload when they were measured are timed
again together, in turn.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import copyfile
from statistics import median
from typing import Any

import numpy as np

import tunedb
from tunedb.experiments import stored
from tunedb.experiments.data import Data, load, sources_of
from tunedb.experiments.declared import REAL, Experiment, ExperimentError, slug
from tunedb.experiments.processes import ignore_interrupts
from tunedb.prior import DEFAULT_NAME, train  # and all that a session imports, before the clock starts
from tunedb.records import Writer
from tunedb.tuning import tune
from tuner.build import build
from tuner.canonical import fingerprint
from tuner.cost_model.global_model import Settings
from tuner.environment import detect
from tuner.errors import TunedbError
from tuner.experiment.pool import Pool, noise
from tuner.experiment.replay import Run
from tuner.experiment.sources import drawn
from tuner.measure import Measurer
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import parse

TURNS = 3  # in each of them the schedules to be timed again are loaded anew, into memory of its own
ROUNDS = 7  # of a turn; a round has one repeat of each schedule


@dataclass(frozen=True)
class Session:
    """A run as it was measured: seconds of each trial, and ``leaders``, the trials that led when they were measured.

    ``start`` are the seconds from opening the database to the first choice, the warm start among them; ``training``
    those of the model that it found there.
    """

    costs: tuple[float, ...]
    choosing: tuple[float, ...]
    start: float
    training: float
    leaders: Mapping[int, Schedule]  # by the number of the trial, from 0

    def to_json(self) -> dict[str, Any]:
        leaders = {str(number): schedule.to_json() for number, schedule in self.leaders.items()}
        return {**asdict(replace(self, leaders={})), "leaders": leaders}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Session":
        leaders = {int(number): Schedule.from_json(steps) for number, steps in data["leaders"].items()}
        return cls(tuple(data["costs"]), tuple(data["choosing"]), data["start"], data["training"], leaders)

    def run(self, speeds: Mapping[str, float]) -> Run:
        """With the speed of each leader, by its fingerprint; a trial that did not lead has found nothing."""
        found = np.zeros(len(self.costs))
        for number, schedule in self.leaders.items():
            found[number] = speeds[schedule.fingerprint]
        return Run(tuple(found.tolist()), self.costs, self.choosing, self.start, self.training)


@dataclass(frozen=True)
class Order:
    """A session to be held: what to tune and how, in which database, and how long the model in it took to train."""

    label: str
    tuner: str  # as arms are called
    trials: int
    seed: int
    threads: int
    starts: bool
    database: Path
    training: float


def run(experiment: Experiment, folder: Path, source: str) -> Iterator[None]:
    """Hold the sessions of an experiment that are missing, and time what they found again; yields after each session.

    ``source`` is what its arms learn from; "" where it has no sources.
    """
    data = load(source) if source else None
    learned = data.digest if data else ""
    made_by = stored.program("real")
    digests = {arm.name: stored.digest_of(experiment, arm.name, learned, made_by) for arm in experiment.arms}
    target = Target.host(experiment.threads)
    described: dict[str, Any] = {}
    for label in experiment.workloads:
        sessions: dict[Path, tuple[str, Session]] = {}
        for seed in range(experiment.seeds):
            for arm, digest in digests.items():
                place = stored.place(folder, experiment.name, arm, label, seed)
                sessions[place] = arm, _session(experiment, arm, label, seed, place, digest, data)
                yield
        times = _times(folder / experiment.name / "times" / f"{slug(label)}.json", label, sessions, target)
        speeds = {name: 1e-9 * parse(label).flops / median(each) for name, each in times.items()}
        for place, (arm, session) in sessions.items():
            facts = {"experiment": experiment.name, "arm": arm, "workload": label, "seed": int(place.stem)}
            stored.save(place, digests[arm], session.run(speeds), facts)
        noisy = noise(list(times.values()))
        described[label] = {"target": target.name, "best_gflops": max(speeds.values()), "noise": noisy}
    about = {
        "digest": learned,
        "program": made_by,
        "environment": dict(detect().facts),
        "workloads": described,
    }
    stored.write_json(folder / experiment.name / "data.json", about)


def _session(
    experiment: Experiment, name: str, label: str, seed: int, place: Path, digest: str, data: Data | None
) -> Session:
    """The session of a run, which is held unless it was."""
    kept = place.with_suffix(".session")
    if known := stored.read_json(kept, digest):
        return Session.from_json(known)
    number = next(number for number, arm in enumerate(experiment.arms) if arm.name == name)
    arm, tuner = experiment.arms[number], str(experiment.declared[number]["tuner"])
    database = place.with_suffix(".sqlite")
    database.parent.mkdir(parents=True, exist_ok=True)
    for old in database.parent.glob(f"{database.name}*"):  # of a session that was stopped
        old.unlink()
    training = 0.0
    if arm.way.sourced:
        assert data is not None, "declared.read has seen to it"
        here = Target.host(experiment.threads).name
        lesson, training = _taught(place.parents[2], sources_of(data, experiment, arm, label, here), seed)
        copyfile(lesson, database)
    order = Order(label, tuner, experiment.trials, seed, experiment.threads, experiment.starts, database, training)
    session = _apart(order)
    stored.write_json(kept, {"digest": digest, **session.to_json()})
    return session


def _apart(order: Order) -> Session:
    """Hold a session in a process of its own. Raises TunedbError, as the session did, or when the process dies."""
    context = get_context("spawn")
    mine, others = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(others, order))
    process.start()
    others.close()
    try:
        answer = mine.recv()
    except EOFError as error:
        raise ExperimentError(f"the process that tuned {order.label} with seed {order.seed} has died") from error
    finally:
        process.terminate()
        process.join()
    if isinstance(answer, TunedbError):
        raise answer
    assert isinstance(answer, Session)
    return answer


def _answer(connection: Connection, order: Order) -> None:
    """What the other process does: the one that started it ends it when somebody presses Ctrl-C."""
    ignore_interrupts()
    try:
        connection.send(hold(order))
    except TunedbError as error:
        connection.send(error)


def hold(order: Order) -> Session:
    """Tune by the clock, from opening the database until the last trial is stored and learned from."""
    leaders: dict[int, Schedule] = {}
    costs: list[float] = []
    ends: list[float] = []
    fastest = float("inf")

    def told(trial: Trial) -> None:
        nonlocal fastest
        if trial.seconds is not None and trial.seconds < fastest:
            fastest = trial.seconds
            leaders[len(costs)] = trial.schedule
        costs.append((trial.compile_seconds or 0.0) + (trial.run_seconds or 0.0))
        ends.append(time.perf_counter() - began)

    began = time.perf_counter()
    with tunedb.open(f"sqlite:///{order.database}", bases=()) as database:
        tune(
            parse(order.label),
            db=database,
            trials=order.trials,
            seed=order.seed,
            threads=order.threads,
            tuner=REAL[order.tuner],
            cold=order.tuner == "model",
            starts=order.starts,
            on_start=lambda trials: ends.append(time.perf_counter() - began),
            on_trial=told,
        )
    between = np.diff(ends) - costs
    return Session(tuple(costs), tuple(between.tolist()), ends[0], order.training, leaders)


def _taught(folder: Path, sources: Sequence[Pool], seed: int) -> tuple[Path, float]:
    """A database with what a replay with this seed learns from, and the seconds that its model took to train."""
    schedules = [[trial.schedule.fingerprint for trial in pool.trials] for pool in sources]
    name = fingerprint([stored.program("real"), seed, schedules])
    path, about = folder / f"sources-{name[:16]}.sqlite", folder / f"sources-{name[:16]}.json"
    if known := stored.read_json(about, name):
        return path, float(known["training"])
    path.unlink(missing_ok=True)
    rng = np.random.default_rng([seed, 1])
    with tunedb.open(f"sqlite:///{path}", bases=()) as database:
        with database.write() as connection:
            writer = Writer(connection)
            for pool in sources:
                said = {"workload": pool.workload.key, "from": "the sources of an experiment"}
                session, number = writer.session(said, datetime.now(UTC))
                for place, row in enumerate(drawn(pool, rng, 0).tolist()):
                    trial = replace(pool.trials[row], sequence=place)
                    writer.trial(trial, session, number, [trial.times])
        began = time.perf_counter()
        train(database, DEFAULT_NAME, Settings(threads=1))
        seconds = time.perf_counter() - began
    stored.write_json(about, {"digest": name, "training": seconds})
    return path, seconds


def _times(
    path: Path, label: str, sessions: Mapping[Path, tuple[str, Session]], target: Target
) -> Mapping[str, Sequence[float]]:
    """Seconds per call of all that led a session, by the fingerprint of its schedule: taken once for these sessions."""
    leaders = {each.fingerprint: each for _, session in sessions.values() for each in session.leaders.values()}
    if not leaders:
        raise ExperimentError(f"no schedule of {label} gave a correct result")
    digest = fingerprint([stored.program("real"), *sorted(leaders)])
    if known := stored.read_json(path, digest):
        found: Mapping[str, Sequence[float]] = known["times"]
        return found
    workload = parse(label)
    programs = [build(workload, schedule, target) for schedule in leaders.values()]
    times: dict[str, list[float]] = {name: [] for name in leaders}
    with Measurer(target) as measurer:
        for _ in range(TURNS):
            for name, repeats in zip(leaders, measurer.confirm(workload, programs, ROUNDS), strict=True):
                times[name] += repeats
    if not all(times.values()):
        raise ExperimentError(f"what was found of {label} could not be timed again")
    stored.write_json(path, {"digest": digest, "times": times})
    return times
