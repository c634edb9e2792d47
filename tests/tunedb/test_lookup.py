from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tunedb import logs, samples
from tunedb import Database
from tunedb.confidence import judge
from tunedb.errors import DatabaseError, NotFoundError
from tuner.target import Target
from tuner.trial import Status, Trial
from tuner.workload import matmul, parse


def store(db: Database, *trials: Trial, seed: int = 0) -> None:
    with db.session(samples.arguments(seed)) as session:
        for trial in trials:
            session.add(trial)


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """What the driver is told, as it is told."""
    seen: list[str] = []
    with closing(db.engine.raw_connection()) as pooled:  # the one that the next reader gets
        connection: Any = pooled.driver_connection
    if db.engine.dialect.name == "sqlite":
        connection.set_trace_callback(seen.append)
        yield seen
        connection.set_trace_callback(None)
        return
    ordinary = connection.cursor_factory

    class Listening(ordinary):  # type: ignore[misc]
        def execute(self, query: str, *rest: Any) -> Any:
            seen.append(query)
            return super().execute(query, *rest)

    connection.cursor_factory = Listening
    yield seen
    connection.cursor_factory = ordinary


def plan(db: Database, ask: Callable[[], object]) -> list[str]:
    """How SQLite goes about the last statement of a question."""
    if db.engine.dialect.name != "sqlite":
        pytest.skip("the plan is read in SQLite's words")
    with statements(db) as seen:
        ask()
    with db.read() as connection:
        values = ("1",) * seen[-1].count("?")
        return [row.detail for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + seen[-1], values)]


def test_the_best_is_the_fastest_verified_trial(db: Database) -> None:
    store(
        db,
        samples.trial(0, (0.5,)),
        samples.trial(1, (0.25,)),
        samples.trial(2, (0.125,), error=0.1),
        samples.trial(3, (0.125,), error=None),
        samples.trial(4, status=Status.CORRECTNESS),
    )
    best = db.best(samples.WORKLOAD, samples.TARGET)
    assert best.trial == samples.trial(1, (0.25,))
    assert (best.seconds, best.error, best.source) == (0.25, 1e-6, "exact")
    assert best.gflops == samples.WORKLOAD.flops / 0.25 / 1e9
    assert best.to_json()["confidence"]["runner_up"] == 0.5


def test_the_best_is_one_statement(db: Database) -> None:
    store(db, samples.trial(0), samples.trial(1))
    for target in (samples.TARGET, None):
        with statements(db) as seen:
            try:
                db.best(samples.WORKLOAD, target)
            except NotFoundError:  # this machine is not that of the samples
                continue
        assert len(seen) == 1


def test_the_best_walks_the_index_instead_of_sorting_all_trials(db: Database) -> None:
    store(db, samples.trial(0))
    steps = plan(db, lambda: db.best(samples.WORKLOAD, samples.TARGET))
    assert not [step for step in steps if step.startswith("SCAN")]
    walks = [step for step in steps if "INDEX ix_trial_best" in step]  # the shortest times, the trial, its runner-up
    assert len(walks) == 3
    assert all("(workload_id=? AND target_id=? AND verified=?" in step for step in walks)


