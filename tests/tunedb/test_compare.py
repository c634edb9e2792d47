"""Two targets, two databases, two trials: which is faster, and how surely."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import samples
from tests.tunedb.test_lookup import statements, store
from tunedb import Database, confidence
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.compare import Side, compare, compare_trials
from tunedb.errors import NotFoundError
from tuner.errors import TunedbError
from tuner.target import Target
from tuner.trial import Status
from tuner.workload import matmul

OTHER_TARGET = replace(samples.TARGET, threads=1)
SMALL, LARGE = matmul(m=2, k=2, n=2), matmul(m=10, k=10, n=10)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    with tunedb.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as database:
        yield database


def here(db: Database) -> Side:
    return Side(db, samples.TARGET.fingerprint)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("compare", *arguments))


def test_a_ratio_encloses_that_of_the_medians() -> None:
    ratio = confidence.ratio((1.0, 1.1, 1.2, 1.0, 1.1, 1.0), (2.0, 2.1, 2.2, 2.0, 2.1, 2.0))
    assert (ratio.value, ratio.different) == (pytest.approx(2.05 / 1.05), "yes")
    assert (ratio.low, ratio.high) == (2.0 / 1.2, 2.2 / 1.0)
    assert ratio.coverage == pytest.approx(2 * (1 - 2 * 0.5**6) - 1)
    back = confidence.ratio((2.0, 2.1, 2.2, 2.0, 2.1, 2.0), (1.0, 1.1, 1.2, 1.0, 1.1, 1.0))
    assert (back.value, back.different) == (pytest.approx(1 / ratio.value), "yes")
    assert confidence.ratio((1.0,), (2.0,)).coverage == 0
    assert confidence.ratio((1.0,), (2.0,)).different == "undecided"


def test_the_best_of_two_databases_are_compared_workload_by_workload(db: Database, other: Database) -> None:
    store(db, samples.trial(0, (0.5,) * 6), samples.trial(1, (0.25,) * 6), samples.trial(2, (1.0,) * 6, workload=SMALL))
    store(
        other,
        samples.trial(0, (1.0,) * 6),
        samples.trial(1, (0.5,) * 6, workload=SMALL),
        samples.trial(2, workload=LARGE),
    )
    found = compare(here(db), here(other))
    assert {pair.workload: (pair.ratio.value, pair.verdict) for pair in found.pairs} == {
        samples.WORKLOAD: (4.0, "a"),
        SMALL: (0.5, "b"),
    }
    assert found.geometric_mean == pytest.approx(2**0.5)
    assert (found.only_a, found.only_b) == ((), (LARGE,))
    assert found.verdicts == {"a": 1, "b": 1, "same": 0, "undecided": 0}
    assert [pair.workload for pair in compare(here(db), here(other), [SMALL]).pairs] == [SMALL]


def test_two_targets_of_one_database_are_compared(db: Database) -> None:
    store(db, samples.trial(0, (0.5,) * 6), samples.trial(1, (0.5001,) * 6, target=OTHER_TARGET))
    (pair,) = compare(here(db), Side(db, OTHER_TARGET.fingerprint)).pairs
    assert (pair.a.trial.target, pair.b.trial.target) == (samples.TARGET, OTHER_TARGET)
    assert pair.verdict == "a"  # surely faster, if only by so little


def test_without_a_target_any_number_of_threads_of_this_machine_will_do(
    db: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(db, samples.trial(0, (0.5,)), samples.trial(1, (0.25,), target=OTHER_TARGET))
    store(other, samples.trial(0, (0.5,)))
    monkeypatch.setattr(Target, "host", lambda: samples.TARGET)
    (pair,) = compare(Side(db), Side(other)).pairs
    assert (pair.a.trial.target, pair.ratio.value, pair.verdict) == (OTHER_TARGET, 2.0, "undecided")


def test_each_side_is_one_statement_that_walks_the_index(db: Database) -> None:
    store(db, samples.trial(0), samples.trial(1, workload=SMALL))
    for workloads in ([], [samples.WORKLOAD]):
        with statements(db) as seen:
            compare(here(db), here(db), workloads)
        assert len(seen) == 2
    if db.engine.dialect.name != "sqlite":
        return
    with db.read() as connection:
        count = seen[0].count("?")
        plan = [row.detail for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + seen[0], ("1",) * count)]
    assert not [step for step in plan if step.startswith("SCAN")]
    assert any("USING INDEX ix_trial_best" in step or "USING COVERING INDEX ix_trial_best" in step for step in plan)


def test_layers_are_listed_in_the_order_in_which_people_count(db: Database) -> None:
    names = ["resnet18.C2", "resnet18.C10", "resnet18.C9"]
    store(db, *(samples.trial(number, workload=tunedb.workload(name)) for number, name in enumerate(names)))
    found = compare(here(db), here(db))
    assert [pair.workload.label for pair in found.pairs] == ["resnet18.C2", "resnet18.C9", "resnet18.C10"]


def test_what_a_side_has_not_is_said(db: Database, other: Database) -> None:
    with pytest.raises(NotFoundError, match="neither A nor B"):
        compare(here(db), here(other))
    store(db, samples.trial(0))
    with pytest.raises(NotFoundError, match="B has no verified trial of any workload"):
        compare(here(db), here(other))
    store(other, samples.trial(0, workload=SMALL))
    with pytest.raises(NotFoundError, match="no workload that both"):
        compare(here(db), here(other))


def test_trials_are_compared_by_fingerprint(db: Database) -> None:
    failed = samples.trial(3, status=Status.RUNTIME)
    store(db, samples.trial(0, (0.5,) * 6), samples.trial(1, (0.25,) * 6), samples.trial(2, workload=SMALL), failed)
    fast, slow = (best.fingerprint for best in db.top(samples.WORKLOAD, 2, samples.TARGET))
    (pair,) = compare_trials(Side(db), fast[:12], Side(db), slow).pairs
    assert (pair.ratio.value, pair.verdict) == (2.0, "a")
    other = db.best(SMALL, samples.TARGET).fingerprint
    with pytest.raises(TunedbError, match="different workloads"):
        compare_trials(Side(db), fast, Side(db), other)
    with pytest.raises(NotFoundError, match="too short"):
        db.trial("1234567")
    with pytest.raises(NotFoundError, match="no trial of ours"):
        db.trial("0" * 64)
    with db.read() as connection:
        wrecked = connection.exec_driver_sql("SELECT fingerprint FROM trial WHERE status = 'runtime'").scalar_one()
    with pytest.raises(TunedbError, match="ended as runtime"):
        compare_trials(Side(db), fast, Side(db), wrecked)


def test_the_command_prints_what_was_found(db: Database, url: str, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with tunedb.open(f"sqlite:///{other}") as there:
        store(there, samples.trial(0, (1.0,) * 6), samples.trial(1, (3.0,) * 6, workload=SMALL))
    store(db, samples.trial(0, (0.5,) * 6), samples.trial(1, (0.25,) * 6))
    name = samples.TARGET.name
    text = call("--with", str(other), "--target", name, "--db", url).stdout
    assert "A is faster" in text
    assert "geometric mean  4.000 over 1" in text
    assert f"only B has      {SMALL.label}" in text
    found = json.loads(call(samples.WORKLOAD.key, "--with", str(other), "--target", name, "--db", url, "--json").stdout)
    assert (found["geometric_mean"], found["workloads"][0]["verdict"]) == (4.0, "a")
    assert found["workloads"][0]["ratio"]["value"] == 4.0
    one, two = (best.fingerprint for best in db.top(samples.WORKLOAD, 2, samples.TARGET))
    assert "B is faster" in call(two[:8], one[:8], "--db", url).stdout


@pytest.mark.parametrize(
    "arguments",
    [(), ("resnet18.C2",), ("--target", "x"), ("0" * 8,), ("0" * 8, "0" * 8, "resnet18.C2"), ("--with", "nowhere")],
)
def test_a_comparison_that_names_no_b_is_a_usage_error(db: Database, url: str, arguments: tuple[str, ...]) -> None:
    assert call(*arguments, "--db", url).exit_code == Exit.USAGE
