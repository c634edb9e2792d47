"""Tuning with a database behind it: every trial is stored when it is measured, and a stopped session goes on."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunedb.database import Database
from tunedb.database import open as open_database
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload

if TYPE_CHECKING:
    from tuner.tune import Result


def tune(
    workload: Workload,
    *,
    db: Database | None = None,
    trials: int = 64,
    seed: int = 0,
    threads: int | None = None,
    tuner: str = "model",
    on_trial: Callable[[Trial], None] | None = None,
) -> "Result":
    """Search for a fast schedule of ``workload`` on this machine until its session in ``db`` has ``trials`` trials.

    The session is found by workload, target, tuner and seed: the same call goes on where an earlier one stopped, for
    whatever reason it stopped, and measures nothing twice. ``on_trial`` is told each new trial after it was stored.
    ``db`` defaults to ``tunedb.open()``, ``threads`` to one a core.

    Raises:
        WorkloadError: no template can tune this workload.
        DatabaseError: a trial could not be stored; those before it are.
        SessionBusyError: another process is at this session.
        MeasureError: the measuring process cannot be kept alive.
    """
    # XGBoost takes long to import, and who only looks a schedule up does not need it.
    from tuner.measure import Measurer
    from tuner.tune import tune as search

    if db is None:
        with open_database() as own:
            return tune(
                workload, db=own, trials=trials, seed=seed, threads=threads, tuner=tuner, on_trial=on_trial
            )
    target = Target.host(threads=threads)
    with db.session(workload, target, tuner=tuner, seed=seed) as session, Measurer(target) as measurer:
        return search(
            workload,
            target,
            history=session,
            measurer=measurer,
            trials=trials,
            tuner=tuner,
            seed=seed,
            on_trial=on_trial,
        )
