"""Experiments: a file says what is asked, runs are kept and go on, and a report says what came of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tuner
from tests.tuner.experiment.pools import exported, trials
from tunedb.cli import main
from tunedb.experiments import stored
from tunedb.experiments.data import load
from tunedb.experiments.declared import ExperimentError, find, read
from tunedb.experiments.goals import judge
from tunedb.experiments.results import collect, quantiles
from tunedb.experiments.runner import run as run_experiments
from tunedb.experiments.summary import random_trials
from tuner.experiment.replay import Run

ROOT = Path(__file__).parents[3]
WORKLOADS = ("matmul(m=64,k=64,n=64)", "matmul(m=96,k=64,n=64)", "matmul(m=128,k=32,n=64)")

MODES: tuple[Literal["replay"], Literal["real"]] = ("replay", "real")

DECLARED = """
title = "A question"
question = "Which one?"
mode = "replay"
data = "trials.jsonl"
workloads = ["matmul(m=64,k=64,n=64)", "matmul(m=96,k=64,n=64)"]
sources = ["matmul(m=128,k=32,n=64)"]
trials = 16
seeds = 2
figures = ["trials", "seconds", "bars"]

[[arms]]
name = "Model"
tuner = "model"

[[arms]]
name = "Random x2"
tuner = "random"
stretch = 2

[[arms]]
name = "Warm"
tuner = "warm"

[[goals]]
arm = "Warm"
share = 0.3
median = 16
p90 = 16

[[goals]]
arm = "Warm"
than = "Model"
at = 16
faster = 1e9

