"""Loop nest -> LLVM IR text, with explicit vector types. Nothing in here is about one processor.

The vectors, the unrolling and the order of everything are the schedule's. Left to LLVM are registers, instruction
scheduling and the last steps of address arithmetic. Text is written instead of an object model because it is several
times quicker. Addresses are built as chains of pointers from the outermost loop inwards, each link in the body of the
loop whose counter it uses, so nothing needs to be hoisted afterwards.

A partial last tile ("cut") is written as a second copy of the loop's body with exact bounds; a "shift" tail moves the
start of the last tile back. So a body never tests whether it is inside its axis.
"""

from collections.abc import Iterator, Sequence

from tuner.codegen.addresses import ALIGNMENT, Counter
from tuner.codegen.arithmetic import literal
from tuner.codegen.instructions import Instructions
from tuner.codegen.matrix import MatrixWriter
from tuner.codegen.text import identifier
from tuner.dtype import item_bytes
from tuner.errors import ScheduleError
from tuner.loopnest import (
    Affine,
    Buffer,
    Condition,
    Kind,
    Loop,
    Nest,
    Node,
    Scope,
    Store,
    When,
    guarded,
    shared_guards,
)


def emit(nest: Nest, arguments: Sequence[str], threads: int, instructions: Instructions) -> tuple[str, int]:
    """The IR of ``@kernel`` and ``@bench``, and the bytes of workspace that they need.

    ``arguments`` are the operands' names in the order of their pointers.
    Raises ScheduleError when the unrolled body is unreasonably long, or something cannot be vectorized.
    """
    shared = _layout(nest, Scope.WORKSPACE)
    private = _layout(nest, Scope.THREAD)
    shared_bytes = sum(size for _, size in shared)
    private_bytes = sum(size for _, size in private)
    pointers = [*arguments, *(buffer.name for buffer, _ in shared)]
    regions: list[str] = []
    declared: set[str] = set()
    calls: list[str] = []
    for number, chunk in enumerate(_chunks(nest.body)):
        function = _Function(nest, number, pointers, arguments, private, chunk, instructions)
        regions.append(function.text(private_bytes, shared_bytes))
        declared |= function.declared
        calls.extend(_call(number, function.tasks, pointers, len(arguments), threads))
    loads = _load_pointers(arguments, shared)
    kernel = ["define void @kernel(ptr %args) noinline {", *loads, *calls, "  ret void", "}"]
    tasks = [
        _task(number, tasks, arguments, shared, pointers)
        for number, tasks in enumerate(_task_counts(nest.body))
        if tasks > 1 and threads > 1
    ]
    tables = [_table(buffer) for buffer in nest.buffers if buffer.scope is Scope.TABLE]
    text = "\n".join([_PRELUDE, *sorted(declared), *tables, *regions, *tasks, "\n".join(kernel), _BENCH])
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


def _table(buffer: Buffer) -> str:
    values = ", ".join(f"float {literal(value)}" for value in buffer.values)
    return f'@"{buffer.name}" = private constant [{len(buffer.values)} x float] [{values}], align {ALIGNMENT}'


