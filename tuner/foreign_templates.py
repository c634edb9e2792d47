"""What the configurations of other tools' templates are: loop nests, written with our expressions and schedules.

Two of AutoTVM's templates for x86, ``conv2d_NCHWc.x86`` and ``depthwise_conv2d_NCHWc.x86``. When these are tuned, data,
weight and output lie in blocks of the channels that the configuration chooses, so each configuration has an expression
of its own; block sizes, like the factors of splits, may be columns with one entry a configuration. The nests are for
features, never for running: nothing here computes what TVM's kernels compute to the last tail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tuner.errors import ScheduleError
from tuner.expression import Axis, Expression, Inside, Stage, Tensor
from tuner.operators.image import output_size
from tuner.schedule import CacheWrite, Extent, Parallel, Reorder, Schedule, Split, Step, Unroll, Vectorize
from tuner.workload import Workload

Column = npt.NDArray[np.int64]
Knobs = Mapping[str, int]

CONV2D = "conv2d_NCHWc.x86"
DEPTHWISE = "depthwise_conv2d_NCHWc.x86"
_NAMES = {f"autotvm:{name}": name for name in (CONV2D, DEPTHWISE)}
TEMPLATES = tuple(_NAMES)
"""Their names, as trials record them, less the version."""
_OPERATORS = {CONV2D: "conv2d", DEPTHWISE: "depthwise_conv2d"}


@dataclass(frozen=True)
class Program:
    """What ``lower`` takes."""

    expression: Expression
    schedule: Schedule


def is_foreign(template: str) -> bool:
    """Whether ``template``, as trials record it, is one of other tools that is known here."""
    return template.rpartition("/")[0] in _NAMES


def knobs_of(config: Any) -> Knobs:
    """The knobs of an AutoTVM configuration; of a split, the innermost factor. Raises ScheduleError for any other."""
    try:
        entity = [(name, value if kind == "ot" else value[-1]) for name, kind, value in config["entity"]]
        if all(isinstance(value, int) and value >= 0 for _, value in entity):
            return {str(name): int(value) for name, value in entity}
    except (TypeError, KeyError, ValueError, IndexError):
        pass
    raise ScheduleError(f"not a configuration of a template that is known here: {config!r:.60}")


def wrong(template: str, workload: Workload, knobs: Knobs) -> str | None:
    """Why ``programs`` has no nest for a configuration, in a few words; None when it has."""
    name = _NAMES[template.rpartition("/")[0]]
    if workload.operator != _OPERATORS[name] or workload.text("layout") != "NCHW":
        return "of another workload than its template is for"
    expected = {"tile_ic", "tile_oc", "tile_ow", "tile_oh" if "tile_oh" in knobs else "unroll_kw"}
    if set(knobs) != expected or any(knobs[name] < 1 for name in expected - {"unroll_kw"}):
        return "of an unknown set of knobs"
    inputs, outputs = _channels(workload)
    return (
        "of blocks that do not divide the channels" if inputs % knobs["tile_ic"] or outputs % knobs["tile_oc"] else None
    )


def program(template: str, workload: Workload, knobs: Mapping[str, Column]) -> Program:
    """The nests of N configurations that agree in ``unroll_kw``, given as columns. They must not be ``wrong``."""
    name = _NAMES[template.rpartition("/")[0]]
    return _conv2d(workload, knobs) if name == CONV2D else _depthwise(workload, knobs)


def _channels(workload: Workload) -> tuple[int, int]:
    if workload.operator == "depthwise_conv2d":
        return workload.size("c"), workload.size("c")
    return workload.size("ci"), workload.size("co")


def _axis(name: str, extent: Extent, reduce: bool = False) -> Axis:
    return Axis(name, cast(int, extent), reduce)  # only arithmetic is done on it, which columns can do as well


def _tensor(name: str, shape: tuple[Extent, ...], role: str) -> Tensor:
    return Tensor(name, cast(tuple[int, ...], shape), role)


def _padded(workload: Workload, block: Extent) -> tuple[tuple[Stage, ...], Tensor, tuple[Step, ...]]:
    """The stage that puts zeros around data in blocks of ``block`` channels, what the convolution reads, its steps."""
    inputs, _ = _channels(workload)
    top, left, bottom, right = workload.sizes("pad")
    height, width = workload.size("h"), workload.size("w")
    blocks = inputs // block
    data = _tensor("data", (workload.size("n"), blocks, height, width, block), "input")
    if not any((top, left, bottom, right)):
        return (), data, ()
    shape = (workload.size("n"), blocks, height + top + bottom, width + left + right, block)
    axes = n, c, y, x, b = tuple(
        _axis(name, extent) for name, extent in zip(("pn", "pc", "py", "px", "pb"), shape, strict=True)
    )
    body = Inside(((y - top, height), (x - left, width)), data[n, c, y - top, x - left, b])
    padded = _tensor("padded", shape, "intermediate")
    steps = (Parallel("pad", ("pn", "pc", "py")), Vectorize("pad", "pb"))
    return (Stage("pad", padded, axes, (), body),), padded, steps


def _conv2d(workload: Workload, knobs: Mapping[str, Column]) -> Program:
    inputs, outputs = _channels(workload)
    block_ci, block_co = knobs["tile_ic"], knobs["tile_oc"]
    (height, width), (kernel_h, kernel_w) = output_size(workload), workload.sizes("k")
    stages, data, steps = _padded(workload, block_ci)
    n, cob, oh, ow = (
        _axis("n", workload.size("n")),
        _axis("cob", outputs // block_co),
        _axis("oh", height),
        _axis("ow", width),
    )
    co, cib, ci = _axis("co", block_co), _axis("cib", inputs // block_ci, True), _axis("ci", block_ci, True)
    kh, kw = _axis("kh", kernel_h, True), _axis("kw", kernel_w, True)
    row, column = _window(workload, oh, ow, kh, kw)
    weight = _tensor(
        "weight", (outputs // block_co, inputs // block_ci, kernel_h, kernel_w, block_ci, block_co), "constant"
    )
    output = _tensor("output", (workload.size("n"), outputs // block_co, height, width, block_co), "output")
    body = data[n, cib, row, column, ci] * weight[cob, cib, kh, kw, ci, co]
    stage = Stage("conv2d", output, (n, cob, oh, ow, co), (cib, ci, kh, kw), body)
    splits: tuple[Step, ...] = (Split("conv2d", "ow", (knobs["tile_ow"],)),)
    if "tile_oh" in knobs:
        splits = (*splits, Split("conv2d", "oh", (knobs["tile_oh"],)))
        order, tasks, unrolled = "n cob oh.0 ow.0 cib ci kh kw oh.1 ow.1 co", "n cob oh.0", "oh.1 ow.1"
    elif knobs["unroll_kw"][0]:
        order, tasks, unrolled = "n cob oh ow.0 cib kh ci kw ow.1 co", "n cob oh", "kw ow.1"
    else:
        order, tasks, unrolled = "n cob oh ow.0 cib kh kw ci ow.1 co", "n cob oh", "ow.1"
    return Program(Expression((*stages, stage)), _blocked("conv2d", splits, order, tasks, unrolled, "co", steps))


def _depthwise(workload: Workload, knobs: Mapping[str, Column]) -> Program:
    """Channels are (outer, data, result, common): a block of data is (data, common), of the output (result, common).

    That is exact where one block size divides the other; elsewhere the numbers of blocks are right, and which
    channels they hold is not.
    """
    channels, _ = _channels(workload)
    block_ci, block_co = knobs["tile_ic"], knobs["tile_oc"]
    common = np.gcd(block_ci, block_co)
    in_data, in_result = block_ci // common, block_co // common
    (height, width), (kernel_h, kernel_w) = output_size(workload), workload.sizes("k")
    stages, data, steps = _padded(workload, block_ci)
    outer = np.maximum(channels // (common * in_data * in_result), 1)
    n, c, d, r, v = (
        _axis(name, extent)
        for name, extent in (("n", workload.size("n")), ("c", outer), ("d", in_data), ("r", in_result), ("v", common))
    )
    oh, ow, kh, kw = _axis("oh", height), _axis("ow", width), _axis("kh", kernel_h, True), _axis("kw", kernel_w, True)
    row, column = _window(workload, oh, ow, kh, kw)
    weight = _tensor("weight", (outer * in_data, kernel_h, kernel_w, block_co), "constant")
    output = _tensor("output", (workload.size("n"), channels // block_co, height, width, block_co), "output")
    read = c.affine * in_result + r.affine, d.affine * common + v.affine  # block of data, channel in it
    written = c.affine * in_data + d.affine, r.affine * common + v.affine
    body = data[n, read[0], row, column, read[1]] * weight[written[0], kh, kw, written[1]]
    place = output[n, written[0], oh, ow, written[1]]
    stage = Stage("depthwise_conv2d", output, (n, c, d, r, oh, ow, v), (kh, kw), body, place=place)
    splits = (Split("depthwise_conv2d", "ow", (knobs["tile_ow"],)),)
    unrolled = "kw ow.1 r" if knobs["unroll_kw"][0] else "ow.1 r"
    order = "n c d oh ow.0 kh kw ow.1 r v"
    return Program(
        Expression((*stages, stage)), _blocked("depthwise_conv2d", splits, order, "n c d oh", unrolled, "v", steps)
    )


def _window(workload: Workload, oh: Axis, ow: Axis, kh: Axis, kw: Axis) -> tuple[Any, Any]:
    (sh, sw), (dh, dw) = workload.sizes("stride"), workload.sizes("dilation")
    return oh * sh + kh * dh, ow * sw + kw * dw


def _blocked(
    stage: str, splits: tuple[Step, ...], order: str, tasks: str, unrolled: str, lanes: str, pad: tuple[Step, ...]
) -> Schedule:
    """Sums for one tile of a row are kept while the loops inside ``ow.0`` run."""
    return Schedule(
        (
            *splits,
            Reorder(stage, tuple(order.split())),
            CacheWrite(stage, "ow.0"),
            Parallel(stage, tuple(tasks.split())),
            Unroll(stage, tuple(unrolled.split())),
            Vectorize(stage, lanes),
            *pad,
        )
    )
