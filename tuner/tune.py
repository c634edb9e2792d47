"""Tuning: choose a candidate, build it, measure it, keep the trial, learn; at the end confirm the best few.

This is Algorithm 1 of the AutoTVM paper with the tuner behind an ask-and-tell interface, so that the model-guided one
and its baselines run under the same accounting: every measured candidate is a trial, failures included.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from tuner import tuners
from tuner.build import build
from tuner.codegen.program import Program
from tuner.environment import detect
from tuner.errors import CompileError, ScheduleError, TunedbError
from tuner.measure import Measurement
from tuner.search.candidates import Candidates
from tuner.search.inexact import Inexact
from tuner.search.nearest import nearest_legal
from tuner.search.prior import Prior
from tuner.space import Value, value_text
from tuner.target import Target
from tuner.templates import Template, template_for
from tuner.trial import History, Status, Trial
from tuner.tuners import make_tuner
from tuner.workload import Workload


class Measuring(Protocol):
    """What ``tune`` needs of a measurer."""

    def measure(self, workload: Workload, program: Program, beat: float | None) -> Measurement:
        """Compile, verify and time; what cannot beat ``beat`` seconds may be cut short."""

    def confirm(self, workload: Workload, programs: Sequence[Program], rounds: int) -> Sequence[tuple[float, ...]]:
        """``rounds`` more repeats of each program, interleaved."""


@dataclass(frozen=True)
class Settings:
    """How the search works; the defaults suit one machine that measures serially."""

    search: tuners.Settings = field(default_factory=tuners.Settings)
    starts: bool = True  # the default schedule and its rivals come first; an experiment may leave them to the search
    confirm: int = 3  # this many of the best are measured again at the end
    rounds: int = 10  # repeats that confirm


@dataclass(frozen=True)
class Result:
    """How a session stands. ``shares`` are the seconds this call spent on each part of its work."""

    trials: tuple[Trial, ...]  # all of the session, by sequence
    best: Trial | None  # the fastest correct one, by the median of all its repeats
    default: Trial | None  # the default schedule of the template: the first trial, where sessions start with it
    measured: int  # trials that this call added
    failed: int  # trials of the session that are not correct
    confirmed: int  # trials that were measured again at the end
    shares: Mapping[str, float]

    @property
    def seconds_per_trial(self) -> float | None:
        """Average cost of a trial of this call, all included; None when it had none."""
        return sum(self.shares.values()) / self.measured if self.measured else None


def tune(
    workload: Workload,
    target: Target,
    *,
    history: History,
    measurer: Measuring,
    trials: int,
    tuner: str = "model",
    seed: int = 0,
    on_trial: Callable[[Trial], None] | None = None,
    template: Template | None = None,
    prior: Prior | None = None,
    pins: Mapping[str, object] = MappingProxyType({}),
    settings: Settings = Settings(),
) -> Result:
    """Search for a fast schedule of ``workload`` on ``target`` until the session has ``trials`` trials.

    The trials that ``history`` already has count and are learned from, not measured again. The first candidate is
    the default schedule, and the template's rivals of it come next, unless ``settings`` leave them to the search.
    ``prior`` is what other workloads teach about this one; only the tuner "model" asks it. ``pins`` are values of
    knobs, or their texts: all candidates have these; if the default and its rivals do not, the first is the one most
    like the default.
    No schedule is measured twice. The session ends early when the space is used up. At the end the best few are
    measured again, if there was a new trial. A KeyboardInterrupt leaves the history complete up to the last finished
    trial.

    Raises:
        TunedbError: ``tuner`` is unknown, or ``seed`` is negative.
        KnobError: ``pins`` names a knob or a value that there is not.
        ScheduleError: no candidate is legal with these ``pins``, or the history belongs to another template or another
            version of it.
        MeasureError: the measuring process cannot be kept alive.
    """
    clock = _Clock()
    # Threads of a small product of matrices cost more than they bring, and while they wait for the next one they turn
    # on the cores that kernels are timed on.
    with threadpool_limits(1, user_api="blas"):
        with clock.part("choose"):
            template = template or template_for(workload, target)
            session = list(history.trials())
            search = _Search(workload, target, template, tuner, seed, prior, pins, settings, session)
        known, confirmed = len(session), 0
        while len(session) < trials:
            with clock.part("choose"):
                choice = search.next(session[-1].sequence + 1 if session else 0)
            if choice is None:
                break
            index, candidate = choice
            trial = _measure(candidate, measurer, _best(session), clock)
            with clock.part("store"):
                history.add(trial)
            session.append(trial)
            with clock.part("choose"):
                search.learn(index, trial)
            if on_trial is not None:
                on_trial(trial)
        if len(session) > known:
            with clock.part("confirm"):
                confirmed = _confirm(session, history, measurer, settings)
    return Result(
        trials=tuple(session),
        best=_best(session),
        default=session[0] if session and settings.starts else None,
        measured=len(session) - known,
        failed=sum(trial.status is not Status.CORRECT for trial in session),
        confirmed=confirmed,
        shares=clock.shares(),
    )


def _measure(trial: Trial, measurer: Measuring, best: Trial | None, clock: "_Clock") -> Trial:
    """``trial`` with what came of it; what cannot be as fast as ``best`` may be cut short."""
    try:
        with clock.part("build"):
            program = build(trial.workload, trial.schedule, trial.target)
    except ScheduleError as problem:
        return replace(trial, status=Status.CONSTRAINTS, message=str(problem))
    except CompileError as problem:
        return replace(trial, status=Status.COMPILE, message=str(problem))
    with clock.part("measure"):
        measured = measurer.measure(trial.workload, program, best.seconds if best else None)
    clock.move("measure", "compile", measured.compile_seconds or 0.0)
    return replace(
        trial,
        status=measured.status,
        times=measured.times,
        error=measured.error,
        message=measured.message,
        compile_seconds=measured.compile_seconds,
        run_seconds=measured.run_seconds,
    )


def _confirm(session: list[Trial], history: History, measurer: Measuring, settings: Settings) -> int:
    """Measure the best few and the default again, interleaved, until the best is one of them; how many got new repeats.

    The lowest of many noisy medians is low by luck as well as by merit (the winner's curse). Whoever leads by luck
    falls behind when it is measured again, and then those who lead now have to prove themselves.
    """
    asked: set[int] = set()
    confirmed = 0
    while (ranking := _ranking(session)) and ranking[0].sequence not in asked:
        # The default schedule is what the best one is compared with, so it is measured with it.
        default = [
            trial
            for trial in session[: int(settings.starts)]
            if trial.seconds is not None and trial not in ranking[: settings.confirm]
        ]
        chosen = [trial for trial in (*ranking[: settings.confirm], *default) if trial.sequence not in asked]
        programs = [build(trial.workload, trial.schedule, trial.target) for trial in chosen]
        repeats = measurer.confirm(chosen[0].workload, programs, settings.rounds)
        asked.update(trial.sequence for trial in chosen)
        for trial, times in zip(chosen, repeats, strict=True):
            if times:
                history.extend_times(trial.sequence, times)
                session[session.index(trial)] = replace(trial, times=(*trial.times, *times))
                confirmed += 1
    return confirmed


def _ranking(session: Sequence[Trial]) -> list[Trial]:
    """The correct trials, fastest first."""
    timed = [(trial.seconds, trial.sequence, trial) for trial in session if trial.seconds is not None]
    return [trial for _, _, trial in sorted(timed, key=lambda entry: entry[:2])]


def _best(session: Sequence[Trial]) -> Trial | None:
    return next(iter(_ranking(session)), None)


class _Search:
    """The space, the tuner, and the schedules that were already tried."""

    def __init__(
        self,
        workload: Workload,
        target: Target,
        template: Template,
        tuner: str,
        seed: int,
        prior: Prior | None,
        pins: Mapping[str, object],
        settings: Settings,
        session: Sequence[Trial],
    ) -> None:
        self.workload, self.target, self.template = workload, target, template
        self.space = template.space(workload, target).pinned(pins)
        if seed < 0:
            raise TunedbError(f"the seed is {seed}: it has to be zero or more")
        # A session that goes on draws other numbers than it drew before it stopped, and the same ones each time.
        rng = np.random.default_rng([seed, len(session)])
        candidates = Candidates(self.space, lambda columns: template.illegal(workload, target, columns))
        self.tuner = make_tuner(tuner, template, workload, target, candidates, rng, seed, prior, settings.search)
        self.scores: dict[str, float] = {}
        algorithms = next((knob.values for knob in self.space.knobs if knob.name == "algorithm"), ("direct",))
        self.inexact = Inexact([str(name) for name in algorithms])
        for trial in session:
            if trial.template != template.key:
                raise ScheduleError(
                    f"the history was made with template {trial.template}, not {template.key}: start a new session"
                )
            self.learn(self.space.index(trial.config), trial)
        self.starts: list[int] = []
        if settings.starts:
            known = [template.default(workload, target), *template.rivals(workload, target)]
            starts = _starts(candidates, known, pins)
            self.starts = [start for start in starts if candidates.unseen(np.array([start]))[0]]

    def next(self, sequence: int) -> tuple[int, Trial] | None:
        """A candidate whose schedule was not tried yet and may be exact enough, as a trial of that number, unmeasured.

        None when there are no more.
        """
        while True:
            proposed = [self.starts.pop(0)] if self.starts else self.tuner.propose(1)
            if not proposed:
                return None
            index = proposed[0]
            config = self.space.config(index)
            schedule = self.template.schedule(self.workload, self.target, config)
            known = 0.0 if self.inexact.excludes(schedule) else self.scores.get(schedule.fingerprint)
            if known is None:
                return index, Trial(
                    workload=self.workload,
                    target=self.target,
                    environment=detect(),
                    template=self.template.key,
                    config=config,
                    schedule=schedule,
                    status=Status.CONSTRAINTS,
                    sequence=sequence,
                )
            self.tuner.observe([index], [known])

    def learn(self, index: int, trial: Trial) -> None:
        """Tell the tuner how fast a candidate is."""
        score = trial.gflops or 0.0
        self.scores[trial.schedule.fingerprint] = score
        self.inexact.observe(trial)
        self.tuner.observe([index], [score])


def _starts(candidates: Candidates, configs: Sequence[Mapping[str, Value]], pins: Mapping[str, object]) -> list[int]:
    """The configurations to begin with: those that have the ``pins``, or the legal one most like the first of them.

    Raises ScheduleError when none is legal.
    """
    wanted = {name: value_text(value) for name, value in pins.items()}
    own = [each for each in configs if all(value_text(each[name]) == text for name, text in wanted.items())]
    if own:
        return [candidates.space.index(config) for config in own]
    if (found := nearest_legal(candidates, configs[0])) is None:
        stated = ", ".join(f"{name}={text}" for name, text in wanted.items())
        raise ScheduleError(f"no schedule is legal with {stated}: leave one of these out")
    return [found]


class _Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds = dict.fromkeys(("choose", "build", "compile", "measure", "store", "confirm"), 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def move(self, source: str, to: str, seconds: float) -> None:
        """Count ``seconds`` that were measured as a part of ``source`` for ``to``."""
        self._seconds[source] -= seconds
        self._seconds[to] += seconds

    def shares(self) -> dict[str, float]:
        """Seconds by part; "other" is the rest of the time since the start."""
        spent = sum(self._seconds.values())
        return {**self._seconds, "other": time.perf_counter() - self._start - spent}
