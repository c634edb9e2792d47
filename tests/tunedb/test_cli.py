"""The command line, with a real database that a real session has filled."""

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import tunedb
from tests.tunedb import logs
from tunedb.cli import main
from tunedb.cli.common import Exit
from tunedb.cli.tune import TUNERS
from tunedb.tables import VERSION_TABLE
from tuner import tuners
from tuner.target import ISAS, Target

WORKLOAD = "matmul(m=48,k=32,n=64)"
TRIALS = 6
Call = Callable[..., Result]


def call(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def error_line(result: Result) -> str:
    """The one line on standard error."""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that names no database must not write into that of whoever runs the tests."""
    monkeypatch.setenv("TUNEDB_URL", f"sqlite:///{tmp_path / 'own.sqlite'}")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('cli') / 'tuned.sqlite'}"


@pytest.fixture(scope="module")
def tuned(url: str) -> dict[str, Any]:
    """What ``tune --json`` printed after it filled the database."""
    result = call(
        "tune", WORKLOAD, "--trials", str(TRIALS), "--threads", "1", "--tuner", "random", "--db", url, "--json"
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_tune_reports_under_stable_names(tuned: dict[str, Any]) -> None:
    names = {
        "workload",
        "target",
        "trials",
        "measured",
        "failed",
        "best_seconds",
        "default_seconds",
        "seconds_per_trial",
    }
    assert names | {"shares", "confidence", "peak_gflops", "database"} <= tuned.keys()
    assert tuned["workload"] == WORKLOAD
    assert tuned["trials"] == TRIALS == tuned["measured"] + tuned["failed"]
    assert 0 < tuned["best_seconds"] <= tuned["default_seconds"]
    assert sum(tuned["shares"].values()) == pytest.approx(1)


def test_tune_again_measures_nothing_twice(tuned: dict[str, Any], url: str) -> None:
    arguments = ("tune", WORKLOAD, "--threads", "1", "--tuner", "random", "--db", url)
    again = json.loads(call(*arguments, "--trials", str(TRIALS), "--json").stdout)
    assert (again["new"], again["trials"], again["seconds_per_trial"]) == (0, TRIALS, None)
    assert again["best_seconds"] == tuned["best_seconds"]
    assert f"{TRIALS}, of which" in call(*arguments, "--trials", str(TRIALS)).stdout


def test_tune_ends_with_commands_that_work(tuned: dict[str, Any], url: str) -> None:
    report = call("tune", WORKLOAD, "--threads", "1", "--tuner", "random", "--trials", "1", "--db", url).stdout
    commands = re.findall(rf"^  tunedb (\w+) '{re.escape(WORKLOAD)}' --db {url}(.*?)   *\S", report, flags=re.MULTILINE)
    assert len(commands) >= 3
    for name, more in commands:
        assert call(name, WORKLOAD, "--db", url, *more.split()).exit_code == 0


def test_tune_is_quiet_in_a_pipe(tuned: dict[str, Any], url: str) -> None:
    result = call("tune", WORKLOAD, "--threads", "1", "--tuner", "random", "--trials", str(TRIALS), "--db", url)
    assert result.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no terminal to be had")
def test_tune_draws_its_progress_on_a_terminal(url: str, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "tunedb", "tune", WORKLOAD, "--trials", "2", "--threads", "1", "--tuner", "random"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "2/2" in drawn
    assert re.search(r"best [\d.]+ GFLOP/s, 0 failed, [\d.]+ s/trial", drawn)


def test_the_commands_say_what_python_says(tuned: dict[str, Any], url: str) -> None:
    def said(*arguments: str) -> Any:
        return json.loads(call(*arguments, "--db", url, "--json").stdout)

    with tunedb.open(url) as db:
        workload = tunedb.workload(WORKLOAD)
        best = db.best(workload)
        fresh = {"freshness": db.freshness(best).to_json()}
        assert said("best", WORKLOAD) == json.loads(json.dumps({**best.to_json(), **fresh}))
        assert said("best", WORKLOAD, "--explain") == json.loads(json.dumps(db.explain(workload).to_json()))
        assert said("top", WORKLOAD)["schedules"] == json.loads(
            json.dumps([each.to_json() for each in db.top(workload)])
        )
        assert said("stats")["statuses"] == dict(db.stats().statuses)
        assert said("history", WORKLOAD)["stored"] == len(db.history(workload))


def test_the_command_line_offers_the_tuners_there_are() -> None:
    assert sorted(TUNERS) == sorted(tuners.TUNERS)


def test_best_reports_under_stable_names(tuned: dict[str, Any], url: str) -> None:
    best = json.loads(call("best", WORKLOAD, "--db", url, "--json").stdout)
    names = {
        "workload",
        "target",
        "source",
        "seconds",
        "gflops",
        "error",
        "verified",
        "confidence",
        "schedule",
        "trial",
    }
    assert names | {"environment"} <= best.keys()
    assert best["seconds"] == tuned["best_seconds"]
    assert best["verified"] is True
    assert best["environment"]["llvmlite"]


def test_best_for_people_names_the_time_and_the_schedule(tuned: dict[str, Any], url: str) -> None:
    text = call("best", WORKLOAD, "--db", url).stdout
    assert "GFLOP/s" in text
    assert ".vectorize(" in text


def test_best_looks_for_the_number_of_threads_it_is_given(tuned: dict[str, Any], url: str) -> None:
    assert call("best", WORKLOAD, "--threads", "1", "--db", url).exit_code == 0
    result = call("best", WORKLOAD, "--threads", "63", "--db", url)
    assert result.exit_code == Exit.NOT_FOUND
    assert "-1t" in error_line(result)  # what is stored instead


def test_top_lists_the_quickest_first(tuned: dict[str, Any], url: str) -> None:
    schedules = json.loads(call("top", WORKLOAD, "-n", "3", "--db", url, "--json").stdout)["schedules"]
    times = [item["seconds"] for item in schedules]
    assert len(times) == 3
    assert times == sorted(times)
    assert len(call("top", WORKLOAD, "-n", "3", "--db", url).stdout.splitlines()) == 5


def test_stats_count_what_is_stored(tuned: dict[str, Any], url: str) -> None:
    stats = json.loads(call("stats", "--db", url, "--json").stdout)
    assert (stats["workloads"], stats["targets"], stats["trials"]) == (1, 1, TRIALS)
    assert 1 <= stats["schedules"] <= TRIALS
    assert f"trials     {TRIALS}" in call("stats", "--db", url).stdout


@pytest.mark.parametrize(
    ("what", "part"), [("schedule", ".split("), ("nest", "vectorized"), ("llvm", "define "), ("asm", "\tret")]
)
def test_show_prints_every_form_of_a_schedule(tuned: dict[str, Any], url: str, what: str, part: str) -> None:
    stored = call("show", WORKLOAD, "--what", what, "--db", url)
    assert part in stored.stdout
    default = json.loads(call("show", WORKLOAD, "--what", what, "--default", "--json").stdout)
    assert (default["source"], default["what"]) == ("default", what)
    assert part in default["text"]


def test_run_compares_the_best_kernel_with_the_reference(tuned: dict[str, Any], url: str) -> None:
    result = json.loads(call("run", WORKLOAD, "--db", url, "--json").stdout)
    assert result["verified"] is True
    assert 0 <= result["error"] < 1e-4
    assert result["seconds"] > 0
    assert "correct" in call("run", WORKLOAD, "--default", "--threads", "1").stdout


def test_export_and_import_give_the_same_best(tuned: dict[str, Any], url: str, tmp_path: Path) -> None:
    log = str(tmp_path / "trials.jsonl.gz")
    assert json.loads(call("export", "-o", log, "--db", url, "--json").stdout) == {"written": TRIALS}
    assert json.loads(call("import", log, "--json").stdout) == imported(log, read=TRIALS, new=TRIALS)
    assert json.loads(call("import", log, "--json").stdout) == imported(log, read=TRIALS, duplicate=TRIALS)
    assert call("best", WORKLOAD, "--json").stdout == call("best", WORKLOAD, "--db", url, "--json").stdout


def test_a_workload_without_trials_has_no_history() -> None:
    result = call("history", "resnet18.C5")
    assert result.exit_code == Exit.NOT_FOUND
    assert "tunedb tune" in error_line(result)


def test_a_history_may_be_that_of_one_target(tuned: dict[str, Any], url: str) -> None:
    target = Target.host(threads=tuned["target"]["threads"]).fingerprint
    stored = json.loads(call("history", WORKLOAD, "--target", target, "--db", url, "--json").stdout)["stored"]
    assert stored == TRIALS
    assert call("history", WORKLOAD, "--target", "nowhere", "--db", url).exit_code == Exit.NOT_FOUND


def test_more_threads_than_cores_are_worth_a_warning() -> None:
    cores = Target.host().cores
    result = call(
        "tune", "matmul(m=8,k=8,n=8)", "--trials", "1", "--tuner", "random", "--threads", str(cores + 1), "--db", url
    )
    assert f"{cores + 1} threads share {cores} cores" in result.stderr


def test_a_dash_is_standard_output_and_input(tuned: dict[str, Any], url: str) -> None:
    log = call("export", "--workload", WORKLOAD, "-o", "-", "--db", url).stdout
    assert len(log.splitlines()) == TRIALS
    assert f"{TRIALS} new" in call("import", "-", input=log).stdout
    assert call("export", "--workload", "resnet18.C7", "--db", url).stdout == ""


def test_a_broken_line_is_put_aside_with_its_number(tuned: dict[str, Any], url: str) -> None:
    good = call("export", "--db", url).stdout.splitlines()[0]
    result = call("import", "-", input=f"{good}\nnonsense\n")
    assert result.exit_code == 0
    assert "1 new, 0 duplicate, 1 quarantined" in result.stdout
    assert "line 2: " in result.stderr


def test_an_import_of_nothing_but_nonsense_fails() -> None:
    assert call("import", "-", input="nonsense\n").exit_code == Exit.FAILED
    assert call("import", "-", "--format", "tunedb", input="nonsense\n").exit_code == Exit.FAILED


def test_a_file_that_is_not_there_is_one_line() -> None:
    result = call("import", "nowhere.jsonl")
    assert result.exit_code == Exit.FAILED
    assert "nowhere.jsonl" in error_line(result)


HOW = {"format": "tunedb", "dry_run": False}


def imported(log: str, *, read: int, new: int = 0, duplicate: int = 0) -> dict[str, Any]:
    what = {"read": read, "new": new, "duplicate": duplicate, "quarantined": 0, "reasons": []}
    return {"file": Path(log).name, **what, **HOW, "error": None}


def test_several_logs_are_imported_whatever_becomes_of_one(tmp_path: Path) -> None:
    first, last = tmp_path / "first.log", tmp_path / "last.log"
    first.write_text(f"{logs.autotvm(0)}\n")
    last.write_text(f"{logs.autotvm(0)}\n{logs.autotvm(1)}\n")
    result = call("import", str(first), str(tmp_path / "nowhere.log"), str(last))
    assert result.exit_code == Exit.FAILED
    assert "nowhere.log" in error_line(result)
    assert "first.log: read 1 in format autotvm: 1 new, 0 duplicate" in result.stdout
    assert "last.log: read 2 in format autotvm: 1 new, 1 duplicate" in result.stdout


def test_a_log_of_another_tool_answers_only_when_it_is_asked(tmp_path: Path) -> None:
    log = tmp_path / "autotvm.log"
    log.write_text(f"{logs.autotvm()}\n{{\n")
    labels = ("--machine", "alpha", "--label", "cpu=3700x")
    tried = json.loads(call("import", str(log), *labels, "--dry-run", "--json").stdout)
    assert (tried["new"], tried["quarantined"], tried["dry_run"], tried["format"]) == (1, 1, True, "autotvm")
    assert "nothing was imported" in error_line(call("import", str(log), *labels, "--strict"))
    assert "1 new" in call("import", str(log), *labels).stdout
    assert call("best", "resnet18.C2").exit_code == Exit.NOT_FOUND
    found = json.loads(call("best", "resnet18.C2", "--source", "imported", "--target", "alpha", "--json").stdout)
    assert (found["source"], found["verified"], found["error"]) == ("imported", False, None)
    assert found["target"]["labels"] == {"cpu": "3700x"}
    assert "unverified" in call("best", "resnet18.C2", "--source", "imported").stdout
    assert call("best", "autotvm:none()", "--source", "imported").exit_code == Exit.NOT_FOUND
    assert call("best", "autotvm:none()").exit_code == Exit.NOT_FOUND
    back = call("export", "--format", "autotvm", "--workload", "resnet18.C2", "--target", "alpha").stdout
    assert json.loads(back) == json.loads(logs.autotvm())


def test_quarantine_lists_and_forgets(tmp_path: Path) -> None:
    log = tmp_path / "autotvm.log"
    log.write_text(f"{logs.autotvm()}\nnonsense\n")
    call("import", str(log))
    assert "autotvm.log:2: not JSON" in call("quarantine").stdout
    found = json.loads(call("quarantine", "--json", "--clear").stdout)
    assert (found["quarantined"], found["records"][0]["raw"]) == (1, "nonsense")
    assert call("quarantine").stdout == "0 in quarantine\n"


def test_a_tolerance_and_pinned_knobs_make_sessions_of_their_own() -> None:
    options = ("--trials", "3", "--threads", "1", "--tuner", "random", "--json")
    pins = ("--set", "unroll_k=1", "--set", "outer=n,m")
    free = json.loads(call("tune", WORKLOAD, *options).stdout)
    pinned = json.loads(call("tune", WORKLOAD, *pins, *options).stdout)
    assert (free["set"], pinned["set"]) == ({}, {"unroll_k": "1", "outer": "n,m"})
    assert (free["new"], pinned["new"]) == (3, 3)
    assert json.loads(call("tune", WORKLOAD, *pins[2:], *pins[:2], *options).stdout)["new"] == 0
    exact = json.loads(call("tune", WORKLOAD, "--tolerance", "1e-5", *options).stdout)
    assert exact["workload"].endswith(",tolerance=1e-05)")
    assert exact["new"] == 3
    trials = json.loads(call("history", WORKLOAD, "--json").stdout)["trials"]
    assert [(t["config"]["unroll_k"], t["config"]["outer"]) for t in trials[3:6]] == [(1, "n,m")] * 3
    assert json.loads(call("best", WORKLOAD, "--tolerance", "1e-5", "--json").stdout)["error"] <= 1e-5
    assert call("best", WORKLOAD, "--tolerance", "1e-12").exit_code == Exit.NOT_FOUND
    command = json.loads(call("best", WORKLOAD, "--explain", "--json").stdout)["command"]
    again = call(*shlex.split(command)[1:], "--json")
    assert json.loads(again.stdout)["new"] == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--set", "tile_k=4"), "Error: the space has no knob 'tile_k'; did you mean tile_n or tile_m"),
        (("--set", "outer=up"), "Error: knob outer cannot be up; it is one of "),
        (("--set", "outer"), "outer is not NAME=VALUE"),
        (("--set", "unroll_k=1", "--set", "unroll_k=2"), "a name is given twice"),
        (
            ("--tolerance", "tight"),
            "Error: tolerance must be a number above 0 and at most 1, such as 1e-5, not 'tight'",
        ),
        (("--target", "avx3"), "'avx3' is not one of"),
    ],
)
def test_a_knob_or_a_tolerance_that_there_is_not_is_one_line(option: tuple[str, ...], message: str) -> None:
    result = call("tune", WORKLOAD, *option)
    assert result.exit_code == Exit.USAGE
    assert message in result.stderr.splitlines()[-1]


@pytest.mark.skipif(Target.host().isa not in ISAS[:-1], reason="this machine has no narrower vectors to be limited to")
def test_a_target_with_fewer_features_is_tuned_shown_and_run_here() -> None:
    isa = ISAS[ISAS.index(Target.host().isa) + 1]
    options = ("--target", isa, "--threads", "1")
    assert json.loads(call("tune", WORKLOAD, "--trials", "2", *options, "--json").stdout)["measured"] == 2
    assert call("best", WORKLOAD).exit_code == Exit.NOT_FOUND
    found = json.loads(call("best", WORKLOAD, *options, "--json").stdout)
    assert found["target"]["vector_bits"] < Target.host().vector_bits or isa == "avx512"
    assert json.loads(call("top", WORKLOAD, *options, "--json").stdout)["schedules"][0]["trial"] == found["trial"]
    assert "zmm" not in call("show", WORKLOAD, "--what", "asm", *options).stdout or isa == "avx512"
    assert json.loads(call("run", WORKLOAD, *options, "--json").stdout)["verified"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "x", "--label", "cpu"),
        ("best", WORKLOAD, "--target", "alpha"),
        ("best", WORKLOAD, "--source", "imported", "--explain"),
        ("export", "--format", "parquet"),
        ("retract", "0" * 64),
        ("retract", "0" * 64, "--undo", "--reason", "x"),
        ("merge", "nowhere.sqlite"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == Exit.USAGE


def test_databases_are_merged_and_trials_retracted(tuned: dict[str, Any], url: str, tmp_path: Path) -> None:
    merged = json.loads(call("merge", url.removeprefix("sqlite:///"), "--json").stdout)
    assert (merged["read"], merged["new"]) == (TRIALS, TRIALS)
    assert call("best", WORKLOAD, "--json").stdout == call("best", WORKLOAD, "--db", url, "--json").stdout
    best = json.loads(call("best", WORKLOAD, "--explain", "--json").stdout)
    assert best["command"].startswith(f"tunedb tune '{WORKLOAD}' --trials {TRIALS} --tuner random --seed 0 --threads 1")
    assert best["command"] in call("best", WORKLOAD, "--explain").stdout
    assert "is retracted" in call("retract", best["trial"][:12], "--reason", "throttled").stdout
    assert json.loads(call("best", WORKLOAD, "--json").stdout)["trial"] == best["runner_up"]["trial"]
    assert call("retract", best["trial"], "--undo").exit_code == 0
    assert json.loads(call("best", WORKLOAD, "--json").stdout)["trial"] == best["trial"]
    assert json.loads(call("history", WORKLOAD, "--count", "2", "--json").stdout)["stored"] == TRIALS
    assert f"2 of {TRIALS} trials" in call("history", WORKLOAD, "-n", "2").stdout
    assert "rows are what they say" in call("check").stdout
    with tunedb.open() as db, db.write() as connection:
        connection.exec_driver_sql("UPDATE workload SET flops = 7")
    damaged = call("check")
    assert damaged.exit_code == Exit.FAILED
    assert "operations, not 7" in damaged.stdout
    copy = tmp_path / "copy.sqlite"
    assert call("backup", str(copy)).stdout == f"wrote {copy}\n"
    assert call("backup", str(copy)).exit_code == Exit.DATABASE


def test_db_commands_make_check_and_name_a_revision(tmp_path: Path) -> None:
    fresh = f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    assert json.loads(call("db", "current", "--db", fresh, "--json").stdout)["revision"] is None
    assert "empty ->" in call("db", "upgrade", "--db", fresh).stdout
    assert "already" in call("db", "upgrade", "--db", fresh).stdout
    assert json.loads(call("db", "check", "--db", fresh, "--json").stdout)["matches"] is True
    assert call("db", "current", "--db", fresh).exit_code == 0


def test_an_unknown_workload_gets_near_matches_in_one_line() -> None:
    result = call("best", "resnet18.C77")
    assert result.exit_code == Exit.USAGE
    assert "resnet18.C7" in error_line(result)


def test_a_malformed_key_gets_the_position_in_one_line() -> None:
    result = call("tune", "matmul(m=8,k=8,n==8)")
    assert result.exit_code == Exit.USAGE
    assert "position 17" in error_line(result)


def test_nothing_stored_has_its_own_exit_code_and_says_what_to_do() -> None:
    for command in (("best",), ("top",), ("show",), ("run",)):
        result = call(*command, WORKLOAD)
        assert result.exit_code == Exit.NOT_FOUND
        assert "tunedb tune" in error_line(result)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.sqlite", "nonsense", "mysql://localhost/x"])
def test_a_database_that_cannot_be_used_has_its_own_exit_code(url: str) -> None:
    for command in (["best", WORKLOAD], ["stats"], ["db", "upgrade"]):
        result = call(*command, "--db", url)
        assert result.exit_code == Exit.DATABASE
        error_line(result)


def test_a_database_of_a_newer_program_is_left_alone(tuned: dict[str, Any], url: str, tmp_path: Path) -> None:
    copy = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(copy)) as newer:
        source.backup(newer)
        newer.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        newer.commit()
    for command in (["best", WORKLOAD], ["db", "upgrade"], ["db", "check"]):
        result = call(*command, "--db", f"sqlite:///{copy}")
        assert result.exit_code == Exit.DATABASE
        assert "9999" in error_line(result)


def test_an_unknown_option_is_a_mistake_of_usage() -> None:
    assert call("best", WORKLOAD, "--nonsense").exit_code == Exit.USAGE


def test_an_interrupted_session_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'interrupted.sqlite'}"
    code, output, errors = tune_until(signal.SIGINT, place)
    assert code == Exit.INTERRUPTED
    assert output == ""
    assert errors.count("\n") == 1
    assert "same command" in errors
    assert_goes_on(place)


def test_a_killed_session_has_lost_nothing_and_goes_on(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'killed.sqlite'}"
    code, _, _ = tune_until(signal.SIGKILL, place)
    assert code == -signal.SIGKILL
    assert_goes_on(place)


RESUMED = ("tune", WORKLOAD, "--threads", "1", "--tuner", "random")


def tune_until(signal_number: signal.Signals, place: str) -> tuple[int, str, str]:
    """Tune in a process that gets a signal when it has stored a few trials; its exit code, output and errors."""
    program = [sys.executable, "-m", "tunedb", *RESUMED, "--db", place, "--trials", "100000"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            wait_for_trials(place, 3)
            if signal_number is signal.SIGINT:
                os.killpg(process.pid, signal_number)  # as a terminal does: the measuring process gets it too
            else:
                process.send_signal(signal_number)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output, errors


def heed_interrupts() -> None:
    """Whoever runs the tests in the background of a shell has told all its children to ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def assert_goes_on(place: str) -> None:
    """The same command takes the session up where it stood, and tries no schedule twice."""
    with tunedb.open(place) as db:
        stored = len(db.history(tunedb.workload(WORKLOAD)))
    again = json.loads(call(*RESUMED, "--db", place, "--trials", str(stored + 3), "--json").stdout)
    assert (again["trials"], again["new"]) == (stored + 3, 3)
    with tunedb.open(place) as db:
        history = db.history(tunedb.workload(WORKLOAD))
    assert [trial.sequence for trial in history] == list(range(stored + 3))
    assert len({trial.schedule.fingerprint for trial in history}) == stored + 3


def wait_for_trials(place: str, number: int) -> None:
    """Until another process has stored so many."""
    path = Path(place.removeprefix("sqlite:///"))
    for _ in range(600):
        if path.exists():
            with tunedb.open(place) as db:
                if db.stats().trials >= number:
                    return
        time.sleep(0.1)
    pytest.fail("no trials were stored")


def test_a_command_does_not_load_scikit_learn_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise SystemExit('scikit-learn was loaded')")
    path = os.pathsep.join([str(tmp_path), str(Path(tunedb.__file__).parent.parent)])
    place = f"sqlite:///{tmp_path / 'a.sqlite'}"
    command = [sys.executable, "-m", "tunedb", "best", WORKLOAD, "--predict", "--db", place]
    asked = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert "no trial" in asked.stderr
