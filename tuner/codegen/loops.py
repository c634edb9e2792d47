"""Loops of a nest as text: whole and partial tiles, turns that are written out, and conditions decided before them.

A partial last tile ("cut") is written as a second copy of the loop's body with exact bounds; a "shift" tail moves the
start of the last tile back. So a body never tests whether it is inside its axis. Conditions of statements, as at the
border of an image, are decided as far outside as they can be: when the text is written, or by a branch around a turn.
"""

from collections.abc import Mapping

from tuner.codegen.addresses import Counter
from tuner.codegen.instructions import Instructions
from tuner.codegen.matrix import MatrixWriter
from tuner.errors import ScheduleError
from tuner.loopnest import Affine, Condition, Kind, Loop, Node, Store, When, guarded, shared_guards


class LoopWriter(MatrixWriter):
    """Writes nodes of a nest. ``axes`` are the extents of its axes."""

    def __init__(self, axes: Mapping[str, int], unaligned: frozenset[str], instructions: Instructions) -> None:
        super().__init__(unaligned, instructions)
        self.axes = axes
        self.extents: dict[str, int] = {}  # the turns of the loops that are open
        self.limits: dict[str, int] = {}  # how far an axis goes on inside the loops that are open
        self.guards: dict[int, tuple[dict[Condition, tuple[Loop, ...]], list[Condition]]] = {}  # of loops, by their ids

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
                self._turn(loop, Counter(counter, len(self.stretches) - 1), shift_within)
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
            for taken in self._branch(self._all(tests, "i1")):
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
            for taken in self._branch(self._all(tests, "i1")):
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
        top = self.stretches[counter.depth].top
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
        for taken in self._branch(condition):
            self._nodes(node.then if taken else node.otherwise)
