"""A workload: an operator with all its arguments, its canonical text key, and the layers that have names.

The grammar of keys is in docs/workloads.md. A key states the sizes and every option that differs from its default,
and the fingerprint covers what the key states; so an option that an operator gains later changes neither.

A workload also says how exact its result has to be: its tolerance. Apart from that it is a *problem*, and what was
measured for one tolerance may be the answer to another one.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.canonical import fingerprint
from tuner.dtype import DTYPES
from tuner.errors import ArgumentError, WorkloadError
from tuner.named import LAYERS
from tuner.operators import OPERATORS
from tuner.operators.operator import Operand, Operator
from tuner.operators.parameter import TOLERANCES, Parameter, Value, tolerance, value_text

__all__ = [
    "Operand",
    "Value",
    "Workload",
    "batch_matmul",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "make",
    "matmul",
    "named",
    "parse",
    "random_arrays",
    "reference",
]

Window = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[int, int, int, int]


@dataclass(frozen=True)
class Workload:
    """What is computed. Built by ``make`` or ``parse``, which validate it.

    ``arguments`` are all parameters of the operator, in the declared order and in normal form: sizes are integers,
    ``k``, ``stride`` and ``dilation`` are (vertical, horizontal), ``pad`` is (top, left, bottom, right).
    ``tolerance`` is the largest error of a right result: max |output - reference| / max |reference|.
    """

    operator: str
    arguments: tuple[tuple[str, Value], ...]
    tolerance: float

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __str__(self) -> str:
        return self.label

    def size(self, name: str) -> int:
        """An argument that is one number."""
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def sizes(self, name: str) -> tuple[int, ...]:
        """An argument that is a tuple of numbers."""
        value = self._values[name]
        assert isinstance(value, tuple), name
        return value

    def text(self, name: str) -> str:
        """An argument that is text."""
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    @cached_property
    def _values(self) -> dict[str, Value]:
        return dict(self.arguments)

    @cached_property
    def _stated(self) -> dict[str, Value]:
        parameters = OPERATORS[self.operator].parameters
        return {p.name: self._values[p.name] for p in parameters if p.states(self._values[p.name])}

    @cached_property
    def _stated_tolerance(self) -> dict[str, str]:
        return {} if self.tolerance == _default_tolerance(self._values) else {"tolerance": repr(self.tolerance)}

    @cached_property
    def key(self) -> str:
        """The canonical text, which ``parse`` reads back: ``matmul(m=1024,k=1024,n=1024)``."""
        return f"{self.operator}({_listing({**self._stated, **self._stated_tolerance})})"

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the content, 64 hexadecimal digits, the same on every machine."""
        arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in self._stated.items()}
        return fingerprint({"operator": self.operator, "arguments": {**arguments, **self._stated_tolerance}})

    @cached_property
    def problem(self) -> "Workload":
        """What is computed, apart from how exactly: this workload with the default tolerance."""
        return replace(self, tolerance=_default_tolerance(self._values))

    def within(self, bound: object) -> "Workload":
        """This problem with another tolerance, a number or its text. Raises WorkloadError."""
        return replace(self, tolerance=tolerance(bound))

    @cached_property
    def label(self) -> str:
        """The name of a named layer, with what differs from it (``resnet18.C7(layout=NCHW16c)``); otherwise the key."""
        variant = {
            p.name: p.default
            for p in OPERATORS[self.operator].parameters
            if p.name in _VARIANT and p.default is not None
        }
        name = _names().get((self.operator, tuple(variant.get(name, value) for name, value in self.arguments)))
        if name is None:
            return self.key
        changes = {name: self._values[name] for name in variant if self._values[name] != variant[name]}
        changes.update(self._stated_tolerance)
        return f"{name}({_listing(changes)})" if changes else name

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of one call: two a multiply-add, the epilogue not counted."""
        return OPERATORS[self.operator].flops(self)

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The arrays of a call, in its order; the output is the last."""
        return OPERATORS[self.operator].operands(self)

    @property
    def epilogue(self) -> tuple[str, ...]:
        """The steps of the epilogue in order: some of bias, residual, relu."""
        steps = self._values.get("epilogue", "")
        return tuple(str(steps).split("+")) if steps else ()


