"""Experiments on this machine: real sessions of small matrix products, and what is made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

import tunedb
from tests.tuner.experiment.pools import exported, trials
from tunedb.experiments import real
from tunedb.experiments.declared import Experiment, ExperimentError, read
from tunedb.experiments.goals import judge
from tunedb.experiments.results import collect
from tunedb.experiments.runner import run
from tunedb.records import read_trial, select_trials
from tuner.schedule import Schedule
from tuner.target import Target

AIM, OTHER = "matmul(m=64,k=64,n=64)", "matmul(m=96,k=64,n=64)"
DECLARED = f"""
title = "On the clock"
question = "How much sooner?"
mode = "real"
data = "trials.jsonl"
starts = false
sources = ["{OTHER}"]
workloads = ["{AIM}"]
trials = 5
seeds = 1

[[arms]]
name = "Warm"
tuner = "warm"

[[arms]]
name = "Cold"
tuner = "model"

[[goals]]
arm = "Warm"
than = "Cold"
at = 5
faster = 1e9
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """An experiment that was run, and the folder of its results."""
    folder = tmp_path_factory.mktemp("real")
    lines = [exported(trial) for trial in trials(OTHER, 40, target=Target.host(1))]
    (folder / "trials.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "clock.toml").write_text(DECLARED)
    experiment = read(folder / "clock.toml")
    made: list[int] = []
    run({folder / "clock.toml": experiment}, folder / "results", None, 1, lambda name, count: made.append(count))
    assert made == [1, 1]
    return experiment, folder


def kept(folder: Path, arm: str) -> Any:
    return json.loads(next((folder / "results" / "clock" / arm).rglob("0.session")).read_text())


def test_a_session_learns_from_the_sources_and_from_no_other_session(done: tuple[Experiment, Path]) -> None:
    found = {}
    for arm in ("Warm", "Cold"):
        path = next((done[1] / "results" / "clock" / arm).rglob("0.sqlite"))
        with tunedb.open(f"sqlite:///{path}") as database, database.read() as connection:
            found[arm] = sorted({read_trial(row).workload.label for row in connection.execute(select_trials())})
    assert found == {"Warm": sorted((AIM, OTHER)), "Cold": [AIM]}
    assert kept(done[1], "Warm")["training"] > 0 == kept(done[1], "Cold")["training"]


def test_the_clock_runs_from_the_start_to_the_last_trial(done: tuple[Experiment, Path]) -> None:
    results = collect(done[0], done[1] / "results")
    for arm in ("Warm", "Cold"):
        (session,) = results.runs[arm][AIM]
        assert len(session.costs) == 5
        assert session.start > 0
        assert min(session.choosing) > 0
        assert session.clock()[0] > session.start


def test_what_led_is_timed_again_and_nothing_else_counts(done: tuple[Experiment, Path]) -> None:
    results = collect(done[0], done[1] / "results")
    times = json.loads(next((done[1] / "results" / "clock" / "times").iterdir()).read_text())["times"]
    assert all(len(each) == real.TURNS * real.ROUNDS for each in times.values())
    led = {
        Schedule.from_json(steps).fingerprint
        for arm in ("Warm", "Cold")
        for steps in kept(done[1], arm)["leaders"].values()
    }
    assert led == times.keys()
    for arm in ("Warm", "Cold"):
        (session,) = results.runs[arm][AIM]
        leaders = {int(number) for number in kept(done[1], arm)["leaders"]}
        assert {number for number, speed in enumerate(session.speeds) if speed} == leaders
    assert not judge(results, done[0].goals[0])["met"]


def test_what_was_held_and_timed_is_not_held_and_timed_again(done: tuple[Experiment, Path]) -> None:
    folder = done[1] / "results" / "clock"
    measured = [path for path in folder.rglob("*") if path.suffix == ".session" or path.parent.name == "times"]
    assert len(measured) == 3
    before = [path.stat().st_mtime_ns for path in measured]
    list(real.run(done[0], done[1] / "results", str(done[1] / "trials.jsonl")))
    assert [path.stat().st_mtime_ns for path in measured] == before


def test_an_arm_that_learns_needs_sources_and_their_data(tmp_path: Path) -> None:
    (tmp_path / "clock.toml").write_text(DECLARED.replace('data = "trials.jsonl"', ""))
    with pytest.raises(ExperimentError, match="data is missing"):
        read(tmp_path / "clock.toml")
    (tmp_path / "clock.toml").write_text(DECLARED.replace(f'sources = ["{OTHER}"]', ""))
    with pytest.raises(ExperimentError, match="there are no sources"):
        read(tmp_path / "clock.toml")
