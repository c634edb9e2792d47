"""Tuning with a database behind it: every trial is stored when it is measured, and a stopped session goes on."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from tunedb.database import Database
from tunedb.database import open as open_database
from tunedb.sessions import PINS, SessionArguments
from tuner.space import value_text
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tuner.transfer import Report
    from tuner.tune import Result


def tune(
    workload: Workload,
    *,
    db: Database | None = None,
    trials: int = 64,
    seed: int = 0,
    threads: int | None = None,
    isa: str | None = None,
    tuner: str = "model",
    cold: bool = False,
    pins: Mapping[str, object] = MappingProxyType({}),
    starts: bool = True,
    on_warm: Callable[["Report"], None] | None = None,
    on_start: Callable[[Sequence[Trial]], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> "Result":
    """Search for a fast schedule of ``workload`` on this machine until its session in ``db`` has ``trials`` trials.

    The session is found by workload, target, template, tuner, seed and ``pins``: the same call goes on where an earlier
    one stopped, for whatever reason it stopped, and measures nothing twice. ``db`` defaults to ``tunedb.open()``,
    ``threads`` to one a core, and ``isa`` limits the vectors as in ``Target.host``. ``pins`` are knobs of the template
    and the one value that each may have: ``{"algorithm": "direct"}``. The tuner "model" starts with what all trials in
    ``db`` teach, unless ``cold``; ``on_warm`` is told what that is worth. Without ``starts`` the session does not begin
    with the default schedule and its rivals. ``on_start`` is told the trials that the session has already, ``on_trial``
    each new one after it was stored.

    Raises:
        ScheduleError: no template can tune this workload, or no schedule is legal with these ``pins``.
        KnobError: ``pins`` names a knob or a value that there is not.
        TargetError: this machine has no such ``isa``.
        DatabaseError: a trial could not be stored; those before it are.
        SessionBusyError: another process is at this session.
        MeasureError: the measuring process cannot be kept alive.
        TunedbError: there is no such tuner, or the seed is negative.
    """
    # XGBoost takes long to import, and who only looks a schedule up does not need it.
    from tunedb.prior import warm_start
    from tuner.measure import Measurer
    from tuner.templates import template_for
    from tuner.tune import Settings
    from tuner.tune import tune as search

    target = Target.host(threads, isa)
    template = template_for(workload, target)
    space = template.space(workload, target).pinned(pins)
    settings: dict[str, bool | int | float | str | None] = {}
    if pins:
        settings[PINS] = " ".join(f"{name}={value_text(pins[name])}" for name in sorted(pins))
    if not starts:
        settings["starts"] = False
    arguments = SessionArguments(workload, target, template.key, tuner, seed, settings)
    with contextlib.ExitStack() as stack:
        database = db or stack.enter_context(open_database())
        prior = None
        if tuner == "model" and cold:
            arguments = replace(arguments, settings={**settings, "start": "cold"})
        elif tuner == "model":
            start = warm_start(database, template, space, arguments)
            arguments, prior = replace(arguments, settings=start.identity), start.prior
            if on_warm is not None:
                on_warm(start.report)
        session = stack.enter_context(database.session(arguments))
        measurer = stack.enter_context(Measurer(target))
        if on_start is not None:
            on_start(session.trials())
        return search(
            workload,
            target,
            history=session,
            measurer=measurer,
            trials=trials,
            tuner=tuner,
            seed=seed,
            on_trial=on_trial,
            template=template,
            prior=prior,
            pins=pins,
            settings=Settings(starts=starts),
        )
