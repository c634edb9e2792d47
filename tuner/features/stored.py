"""The invariant features of stored trials, our own and those of other tools: what a model learns from, in one call."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tuner import foreign_templates
from tuner.features.invariant import invariant_features
from tuner.features.sketches import OfNest, Rows, assembled, schedule_features
from tuner.lower import lower
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import Workload


class Example(Protocol):
    """A measured program. Trials are examples, and so are the records of other tools whose templates are known."""

    @property
    def workload(self) -> Workload: ...

    @property
    def target(self) -> Target: ...

    @property
    def template(self) -> str:
        """``NAME/VERSION``: ours, or as an imported record has it (``autotvm:conv2d_NCHWc.x86/0.2``)."""

    @property
    def schedule(self) -> Schedule | Mapping[str, int]:
        """Steps, or the knobs of a foreign template (tuner.foreign_templates.knobs_of)."""

    @property
    def seconds(self) -> float | None: ...


def stored_features(examples: Sequence[Example], of_nest: OfNest = invariant_features) -> Rows:
    """The features of N examples of any workloads, targets and templates; NaN for those that cannot be lowered."""
    groups: dict[tuple[Workload, Target, str], list[int]] = {}
    for number, example in enumerate(examples):
        foreign = "" if isinstance(example.schedule, Schedule) else example.template
        groups.setdefault((example.workload, example.target, foreign), []).append(number)
    parts: list[tuple[npt.NDArray[np.int64], Rows]] = []
    for (workload, target, foreign), members in groups.items():
        schedules = [examples[member].schedule for member in members]
        if foreign:
            knobs = [schedule for schedule in schedules if not isinstance(schedule, Schedule)]
            features = _foreign(foreign, workload, target, knobs, of_nest)
        else:
            steps = [schedule for schedule in schedules if isinstance(schedule, Schedule)]
            features = schedule_features(workload, target, steps, of_nest)
        parts.append((np.array(members), features))
    return assembled(len(examples), parts)


def _foreign(
    template: str, workload: Workload, target: Target, configs: Sequence[Mapping[str, int]], of_nest: OfNest
) -> Rows:
    """Configurations with the same knobs and the same flag are lowered together."""
    groups: dict[tuple[tuple[str, ...], int | None], list[int]] = {}
    for number, knobs in enumerate(configs):
        if foreign_templates.is_foreign(template) and foreign_templates.wrong(template, workload, knobs) is None:
            groups.setdefault((tuple(sorted(knobs)), knobs.get("unroll_kw")), []).append(number)
    parts: list[tuple[npt.NDArray[np.int64], Rows]] = []
    for (names, _), members in groups.items():
        columns = {name: np.array([configs[member][name] for member in members], dtype=np.int64) for name in names}
        program = foreign_templates.program(template, workload, columns)
        found = of_nest(lower(program.expression, program.schedule), program.expression, target, ())
        parts.append((np.array(members), np.broadcast_to(found, (len(members), *found.shape[1:]))))
    return assembled(len(configs), parts)