def make(operator: str, **arguments: object) -> Workload:
    """A validated workload. Values may be given as numbers, tuples or their text. Raises WorkloadError.

    Every operator takes ``tolerance``; None, or none, is the default of the data type.
    """
    if operator not in OPERATORS:
        raise WorkloadError(f"unknown operator {operator!r}{_near(operator, OPERATORS)}")
    definition = OPERATORS[operator]
    bound = arguments.pop("tolerance", None)
    for name in arguments:
        _parameter(definition, name)
    missing = [p.name for p in definition.parameters if p.default is None and p.name not in arguments]
    if missing:
        raise WorkloadError(f"{operator} needs {', '.join(missing)}; it takes {_signature(definition)}")
    values = tuple((p.name, p.normal(arguments.get(p.name, p.default))) for p in definition.parameters)
    workload = Workload(operator, values, _default_tolerance(dict(values)) if bound is None else tolerance(bound))
    definition.check(workload)
    return workload


def conv2d(
    *,
    n: int = 1,
    ci: int,
    h: int,
    w: int,
    co: int,
    k: Window,
    stride: Window = 1,
    pad: Padding = 0,
    dilation: Window = 1,
    layout: str = "NCHW",
    epilogue: str = "",
    dtype: str = "float32",
    tolerance: float | None = None,
) -> Workload:
    """Convolution of ``n`` images [ci, h, w] with ``co`` kernels. ``pad`` is (top, left, bottom, right) or shorter."""
    return make("conv2d", **locals())


def depthwise_conv2d(
    *,
    n: int = 1,
    c: int,
    h: int,
    w: int,
    k: Window,
    stride: Window = 1,
    pad: Padding = 0,
    dilation: Window = 1,
    layout: str = "NCHW",
    epilogue: str = "",
    dtype: str = "float32",
    tolerance: float | None = None,
) -> Workload:
    """Convolution of each of the ``c`` channels of ``n`` images with a kernel of its own."""
    return make("depthwise_conv2d", **locals())


def dense(
    *, m: int = 1, ci: int, co: int, epilogue: str = "", dtype: str = "float32", tolerance: float | None = None
) -> Workload:
    """data [m, ci] times the transposed constant weight [co, ci]."""
    return make("dense", **locals())


def matmul(*, m: int, k: int, n: int, dtype: str = "float32", tolerance: float | None = None) -> Workload:
    """a [m, k] times b [k, n]."""
    return make("matmul", **locals())


def batch_matmul(*, b: int, m: int, k: int, n: int, dtype: str = "float32", tolerance: float | None = None) -> Workload:
    """``b`` independent products a [m, k] times b [k, n]."""
    return make("batch_matmul", **locals())


def parse(key: str) -> Workload:
    """The workload of a key or of a named layer: ``resnet18.C7``, ``resnet18.C7(layout=NCHW16c)``.

    Raises WorkloadError, with the position of the mistake for a malformed text and near matches for an unknown name.
    """
    return _Reader(key).workload()


