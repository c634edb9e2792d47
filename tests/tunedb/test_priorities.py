"""What to tune next, and the networks it is asked for."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.tunedb import samples
from tests.tunedb.test_lookup import store
from tunedb import Database, networks
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.errors import NotFoundError, UnknownNameError
from tunedb.networks import NetworkError
from tunedb.priorities import TRIALS, agenda
from tuner.target import Target
from tuner.trial import Trial
from tuner.workload import Workload, conv2d, named, parse

SLOW, FAST = conv2d(ci=8, h=8, w=8, co=8, k=3, pad=1), conv2d(ci=16, h=8, w=8, co=8, k=3, pad=1)
NEW = conv2d(ci=32, h=8, w=8, co=8, k=3, pad=1)
ALONE = conv2d(ci=8, h=8, w=8, co=8, k=1)


def speed(sequence: int, workload: Workload, gflops: float) -> Trial:
    """A trial of this speed; compiling and running took it a second."""
    trial = samples.trial(sequence, (workload.flops / gflops / 1e9,) * 6, workload=workload)
    return replace(trial, compile_seconds=0.25, run_seconds=0.75)


@pytest.fixture
def filled(db: Database) -> Database:
    """Two workloads that are alike, the first of them much slower; what their sessions began with ran at 1 GFLOP/s."""
    store(db, speed(0, SLOW, 1.0), speed(1, SLOW, 2.0), seed=0)
    store(db, speed(0, FAST, 1.0), speed(1, FAST, 10.0), seed=1)
    return db


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("next", *arguments))


def test_what_is_slower_than_its_like_comes_first(filled: Database) -> None:
    found = agenda(filled, {SLOW: 1.0, FAST: 1.0}, samples.TARGET)
    slow, fast = found.priorities
    assert (slow.workload, fast.workload) == (SLOW, FAST)
    assert slow.seconds == pytest.approx(SLOW.flops / 2e9)
    assert slow.reachable == pytest.approx(SLOW.flops / 10e9)
    assert FAST.label in slow.basis
    assert slow.cost == TRIALS * 1.0
    assert fast.gain == 0
    assert found.seconds == pytest.approx(SLOW.flops / 2e9 + FAST.flops / 10e9)


def test_what_was_tuned_for_another_tolerance_counts_where_it_is_exact_enough(filled: Database) -> None:
    loose = SLOW.within(1e-2)  # by name what its trials were tuned for, and what they are is in their errors
    exact = SLOW.within(samples.trial(0).error or 0.0)
    exacter = SLOW.within((samples.trial(0).error or 0.0) / 2)
    found = {one.workload: one for one in agenda(filled, dict.fromkeys((loose, exact), 1.0), samples.TARGET).priorities}
    for one in (loose, exact):
        assert found[one].measured
        assert found[one].seconds == pytest.approx(SLOW.flops / 2e9)
        assert found[one].trials == 2
        assert f"--trials {TRIALS} " in found[one].command  # a session of its own
    store(filled, speed(0, NEW.within(1e-6), 4.0), seed=2)
    (new,) = agenda(filled, {NEW: 1.0}, samples.TARGET).priorities
    assert new.measured
    with pytest.raises(NotFoundError, match="no right result was measured"):
        agenda(filled, {exacter: 1.0}, samples.TARGET)


def test_the_gain_is_weighted_and_shrinks_with_the_trials_made(filled: Database) -> None:
    (one,) = agenda(filled, {SLOW: 1.0}, samples.TARGET).priorities
    (three,) = agenda(filled, {SLOW: 3.0}, samples.TARGET).priorities
    assert one.gain == pytest.approx((one.seconds - one.reachable) * TRIALS / (TRIALS + 2))
    assert three.gain == pytest.approx(3 * one.gain)
    assert three.score == pytest.approx(3 * one.score)


def test_what_was_never_tuned_is_taken_for_as_slow_as_the_defaults(filled: Database) -> None:
    (new,) = agenda(filled, {NEW: 1.0}, samples.TARGET).priorities
    assert (new.measured, new.trials) == (False, 0)
    assert new.seconds == pytest.approx(NEW.flops / 1e9)
    assert new.gain == pytest.approx(NEW.flops / 1e9 - NEW.flops / 10e9)
    assert new.command == f"tunedb tune '{NEW.label}' --trials {TRIALS} --threads {samples.TARGET.threads}"


def test_without_anything_alike_the_median_of_the_others_is_in_reach(filled: Database) -> None:
    (alone,) = agenda(filled, {ALONE: 1.0}, samples.TARGET).priorities
    assert alone.reachable == pytest.approx(ALONE.flops / 6e9)
    assert "median speed of 2 others" in alone.basis


def test_alone_in_the_world_a_workload_is_as_good_as_it_can_be(db: Database) -> None:
    store(db, speed(0, SLOW, 1.0))
    (only,) = agenda(db, {SLOW: 1.0}, samples.TARGET).priorities
    assert (only.gain, only.basis) == (0, "nothing else was measured")


def test_where_nothing_was_measured_the_heaviest_is_named(db: Database) -> None:
    store(db, speed(0, SLOW, 1.0))
    hint = f"begin with .*`tunedb tune {re.escape(repr(NEW.label))}`"
    with pytest.raises(NotFoundError, match=hint):
        agenda(db, {SLOW: 1.0, NEW: 1.0}, replace(samples.TARGET, threads=7))


@pytest.mark.parametrize(("name", "layers", "calls"), [("resnet18", 12, 21), ("mobilenet", 9, 13), ("vgg16", 9, 13)])
def test_a_network_has_all_its_named_layers_as_often_as_it_computes_them(name: str, layers: int, calls: int) -> None:
    weights = networks.load(name)
    assert set(weights) == {workload for key, workload in named().items() if key.startswith(f"{name}.")}
    assert (len(weights), sum(weights.values())) == (layers, calls)


def test_a_file_of_ones_own_names_layers_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'"{SLOW.key}" = 2\n"resnet18.C2" = 0.5\nresnet18.C3 = 1\n[mobilenet]\nD1 = 4\n')
    weights = {SLOW: 2.0, parse("resnet18.C2"): 0.5, parse("resnet18.C3"): 1.0, parse("mobilenet.D1"): 4.0}
    assert networks.load(str(path)) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no workload"),
        ('"resnet18.C2" = 0', "weight of resnet18.C2 must be a number above 0 and at most 1e12, not 0"),
        ('"resnet18.C2" = true', "must be a number above 0"),
        ('"resnet18.C2" = inf', "must be a number above 0"),
        ('"resnet18.C2" = 1' + 400 * "0", "must be a number above 0"),
        ('"resnet18.C2" = 1' + 9000 * "0", "no TOML"),
        ("a" + 3000 * ".a" + " = 1", "no TOML"),
        ("resnet18.C99 = 1", "unknown workload 'resnet18.C99'"),
        ("conv2d(ci=3) = 1", "no TOML"),
        ("\x00", "no TOML"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(NetworkError, match=message) as caught:
        networks.load(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_network_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="known are mobilenet, resnet18, vgg16"):
        networks.load("resnet19")
    assert call("resnet19").exit_code == 2


def test_the_command_lists_what_to_tune(
    filled: Database, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "host", lambda threads=None: samples.TARGET)
    path = tmp_path / "own.toml"
    path.write_text(f'"{SLOW.key}" = 1\n"{FAST.key}" = 1\n')
    text = call(str(path), "--db", url).stdout
    assert text.endswith(f"Next: tunedb tune '{SLOW.label}' --trials {2 + TRIALS} --threads 2\n")
    found = json.loads(call(str(path), "-n", "1", "--db", url, "--json").stdout)
    assert [each["workload"] for each in found["priorities"]] == [SLOW.key]
    assert found["more_trials"] == TRIALS
    assert call("nowhere.toml", "--db", url).exit_code == Exit.USAGE
