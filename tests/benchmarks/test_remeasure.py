"""A log is timed again on equal terms: the same trials, other times, and where and when these were taken."""

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.remeasure import main
from tunedb.formats import native
from tuner.environment import detect
from tuner.target import Target
from tuner.templates import template_for
from tuner.trial import Environment, Status, Trial
from tuner.workload import matmul

WORKLOAD, TARGET = matmul(m=32, k=32, n=32), Target.host(threads=1)
TEMPLATE = template_for(WORKLOAD, TARGET)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def record() -> native.Record:
    config = TEMPLATE.default(WORKLOAD, TARGET)
    trial = Trial(
        WORKLOAD,
        TARGET,
        Environment((("commit", "old"),)),
        TEMPLATE.key,
        config,
        TEMPLATE.schedule(WORKLOAD, TARGET, config),
        Status.CORRECT,
        (1.0,),
        created=LONG_AGO,
    )
    return native.Record(trial, ((1.0,),), {}, LONG_AGO)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    failed = record()
    failed = replace(failed, trial=replace(failed.trial, status=Status.RUNTIME, times=()), rounds=())
    path = tmp_path / "log.jsonl.gz"
    with gzip.open(path, "wt") as stream:
        stream.writelines(native.encode(each) + "\n" for each in (record(), failed, record()))
    return path


def read(path: Path) -> list[native.Record]:
    with gzip.open(path, "rt") as stream:
        return [native.decode(line) for line in stream]


def test_trials_get_the_fastest_half_of_the_rounds_and_say_with_what(log: Path, tmp_path: Path) -> None:
    assert main([str(log), str(tmp_path / "times"), WORKLOAD.label, "--rounds", "5"]) == 0
    first, failed, again = read(tmp_path / "times" / log.name)
    assert len(first.trial.times) == 3
    assert max(first.trial.times) < 1.0
    assert first.trial.times == again.trial.times
    assert first.trial.environment == detect()
    assert first.trial.created > LONG_AGO
    assert first.trial.config == record().trial.config
    assert failed.trial.status is Status.RUNTIME
    assert failed.trial.created == LONG_AGO


def test_what_the_folder_has_is_not_measured_again_and_what_it_lacks_stays(log: Path, tmp_path: Path) -> None:
    assert main([str(log), str(tmp_path / "times"), "--rounds", "0"]) == 0
    assert read(tmp_path / "times" / log.name) == read(log)


@pytest.mark.parametrize(
    ("label", "hint"),
    [("matmul(m=32,k=32,n=23)", f"did you mean {WORKLOAD.label}?"), ("C7", f"it has {WORKLOAD.label}")],
)
def test_a_label_that_the_log_does_not_have_is_one_line_and_nothing_is_timed(
    label: str, hint: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(log), str(tmp_path / "times"), WORKLOAD.label, label]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Error: {log} has no timed trials of {label!r} on {TARGET.name}; {hint}\n")
    assert not (tmp_path / "times").exists()


def test_a_log_that_cannot_be_read_is_one_line(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(log, "at") as stream:
        stream.write("{}\n")
    assert main([str(log), str(tmp_path / "times")]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {log}, line 4: ")
    assert main([str(tmp_path / "none.gz"), str(tmp_path / "times")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
