"""Loop nest -> LLVM IR text, with explicit vector types. Nothing in here is about one processor.

The vectors, the unrolling and the order of everything are the schedule's. Left to LLVM are registers, instruction
scheduling and the last steps of address arithmetic. Text is written instead of an object model because it is several
times quicker. Addresses are built as chains of pointers from the outermost loop inwards, each link in the body of the
loop whose counter it uses, so nothing needs to be hoisted afterwards.

A partial last tile ("cut") is written as a second copy of the loop's body with exact bounds; a "shift" tail moves the
start of the last tile back. So a body never tests whether it is inside its axis.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import gcd

from tuner.errors import ScheduleError
from tuner.loopnest import (
    Affine,
    Binary,
    Buffer,
    Constant,
    Expression,
    Kind,
    Load,
    Loop,
    Nest,
    Node,
    Scope,
    Store,
    When,
)

ALIGNMENT = 64  # bytes; of the workspace and of everything the kernel allocates
STATEMENT_LIMIT = 4096  # statements written out; more is never faster and takes seconds to compile


@dataclass
class _Region:
    """A stretch of straight text: a loop body or a branch. ``top`` is placed before ``lines``."""

    top: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    known: dict[tuple[str, str, int], str] = field(default_factory=dict)  # pointers, sums and tests found in ``top``
    loads: dict[str, dict[tuple[str, int, int], "_Value"]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Value:
    """An SSA value; ``lanes`` is 0 for a scalar."""

    name: str
    lanes: int = 0

    @property
    def type(self) -> str:
        return f"<{self.lanes} x float>" if self.lanes else "float"


@dataclass(frozen=True)
class _Scattered:
    """A vector store whose lanes lie ``stride`` elements apart, held back to be joined with its neighbours."""

    buffer: str
    pointer: str
    constant: int
    stride: int
    value: _Value


@dataclass(frozen=True)
class _Counter:
    """Where a loop stands: a known number, or an SSA value found in region ``depth``.

    ``unit`` is 1 when the value counts turns, and the loop's step when it is already a distance along the axis.
    """

    value: int | str
    depth: int
    unit: int = 1


def emit(nest: Nest, arguments: Sequence[str], threads: int) -> tuple[str, int]:
    """The IR of ``@kernel`` and ``@bench``, and the bytes of workspace that they need.

    ``arguments`` are the operands' names in the order of their pointers.
    Raises ScheduleError when the unrolled body is unreasonably long.
    """
    shared = _layout(nest, Scope.WORKSPACE)
    private = _layout(nest, Scope.THREAD)
    shared_bytes = sum(size for _, size in shared)
    private_bytes = sum(size for _, size in private)
    pointers = [*arguments, *(buffer.name for buffer, _ in shared)]
    regions: list[str] = []
    calls: list[str] = []
    for number, chunk in enumerate(_chunks(nest.body)):
        function = _Function(nest, number, pointers, arguments, private, chunk)
        regions.append(function.text(private_bytes, shared_bytes))
        calls.extend(_call(number, function.tasks, pointers, len(arguments), threads))
    loads = _load_pointers(arguments, shared)
    kernel = ["define void @kernel(ptr %args) noinline {", *loads, *calls, "  ret void", "}"]
    tasks = [
        _task(number, tasks, arguments, shared, pointers)
        for number, tasks in enumerate(_task_counts(nest.body))
        if tasks > 1 and threads > 1
    ]
    text = "\n".join([_PRELUDE, *regions, *tasks, "\n".join(kernel), _BENCH])
    return text, shared_bytes + private_bytes * threads


_PRELUDE = """declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
@zeros = private constant [64 x float] zeroinitializer, align 64
"""

_BENCH = """define void @bench(ptr %args, i64 %n) {
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [0, %0], [%next, %loop]
  call void @kernel(ptr %args)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


def _layout(nest: Nest, scope: Scope) -> list[tuple[Buffer, int]]:
    """The buffers of a scope with their sizes in bytes, each rounded up to whole cache lines."""
    return [(b, -(-4 * int(b.size) // ALIGNMENT) * ALIGNMENT) for b in nest.buffers if b.scope is scope]


def _chunks(nodes: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
    """Each node of the kernel is a region of its own: threads meet between them."""
    yield from ((node,) for node in nodes)


def _parallel_loops(chunk: tuple[Node, ...]) -> tuple[list[Loop], tuple[Node, ...]]:
    """The task space at the top of a region, and what one task does."""
    loops: list[Loop] = []
    while len(chunk) == 1 and isinstance(chunk[0], Loop) and chunk[0].kind is Kind.PARALLEL:
        loops.append(chunk[0])
        chunk = chunk[0].body
    return loops, chunk


def _task_counts(nodes: tuple[Node, ...]) -> Iterator[int]:
    for chunk in _chunks(nodes):
        count = 1
        for loop in _parallel_loops(chunk)[0]:
            count *= int(loop.extent)
        yield count


def _identifier(name: str) -> str:
    return f'%"{name}"'


def _load_pointers(arguments: Sequence[str], shared: Sequence[tuple[Buffer, int]]) -> list[str]:
    lines = []
    for number, name in enumerate([*arguments, "workspace"]):
        lines.append(f"  %slot{number} = getelementptr ptr, ptr %args, i64 {number}")
        lines.append(f"  {_identifier(name)} = load ptr, ptr %slot{number}")
    offset = 0
    for buffer, size in shared:
        lines.append(f"  {_identifier(buffer.name)} = getelementptr i8, ptr %workspace, i64 {offset}")
        offset += size
    return lines


def _region_call(number: int, pointers: Sequence[str], begin: str, end: str, thread: str) -> str:
    values = [*(f"ptr {_identifier(name)}" for name in pointers), "ptr %workspace"]
    return f"  call void @region{number}({', '.join(values)}, i64 {begin}, i64 {end}, i64 {thread})"


def _call(number: int, tasks: int, pointers: Sequence[str], arguments: int, threads: int) -> list[str]:
    if tasks > 1 and threads > 1:
        return [f"  call void @GOMP_parallel(ptr @task{number}, ptr %args, i32 {threads}, i32 0)"]
    return [_region_call(number, pointers, "0", str(tasks), "0")]


def _task(
    number: int, tasks: int, arguments: Sequence[str], shared: Sequence[tuple[Buffer, int]], pointers: Sequence[str]
) -> str:
    """What each thread runs: its even share of the tasks."""
    return "\n".join(
        [
            f"define internal void @task{number}(ptr %args) {{",
            *_load_pointers(arguments, shared),
            "  %thread32 = call i32 @omp_get_thread_num()",
            "  %threads32 = call i32 @omp_get_num_threads()",
            "  %thread = zext i32 %thread32 to i64",
            "  %threads = zext i32 %threads32 to i64",
            f"  %share = mul i64 %thread, {tasks}",
            "  %begin = udiv i64 %share, %threads",
            "  %following = add i64 %thread, 1",
            f"  %share.end = mul i64 %following, {tasks}",
            "  %end = udiv i64 %share.end, %threads",
            _region_call(number, pointers, "%begin", "%end", "%thread"),
            "  ret void",
            "}",
        ]
    )


class _Function:
    """Writes one region of the kernel: ``void @region(pointers..., workspace, begin, end, thread)``."""

    def __init__(
        self,
        nest: Nest,
        number: int,
        pointers: Sequence[str],
        arguments: Sequence[str],
        private: Sequence[tuple[Buffer, int]],
        chunk: tuple[Node, ...],
    ) -> None:
        self.number = number
        self.pointers = pointers
        self.private = private
        self.axes = {name: int(extent) for name, extent in nest.axes}
        self.locals = [buffer for buffer in nest.buffers if buffer.scope is Scope.LOCAL]
        self.unaligned = frozenset(arguments) - {operand.tensor for operand in nest.packed}
        self.regions: list[_Region] = [_Region()]
        self.block = "entry"
        self.count = 0
        self.statements = 0
        self.counters: dict[str, _Counter] = {}
        self.extents: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.vector: tuple[str, int] | None = None  # the vectorized loop and its lanes here
        self.scattered: list[_Scattered] = []
        self.declared: set[str] = set()
        loops, body = _parallel_loops(chunk)
        self.tasks = 1
        for loop in loops:
            self.tasks *= int(loop.extent)
        self._tasks(loops, body)

    def text(self, private_bytes: int, shared_bytes: int) -> str:
        """The finished function and the declarations it needs."""
        parameters = [f"ptr noalias {_identifier(name)}" for name in self.pointers]
        head = [
            f"define internal void @region{self.number}({', '.join(parameters)}, ptr %workspace, "
            "i64 %begin, i64 %end, i64 %thread) {",
            "entry:",
        ]
        for buffer in self.locals:
            head.append(f"  {_identifier(buffer.name)} = alloca [{buffer.size} x float], align {ALIGNMENT}")
        if self.private:
            head.append(f"  %thread.offset = mul i64 %thread, {private_bytes}")
            head.append(f"  %private = getelementptr i8, ptr %workspace, i64 {shared_bytes}")
            head.append("  %own = getelementptr i8, ptr %private, i64 %thread.offset")
        offset = 0
        for buffer, size in self.private:
            head.append(f"  {_identifier(buffer.name)} = getelementptr i8, ptr %own, i64 {offset}")
            offset += size
        self._flush()
        (region,) = self.regions
        return "\n".join([*sorted(self.declared), *head, *region.top, *region.lines, "  ret void", "}"])

    # Control flow ------------------------------------------------------------------------------------------------

    def _fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _line(self, text: str) -> None:
        self.regions[-1].lines.append("  " + text)

    def _label(self, label: str) -> None:
        self.regions[-1].lines.append(f"{label}:")
        self.block = label

    @contextmanager
    def _region(self) -> Iterator[_Region]:
        """Text that is written apart and put in place when it is complete."""
        region = _Region()
        self.regions.append(region)
        yield region
        self._flush()
        self.regions.pop()
        self.regions[-1].lines += region.top + region.lines
        self.regions[-1].loads.clear()

    def _tasks(self, loops: list[Loop], body: tuple[Node, ...]) -> None:
        if not loops:
            self._nodes(body)
            return
        with self._turns("%begin", "%end") as task:
            depth = len(self.regions) - 1
            rest = task
            for position, loop in enumerate(reversed(loops)):
                extent = int(loop.extent)
                counter: str | int = rest if position == len(loops) - 1 else 0
                if extent == 1:
                    counter = 0
                elif position < len(loops) - 1:
                    counter = f"%{self._fresh('c')}"
                    self._line(f"{counter} = urem i64 {rest}, {extent}")
                    quotient = f"%{self._fresh('q')}"
                    self._line(f"{quotient} = udiv i64 {rest}, {extent}")
                    rest = quotient
                self.counters[loop.name] = _Counter(counter, depth)
                self.extents[loop.name] = extent
            # The counters must stand before the pointers made of them.
            region = self.regions[-1]
            region.top, region.lines = region.top + region.lines, []
            self._task_body(loops, body)

    def _task_body(self, loops: list[Loop], body: tuple[Node, ...]) -> None:
        """Fix the tile of each parallel loop in turn; a partial last tile gets a branch of its own."""
        if not loops:
            self._nodes(body)
            return
        loop, *inner = loops
        counter = self.counters[loop.name]
        remaining, step = self._limit(loop), int(loop.step)
        full, rest = divmod(remaining, step)
        before = self.limits.get(loop.axis)
        if rest and loop.tail == "shift" and full:
            self._shifted(loop, counter, remaining)
            self.limits[loop.axis] = step
            self._task_body(inner, body)
        elif rest and full and isinstance(counter.value, str):
            condition = f"%{self._fresh('full')}"
            self._line(f"{condition} = icmp ult i64 {counter.value}, {full}")
            for taken, limit in self._branch(condition, step, rest):
                self.limits[loop.axis] = limit
                del taken
                self._task_body(inner, body)
        else:
            self.limits[loop.axis] = step if full else rest
            self._task_body(inner, body)
        self._restore(loop.axis, before)

    def _branch(self, condition: str, first: int, second: int) -> Iterator[tuple[bool, int]]:
        """Write two alternatives: yields once for each, while its text is being collected."""
        self._flush()
        yes, no, end = (self._fresh(stem) for stem in ("then", "else", "end"))
        self._line(f"br i1 {condition}, label %{yes}, label %{no}")
        for taken, label, value in ((True, yes, first), (False, no, second)):
            self._label(label)
            with self._region():
                yield taken, value
            self._line(f"br label %{end}")
        self._label(end)

    @contextmanager
    def _turns(self, begin: str, end: str) -> Iterator[str]:
        """A counting loop from ``begin`` to ``end``; yields the counter's name. Tests before the first turn."""
        self._flush()
        head, body, done = (self._fresh(stem) for stem in ("head", "body", "done"))
        counter, following, more = (f"%{self._fresh(stem)}" for stem in ("i", "next", "more"))
        before = self.block
        self._line(f"br label %{head}")
        self._label(head)
        phi = len(self.regions[-1].lines)
        self._line(f"{more} = icmp slt i64 {counter}, {end}")
        self._line(f"br i1 {more}, label %{body}, label %{done}")
        self._label(body)
        with self._region():
            yield counter
        self._line(f"{following} = add nuw nsw i64 {counter}, 1")
        self._line(f"br label %{head}")
        self.regions[-1].lines.insert(phi, f"  {counter} = phi i64 [{begin}, %{before}], [{following}, %{self.block}]")
        self._label(done)

    @contextmanager
    def _counted(self, turns: int) -> Iterator[str]:
        """A loop of a known number of turns, at least one: the test is at its end."""
        self._flush()
        body, done = self._fresh("body"), self._fresh("done")
        counter, following, more = (f"%{self._fresh(stem)}" for stem in ("i", "next", "more"))
        before = self.block
        self._line(f"br label %{body}")
        self._label(body)
        phi = len(self.regions[-1].lines)
        with self._region():
            yield counter
        self._line(f"{following} = add nuw nsw i64 {counter}, 1")
        self._line(f"{more} = icmp ult i64 {following}, {turns}")
        self._line(f"br i1 {more}, label %{body}, label %{done}")
        self.regions[-1].lines.insert(phi, f"  {counter} = phi i64 [0, %{before}], [{following}, %{self.block}]")
        self._label(done)

    # Nodes -------------------------------------------------------------------------------------------------------

    def _nodes(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                self._loop(node)
            elif isinstance(node, When):
                self._when(node)
            else:
                self._store(node)

    def _limit(self, loop: Loop) -> int:
        """How far the axis goes on from where the enclosing loops stand."""
        return self.limits.get(loop.axis, self.axes[loop.axis])

    def _restore(self, axis: str, before: int | None) -> None:
        if before is None:
            self.limits.pop(axis, None)
        else:
            self.limits[axis] = before

    def _loop(self, loop: Loop) -> None:
        remaining, step = self._limit(loop), int(loop.step)
        before = self.limits.get(loop.axis)
        full, rest = divmod(remaining, step)
        self.extents[loop.name] = full + bool(rest)
        if loop.kind is Kind.VECTORIZED:
            self.vector = (loop.name, remaining)
            self._nodes(loop.body)
            self.vector = None
            return
        self.limits[loop.axis] = step
        shifted = bool(rest) and loop.tail == "shift" and full > 0
        turns = full + shifted
        if loop.kind is Kind.UNROLLED or turns == 1:
            for turn in range(turns):
                self._turn(loop, _Counter(turn, 0), remaining if shifted else None)
        elif turns:
            with self._counted(turns) as counter:
                self._turn(loop, _Counter(counter, len(self.regions) - 1), remaining if shifted else None)
        if rest and not shifted:
            self.limits[loop.axis] = rest
            self._turn(loop, _Counter(full, 0), None)
        self._restore(loop.axis, before)

    def _turn(self, loop: Loop, counter: _Counter, shift_within: int | None) -> None:
        self.counters[loop.name] = counter
        if shift_within is not None:
            self._shifted(loop, counter, shift_within)
        self._nodes(loop.body)

    def _shifted(self, loop: Loop, counter: _Counter, remaining: int) -> None:
        """Count along the axis, and let the last tile begin where it just fits."""
        step, last = int(loop.step), remaining - int(loop.step)
        if isinstance(counter.value, int):
            self.counters[loop.name] = _Counter(min(counter.value * step, last), counter.depth, step)
            return
        start, fits, value = (f"%{self._fresh(stem)}" for stem in ("start", "fits", "at"))
        top = self.regions[counter.depth].top
        top.append(f"  {start} = mul nuw nsw i64 {counter.value}, {step}")
        top.append(f"  {fits} = icmp ult i64 {start}, {last}")
        top.append(f"  {value} = select i1 {fits}, i64 {start}, i64 {last}")
        self.counters[loop.name] = _Counter(value, counter.depth, step)

    def _when(self, node: When) -> None:
        conditions: list[str] = []
        for name in node.loops:
            turn = 0 if node.at == "first" else self.extents[name] - 1
            value = self.counters[name].value
            if isinstance(value, int):
                if value != turn:
                    self._nodes(node.otherwise)
                    return
            else:
                conditions.append(f"%{self._fresh('is')}")
                self._line(f"{conditions[-1]} = icmp eq i64 {value}, {turn}")
        if not conditions:
            self._nodes(node.then)
            return
        condition = self._all(conditions, "i1")
        for taken, _ in self._branch(condition, 0, 0):
            self._nodes(node.then if taken else node.otherwise)

    def _all(self, conditions: Sequence[str], type_: str) -> str:
        result = conditions[0]
        for other in conditions[1:]:
            both = f"%{self._fresh('and')}"
            self._line(f"{both} = and {type_} {result}, {other}")
            result = both
        return result

    # Statements and values ---------------------------------------------------------------------------------------

    def _store(self, store: Store) -> None:
        self.statements += 1
        if self.statements > STATEMENT_LIMIT:
            raise ScheduleError(f"more than {STATEMENT_LIMIT} statements are unrolled: unroll less or use smaller tiles")
        if store.accumulate:
            old = self._load(Load(store.buffer, store.index))
            value = self._accumulated(old, store.value)
        else:
            value = self._evaluate(store.value)
        stride = self._stride(store.index)
        lanes = self.vector[1] if self.vector and stride else 0
        if lanes and not value.lanes:
            value = self._splat(value, lanes)
        pointer, constant = self._pointer(store.buffer, store.index)
        if not lanes or stride == 1:
            address = self._address(pointer, constant)
            align = self._alignment(store.buffer, store.index)
            self._line(f"store {value.type} {value.name}, ptr {address}, align {align}")
        else:
            self.scattered.append(_Scattered(store.buffer.name, pointer, constant, stride, value))
        self.regions[-1].loads.pop(store.buffer.name, None)

    def _flush(self) -> None:
        """Write the scattered stores that were held back; those to neighbouring elements as transposed blocks."""
        held, self.scattered = self.scattered, []
        families: dict[tuple[str, int, int], dict[int, _Value]] = {}
        for item in held:
            families.setdefault((item.pointer, item.stride, item.value.lanes), {})[item.constant] = item.value
        for (pointer, stride, lanes), columns in families.items():
            for start, run in _runs(columns, 1 << (lanes.bit_length() - 1)):
                if len(run) > 2 and lanes & (lanes - 1) == 0:
                    self._transposed(pointer, start, stride, run)
                else:
                    for number, value in enumerate(run):
                        self._scatter(pointer, start + number, stride, value)

    def _scatter(self, pointer: str, constant: int, stride: int, value: _Value) -> None:
        for lane in range(value.lanes):
            address = self._address(pointer, constant + lane * stride)
            element = f"%{self._fresh('e')}"
            self._line(f"{element} = extractelement {value.type} {value.name}, i64 {lane}")
            self._line(f"store float {element}, ptr {address}, align 4")

    def _transposed(self, pointer: str, start: int, stride: int, columns: Sequence[_Value]) -> None:
        """Store vectors whose lanes are rows in memory, as rows: ``log2`` rounds of interleaving halves transpose them.

        Seen as one array of ``width * lanes`` elements, each round turns the bits of the element's number by one.
        """
        lanes, width = columns[0].lanes, 1 << (len(columns) - 1).bit_length()
        type_ = f"<{lanes} x float>"
        vectors = [value.name for value in columns] + ["poison"] * (width - len(columns))
        for _ in range(width.bit_length() - 1):
            half, turned = width // 2, list[str]()
            for left, right in zip(vectors[:half], vectors[half:], strict=True):
                for first in (0, lanes // 2):
                    order = ", ".join(f"i32 {first + i // 2 + (i % 2) * lanes}" for i in range(lanes))
                    turned.append(f"%{self._fresh('x')}")
                    self._line(f"{turned[-1]} = shufflevector {type_} {left}, {type_} {right}, <{lanes} x i32> <{order}>")
            vectors = turned
        count = len(columns)
        for row in range(lanes):
            vector, first = vectors[row * width // lanes], row * width % lanes
            part = f"%{self._fresh('r')}"
            order = ", ".join(f"i32 {first + i}" for i in range(count))
            self._line(f"{part} = shufflevector {type_} {vector}, {type_} poison, <{count} x i32> <{order}>")
            address = self._address(pointer, start + row * stride)
            self._line(f"store <{count} x float> {part}, ptr {address}, align 4")

    def _accumulated(self, old: _Value, value: Expression) -> _Value:
        """``old + value`` with one rounding where the value is a product."""
        if isinstance(value, Binary) and value.operator == "mul":
            left, right = self._evaluate(value.left), self._evaluate(value.right)
            lanes = max(old.lanes, left.lanes, right.lanes)
            left, right, old = (self._widen(item, lanes) for item in (left, right, old))
            suffix = f"v{lanes}f32" if lanes else "f32"
            type_ = old.type
            self.declared.add(f"declare {type_} @llvm.fma.{suffix}({type_}, {type_}, {type_})")
            name = f"%{self._fresh('f')}"
            arguments = ", ".join(f"{type_} {item.name}" for item in (left, right, old))
            self._line(f"{name} = call {type_} @llvm.fma.{suffix}({arguments})")
            return _Value(name, lanes)
        return self._arithmetic("add", old, self._evaluate(value))

    def _evaluate(self, expression: Expression) -> _Value:
        if isinstance(expression, Load):
            return self._load(expression)
        if isinstance(expression, Constant):
            return _Value(_literal(expression.value))
        if isinstance(expression, Binary):
            return self._arithmetic(
                expression.operator, self._evaluate(expression.left), self._evaluate(expression.right)
            )
        return self._within(expression.conditions, expression.value)

    def _arithmetic(self, operator: str, left: _Value, right: _Value) -> _Value:
        lanes = max(left.lanes, right.lanes)
        left, right = self._widen(left, lanes), self._widen(right, lanes)
        name = f"%{self._fresh('v')}"
        if operator == "max":
            # The left side wins where it is not smaller, so a NaN there stays, as in NumPy.
            smaller = f"%{self._fresh('lt')}"
            kind = f"<{lanes} x i1>" if lanes else "i1"
            self._line(f"{smaller} = fcmp olt {left.type} {left.name}, {right.name}")
            self._line(f"{name} = select {kind} {smaller}, {left.type} {right.name}, {left.type} {left.name}")
        else:
            self._line(f"{name} = f{operator} {left.type} {left.name}, {right.name}")
        return _Value(name, lanes)

    def _widen(self, value: _Value, lanes: int) -> _Value:
        return self._splat(value, lanes) if lanes and not value.lanes else value

    def _splat(self, value: _Value, lanes: int) -> _Value:
        if not value.name.startswith("%"):
            return _Value(f"<{', '.join([f'float {value.name}'] * lanes)}>", lanes)
        one, all_ = f"%{self._fresh('b')}", f"%{self._fresh('s')}"
        type_ = f"<{lanes} x float>"
        self._line(f"{one} = insertelement {type_} poison, float {value.name}, i64 0")
        self._line(f"{all_} = shufflevector {type_} {one}, {type_} poison, <{lanes} x i32> zeroinitializer")
        return _Value(all_, lanes)

    def _load(self, load: Load) -> _Value:
        stride = self._stride(load.index)
        lanes = self.vector[1] if self.vector and stride else 0
        if any(item.buffer == load.buffer.name for item in self.scattered):
            self._flush()
        pointer, constant = self._pointer(load.buffer, load.index)
        known = self.regions[-1].loads.setdefault(load.buffer.name, {})
        key = (pointer, constant, lanes * stride)
        if key in known and load.buffer.scope is not Scope.LOCAL:
            return known[key]
        if lanes and stride != 1:
            value = self._gather(pointer, constant, stride, lanes)
        else:
            value = _Value(f"%{self._fresh('l')}", lanes)
            address = self._address(pointer, constant)
            align = self._alignment(load.buffer, load.index)
            self._line(f"{value.name} = load {value.type}, ptr {address}, align {align}")
        known[key] = value
        return value

    def _gather(self, pointer: str, constant: int, stride: int, lanes: int) -> _Value:
        vector = "poison"
        for lane in range(lanes):
            element, following = f"%{self._fresh('e')}", f"%{self._fresh('g')}"
            address = self._address(pointer, constant + lane * stride)
            self._line(f"{element} = load float, ptr {address}, align 4")
            self._line(f"{following} = insertelement <{lanes} x float> {vector}, float {element}, i64 {lane}")
            vector = following
        return _Value(vector, lanes)

    def _within(self, conditions: tuple[tuple[Affine, int], ...], load: Load) -> _Value:
        """A guarded load. Where all lanes agree, the address is turned to a block of zeros; else lanes are masked."""
        if any(self._stride(affine) for affine, _ in conditions):
            return self._masked(conditions, load)
        tests: list[str] = []
        for affine, bound in conditions:
            test = self._inside(affine, bound)
            if isinstance(test, str):
                tests.append(test)
            elif not test:
                return self._widen(_Value(_literal(0.0)), self.vector[1] if self.vector else 0)
        stride = self._stride(load.index)
        if not tests:
            return self._load(load)
        lanes = self.vector[1] if self.vector and stride else 0
        if lanes and stride != 1 or lanes > 64:
            raise ScheduleError("a padded operand can be vectorized only along its last dimension, by up to 64 lanes")
        address = self._address(*self._pointer(load.buffer, load.index))
        safe, value_ = f"%{self._fresh('p')}", _Value(f"%{self._fresh('l')}", lanes)
        self._line(f"{safe} = select i1 {self._all(tests, 'i1')}, ptr {address}, ptr @zeros")
        self._line(f"{value_.name} = load {value_.type}, ptr {safe}, align 4")
        return value_

    def _masked(self, conditions: tuple[tuple[Affine, int], ...], load: Load) -> _Value:
        assert self.vector
        name, lanes = self.vector
        if self._stride(load.index) != 1:
            raise ScheduleError("a padded operand can be vectorized only along its last dimension")
        kind, mask_kind = f"<{lanes} x i64>", f"<{lanes} x i1>"
        tests: list[str] = []
        for affine, bound in conditions:
            step = self._stride(affine)
            start, _ = self._integer(Affine(tuple(t for t in affine.terms if t[0] != name), affine.constant))
            one, all_, sum_, test = (f"%{self._fresh(stem)}" for stem in ("b", "s", "a", "in"))
            offsets = ", ".join(f"i64 {lane * step}" for lane in range(lanes))
            limit = ", ".join([f"i64 {bound}"] * lanes)
            self._line(f"{one} = insertelement {kind} poison, i64 {start}, i64 0")
            self._line(f"{all_} = shufflevector {kind} {one}, {kind} poison, <{lanes} x i32> zeroinitializer")
            self._line(f"{sum_} = add {kind} {all_}, <{offsets}>")
            self._line(f"{test} = icmp ult {kind} {sum_}, <{limit}>")
            tests.append(test)
        address = self._address(*self._pointer(load.buffer, load.index))
        type_, suffix = f"<{lanes} x float>", f"v{lanes}f32.p0"
        self.declared.add(f"declare {type_} @llvm.masked.load.{suffix}(ptr, i32, {mask_kind}, {type_})")
        value = f"%{self._fresh('l')}"
        mask = self._all(tests, mask_kind)
        self._line(
            f"{value} = call {type_} @llvm.masked.load.{suffix}(ptr {address}, i32 4, {mask_kind} {mask}, "
            f"{type_} zeroinitializer)"
        )
        return _Value(value, lanes)

    # Addresses ---------------------------------------------------------------------------------------------------

    def _stride(self, index: Affine) -> int:
        """Distance between neighbouring lanes; 0 when all lanes use the same element."""
        return int(index.coefficient(self.vector[0])) if self.vector else 0

    def _split(self, index: Affine) -> tuple[list[tuple[int, str, int]], int]:
        """The terms that are not known here as (depth, value, factor), outermost first, and the sum of the known."""
        constant = int(index.constant)
        dynamic: list[tuple[int, str, int]] = []
        for name, coefficient in index.terms:
            if self.vector and name == self.vector[0]:
                continue
            counter = self.counters[name]
            factor = int(coefficient) // counter.unit
            if isinstance(counter.value, int):
                constant += counter.value * factor
            elif factor:
                dynamic.append((counter.depth, counter.value, factor))
        dynamic.sort(key=lambda term: term[0])
        return dynamic, constant

    def _pointer(self, buffer: Buffer, index: Affine) -> tuple[str, int]:
        """The pointer to the start that the running loops give, and a constant distance from it in elements."""
        dynamic, constant = self._split(index)
        pointer = _identifier(buffer.name)
        for depth, value, factor in dynamic:
            region = self.regions[depth]
            key = (pointer, value, factor)
            if key not in region.known:
                offset, following = f"%{self._fresh('o')}", f"%{self._fresh('p')}"
                region.top.append(f"  {offset} = mul nsw i64 {value}, {factor}")
                region.top.append(f"  {following} = getelementptr float, ptr {pointer}, i64 {offset}")
                region.known[key] = following
            pointer = region.known[key]
        return pointer, constant

    def _address(self, pointer: str, constant: int) -> str:
        if not constant:
            return pointer
        address = f"%{self._fresh('p')}"
        self._line(f"{address} = getelementptr float, ptr {pointer}, i64 {constant}")
        return address

    def _integer(self, index: Affine) -> tuple[int | str, int]:
        """The value of an affine expression of the running loops, as a number or an SSA value, and its depth."""
        dynamic, constant = self._split(index)
        total: int | str = constant
        deepest = 0
        for depth, value, factor in dynamic:
            region = self.regions[depth]
            key = (f"{total} +", value, factor)
            if key not in region.known:
                term, following = f"%{self._fresh('t')}", f"%{self._fresh('n')}"
                region.top.append(f"  {term} = mul nsw i64 {value}, {factor}")
                region.top.append(f"  {following} = add nsw i64 {total}, {term}")
                region.known[key] = following
            total, deepest = region.known[key], depth
        return total, deepest

    def _inside(self, index: Affine, bound: int) -> bool | str:
        """Whether ``0 <= index < bound``: known, or an SSA value; one unsigned comparison tests both sides."""
        value, depth = self._integer(index)
        if isinstance(value, int):
            return 0 <= value < bound
        region = self.regions[depth]
        key = (f"{value} <", "", bound)
        if key not in region.known:
            region.known[key] = f"%{self._fresh('in')}"
            region.top.append(f"  {region.known[key]} = icmp ult i64 {value}, {bound}")
        return region.known[key]

    def _alignment(self, buffer: Buffer, index: Affine) -> int:
        """What is known of the address: operands that come from outside promise nothing, ours begin at a cache line."""
        if buffer.name in self.unaligned:
            return 4
        common = ALIGNMENT // 4
        dynamic, constant = self._split(index)
        for number in (constant, *(factor for _, _, factor in dynamic)):
            common = gcd(common, number)
        return 4 * common


def _runs(columns: Mapping[int, _Value], longest: int) -> Iterator[tuple[int, list[_Value]]]:
    """Stretches of consecutive keys, cut to at most ``longest``, with their values."""
    run: list[_Value] = []
    for key in sorted(columns):
        if run and (key != start + len(run) or len(run) == longest):
            yield start, run
            run = []
        if not run:
            start = key
        run.append(columns[key])
    if run:
        yield start, run


def _literal(value: float) -> str:
    """A float32 as LLVM writes it: the bits of the double of the same value."""
    (single,) = struct.unpack("<f", struct.pack("<f", value))
    return f"0x{struct.pack('>d', single).hex().upper()}"
