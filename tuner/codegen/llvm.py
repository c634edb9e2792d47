"""Loop nest -> LLVM IR text, with explicit vector types. Nothing in here is about one processor.

A kernel is a sequence of regions. All threads finish one before the next begins; what is parallel in one are the
outermost loops, as one space of tasks of which each thread has an even share.

The vectors, the unrolling and the order of everything are the schedule's. Left to LLVM are registers, instruction
scheduling and the last steps of address arithmetic. Text is written instead of an object model because it is several
times quicker.
"""

from collections.abc import Iterator, Sequence

from tuner.codegen.addresses import ALIGNMENT, Counter
from tuner.codegen.arithmetic import literal
from tuner.codegen.instructions import Instructions
from tuner.codegen.loops import LoopWriter
from tuner.codegen.text import identifier
from tuner.dtype import item_bytes
from tuner.loopnest import Buffer, Kind, Loop, Nest, Node, Scope


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
    regions = [
        _Region(nest, number, pointers, arguments, private, chunk, instructions)
        for number, chunk in enumerate(_chunks(nest.body))
    ]
    functions = [region.text(private_bytes, shared_bytes) for region in regions]
    declared = {line for region in regions for line in region.declared}
    shares = [region for region in regions if region.tasks > 1 and threads > 1]
    calls = [
        f"  call void @GOMP_parallel(ptr @task{region.number}, ptr %args, i32 {threads}, i32 0)"
        if region in shares
        else region.call("0", str(region.tasks), "0")
        for region in regions
    ]
    loads = _load_pointers(arguments, shared)
    kernel = ["define void @kernel(ptr %args) noinline {", *loads, *calls, "  ret void", "}"]
    tasks = [_task(region, arguments, shared) for region in shares]
    tables = [_table(buffer) for buffer in nest.buffers if buffer.scope is Scope.TABLE]
    text = "\n".join([_PRELUDE, *sorted(declared), *tables, *functions, *tasks, "\n".join(kernel), _BENCH])
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


class _Region(LoopWriter):
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
        unaligned = frozenset(arguments) - {operand.tensor for operand in nest.packed}
        super().__init__({name: int(extent) for name, extent in nest.axes}, unaligned, instructions)
        self.number = number
        self.pointers = pointers
        self.private = private
        self.locals = [buffer for buffer in nest.buffers if buffer.scope is Scope.LOCAL]
        self.tables = [buffer for buffer in nest.buffers if buffer.scope is Scope.TABLE]
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
        (stretch,) = self.stretches
        return "\n".join([*head, *stretch.top, *stretch.lines, *self._release(), "  ret void", "}"])

    def call(self, begin: str, end: str, thread: str) -> str:
        """A line that does the tasks from ``begin`` to ``end``, with the memory of ``thread``."""
        values = [*(f"ptr {identifier(name)}" for name in self.pointers), "ptr %workspace"]
        return f"  call void @region{self.number}({', '.join(values)}, i64 {begin}, i64 {end}, i64 {thread})"

    def _tasks(self, loops: list[Loop], body: tuple[Node, ...]) -> None:
        if not loops:
            self._nodes(body)
            return
        with self._turns("%begin", "%end") as task:
            depth = len(self.stretches) - 1
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
            stretch = self.stretches[-1]
            stretch.top, stretch.lines = stretch.top + stretch.lines, []
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
            for whole in self._branch(condition):
                self.limits[loop.axis] = step if whole else rest
                self._task_body(inner, body)
        else:
            self.limits[loop.axis] = step if full else rest
            self._task_body(inner, body)
        self._restore(loop.axis, before)


def _task(region: _Region, arguments: Sequence[str], shared: Sequence[tuple[Buffer, int]]) -> str:
    """What each thread runs: its even share of the tasks."""
    return "\n".join(
        [
            f"define internal void @task{region.number}(ptr %args) {{",
            *_load_pointers(arguments, shared),
            "  %thread32 = call i32 @omp_get_thread_num()",
            "  %threads32 = call i32 @omp_get_num_threads()",
            "  %thread = zext i32 %thread32 to i64",
            "  %threads = zext i32 %threads32 to i64",
            f"  %share = mul i64 %thread, {region.tasks}",
            "  %begin = udiv i64 %share, %threads",
            "  %following = add i64 %thread, 1",
            f"  %share.end = mul i64 %following, {region.tasks}",
            "  %end = udiv i64 %share.end, %threads",
            region.call("%begin", "%end", "%thread"),
            "  ret void",
            "}",
        ]
    )
