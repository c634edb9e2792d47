"""The invariant features of stored trials, our own and those of other tools: what a model learns from, in one call."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tuner import foreign_templates
from tuner.features.invariant import NAMES, invariant_features
from tuner.features.sketches import schedule_features
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


def stored_features(examples: Sequence[Example]) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) of N examples of any workloads, targets and templates; NaN for those that cannot be lowered."""
    result = np.full((len(examples), len(NAMES)), np.nan, dtype=np.float32)
    groups: dict[tuple[Workload, Target, str], list[int]] = {}
    for number, example in enumerate(examples):
        foreign = "" if isinstance(example.schedule, Schedule) else example.template
        groups.setdefault((example.workload, example.target, foreign), []).append(number)
    for (workload, target, foreign), members in groups.items():
        schedules = [examples[member].schedule for member in members]
        if foreign:
            knobs = [schedule for schedule in schedules if not isinstance(schedule, Schedule)]
            result[members] = _foreign(foreign, workload, target, knobs)
        else:
            steps = [schedule for schedule in schedules if isinstance(schedule, Schedule)]
            result[members] = schedule_features(workload, target, steps)
    return result


def _foreign(
    template: str, workload: Workload, target: Target, configs: Sequence[Mapping[str, int]]
) -> npt.NDArray[np.float32]:
    """Configurations with the same knobs and the same flag are lowered together."""
    result = np.full((len(configs), len(NAMES)), np.nan, dtype=np.float32)
    if not foreign_templates.is_foreign(template):
        return result
    groups: dict[tuple[tuple[str, ...], int | None], list[int]] = {}
    for number, knobs in enumerate(configs):
        if foreign_templates.wrong(template, workload, knobs) is None:
            groups.setdefault((tuple(sorted(knobs)), knobs.get("unroll_kw")), []).append(number)
    for (names, _), members in groups.items():
        columns = {name: np.array([configs[member][name] for member in members], dtype=np.int64) for name in names}
        program = foreign_templates.program(template, workload, columns)
        nest = lower(program.expression, program.schedule)
        result[members] = invariant_features(nest, program.expression, target)
    return result
