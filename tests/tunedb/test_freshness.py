"""Fresh is what was measured with all that is here, or was confirmed with it since."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.tunedb import samples
from tests.tunedb.test_lookup import plan, statements, store
from tunedb import Database, dialect
from tunedb.errors import NotFoundError
from tunedb.freshness import STRICT, Level, current_template, meets
from tunedb.lookup import Best
from tunedb.records import Writer
from tunedb.tables import TRIAL, VERIFICATION
from tuner.environment import detect
from tuner.trial import Environment, Trial

HERE = detect()
TEMPLATE = current_template(samples.WORKLOAD, samples.TARGET) or ""


def environment(**facts: str) -> Environment:
    """This one, with other facts."""
    return Environment(tuple(sorted({**dict(HERE.facts), **facts}.items())))


PATCHED, REBUILT = environment(kernel="0.1"), environment(llvm="3.0.1")


def trial(sequence: int, seconds: float, measured: Environment = HERE, template: str = TEMPLATE) -> Trial:
    return replace(samples.trial(sequence, (seconds,)), environment=measured, template=template)


def measured_again(db: Database, fingerprint: str, *found: tuple[Environment, str]) -> None:
    """Store what measuring a trial again has found, in this order."""
    with db.write() as connection:
        trial_id = connection.execute(select(TRIAL.c.id).where(TRIAL.c.fingerprint == fingerprint)).scalar_one()
        for number, (where, status) in enumerate(found):
            values = {
                "fingerprint": f"{number:064}",
                "trial_id": trial_id,
                "environment_id": Writer(connection).environment(where),
                "created": samples.EPOCH + timedelta(days=1, seconds=number),
                "status": status,
                "times": [],
                "seconds": 0.5,
            }
            dialect.insert_if_new(connection, VERIFICATION, values)


def best(db: Database, level: Level = "any") -> Best:
    return db.best(samples.WORKLOAD, samples.TARGET, freshness=level)


@pytest.mark.parametrize("fact", STRICT)
def test_strict_compares_every_fact_that_may_change_a_time(fact: str) -> None:
    assert meets("strict", HERE, HERE)
    assert not meets("strict", environment(**{fact: "another"}), HERE)


@pytest.mark.parametrize("fact", ["commit", "numpy", "python"])
def test_strict_compares_nothing_else(fact: str) -> None:
    assert meets("strict", environment(**{fact: "another"}), HERE)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [("20.1.8", "20.2", True), ("20.1.8", "21.1.8", False), ("2.0", "20.0", False), ("20", "20.1", True)],
)
def test_compatible_compares_the_major_version_of_llvm(then: str, now: str, same: bool) -> None:
    assert meets("compatible", environment(llvm=then), environment(llvm=now)) == same


@pytest.mark.parametrize(("fact", "same"), [("cpu", False), ("protocol", False), ("kernel", True), ("llvmlite", True)])
def test_compatible_compares_processor_and_protocol(fact: str, same: bool) -> None:
    assert meets("compatible", environment(**{fact: "another"}), HERE) == same


def test_a_question_for_fresh_times_passes_over_the_others(db: Database) -> None:
    store(db, trial(0, 0.5), trial(1, 0.25, PATCHED), trial(2, 0.125, REBUILT))
    assert [best(db, level).seconds for level in ("strict", "compatible", "any")] == [0.5, 0.25, 0.125]
    assert best(db, "compatible").confidence.runner_up == 0.5
    assert [db.freshness(best(db, level)).level for level in ("strict", "compatible", "any")] == [
        "strict",
        "compatible",
        "stale",
    ]
    top = db.top(samples.WORKLOAD, 10, samples.TARGET, freshness="compatible")
    assert [each.seconds for each in top] == [0.25, 0.5]


def test_a_trial_of_another_version_of_the_template_is_not_strictly_fresh(db: Database) -> None:
    store(db, trial(0, 0.5, template=f"{TEMPLATE}0"))
    assert best(db, "compatible").seconds == 0.5
    assert db.freshness(best(db)).changed == {"template": (f"{TEMPLATE}0", TEMPLATE)}
    with pytest.raises(NotFoundError):
        best(db, "strict")


def test_that_nothing_is_fresh_is_said_with_what_has_changed(db: Database) -> None:
    store(db, trial(0, 0.5, REBUILT))
    here = dict(HERE.facts)["llvm"]
    with pytest.raises(NotFoundError, match=rf"freshness compatible.*stale; since then: llvm 3.0.1 -> {here}.*stale`"):
        best(db, "compatible")
    assert db.explain(samples.WORKLOAD, samples.TARGET).freshness.changed == {"llvm": ("3.0.1", here)}


@pytest.mark.parametrize(
    ("own", "again", "level"),
    [
        (REBUILT, [(HERE, "confirmed")], "strict"),
        (REBUILT, [(PATCHED, "confirmed")], "compatible"),
        (REBUILT, [(HERE, "drifted")], "stale"),
        (HERE, [(HERE, "drifted")], "stale"),
        (HERE, [(HERE, "drifted"), (HERE, "confirmed")], "strict"),
        (HERE, [(HERE, "confirmed"), (HERE, "failed")], "stale"),
        (HERE, [(REBUILT, "drifted")], "strict"),
        (PATCHED, [(HERE, "drifted")], "stale"),
        (HERE, [(PATCHED, "drifted")], "strict"),
    ],
)
def test_the_latest_word_counts(
    db: Database, own: Environment, again: Sequence[tuple[Environment, str]], level: str
) -> None:
    store(db, trial(0, 0.5, own))
    measured_again(db, best(db).fingerprint, *again)
    fresh = db.freshness(best(db))
    assert fresh.level == level
    for asked in ("strict", "compatible"):  # SQL and Python agree
        try:
            answers = best(db, asked).seconds == 0.5
        except NotFoundError:
            answers = False
        assert answers == fresh.answers(asked)


def test_a_question_for_any_time_stays_one_statement(db: Database) -> None:
    store(db, trial(0, 0.5))
    with statements(db) as seen:
        best(db)
    assert len(seen) == 1


def test_a_question_for_fresh_times_walks_the_index_too(db: Database) -> None:
    store(db, trial(0, 0.5))
    steps = plan(db, lambda: best(db, "strict"))
    assert not [step for step in steps if step.startswith("SCAN")]
    assert sum("INDEX ix_trial_best" in step for step in steps) == 3  # the shortest times, the trial, its runner-up
