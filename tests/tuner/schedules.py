"""Random workloads with random legal schedules, for property tests.

The choices come from a ``random.Random``: Hypothesis hands in one that it can shrink, other tests one with a seed.
"""

from math import prod
from random import Random

from tuner import expression as ex
from tuner.build import expression_of
from tuner.operators.winograd import TILES
from tuner.schedule import (
    Algorithm,
    CacheWrite,
    ComputeAt,
    Dot,
    Fence,
    Inline,
    Pack,
    Parallel,
    Prefetch,
    Reorder,
    Schedule,
    Split,
    Stagger,
    Step,
    Unroll,
    Vectorize,
)
from tuner.workload import Workload, make

EPILOGUES = ("", "bias", "relu", "residual", "bias+relu", "bias+residual+relu")
UNROLLED = 32  # turns written out, at most: keeps compiling short


def random_workload(rng: Random, operator: str, dtype: str = "float32") -> Workload:
    workload = _random_workload(rng, operator)
    return make(operator, **{**dict(workload.arguments), "dtype": dtype})


def _random_workload(rng: Random, operator: str) -> Workload:
    if operator in ("matmul", "batch_matmul"):
        batch = {"b": rng.randint(1, 3)} if operator == "batch_matmul" else {}
        return make(operator, **batch, m=rng.randint(1, 9), k=rng.randint(1, 9), n=rng.randint(1, 20))
    epilogue = rng.choice(EPILOGUES)
    if operator == "dense":
        return make(operator, m=rng.randint(1, 6), ci=rng.randint(1, 9), co=rng.randint(1, 20), epilogue=epilogue)
    block = rng.choice((None, None, 4, 8, 16))
    counts = (1, 2, 3, 5, 7) if block is None else (1, 3, block, 2 * block)
    channels = ("ci", "co") if operator == "conv2d" else ("c",)
    return make(
        operator,
        **{name: rng.choice(counts) for name in channels},
        n=rng.choice((1, 1, 2, 3)),
        h=rng.randint(5, 9),
        w=rng.randint(5, 9),
        k=(rng.randint(1, 3), rng.randint(1, 3)),
        stride=(rng.randint(1, 2), rng.randint(1, 2)),
        pad=rng.choice(((0, 0, 0, 0), (1, 1, 1, 1), tuple(rng.randint(0, 2) for _ in range(4)))),
        dilation=(rng.randint(1, 2), rng.randint(1, 2)),
        layout="NCHW" if block is None else f"NCHW{block}c",
        epilogue=epilogue,
    )


def random_schedule(rng: Random, workload: Workload) -> Schedule:
    """A schedule that obeys the rules of docs/schedules.md."""
    expression = expression_of(workload)
    main = _Stage(rng, expression.main, whole=workload.text("dtype") != "float32")
    if main.whole and rng.random() < 0.8:
        main.pair()
    main.split(tails=("cut", "cut", "shift"))
    main.order(tile=True)
    tasks = main.parallel() if rng.random() < 0.5 else 0
    main.annotate()
    at = ["", *main.loops[max(tasks, 1) - 1 : main.outer]] if main.outer else [""]
    for access in _accesses(expression.main.body):
        if access.tensor.role != "intermediate" and rng.random() < 0.5:
            main.pack(access, "" if access.tensor.role == "constant" else rng.choice(at))
    main.tune_memory([*_accesses(expression.main.body), *_accesses(expression.main.epilogue)], made=False)
    steps = main.steps
    for producer in expression.stages[:-1]:
        if rng.random() < 0.4 and main.dot.split(".")[0] not in ("kh", "kw"):
            steps.append(Inline(producer.name))
            continue
        stage, loop = _Stage(rng, producer), rng.choice(at)
        stage.steps.append(ComputeAt(producer.name, loop))
        stage.split(tails=("cut",))
        stage.order(tile=False)
        if not loop and rng.random() < 0.5:
            stage.parallel()
        stage.annotate()
        stage.tune_memory(_accesses(producer.body), made=True)
        steps += stage.steps
    return Schedule(tuple(steps))