def random_arrays(workload: Workload, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Values for every operand but the output: uniform in [-1, 1), and rounded to the operand's dtype."""
    rng = np.random.default_rng(seed)
    inputs = (operand for operand in workload.operands if operand.role != "output")
    return {
        operand.name: (2 * rng.random(operand.shape, dtype=np.float32) - 1).astype(DTYPES[operand.dtype], copy=False)
        for operand in inputs
    }


def reference(workload: Workload, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """The output in float64 and in the workload's layout. Raises ArgumentError for a missing or misshapen array."""
    for operand in workload.operands[:-1]:
        found = arrays[operand.name].shape if operand.name in arrays else None
        if found != operand.shape:
            was = "is missing" if found is None else f"has shape {found}"
            raise ArgumentError(f"{workload.label}: {operand.name} {was}; it must have shape {operand.shape}")
    with np.errstate(all="ignore"):  # infinities and NaN go through as IEEE 754 says; they are no mistake here
        return OPERATORS[workload.operator].reference(workload, arrays)


@cache
def named() -> Mapping[str, Workload]:
    """The layers that have names, by these."""
    return MappingProxyType({name: make(operator, **sizes) for name, (operator, sizes) in LAYERS.items()})


_VARIANT = ("n", "layout", "epilogue", "dtype")  # a layer keeps its name when it runs with another batch, layout ...


@cache
def _layers() -> dict[str, Workload]:
    return {name.lower(): workload for name, workload in named().items()}


@cache
def _names() -> dict[tuple[str, tuple[Value, ...]], str]:
    return {(w.operator, tuple(value for _, value in w.arguments)): name for name, w in named().items()}


def _default_tolerance(values: Mapping[str, Value]) -> float:
    return TOLERANCES[str(values.get("dtype", "float32"))]


def _listing(arguments: Mapping[str, Value]) -> str:
    return ",".join(f"{name}={value_text(value)}" for name, value in arguments.items())


def _signature(definition: Operator) -> str:
    given = (p.name if p.default is None else f"{p.name}={value_text(p.default)}" for p in definition.parameters)
    return ", ".join((*given, "tolerance"))


def _parameter(definition: Operator, name: str) -> Parameter:
    for parameter in definition.parameters:
        if parameter.name == name:
            return parameter
    raise WorkloadError(f"{definition.name} has no argument {name!r}; it takes {_signature(definition)}")


def _near(name: str, known: Mapping[str, object]) -> str:
    """``; did you mean ...?`` with the known names closest to ``name``, or all that there is to choose from."""
    lower = {each.lower(): each for each in known}
    last = [each for each in known if each.lower().rpartition(".")[2] == name.lower()]
    close = last or [lower[each] for each in difflib.get_close_matches(name.lower(), lower, n=4)]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    families = dict.fromkeys(
        f"{family}.*" if dot else each for each in known for family, dot, _ in [each.partition(".")]
    )
    return f"; known are {', '.join(families)}"


class _Reader:
    """Reads a key from left to right and knows where it is."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.position = 0

    def workload(self) -> Workload:
        name, start = self._expect(r"[A-Za-z_][\w.\-]*", "the name of an operator or of a layer")
        layer = _layers().get(name.lower())
        if layer is None and name not in OPERATORS:
            with self._located(start):
                raise WorkloadError(f"unknown workload {name!r}{_near(name, {**OPERATORS, **named()})}")
        definition = OPERATORS[layer.operator if layer else name]
        given = {} if layer and self._rest() == "" else self._arguments(definition)
        if self._rest():
            self._expect(r"\Z", "the end")
        return make(definition.name, **{**(dict(layer.arguments) if layer else {}), **given})

    def _arguments(self, definition: Operator) -> dict[str, Value | float]:
        given: dict[str, Value | float] = {}
        self._expect(r"\(", "'('")
        closed = self._rest().startswith(")")
        if closed:
            self._expect(r"\)", "')'")
        while not closed:
            name, start = self._expect(r"[A-Za-z_]\w*", "the name of an argument")
            with self._located(start):
                normal = tolerance if name == "tolerance" else _parameter(definition, name).normal
                if name in given:
                    raise WorkloadError(f"{name} is given twice")
            self._expect(r"=", f"'=' after {name}")
            value, start = self._expect(r"[^\s,()=]+", f"a value for {name}")
            with self._located(start):
                given[name] = normal(value)
            closed = self._expect(r"[,)]", "',' or ')'")[0] == ")"
        return given

    def _rest(self) -> str:
        return self.key[self.position :].lstrip()

    def _expect(self, pattern: str, wanted: str) -> tuple[str, int]:
        """The text at this place that matches ``pattern``, after any spaces, and its position."""
        self.position = len(self.key) - len(self._rest())
        match = re.compile(pattern, re.ASCII).match(self.key, self.position)
        if match is None:
            found = repr(self.key[self.position :][:20]) if self._rest() else "the end"
            with self._located(self.position):
                raise WorkloadError(f"expected {wanted} but found {found}")
        self.position = match.end()
        return match.group(), match.start()

    @contextmanager
    def _located(self, position: int) -> Iterator[None]:
        """Adds ``position`` to the error of a mistake in the text."""
        try:
            yield
        except WorkloadError as error:
            raise WorkloadError(f"{self.key[:80]!r} at position {position}: {error}", position) from None