[[references]]
name = "Somebody else"
text = "says 7"
trials = { "matmul(m=64,k=64,n=64)" = "3/4/5" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the data and one experiment."""
    lines = [exported(trial) for seed, key in enumerate(WORKLOADS) for trial in trials(key, seed=seed)]
    (tmp_path / "trials.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "question.toml").write_text(DECLARED)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["experiment", *arguments])


def results(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*/*/*/*.json"))}


def ran(folder: Path, *more: str) -> Mapping[str, Any]:
    done = call("run", "--folder", str(folder), "--results", str(folder / "results"), "--jobs", "1", "--json", *more)
    assert done.exit_code == 0, done.output
    printed: Mapping[str, Any] = json.loads(done.stdout)
    return printed


def test_the_experiments_of_this_project_can_be_read_and_ask_something() -> None:
    found = find(ROOT / "experiments")
    assert {each.mode for each in found} == {"replay", "real"}
    for each in found:
        assert each.question.strip()
        assert each.seeds >= 5
        assert each.data is None or each.data.parent == ROOT / "experiments" / ".." / "benchmarks" / "data"


def test_an_experiment_is_run_once_and_reported(folder: Path) -> None:
    assert ran(folder)["runs"] == {"question": 12}
    kept = results(folder / "results")
    assert len(kept) == 12
    ran(folder)
    assert results(folder / "results") == kept
    report = call("report", "--folder", str(folder), "--results", str(folder / "results"), "-o", str(folder / "page"))
    assert report.exit_code == 0, report.output
    assert "met      question: Warm: 30% of the best in 16 trials" in report.output
    assert "not met  question: Warm: 1e+09 times quicker" in report.output
    page = (folder / "page" / "README.md").read_text()
    assert "| Somebody else | 3/4/5 |  |" in page
    for word in ("A question", "Random, expected", "Somebody else", "made up", "question-trials.png", "**no**"):
        assert word in page
    assert {path.name for path in (folder / "page").glob("*.png")} == {
        f"question-{name}.png" for name in ("trials", "seconds", "bars")
    }
    summary = json.loads((folder / "page" / "question.json").read_text())
    assert set(summary["arms"]) == {"Model", "Random x2", "Warm"}
    assert summary["arms"]["Warm"]["training_seconds"] > 0


def test_only_what_is_missing_is_run(folder: Path) -> None:
    ran(folder)
    kept = results(folder / "results")
    lost = sorted((folder / "results" / "question" / "Model").rglob("1.json"))
    lost[0].unlink()
    lost[1].write_text("{")  # as a full disk leaves it
    missing = call("report", "question", "--folder", str(folder), "--results", str(folder / "results"))
    assert missing.exit_code == 1
    assert "1 of 2 runs of 'Model'" in missing.output
    ran(folder)
    again = results(folder / "results")
    assert sum(again[name] != kept[name] for name in kept) == 2
    assert again.keys() == kept.keys()


def test_what_was_changed_is_run_anew(folder: Path) -> None:
    ran(folder)
    kept = results(folder / "results")
    (folder / "question.toml").write_text(
        DECLARED.replace('tuner = "random"\nstretch = 2', 'tuner = "random"\nstretch = 3')
    )
    ran(folder)
    changed = {name for name, when in results(folder / "results").items() if when != kept[name]}
    assert changed == {name for name in kept if "Random-x2" in name}


def test_what_another_program_has_run_is_said_to_be_and_run_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = ("report", "--folder", str(folder), "--results", str(folder / "results"), "-o", str(folder / "page"))
    (folder / "question.toml").write_text(DECLARED.replace('"trials", "seconds", "bars"', '"bars"'))
    ran(folder)
    kept = results(folder / "results")
    monkeypatch.setattr(stored, "program", lambda mode: "changed")
    assert "question was run by another version of the program" in call(*reported).stderr
    assert "Run by another version of the program" in (folder / "page" / "README.md").read_text()
    ran(folder)
    assert all(when != kept[name] for name, when in results(folder / "results").items())
    assert "another version" not in call(*reported).output


def test_a_change_of_the_source_makes_another_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = {mode: stored.program(mode) for mode in MODES}
    assert before["replay"] != before["real"]  # the database has no part in a replay
    copytree(Path(tuner.__path__[0]), tmp_path / "tuner")
    monkeypatch.setattr(tuner, "__path__", [str(tmp_path / "tuner")])
    assert {mode: stored.program.__wrapped__(mode) for mode in MODES} == before
    with (tmp_path / "tuner" / "search" / "annealing.py").open("a") as file:
        file.write("\n")
    assert not set(before.values()) & {stored.program.__wrapped__(mode) for mode in MODES}


def test_several_processes_make_the_same_runs_as_one(folder: Path) -> None:
    ran(folder)
    one = {path.relative_to(folder / "results"): path for path in (folder / "results").rglob("*/*/*/*.json")}
    finished: list[int] = []
    path = folder / "question.toml"
    run_experiments({path: read(path)}, folder / "two", None, 2, lambda name, count: finished.append(count))
    assert sum(finished) == 12
    for name, path in one.items():
        assert json.loads((folder / "two" / name).read_text())["speeds"] == json.loads(path.read_text())["speeds"]


def test_a_database_can_be_replayed_instead(folder: Path) -> None:
    url = f"sqlite:///{folder / 'trials.sqlite'}"
    imported = CliRunner().invoke(main, ["import", str(folder / "trials.jsonl"), "--db", url])
    assert imported.exit_code == 0, imported.output
    (folder / "trials.jsonl").unlink()
    assert ran(folder, "--data", url)["runs"] == {"question": 12}


def test_retracted_trials_are_not_replayed(folder: Path) -> None:
    log = folder / "trials.jsonl"
    first, *others = log.read_text().splitlines()
    log.write_text("\n".join([json.dumps({**json.loads(first), "retracted": "throttled"}), *others]))
    assert load(str(log)).trials == len(others)


def test_the_list_says_what_is_asked(folder: Path) -> None:
    listed = json.loads(call("list", "--folder", str(folder), "--json").stdout)["experiments"]
    assert listed[0]["name"] == "question"
    assert listed[0]["arms"] == ["Model", "Random x2", "Warm"]
    assert "A question" in call("list", "--folder", str(folder)).stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A question"', "", "title is missing"),
        ('title = "A question"', "title = 3", "title has to be of type str"),
        ('title = "A question"', 'titel = "A question"', "unknown field 'titel'"),
        ('mode = "replay"', 'mode = "dream"', "mode is 'dream'"),
        ('data = "trials.jsonl"', "", "data is missing"),
        ("trials = 16", "trials = 0", "trials is missing"),
        ("trials = 16", "trials = -1", "trials is -1"),
        ('"bars"]', '"pies"]', "there is no figure 'pies'"),
        ('name = "Warm"\ntuner', 'name = "Model"\ntuner', "two arms are called 'Model'"),
        ('arm = "Warm"\nshare', 'arm = "Cold"\nshare', "goals name an arm 'Cold'"),
        ("stretch = 2", "batch = 2", "tuner random has no option 'batch'"),
        ('sources = ["matmul(m=128,k=32,n=64)"]', "", "learns from other workloads, and there are no sources"),
        ("median = 16", 'median = "16"', "goals: median is '16'"),
        ('text = "says 7"', "", "references: .* lacks one of name, text"),
        ('trials = { "matmul(m=64', 'trials = { "matmul(m=65', "references name a workload 'matmul.m=65"),
        ('"3/4/5" }', '"3/4/5" }\ntrails = 3', "references: .* is not made of name, text, trials"),
        ("[[goals]]", "[[goals]", "is no TOML"),
        ("trials = 16", "trials = 16\nthreads = -1", "threads is -1"),
        ("trials = 16", "trials = 16\nknobs = { tile = [1] }", r"knobs has \[1\]"),
        ('"matmul(m=96,k=64,n=64)"]', '"matmul(n=64,m=64,k=64)"]', "is named twice"),
        ('["matmul(m=64,k=64,n=64)"', "[3", "question.toml: '3' at position 0"),
        ("stretch = 2", "stretch = 0", "arm 'Random x2': stretch is 0: it has to be 1 or more"),
        ("stretch = 2", "stretch = 2.5", "stretch is 2.5: it has to be a whole number"),
        ('name = "Warm"\ntuner', 'name = "Model?"\ntuner', "two arms are called 'Model', or nearly so"),
        ('tuner = "model"', 'tuner = "model"\nbatch = 0', "arm 'Model': batch is 0: it has to be 1 or more"),
        ('tuner = "model"', 'tuner = "model"\nepsilon = nan', "epsilon is nan: it has to be 0 to 1"),
        ('tuner = "warm"', 'tuner = "warm"\nsource_target = 3', "source_target is 3: it has to be a text"),
        ("share = 0.3", "share = 30", "share is 30: it has to be above 0"),
        ('than = "Model"\nat', "at", "than is missing, the arm that 'Warm' is compared with"),
        ("at = 16\n", "at = 17\n", "at is 17: at is 1 to 16 trials"),
        ('"3/4/5" }', "3 }", "are 3: write them as a text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(folder: Path, old: str, new: str, message: str) -> None:
    assert old in DECLARED
    (folder / "question.toml").write_text(DECLARED.replace(old, new, 1))
    with pytest.raises(ExperimentError, match=message):
        read(folder / "question.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("matmul(m=96,k=64,n=64)", "matmul(m=97,k=64,n=64)"), r"no trial of matmul\(m=97,k=64,n=64\) is stored"),
        (('mode = "replay"', 'mode = "replay"\ntarget = "a toaster"'), "on 'a toaster' is stored; targets: cpu-"),
        (('data = "trials.jsonl"', 'data = "none.jsonl"'), "none.jsonl: No such file"),
    ],
)
def test_data_that_do_not_answer_are_said_in_one_line(folder: Path, change: tuple[str, str], message: str) -> None:
    (folder / "question.toml").write_text(DECLARED.replace(*change))
    done = call("run", "question", "--folder", str(folder), "--results", str(folder / "results"), "--jobs", "1")
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr)


def test_there_has_to_be_such_an_experiment(folder: Path) -> None:
    unknown = call("run", "x", "--folder", str(folder))
    assert unknown.exit_code == 2
    assert unknown.stderr == f"Error: there is no experiment 'x' in {folder}: there are question\n"
    assert "there is no experiment in" in call("list", "--folder", str(folder / "none")).stderr


def test_quantiles_are_values_that_occur_and_never_is_the_largest() -> None:
    assert quantiles([1, 2, 3, 4]) == [2, 3, 4]
    assert quantiles([1, None, None, 2]) == [2, None, None]
    assert random_trials([np.array([0.5, 1.0]), np.array([0.0, 0.5, 1.0])]) == [2, 2, 3]


def test_a_speed_up_is_against_all_trials_and_against_the_first_that_was_as_good(folder: Path) -> None:
    ran(folder)
    found = collect(read(folder / "question.toml"), folder / "results")
    cold = Run((1.0, 10.0, 10.0, 10.0), (1.0,) * 4, (0.0,) * 4, 0.0, 0.0)
    warm = Run((9.95, 10.0), (0.5, 0.5), (0.0, 0.0), 0.0, 3.0)
    goal = found.experiment.goals[1]
    made = type(found)(
        found.experiment,
        {name: dict.fromkeys(found.experiment.workloads, [run] * 2) for name, run in (("Model", cold), ("Warm", warm))},
        found.data,
    )
    judged = judge(made, goal)
    assert judged["reached"] == pytest.approx(8)
    assert judged["against_first"] == pytest.approx(4)
    assert judged["within_noise"] == pytest.approx(8)
    assert judged["trials"] == {label: [1, 1, 2] for label in found.experiment.workloads}
    assert not judged["met"]


def test_an_arm_is_worse_where_its_median_is_behind_by_more_than_the_noise(folder: Path) -> None:
    text = DECLARED.replace("at = 16\nfaster = 1e9", "never_worse = true")
    (folder / "question.toml").write_text(text)
    ran(folder)
    found = collect(read(folder / "question.toml"), folder / "results")
    first, second = found.experiment.workloads
    cold, slow, slower = (Run((speed,) * 16, (1.0,) * 16, (0.0,) * 16, 0.0, 0.0) for speed in (10.0, 9.0, 8.0))
    runs = {"Model": {first: [cold] * 2, second: [cold] * 2}, "Warm": {first: [slow] * 2, second: [slow, slower]}}
    noise = {first: {**found.data["workloads"][first], "noise": 0.12}, second: {**found.data["workloads"][second]}}
    noise[second]["noise"] = 0.12
    judged = judge(type(found)(found.experiment, runs, {**found.data, "workloads": noise}), found.experiment.goals[1])
    assert judged["worse"] == {"16": [second]}
    assert judged["workloads"][second]["after"]["16"] == pytest.approx([-0.15, -0.2, -0.1])
    assert judged["reached"] == "worse on 1 of 2 workloads at 16 trials, at most by 15.0%"
    assert not judged["met"]
    report = call("report", "--folder", str(folder), "--results", str(folder / "results"), "-o", str(folder / "page"))
    assert report.exit_code == 0, report.output
    assert f"| {first} | " in (folder / "page" / "README.md").read_text()


def test_a_workload_learns_from_other_folds_and_never_from_itself(folder: Path) -> None:
    several = DECLARED.replace(
        'sources = ["matmul(m=128,k=32,n=64)"]', f"sources = {json.dumps([*WORKLOADS, 'matmul.1024'])}"
    )
    (folder / "question.toml").write_text(several)
    alone = read(folder / "question.toml")
    first, second, third, fourth = alone.sources
    assert alone.sources_of(first) == (second, third, fourth)
    (folder / "question.toml").write_text(several.replace("trials = 16", "trials = 16\nfolds = 2"))
    folded = read(folder / "question.toml")
    assert folded.sources_of(first) == folded.sources_of(third) == (second, fourth)
    assert folded.sources_of("matmul(m=2,k=2,n=2)") == folded.sources