def random_winograd(rng: Random) -> tuple[Workload, Schedule]:
    """A small convolution by a chain of five sums, each computed somewhere in the loops of those after it."""
    layout, block = rng.choice((("NCHW", 16), ("NCHW4c", 4), ("NCHW8c", 8)))
    workload = make(
        "conv2d",
        n=rng.choice((1, 1, 2)),
        ci=rng.choice((1, 3, block, 2 * block)),
        co=rng.choice((1, 3, block, 2 * block)),
        h=rng.randint(3, 9),
        w=rng.randint(3, 9),
        k=3,
        pad=rng.choice(((0, 0, 0, 0), (1, 1, 1, 1), tuple(rng.randint(0, 2) for _ in range(4)))),
        layout=layout,
        epilogue=rng.choice(EPILOGUES),
    )
    algorithm = rng.choice(tuple(TILES))
    steps: list[Step] = [Algorithm("conv2d", algorithm)]
    places: list[str] = []
    for number, definition in enumerate(reversed(expression_of(workload, algorithm).stages)):
        stage, at = _Stage(rng, definition), rng.choice(["", *places])
        if number:
            stage.steps.append(ComputeAt(stage.name, at))
        stage.split(tails=("cut",))
        stage.order(tile=bool(definition.reduce))  # a copy has no sum to keep
        tasks = stage.parallel() if not at and rng.random() < 0.5 else 0
        stage.annotate()
        for access in _accesses(definition.body):
            if access.tensor.role == "constant" and not at and rng.random() < 0.7:
                stage.pack(access, "")
        stage.tune_memory([*_accesses(definition.body), *_accesses(definition.epilogue)], made=number > 0)
        steps += stage.steps
        around = places[: places.index(at) + 1] if at else []
        places = [*around, *stage.loops[max(tasks, 1) - 1 : stage.outer]]
    return workload, Schedule(tuple(steps))


