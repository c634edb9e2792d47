"""What fallbacks lose: ``python benchmarks/held_out_fallbacks.py FILE.sqlite [--threads N]`` where FILE was measured.

Each workload that was measured on this machine with N threads is asked about as if it had not been: its trials are
hidden in a copy of the file, here for ``related`` and everywhere for ``nearest``. What is answered, the default
schedule and the best one that is stored are then timed in turn. Printed are the losses, measured and (in brackets)
expected.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import update

import tunedb
from tunedb import Database
from tunedb.errors import NotFoundError
from tunedb.fallback import Fallback, Source
from tunedb.places import Place, places
from tunedb.tables import TARGET, TRIAL
from tuner.build import build
from tuner.measure import Measurer
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload

ROUNDS = 8
RUNGS: tuple[Source, ...] = ("related", "nearest")


@contextmanager
def hidden(db: Database, some: list[Place]) -> Iterator[None]:
    """Nothing at these places is verified meanwhile."""
    with db.write() as connection:
        ids: list[int] = []
        for place in some:
            here = (TRIAL.c.workload_id == place.workload_id, TRIAL.c.target_id == place.target_id, TRIAL.c.verified)
            ids += connection.scalars(update(TRIAL).where(*here).values(verified=False).returning(TRIAL.c.id))
    yield
    with db.write() as connection:
        for trial in ids:
            connection.execute(update(TRIAL).where(TRIAL.c.id == trial).values(verified=True))


def ask(db: Database, workload: Workload, target: Target, source: Source) -> Fallback | None:
    with db.read() as connection:
        same = [place for place in places(connection) if place.workload == workload]
    with hidden(db, [place for place in same if source == "nearest" or place.target == target]):
        try:
            found = db.best(workload, target, source=source)
        except NotFoundError:
            return None
    return found if isinstance(found, Fallback) and found.source == source else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    target = Target.host(arguments.threads)
    measured: dict[str, list[float]] = {}
    expected: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(arguments.file, folder))
        with tunedb.open(f"sqlite:///{copy}") as db, Measurer(target) as measurer:
            with db.read() as connection:
                here = places(connection, TARGET.c.fingerprint == target.fingerprint)
            for place in here:
                workload = place.workload
                found = {source: ask(db, workload, target, source) for source in RUNGS}
                template = template_for(workload, target)
                default = template.schedule(workload, target, template.default(workload, target))
                schedules = {"best": db.best(workload, target).schedule, "default": default}
                schedules |= {source: answer.schedule for source, answer in found.items() if answer}
                programs = [build(workload, schedule, target) for schedule in schedules.values()]
                times = [statistics.median(each) for each in measurer.confirm(workload, programs, ROUNDS)]
                losses = {name: 1 - times[0] / time for name, time in zip(schedules, times, strict=True)}
                line = workload.label
                said = {str(source): answer.expected_loss for source, answer in found.items() if answer}
                for name, loss in losses.items():
                    if name == "best":
                        continue
                    measured.setdefault(name, []).append(loss)
                    line += f"  {name} {loss:.1%}"
                    if (expectation := said.get(name)) is not None:
                        expected.setdefault(name, []).append(expectation)
                        line += f" ({expectation:.1%})"
                print(line, flush=True)
    for name, losses_of in measured.items():
        mean = f" ({statistics.fmean(expected[name]):.1%})" if name in expected else ""
        print(f"mean {name}: {statistics.fmean(losses_of):.1%}{mean} of {len(losses_of)}")


if __name__ == "__main__":
    main()
