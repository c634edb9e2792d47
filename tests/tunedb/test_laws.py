"""What must hold of any trials in any databases: merging, layers and retractions, on examples that Hypothesis makes."""

import itertools
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tunedb
from tests.tunedb import samples
from tunedb import Database
from tunedb.errors import NotFoundError
from tunedb.lookup import Best
from tunedb.records import Writer, flatten, trial_fingerprint
from tuner.target import Target
from tuner.trial import Trial

LAYERS = 3
TARGETS = [Target.host(threads) for threads in (1, 2)]
EXACT, LOOSE = samples.WORKLOAD, samples.WORKLOAD.within("0.01")


@dataclass(frozen=True)
class Stored:
    """A trial, which databases have it, and which of these have retracted it."""

    trial: Trial
    where: frozenset[int]
    retracted: frozenset[int]
    confirmed: tuple[tuple[int, float], ...]  # in each database, how many slower repeats were added, and how slow

    def rounds(self, number: int) -> list[tuple[float, ...]]:
        """The repeats that a database has of it."""
        assert self.trial.seconds is not None
        count, slower = self.confirmed[number]
        return [self.trial.times, (slower * self.trial.seconds,) * count]

    @property
    def seconds(self) -> float:
        """The median of the most repeats that any database has, the largest of as many."""
        copies = [flatten(self.rounds(number)) for number in self.where]
        return max((len(times), statistics.median(times)) for times in copies)[1]

    @property
    def counts(self) -> bool:
        """Whether it may answer: a retraction in one database is one everywhere."""
        return not self.where & self.retracted


@st.composite
def stored(draw: st.DrawFn) -> list[Stored]:
    """Up to ten trials; no two take the same time, for then nothing says which one is the best."""
    place = st.frozensets(st.integers(0, LAYERS - 1))
    count = draw(st.integers(1, 10))
    order = draw(st.permutations(range(count)))
    return [
        Stored(
            samples.trial(
                sequence,
                (0.1 + 0.01 * order[sequence],) * draw(st.integers(1, 8)),
                tile=draw(st.integers(1, 4)),
                error=draw(st.sampled_from([1e-6, 1e-3])),
                target=draw(st.sampled_from(TARGETS)),
                workload=draw(st.sampled_from([EXACT, LOOSE])),
            ),
            draw(place.filter(bool)),
            draw(place),
            tuple(draw(st.tuples(st.integers(0, 2), st.sampled_from([1.37, 1.93]))) for _ in range(LAYERS)),
        )
        for sequence in range(count)
    ]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them, to be copied: making the tables takes longer than all else here."""
    path = tmp_path_factory.mktemp("laws") / "empty.sqlite"
    tunedb.open(f"sqlite:///{path}", bases=[]).close()
    return path


@contextmanager
def databases(empty: Path, given: Sequence[Stored], more: int = 0) -> Iterator[list[Database]]:
    """A database for each layer, with its trials and retractions, and so many ``more`` that are empty."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        opened = []
        for number in range(LAYERS + more):
            path = shutil.copy(empty, Path(folder) / f"{number}.sqlite")
            opened.append(stack.enter_context(tunedb.open(f"sqlite:///{path}", bases=[])))
        for number, each in itertools.product(range(LAYERS), given):
            if number in each.where:
                name = store(opened[number], each.trial, each.rounds(number))
                if number in each.retracted:
                    opened[number].retract(name, "no")
        yield opened


def store(db: Database, trial: Trial, rounds: list[tuple[float, ...]]) -> str:
    """Keep a trial of the one session that all databases share; its fingerprint."""
    with db.write() as connection:
        writer = Writer(connection)
        session, session_id = writer.session(samples.arguments().to_json(), samples.EPOCH)
        writer.trial(replace(trial, times=flatten(rounds)), session, session_id, rounds)
    return trial_fingerprint(trial, session)


def answers(db: Database) -> list[object]:
    """What a database says to every question about the trials."""
    said: list[object] = []
    for workload, target in itertools.product((EXACT, LOOSE), (*TARGETS, None)):
        try:
            said.append(said_of(db.best(workload, target)))
            said.append([said_of(best)[:3] for best in db.top(workload, 5, target)])
        except NotFoundError:
            said.append(None)
    return said


def said_of(best: Best) -> tuple[object, ...]:
    return best.trial.schedule, best.seconds, best.target, best.confidence


FEW = settings(max_examples=16)


@FEW
@given(given=stored())
def test_layers_answer_as_one_database_that_has_all_would(empty: Path, given: list[Stored]) -> None:
    with databases(empty, given, more=1) as (*layers, one):
        for layer in layers:
            one.merge(layer)
        urls = [layer.url for layer in layers]
        with tunedb.open(urls[0], bases=urls[1:]) as layered:
            assert answers(layered) == answers(one)
            for workload in (EXACT, LOOSE):
                known, found = one.history(workload), layered.history(workload)
                assert sorted(known, key=lambda trial: trial.sequence) == sorted(
                    found, key=lambda trial: trial.sequence
                )


@FEW
@given(given=stored(), order=st.permutations(range(LAYERS)))
def test_databases_merged_in_any_order_and_both_ways_say_the_same(
    empty: Path, given: list[Stored], order: list[int]
) -> None:
    with databases(empty, given, more=2) as (*ones, first, second):
        for one in ones:
            first.merge(one)
        for number in order:
            second.merge(ones[number])
        assert answers(first) == answers(second)
        for one in ones:
            one.merge(first)
            assert answers(one) == answers(first)
            again = one.merge(first)
            assert (again.new, again.extended, again.retracted, again.conflicting) == (0, 0, 0, 0)
        assert first.check().problems == ()


@FEW
@given(given=stored())
def test_the_answer_is_the_fastest_trial_that_counts_and_is_right_enough(empty: Path, given: list[Stored]) -> None:
    with databases(empty, given, more=1) as (*ones, first):
        for one in ones:
            first.merge(one)
        for workload, target in itertools.product((EXACT, LOOSE), TARGETS):
            good = [
                each.seconds
                for each in given
                if each.counts
                and each.trial.target == target
                and (each.trial.error or 0) <= min(workload.tolerance, each.trial.workload.tolerance)
            ]
            try:
                answer = first.best(workload, target).seconds
            except NotFoundError:
                answer = None
            assert answer == min(good, default=None)