class _Stage:
    """The loops of one stage while steps are chosen for it. ``outer`` of them are outside the local tile.

    ``whole``: all reduction loops are inside it. ``dot`` is the loop of a dot product, if there is to be one.
    """

    def __init__(self, rng: Random, stage: ex.Stage, whole: bool = False) -> None:
        self.whole = whole
        self.dot = ""
        self.rng = rng
        self.name = stage.name
        # What has conditions may be vectorized along it; the pixels of what is packed lie side by side.
        self.last = "kx" if stage.name == "pack" else stage.axes[-1].name
        self.staggers = [axis.name for axis in stage.axes[:-1]]
        self.conditional = isinstance(stage.place, ex.Inside) or any(map(_is_inside, _factors(stage.body)))
        self.steps: list[Step] = []
        self.extents = {axis.name: axis.extent for axis in stage.all_axes}
        self.axes = list(self.extents)
        self.reduce = {axis.name for axis in stage.reduce}
        self.loops = list(self.extents)
        self.shifted: set[str] = set()
        self.annotated: set[str] = set()
        self.outer = 0

    def axis(self, loop: str) -> str:
        return loop.split(".")[0]

    def pair(self) -> None:
        """Choose a reduction for dot products."""
        axis = self.rng.choice(sorted(self.reduce))
        self.dot = f"{axis}.1"

    def split(self, tails: tuple[str, ...]) -> None:
        for axis, extent in list(self.extents.items()):
            paired = self.dot == f"{axis}.1"
            if self.rng.random() < 0.5 and not paired:
                continue
            factors = tuple(self.rng.randint(1, min(extent + 1, 8)) for _ in range(self.rng.choice((1, 1, 2))))
            if paired:
                factors = (*factors[1:], 2)
                self.dot = f"{axis}.{len(factors)}"
            tail = "cut" if axis in self.reduce else self.rng.choice(tails)
            self.steps.append(Split(self.name, axis, factors, tail))
            loops = [f"{axis}.{number}" for number in range(len(factors) + 1)]
            if tail == "shift":
                self.shifted.add(loops[0])
            self.extents.update(zip(loops, (-(-extent // prod(factors)), *factors), strict=True))
            position = self.loops.index(axis)
            self.loops[position : position + 1] = loops

    def order(self, tile: bool) -> None:
        """Any order in which the loops of an axis stay nested as they were split."""
        inner = {axis: self.rng.randint(0, len(self._of(axis))) for axis in sorted(set(map(self.axis, self.loops)))}
        outside: list[str] = []
        inside: list[str] = []
        for loop in self.loops:
            number = self._of(self.axis(loop)).index(loop)
            keeps_in = self.axis(loop) in self.reduce and (self.whole or self.shifted or self.rng.random() < 0.7)
            goes_out = loop in self.shifted or (number < inner[self.axis(loop)] and not keeps_in)
            previous_in = any(self.axis(other) == self.axis(loop) for other in inside)
            (outside if goes_out and not previous_in else inside).append(loop)
        self.loops = [*self._shuffled(outside), *self._shuffled(inside)]
        self.outer = len(outside)
        if self.dot:
            self.loops.remove(self.dot)
            self.loops.insert(
                len(self.loops) - (self._vectorizable(self.loops[-1]) and self.rng.random() < 0.8), self.dot
            )
        self.steps.append(Reorder(self.name, tuple(self.loops)))
        if tile:
            self.steps.append(CacheWrite(self.name, self.loops[len(outside) - 1] if outside else ""))

    def parallel(self) -> int:
        """Share some of the outermost loops, each of another axis; how many."""
        limit = self.outer if self.name != "pad" else len(self.loops)
        tasks: list[str] = []
        for loop in self.loops[:limit]:
            if self.axis(loop) in self.reduce or self.axis(loop) in map(self.axis, tasks):
                break
            tasks.append(loop)
        tasks = tasks[: self.rng.randint(0, len(tasks))]
        if tasks:
            self.steps.append(Parallel(self.name, tuple(tasks)))
            self.annotated.update(tasks)
        return len(tasks)

    def annotate(self) -> None:
        last = self.loops[-1]
        if self.dot:
            self.steps.append(Dot(self.name, self.dot))
            self.annotated.add(self.dot)
        inside_dot = bool(self.dot) and self.dot != last
        if inside_dot or (self._vectorizable(last) and self.rng.random() < 0.8):
            self.steps.append(Vectorize(self.name, last))
            self.annotated.add(last)
        turns, unrolled = 1, []
        for loop in reversed(self.loops):
            if loop not in self.annotated and self.rng.random() < 0.4 and turns * self.extents[loop] <= UNROLLED:
                turns *= self.extents[loop]
                unrolled.append(loop)
        if unrolled:
            self.steps.append(Unroll(self.name, tuple(unrolled)))
            fenced = tuple(loop for loop in unrolled if self.rng.random() < 0.3)
            if fenced:
                self.steps.append(Fence(self.name, fenced))

    def _vectorizable(self, last: str) -> bool:
        """What has conditions is vectorized along its last dimension; and what is summed, inside the local tile."""
        possible = not self.reduce or last in self.loops[self.outer :]
        possible = possible and (not self.conditional or self.axis(last) == self.last)
        return possible and self.axis(last) not in self.reduce and last not in self.annotated

    def pack(self, access: ex.Access, at: str) -> None:
        axes = {axis for index in access.indices for axis, _ in index.terms}
        walking = [loop for loop in self.loops if self.axis(loop) in axes]
        if self.shifted.intersection(walking):
            return
        if access.tensor.role == "constant":
            self.rng.shuffle(walking)
        elif at:
            opened = self.loops[: self.loops.index(at) + 1]
            walking = self._shuffled([loop for loop in walking if loop not in opened])
        if walking:
            self.steps.append(Pack(self.name, access.tensor.name, tuple(walking), at))

    def tune_memory(self, accesses: list[ex.Access], made: bool) -> None:
        """Prefetch some of what is read; and leave gaps in what is made, unless that is the output."""
        for access in accesses:
            if self.rng.random() < 0.3:
                self.steps.append(Prefetch(self.name, access.tensor.name, self.rng.randint(1, 5000)))
        if made and self.rng.random() < 0.7:
            self.steps.append(Stagger(self.name, self.rng.choice(self.staggers)))

    def _of(self, axis: str) -> list[str]:
        return sorted(loop for loop in self.loops if self.axis(loop) == axis)

    def _shuffled(self, loops: list[str]) -> list[str]:
        shuffled = list(loops)
        self.rng.shuffle(shuffled)
        waiting = {axis: iter(sorted(x for x in loops if self.axis(x) == axis)) for axis in map(self.axis, loops)}
        return [next(waiting[self.axis(loop)]) for loop in shuffled]


def _factors(body: ex.Scalar) -> list[ex.Scalar]:
    return [*_factors(body.left), *_factors(body.right)] if isinstance(body, ex.Binary) else [body]


def _is_inside(node: ex.Scalar) -> bool:
    return isinstance(node, ex.Inside)


def _accesses(body: ex.Scalar) -> list[ex.Access]:
    return [node for node in _factors(body) if isinstance(node, ex.Access)]
