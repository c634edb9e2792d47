"""What was measured with something else than what is here is listed with the command that measures it again."""

import json
import shlex
from dataclasses import replace

from click.testing import Result

from tests.tunedb.test_cli import call
from tests.tunedb.test_freshness import HERE, PATCHED, REBUILT, measured_again
from tests.tunedb.test_ladder import TARGET, WORKLOAD, fill
from tunedb import Database
from tunedb.stale import Stale
from tuner.workload import matmul

OTHER = matmul(m=64, k=32, n=64)


def commands(found: tuple[Stale, ...]) -> list[str]:
    return [one.command for one in found]


def test_what_is_fresh_is_not_stale(db: Database) -> None:
    assert db.stale() == ()
    fill(db, WORKLOAD)
    assert db.stale() == ()
    assert db.stale("compatible") == ()


def test_an_answer_that_was_not_measured_again_costs_one_trial(db: Database) -> None:
    fill(db, WORKLOAD, environment=PATCHED)
    (found,) = db.stale()
    best = db.best(WORKLOAD)
    assert (found.best, found.threads, found.seconds) == (best, 1, 0.75)
    assert found.command == f"tunedb verify {best.fingerprint[:12]}"
    assert "kernel 0.1 ->" in found.why
    assert db.stale("compatible") == ()


def test_one_that_has_drifted_needs_a_session_of_its_own(db: Database) -> None:
    fill(db, WORKLOAD, environment=REBUILT, count=5)
    measured_again(db, db.best(WORKLOAD).fingerprint, (HERE, "drifted"))
    (found,) = db.stale()
    assert found.command == f"tunedb tune '{WORKLOAD.key}' --trials 5 --tuner random --seed 1 --threads 1"
    assert found.seconds == 5 * 0.75
    assert "measured again here: drifted" in found.why
    fill(db, WORKLOAD, seed=1)  # does it
    assert db.stale() == ()


def test_one_that_was_confirmed_is_fresh(db: Database) -> None:
    fill(db, WORKLOAD, environment=REBUILT)
    measured_again(db, db.best(WORKLOAD).fingerprint, (HERE, "confirmed"))
    assert db.stale() == ()


def test_what_was_measured_on_another_machine_only_is_listed_too(db: Database) -> None:
    elsewhere = replace(TARGET, model="the processor before", threads=10**6)
    fill(db, WORKLOAD, elsewhere, count=3)
    fill(db, OTHER, replace(elsewhere, triple="aarch64-linux-gnu"))
    (found,) = db.stale()
    assert found.freshness is None
    assert found.why == f"measured on {elsewhere.name} only"
    assert found.command.startswith(f"tunedb tune '{WORKLOAD.key}' --trials 3 --tuner random --seed 0 --threads ")
    assert found.threads < 10**6
    fill(db, WORKLOAD)
    assert db.stale() == ()


def test_the_cheapest_comes_first(db: Database) -> None:
    fill(db, WORKLOAD, replace(TARGET, model="another processor"))
    fill(db, OTHER, environment=REBUILT)
    assert [one.workload for one in db.stale()] == [OTHER, WORKLOAD]


def test_the_listed_commands_work_and_leave_nothing_stale(db: Database) -> None:
    place = db.engine.url.render_as_string(hide_password=False)
    fill(db, WORKLOAD, replace(TARGET, model="another processor"), count=2)

    def listed() -> Result:
        return call("stale", "--db", place, "--json")

    found = json.loads(listed().stdout)
    assert found["stale"] == 1
    assert found["seconds"] == found["commands"][0]["seconds"] == 2 * 0.75
    name, *arguments = shlex.split(found["commands"][0]["command"])
    assert name == "tunedb"
    assert call(*arguments, "--db", place).exit_code == 0
    assert json.loads(listed().stdout)["commands"] == []
    assert "all answers for this machine are fresh (strict)" in call("stale", "--db", place).stdout


def test_the_list_is_cut_and_says_so(db: Database) -> None:
    place = db.engine.url.render_as_string(hide_password=False)
    for number in range(3):
        fill(db, matmul(m=64, k=32, n=64 + 16 * number), environment=REBUILT, count=1)
    text = call("stale", "--db", place, "--count", "1").stdout
    assert text.count("tunedb verify") == 1
    assert "3 to measure again (2 more), about 2.25 s in all" in text