def _layout(nest: Nest, scope: Scope) -> list[tuple[Buffer, int]]:
    """The buffers of a scope with their sizes in bytes, each rounded up to whole cache lines."""
    sizes = ((b, item_bytes(b.dtype) * int(b.size)) for b in nest.buffers if b.scope is scope)
    return [(buffer, -(-size // ALIGNMENT) * ALIGNMENT) for buffer, size in sizes]


def _chunks(nodes: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
    """The regions of the kernel: each parallel loop at its top, and each stretch of other nodes between them."""
    rest: tuple[Node, ...] = ()
    for node in nodes:
        if isinstance(node, Loop) and node.kind is Kind.PARALLEL:
            if rest:
                yield rest
                rest = ()
            yield (node,)
        else:
            rest = (*rest, node)
    if rest:
        yield rest


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


def _load_pointers(arguments: Sequence[str], shared: Sequence[tuple[Buffer, int]]) -> list[str]:
    lines = []
    for number, name in enumerate([*arguments, "workspace"]):
        lines.append(f"  %slot{number} = getelementptr ptr, ptr %args, i64 {number}")
        lines.append(f"  {identifier(name)} = load ptr, ptr %slot{number}")
    offset = 0
    for buffer, size in shared:
        lines.append(f"  {identifier(buffer.name)} = getelementptr i8, ptr %workspace, i64 {offset}")
        offset += size
    return lines


def _region_call(number: int, pointers: Sequence[str], begin: str, end: str, thread: str) -> str:
    values = [*(f"ptr {identifier(name)}" for name in pointers), "ptr %workspace"]
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


class _Function(MatrixWriter):
    """Writes one region of the kernel: ``void @region(pointers..., workspace, begin, end, thread)``."""

    def __init__(
        self,
        nest: Nest,
        number: int,
        pointers: Sequence[str],
        arguments: Sequence[str],
        private: Sequence[tuple[Buffer, int]],
        chunk: tuple[Node, ...],
        instructions: Instructions,
    ) -> None:
        super().__init__(frozenset(arguments) - {operand.tensor for operand in nest.packed}, instructions)
        self.number = number
        self.pointers = pointers
        self.private = private
        self.axes = {name: int(extent) for name, extent in nest.axes}
        self.locals = [buffer for buffer in nest.buffers if buffer.scope is Scope.LOCAL]
        self.tables = [buffer for buffer in nest.buffers if buffer.scope is Scope.TABLE]
        self.extents: dict[str, int] = {}
        self.guards: dict[int, tuple[dict[Condition, tuple[Loop, ...]], list[Condition]]] = {}
        self.limits: dict[str, int] = {}
        loops, body = _parallel_loops(chunk)
        self.tasks = 1
        for loop in loops:
            self.tasks *= int(loop.extent)
        self._tasks(loops, body)

    def text(self, private_bytes: int, shared_bytes: int) -> str:
        """The finished function; what it calls is in ``declared``."""
        parameters = [f"ptr noalias {identifier(name)}" for name in self.pointers]
        head = [
            f"define internal void @region{self.number}({', '.join(parameters)}, ptr %workspace, "
            "i64 %begin, i64 %end, i64 %thread) {",
            "entry:",
        ]
        head += [f"  {identifier(b.name)} = alloca [{b.size} x float], align {ALIGNMENT}" for b in self.locals]
        head += [f'  {identifier(b.name)} = getelementptr float, ptr @"{b.name}", i64 0' for b in self.tables]
        head += self._configuration()
        if self.private:
            head.append(f"  %thread.offset = mul i64 %thread, {private_bytes}")
            head.append(f"  %private = getelementptr i8, ptr %workspace, i64 {shared_bytes}")
            head.append("  %own = getelementptr i8, ptr %private, i64 %thread.offset")
        offset = 0
        for buffer, size in self.private:
            head.append(f"  {identifier(buffer.name)} = getelementptr i8, ptr %own, i64 {offset}")
            offset += size
        self._close()
        (region,) = self.regions
        return "\n".join([*head, *region.top, *region.lines, *self._release(), "  ret void", "}"])

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
                self.counters[loop.name] = Counter(counter, depth)
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
            self.counters[loop.name] = self._shifted(loop, counter, remaining)
            self.limits[loop.axis] = step
            self._task_body(inner, body)
            self.counters[loop.name] = counter
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

    def _nodes(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                self._loop(node)
            elif isinstance(node, When):
                self._when(node)
            else:
                self._guarded_store(node)

    def _limit(self, loop: Loop) -> int:
        """How far the axis goes on from where the enclosing loops stand."""
        return self.limits.get(loop.axis, self.axes[loop.axis])

    def _turns_left(self, loop: Loop) -> float:
        return self._limit(loop) / int(loop.step)

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
        if loop.kind is Kind.MATRIX and self.instructions.tiles and self._in_tiles(loop):
            return
        if loop.kind is Kind.DOT:
            self.counters[loop.name] = Counter(0, 0)
            self.pair = (loop.name, remaining)
            self._nodes(loop.body)
            self.pair = None
            return
        self.limits[loop.axis] = step
        shifted = bool(rest) and loop.tail == "shift" and full > 0
        turns = full + shifted
        within = remaining if shifted else None
        if loop.kind in (Kind.UNROLLED, Kind.MATRIX) or turns == 1:
            for turn in range(turns):
                if turn and loop.fenced:
                    self._fence()
                self._turn(loop, Counter(turn, 0), within)
        elif turns:
            self._serial(loop, turns, within)
        if rest and not shifted:
            self.limits[loop.axis] = rest
            self._turn(loop, Counter(full, 0), None)
        self._restore(loop.axis, before)

    def _serial(self, loop: Loop, turns: int, shift_within: int | None) -> None:
        """A loop in the code; turns in which a tile decides its guards one by one are written out around it."""
        begin, end, guards = self._interior(loop, turns, shift_within)
        for turn in range(begin):
            self._turn(loop, Counter(turn, 0), shift_within)
        outside = self.settled
        self.settled = outside | guards
        if end - begin == 1:
            self._turn(loop, Counter(begin, 0), shift_within)
        elif end > begin:
            with self._counted(begin, end) as counter:
                self._turn(loop, Counter(counter, len(self.regions) - 1), shift_within)
        self.settled = outside
        for turn in range(end, turns):
            self._turn(loop, Counter(turn, 0), shift_within)

    def _turn(self, loop: Loop, counter: Counter, shift_within: int | None) -> None:
        self.counters[loop.name] = counter if shift_within is None else self._shifted(loop, counter, shift_within)
        outside, tests = self.settled, list[str]()
        inner, shared = self._guards(loop)
        for guard in shared:
            if guard in self.settled:
                continue
            extents = {inside.name: int(inside.extent) for inside in inner[guard]}
            if any(extents.get(name, 1) > 1 for name, _ in guard[0].terms):
                continue  # loops further inside decide it too
            known = Affine(tuple(term for term in guard[0].terms if term[0] not in extents), guard[0].constant)
            test = self._inside(known, guard[1])
            if test is False:
                self.settled = outside
                return
            tests += [test] if isinstance(test, str) else []
            self.settled = self.settled | {guard}
        if tests:
            for taken, _ in self._branch(self._all(tests, "i1"), 0, 0):
                if taken:
                    self._nodes(loop.body)
        else:
            self._nodes(loop.body)
        self.settled = outside

    # Guards ------------------------------------------------------------------------------------------------------

    def _guarded_store(self, store: Store) -> None:
        """A store whose guards are all known, tested, or known to fail."""
        tests: list[str] = []
        border: list[Condition] = []
        for guard in store.guards:
            if guard in self.settled:
                continue
            if self.pair and guard[0].coefficient(self.pair[0]):
                raise ScheduleError(f"what has conditions along {self.pair[0]} cannot be a dot product over it")
            if self._stride(guard[0]):
                if not store.accumulate:
                    raise ScheduleError(
                        "what is stored under conditions cannot be vectorized where lanes differ in them"
                    )
                border.append(guard)
                continue
            test = self._inside(*guard)
            if test is False:
                return
            tests += [test] if isinstance(test, str) else []
        if border:
            self._check_mask()
        self.border = tuple(border)
        if not tests:
            self._store(store)
        else:
            for taken, _ in self._branch(self._all(tests, "i1"), 0, 0):
                if taken:
                    self._store(store)
        self.border = ()

    def _guards(self, loop: Loop) -> tuple[dict[Condition, tuple[Loop, ...]], list[Condition]]:
        """The guards inside ``loop`` with the loops around them, and those that all of its stores share."""
        key = id(loop)  # the nest outlives this function, and hashing a tree is slow
        if key not in self.guards:
            self.guards[key] = guarded(loop.body), sorted(shared_guards(loop.body), key=str)
        return self.guards[key]

    def _interior(self, loop: Loop, turns: int, shift_within: int | None) -> tuple[int, int, frozenset[Condition]]:
        """The turns of ``loop``, from begin to end, in which guards hold for all of its body, and those guards.

        Asked for are the guards that only the tile inside this loop can decide, statement by statement: the border of a
        padded row. Others are tested by a branch around a loop further inside.
        """
        begin, end, guards = 0, turns, set[Condition]()
        for guard, path in self._guards(loop)[0].items():
            affine, bound = guard
            inside = {inner.name: int(inner.extent) for inner in path}
            last = next(
                (inner for inner in reversed(path) if inside[inner.name] > 1 and dict(affine.terms).get(inner.name)),
                None,
            )
            own = int(affine.coefficient(loop.name))
            if guard in self.settled or not own or last is None or last.axis != loop.axis:
                continue
            low = high = int(affine.constant)
            for name, coefficient in affine.terms:
                if name in inside:
                    high += int(coefficient) * (inside[name] - 1)
                elif name != loop.name:
                    counter = self.counters[name]
                    if not isinstance(counter.value, int):
                        break
                    low += counter.value * (int(coefficient) // counter.unit)
                    high += counter.value * (int(coefficient) // counter.unit)
            else:
                unit, step = own // int(loop.step), int(loop.step)
                starts = [turn * step for turn in range(turns)]
                if shift_within is not None:
                    starts[-1] = shift_within - step
                whole = [low + s * unit >= 0 and high + s * unit < bound for s in starts]
                while begin < end and not whole[begin]:
                    begin += 1
                while end > begin and not whole[end - 1]:
                    end -= 1
                guards.add(guard)
        return begin, end, frozenset(guards)

    def _shifted(self, loop: Loop, counter: Counter, remaining: int) -> Counter:
        """Count along the axis, and let the last tile begin where it just fits."""
        step, last = int(loop.step), remaining - int(loop.step)
        if isinstance(counter.value, int):
            return Counter(min(counter.value * step, last), counter.depth, step)
        start, fits, value = (f"%{self._fresh(stem)}" for stem in ("start", "fits", "at"))
        top = self.regions[counter.depth].top
        top.append(f"  {start} = mul nuw nsw i64 {counter.value}, {step}")
        top.append(f"  {fits} = icmp ult i64 {start}, {last}")
        top.append(f"  {value} = select i1 {fits}, i64 {start}, i64 {last}")
        return Counter(value, counter.depth, step)

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
