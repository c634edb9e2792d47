"""The invariant features of many configurations of a template, through one lowered nest for each of its sketches.

Knobs whose values are strings or flags choose the structure: their combinations are the sketches. Integer and tuple
knobs are numbers in it. So candidates are grouped by structure, and each group is lowered once, with its numbers as
columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.build import expression_of
from tuner.features.invariant import NAMES, invariant_features
from tuner.lower import lower
from tuner.space import Columns, Flag, Knob, Space
from tuner.target import Target
from tuner.templates import Template
from tuner.workload import Workload


def sketch_features(
    template: Template, workload: Workload, target: Target, space: Space, columns: Columns
) -> npt.NDArray[np.float32]:
    """(N, len(NAMES)) of N legal configurations, given as the columns of ``space``."""
    rows = len(next(iter(columns.values())))
    result = np.empty((rows, len(NAMES)), dtype=np.float32)
    structural = [knob for knob in space.knobs if is_structural(knob)]
    code = np.zeros(rows, dtype=np.int64)
    for knob in structural:
        code = code * len(knob.values) + columns[knob.name]
    order = np.argsort(code, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if len(members):
            result[members] = _group(template, workload, target, space, columns, members)
    return result


def is_structural(knob: Knob) -> bool:
    """Whether the knob chooses among loop structures; else it is a number in one."""
    return isinstance(knob, Flag) or isinstance(knob.values[0], str)


def _group(
    template: Template,
    workload: Workload,
    target: Target,
    space: Space,
    columns: Columns,
    members: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    config: dict[str, Any] = {}
    for knob in space.knobs:
        if is_structural(knob):
            config[knob.name] = knob.values[int(columns[knob.name][members[0]])]
        elif isinstance(knob.values[0], tuple):
            config[knob.name] = tuple(columns[f"{knob.name}.{item}"][members] for item in range(len(knob.values[0])))
        else:
            config[knob.name] = columns[knob.name][members]
    expression = expression_of(workload)
    return invariant_features(lower(expression, template.schedule(workload, target, config)), expression, target)