def test_schedules_are_ranked_whose_trials_come_after_many_of_others(db: Database) -> None:
    store(db, *(samples.trial(number, (1.0 + number,), tile=1 + number // 20) for number in range(50)))
    ranking = db.top(samples.WORKLOAD, 3, samples.TARGET)
    assert [(best.trial.sequence, best.trial.config["tile"]) for best in ranking] == [
        (0, (1, 4)),
        (20, (2, 4)),
        (40, (3, 4)),
    ]


def test_ranking_reads_only_the_fastest_trials(db: Database) -> None:
    store(db, samples.trial(0))
    steps = plan(db, lambda: db.top(samples.WORKLOAD, 10, samples.TARGET))
    walks = [step for step in steps if "INDEX ix_trial_best" in step]
    assert [step.endswith("AND verified=? AND seconds<?)") for step in walks] == [True, False]
    assert "COVERING" in walks[1]


def test_the_fastest_imported_record_is_found_without_sorting_equally_fast_ones(db: Database, tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text(logs.autotvm(0) + "\n" + logs.autotvm(1))
    db.import_log(str(tmp_path / "some.log"))
    steps = plan(db, lambda: db.imported(parse("resnet18.C2")))
    assert not [step for step in steps if step.startswith("SCAN")]
    assert not [step for step in steps if "RIGHT PART OF ORDER BY" in step]


def test_of_equally_fast_trials_the_newest_is_the_best(db: Database) -> None:
    store(db, samples.trial(0), samples.trial(1))
    assert db.best(samples.WORKLOAD, samples.TARGET).trial.sequence == 1


def test_without_a_target_any_number_of_threads_of_this_machine_will_do(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (replace(samples.TARGET, threads=threads) for threads in (1, 2))
    elsewhere = replace(samples.TARGET, model="another processor")
    store(
        db,
        samples.trial(0, (0.5,), target=one),
        samples.trial(1, (0.25,), target=two),
        samples.trial(2, (0.125,), target=elsewhere),
    )
    monkeypatch.setattr(Target, "host", lambda: one)
    assert db.best(samples.WORKLOAD).target == two
    assert [best.target for best in db.top(samples.WORKLOAD)] == [two, one]
    assert db.best(samples.WORKLOAD, one).target == one


def test_top_lists_each_schedule_once_by_its_best_trial(db: Database) -> None:
    store(
        db,
        samples.trial(0, (0.5,), tile=1),
        samples.trial(1, (0.25,), tile=1),
        samples.trial(2, (0.375,), tile=2),
        samples.trial(3, (0.625,), tile=3),
    )
    top = db.top(samples.WORKLOAD, 2, samples.TARGET)
    assert [best.seconds for best in top] == [0.25, 0.375]
    assert [best.confidence.runner_up for best in top] == [0.375, 0.625]


def test_the_best_is_as_exact_as_asked_whatever_tolerance_it_was_tuned_with(db: Database) -> None:
    tight = samples.WORKLOAD.within(1e-6)
    store(
        db,
        samples.trial(0, (0.125,), error=5e-5),
        samples.trial(1, (0.25,), error=2e-6),
        samples.trial(2, (0.375,), error=3e-7),
        samples.trial(3, (0.5,), error=1e-7, workload=tight),
        samples.trial(4, (0.0625,), error=2e-4),  # more than it was tuned with: not verified
    )
    fastest = {1e-3: 0, 1e-4: 0, 1e-5: 1, 2e-6: 1, 1e-6: 2, 1e-7: 3}
    for tolerance, sequence in fastest.items():
        assert db.best(samples.WORKLOAD.within(tolerance), samples.TARGET).trial.sequence == sequence
    top = db.top(tight, 3, samples.TARGET)
    assert [best.trial.sequence for best in top] == [2, 3]
    assert db.best(tight, samples.TARGET).confidence.runner_up == 0.5
    assert [trial.sequence for trial in db.history(tight)] == [0, 1, 2, 3, 4]
    explained = db.explain(tight, samples.TARGET)
    assert (explained.best.trial.sequence, sum(explained.statuses.values())) == (2, 5)


def test_a_tolerance_that_nothing_meets_names_the_smallest_error(db: Database) -> None:
    store(db, samples.trial(0, error=5e-5), samples.trial(1, error=2e-6))
    with pytest.raises(NotFoundError, match=r"has an error of at most 1e-06: the smallest is 2e-06; tune it with"):
        db.best(samples.WORKLOAD.within(1e-6), samples.TARGET)


def test_history_keeps_workloads_and_targets_apart(db: Database) -> None:
    other = replace(samples.TARGET, threads=1)
    store(db, samples.trial(0), samples.trial(1, target=other), samples.trial(2, workload=matmul(m=1, k=2, n=3)))
    assert [trial.sequence for trial in db.history(samples.WORKLOAD)] == [0, 1]
    assert [trial.sequence for trial in db.history(samples.WORKLOAD, other)] == [1]


def test_an_unknown_workload_says_how_to_tune_it(db: Database) -> None:
    with pytest.raises(NotFoundError, match=r"no trial of matmul\(.*\) is stored: tune it with `tunedb tune"):
        db.best(samples.WORKLOAD, samples.TARGET)


def test_a_workload_of_other_targets_names_them(db: Database) -> None:
    store(db, samples.trial(0))
    with pytest.raises(NotFoundError, match=r"on cpu-znver5-avx2-7t; 1 other target has some: cpu-znver5-avx2-2t"):
        db.best(samples.WORKLOAD, replace(samples.TARGET, threads=7))


def test_a_workload_that_only_failed_says_how(db: Database) -> None:
    store(db, samples.trial(0, status=Status.COMPILE), samples.trial(1, status=Status.TIMEOUT))
    with pytest.raises(NotFoundError, match=r"its 2 trials there ended so: 1 compile, 1 timeout"):
        db.top(samples.WORKLOAD, 3, samples.TARGET)


@pytest.mark.parametrize(
    ("times", "runner_up", "different"),
    [
        ((1.0, 1.1, 1.2, 1.0, 1.1, 1.0), (2.0, 2.1, 2.2, 2.0, 2.1, 2.0), "yes"),
        ((1.0, 1.1, 1.2, 1.0, 1.1, 1.0), (1.1, 1.2, 1.3, 1.1, 1.2, 1.1), "undecided"),
        ((1.0,) * 6, (1.001,) * 6, "yes"),
        ((1.0, 1.002) * 3, (1.001, 1.003) * 3, "no"),
        ((1.0, 1.1), (2.0, 2.1), "undecided"),
        ((1.0,) * 6, None, None),
    ],
)
def test_the_verdict_follows_from_the_repeats(
    times: Sequence[float], runner_up: Sequence[float] | None, different: str | None
) -> None:
    assert judge(times, runner_up).different == different


def test_the_interval_is_that_of_order_statistics() -> None:
    confidence = judge([float(i) for i in range(1, 21)], None)
    assert (confidence.low, confidence.high) == (6.0, 15.0)  # the table of David and Nagaraja for n = 20
    assert confidence.coverage == pytest.approx(0.9586, abs=1e-4)
    assert judge([1.0, 2.0, 3.0], None).coverage == 0.75
    assert judge([1.0], None).coverage == 0.0


def test_what_the_driver_refuses_is_one_line(db: Database) -> None:
    with db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE trial RENAME COLUMN times TO durations")
    with pytest.raises(DatabaseError, match=r"times") as caught:
        db.best(samples.WORKLOAD, samples.TARGET)
    assert "\n" not in str(caught.value)
