"""The logs of other tools: what is read, what is refused, what comes back."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunedb
from tests.tunedb import logs, samples
from tunedb import Database
from tunedb.errors import FormatError, NotFoundError
from tunedb.foreign import ForeignTrial, ForeignWorkload
from tunedb.formats.common import About, Parsed, Rejected
from tunedb.formats.registry import FORMATS, format_of
from tunedb.formats.selection import Selection
from tunedb.formats.source import Source, open_source
from tunedb.formats.tvm import workload_of
from tuner.trial import Status
from tuner.workload import Workload, parse

C2 = parse("resnet18.C2")
REAL = Path(__file__).parents[3] / "shared" / "data"
real_files = pytest.mark.skipif(not REAL.is_dir(), reason="no real logs lie beside this checkout")
Write = Callable[..., str]


@pytest.fixture
def log(tmp_path: Path) -> Write:
    """Writes lines to a file, and says where it is."""

    def write(*lines: str, name: str = "some.log") -> str:
        path = tmp_path / name
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return str(path)

    return write


def exported(db: Database, name: str, selection: Selection = Selection()) -> str:  # noqa: B008  # immutable
    stream = io.StringIO()
    write = FORMATS[name].write
    assert write is not None
    write(db, stream, selection)
    return stream.getvalue()


def in_order(line: str) -> str:
    """The content of a line: its fields in one order, its numbers as they are."""
    return json.dumps(json.loads(line), sort_keys=True)


def everything(db: Database) -> list[ForeignTrial]:
    return list(Selection().foreign(db))


def test_a_record_of_autotvm_answers_to_our_name_of_its_layer(db: Database, log: Write) -> None:
    db.import_log(log(logs.autotvm(0), logs.autotvm(1, result=[[0.1], 0, 1.5, logs.START])))
    (best,) = db.imported(C2)
    assert best.workload == C2
    assert (best.seconds, best.times, best.status) == (0.1, (0.1,), Status.CORRECT)
    assert best.schedule == json.loads(logs.autotvm(1))["config"]
    assert best.template == "autotvm:conv2d_NCHWc.x86/0.2"
    assert best.target.target == "llvm -keys=cpu -mcpu=znver2"
    assert dict(best.environment.facts)["tvm"] == "0.10.0"
    assert best.gflops == C2.flops / 0.1 / 1e9


def test_what_was_imported_is_never_the_best(db: Database, log: Write) -> None:
    db.import_log(log(logs.autotvm()))
    with pytest.raises(NotFoundError):
        db.best(C2)
    with pytest.raises(NotFoundError):
        db.top(C2)
    assert db.history(C2) == ()
    assert db.stats().verified == 0


def test_importing_overlapping_files_adds_each_record_once(db: Database, log: Write) -> None:
    lines = [logs.autotvm(index) for index in range(5)]
    db.import_log(log(*lines[:3], lines[0]))
    second = db.import_log(log(*lines[1:], name="other.log.gz"))
    assert (second.read, second.new, second.duplicate) == (4, 2, 2)
    assert db.stats().trials == 5


def test_machine_and_labels_are_part_of_the_target(db: Database, log: Write) -> None:
    path = log(logs.autotvm())
    db.import_log(path)
    db.import_log(path, machine="alpha", labels={"cpu": "3700x"})
    assert db.import_log(path, machine="beta").new == 1
    with pytest.raises(NotFoundError, match=r"3 targets have imported records of resnet18\.C2"):
        db.imported(C2)
    assert db.imported(C2, "alpha")[0].target.labels == (("cpu", "3700x"),)
    assert db.imported(C2, "3700x") == db.imported(C2, "alpha")
    with pytest.raises(NotFoundError, match="no target 'gamma'"):
        db.imported(C2, "gamma")


def test_the_order_of_a_targets_options_does_not_matter(db: Database, log: Write) -> None:
    first = json.loads(logs.autotvm())["input"]
    other = ["llvm  -keys=cpu -mcpu=znver2", *first[1:]]
    db.import_log(log(logs.autotvm(0), logs.autotvm(1, input=other)))
    assert db.stats().targets == 1


def test_lines_of_autotvm_come_back_equal_in_content(db: Database, log: Write) -> None:
    more = logs.autotvm(3, note={"by": "someone"})
    lines = [logs.autotvm(1), logs.FAILED, more, logs.autotvm(2, result=[[1.5], 0, 2, 1677395401])]
    db.import_log(log("# a comment, as TopHub has", *lines))
    text = exported(db, "autotvm")
    assert sorted(map(in_order, text.splitlines())) == sorted(map(in_order, lines))


def test_fields_of_autotvm_may_come_in_any_order(db: Database, log: Write) -> None:
    def line(index: int, *names: str) -> str:
        data = json.loads(logs.autotvm(index, result=[[1.5 + index], 0, 1.5, 1]))
        data["input"][1] = "config"  # also the name of a field
        return json.dumps({name: data[name] for name in (*names, *data)})

    orders = [
        (),
        (),
        ("version",),
        ("config",),
        ("result", "input"),
        ("input", "tvm_version"),
        ("input", "tvm_version"),
    ]
    lines = [line(index, *names) for index, names in enumerate(orders)]
    assert db.import_log(log(*lines)).new == len(lines)
    assert db.stats().workloads == db.stats().targets == 1
    assert sorted(map(in_order, exported(db, "autotvm").splitlines())) == sorted(map(in_order, lines))


def test_a_failure_of_autotvm_has_a_status_and_no_time(db: Database, log: Write) -> None:
    db.import_log(log(logs.FAILED))
    (failed,) = everything(db)
    assert (failed.status, failed.seconds, failed.times) == (Status.COMPILE, None, ())
    with pytest.raises(NotFoundError, match="are failures"):
        db.imported(C2)


def test_a_retracted_record_is_not_given_to_another_tool(db: Database, log: Write) -> None:
    db.import_log(log(logs.autotvm(0), logs.autotvm(1)))
    written = exported(db, "autotvm").splitlines()
    db.retract(db.imported(C2)[0].fingerprint, "throttled")
    assert len(written) == 2
    assert len(exported(db, "autotvm").splitlines()) == 1
    assert [row["retracted"] for row in csv.DictReader(io.StringIO(exported(db, "csv")))].count("throttled") == 1


def test_every_format_goes_round(tmp_path: Path, db: Database, log: Write) -> None:
    db.import_log(log(logs.autotvm(0), logs.FAILED))
    (tmp_path / "kernel_T4.json").write_text(json.dumps(logs.t4()))
    db.import_log(str(tmp_path / "kernel_T4.json"))
    for name in ("autotvm", "t4"):
        again = tmp_path / f"again.{name}"
        again.write_text(exported(db, name))
        with tunedb.open(f"sqlite:///{tmp_path / name}.sqlite") as other:
            other.import_log(str(again))
            assert everything(other) == [each for each in everything(db) if each.format == name]
            assert exported(other, name) == again.read_text()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps({"i": ["llvm", "conv2d", []], "r": [[1], 0, 1, 1], "v": 0.1}), "version 0.1"),
        ("llvm -mcpu=core-avx2\tgANYBgAAAGNvbnYyZA==\tgAN9\tgANd\t0.2\t0.7", "pickled"),
        (logs.autotvm(version=0.3), "version 0.3"),
        (logs.autotvm(result=[[0.0], 0, 1, 1]), "positive"),
        (logs.autotvm(result=[[-1], 0, 1, 1]), "positive"),
        (logs.autotvm(result=[[1e9], 0, 1, 1]), "below"),
        (logs.autotvm(result=[[True], 0, 1, 1]), "a number of seconds"),
        (logs.autotvm(result=[[], 0, 1, 1]), "a list of seconds"),
        (logs.autotvm(result=[[1], 9, 1, 1]), "error number 9"),
        (logs.autotvm(result=[[1], 0, 1, 1e300]), "timestamp"),
        (logs.autotvm(result=[[1], 0, -1, 1]), "all cost"),
        (logs.autotvm(result=[1]), "result must be"),
        (logs.autotvm(config={"index": 1}), "entity"),
        (logs.autotvm(input=["llvm", "conv2d"]), "input must be"),
        (logs.autotvm(input=["llvm", "conv2d", ["x" * 9000], {}]), "longer than"),
        (logs.autotvm().replace("0.25", "NaN"), "not JSON"),
        (logs.autotvm().replace('"index": 0', '"index": 0, "index": 1'), "'index' is given twice"),
        (logs.autotvm()[:-1] + ', "input": 1}', "'input' is given twice"),
        (UNQUOTED := logs.autotvm().replace('"version"', "version"), f"at column {UNQUOTED.index('version') + 1}"),
        ("\udcff\udcfe", "not JSON"),
        ("[" * 5000, "not JSON"),
        (logs.autotvm(tvm_version="0\0"), "NUL"),
        (logs.autotvm(note="@@").replace('"@@"', "[" * 300 + "]" * 300), "nested too deeply"),
        (logs.autotvm(result=[[-0.5, 1], 0, 1, 1]), "positive"),
        (logs.autotvm().replace("64, 56", "1" + "0" * 400 + ", 56"), "not JSON"),
        (logs.ansor(), "input"),
        (logs.metaschedule(), "no object"),
        ("[]", "no object"),
    ],
)
def test_a_bad_line_goes_to_quarantine_and_the_others_are_kept(
    db: Database, log: Write, line: str, reason: str
) -> None:
    path = log(logs.autotvm(), line, logs.autotvm(1))
    result = db.import_log(path, "autotvm")
    assert (result.read, result.new, result.quarantined) == (3, 2, 1)
    number, (kept,) = db.quarantine()
    assert (number, kept.line, kept.file, kept.format) == (1, 2, "some.log", "autotvm")
    assert reason in kept.reason
    assert kept.raw.startswith(line[:2]) or line.startswith("\udcff")
    db.import_log(path, "autotvm")
    assert db.quarantine()[0] == 1
    assert db.clear_quarantine() == 1
    assert db.quarantine() == (0, ())


def test_strict_ends_at_the_first_bad_line_with_nothing_written(db: Database, log: Write) -> None:
    with pytest.raises(FormatError, match=r"some\.log, line 2: not JSON.*nothing was imported"):
        db.import_log(log(logs.autotvm(), "{", logs.autotvm(1)), "autotvm", strict=True)
    assert db.stats().trials == db.quarantine()[0] == 0


def test_a_dry_run_counts_and_writes_nothing(db: Database, log: Write) -> None:
    path = log(logs.autotvm(), logs.autotvm(), "{")
    result = db.import_log(path, "autotvm", dry_run=True)
    assert (result.new, result.duplicate, result.quarantined) == (1, 1, 1)
    assert db.stats().trials == db.stats().workloads == db.quarantine()[0] == 0


def test_a_line_without_an_end_is_put_aside(db: Database, log: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunedb.formats.source.LONGEST_LINE", 4000)
    result = db.import_log(log(logs.autotvm(), "x" * 3_000_000, logs.autotvm(1)), "autotvm")
    assert (result.new, result.rejected[0].line) == (2, 2)
    assert "longer than" in result.rejected[0].reason
    assert len(db.quarantine()[1][0].raw) <= 2000


def test_a_log_that_is_deleted_meanwhile_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_text(logs.autotvm() + "\n")
    with open_source(str(path)) as source:
        path.unlink()
        assert sum(isinstance(each, Parsed) for each in FORMATS["autotvm"].read(source, About())) == 1
        assert source.fraction == 1


def test_nothing_is_kept_of_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    inputs = (["llvm", "conv2d", [str(number) * 1_000_000], {}] for number in range(10, 40))
    path.write_text("".join(logs.autotvm(input=given, version=0.3) + "\n" for given in inputs))  # 60 MB
    tracemalloc.start()
    with open_source(str(path)) as source:
        assert sum(isinstance(each, Rejected) for each in FORMATS["autotvm"].read(source, About())) == 30
    assert tracemalloc.get_traced_memory()[1] < 100_000_000  # one of 2 MB takes 33, while it is read
    tracemalloc.stop()


def test_what_came_before_the_end_of_a_cut_file_is_imported(db: Database, tmp_path: Path) -> None:
    lines = "".join(logs.autotvm(index, result=[[1 + index], 0, 1, 1]) + "\n" for index in range(1000))
    path = tmp_path / "cut.log.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-10])
    with pytest.raises(FormatError, match="ends in the middle"):
        db.import_log(str(path))
    assert db.stats().trials > 500


TENSOR = ["TENSOR", [1, 64, 56, 56], "float32"]
WEIGHT = ["TENSOR", [64, 64, 3, 3], "float32"]
WINDOW = [[1, 1], [1, 1, 1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("task", "arguments", "key"),
    [
        ("conv2d_nchw.cuda", [TENSOR, WEIGHT, *WINDOW, "float32"], "resnet18.C2"),
        ("conv2d_nchw_spatial_pack.arm_cpu", [TENSOR, WEIGHT, 1, 1, 1, "float32"], "resnet18.C2"),
        ("conv2d_nchw_winograd.mali", [TENSOR, WEIGHT, *WINDOW, "float32"], "resnet18.C2"),
        (
            "conv2d_NCHWc.x86",
            [
                ["TENSOR", [1, 4, 56, 56, 16], "float32"],
                ["TENSOR", [4, 4, 3, 3, 16, 16], "float32"],
                *WINDOW,
                "NCHW16c",
                "NCHW16c",
                "float32",
            ],
            "resnet18.C2(layout=NCHW16c)",
        ),
        (
            "depthwise_conv2d_nchw.cuda",
            [["TENSOR", [1, 32, 112, 112], "float32"], ["TENSOR", [32, 1, 3, 3], "float32"], *WINDOW, "float32"],
            "mobilenet.D1",
        ),
        (
            "dense_nopack.x86",
            [["TENSOR", [1, 512], "float32"], ["TENSOR", [1000, 512], "float32"], None, "float32"],
            "dense(ci=512,co=1000)",
        ),
        (
            "dense.mali",
            [
                ["TENSOR", [1, 512], "float32"],
                ["TENSOR", [1000, 512], "float32"],
                ["TENSOR", [1000], "float32"],
                None,
            ],
            "dense(ci=512,co=1000,epilogue=bias)",
        ),
    ],
)
def test_a_task_that_computes_the_same_is_the_same_workload(task: str, arguments: list[Any], key: str) -> None:
    assert workload_of(task, arguments, {}) == parse(key)


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("conv2d_nhwc.x86", [TENSOR, WEIGHT, *WINDOW, "float32"]),
        ("conv2d_nchw.cuda", [["TENSOR", [1, 64, 56, 56], "int8"], WEIGHT, *WINDOW, "int32"]),
        ("conv2d_nchw.cuda", [TENSOR, WEIGHT, *WINDOW, "float16"]),
        ("conv2d_nchw.cuda", [TENSOR, ["TENSOR", [64, 32, 3, 3], "float32"], *WINDOW, "float32"]),
        ("conv2d_NCHWc.x86", [TENSOR, WEIGHT, *WINDOW, "NCHW", "NCHW16c", "float32"]),
        ("depthwise_conv2d_nchw.cuda", [TENSOR, ["TENSOR", [64, 2, 3, 3], "float32"], *WINDOW, "float32"]),
        ("batch_matmul.cuda", [["TENSOR", [1, 128, 20], "float32"], ["TENSOR", [1, 128, 20], "float32"]]),
        ("conv2d_nchw.cuda", [["TENSOR", [1, 64, 2**40, 56], "float32"], WEIGHT, *WINDOW, "float32"]),
        ("conv2d_nchw.cuda", [TENSOR, WEIGHT]),
        ("conv2d_nchw.cuda", []),
    ],
)
def test_what_is_computed_otherwise_keeps_its_own_name(db: Database, log: Write, task: str, arguments: Any) -> None:
    assert workload_of(task, arguments, {}) is None
    db.import_log(log(logs.autotvm(input=["cuda", task, arguments, {}])))
    (kept,) = everything(db)
    assert isinstance(kept.workload, ForeignWorkload)
    assert kept.workload.key.startswith(f"autotvm:{task}(")
    assert db.imported(kept.workload)[0] == kept


def test_records_of_auto_scheduler_keep_their_steps(db: Database, log: Write) -> None:
    db.import_log(log(logs.ansor(), logs.ansor(r=[[1e10], 4, 1, 1698859893])))
    correct, failed = sorted(everything(db), key=lambda each: each.status)
    assert (correct.status, correct.times, failed.status) == (Status.CORRECT, tuple(logs.COSTS), Status.RUNTIME)
    assert correct.schedule == json.loads(logs.ansor())["i"][1]
    assert correct.workload.key == "ansor:6d12([1,1,28,28,128],[1,4,28,28,32])"
    assert correct.target.target == "llvm -keys=cpu [8,64,64,0,0,0,0,0]"


def test_the_two_files_of_metaschedule_are_read_together(db: Database, log: Write) -> None:
    log(logs.METASCHEDULE_WORKLOAD, name="net_database_workload.json.gz")
    path = log(
        logs.metaschedule(), logs.metaschedule(0, [1e10]), logs.metaschedule(1), name="net_database_tuning_record.json"
    )
    result = db.import_log(path)
    assert (result.format, result.new, result.quarantined) == ("metaschedule", 2, 1)
    assert "workload 1 is not in the file of workloads, which has 1" in result.rejected[0].reason
    assert {each.status for each in everything(db)} == {Status.CORRECT, Status.RUNTIME}
    assert everything(db)[0].workload.key.startswith("metaschedule:74459984568761439(")


def test_one_file_of_metaschedule_alone_is_refused(db: Database, log: Write) -> None:
    with pytest.raises(FormatError, match="is two files"):
        db.import_log(log(logs.METASCHEDULE_WORKLOAD))
    with pytest.raises(FormatError, match="No such file"):
        db.import_log(log(logs.metaschedule(), name="database_tuning_record.json"))


@pytest.mark.parametrize("ending", ["}}", ",", ""])
def test_a_cache_of_kernel_tuner_is_read_even_when_it_was_left_open(db: Database, log: Write, ending: str) -> None:
    text = json.dumps(logs.kernel_tuner())
    db.import_log(log(text.removesuffix("}}") + ending if ending != "" else text))
    correct, failed, illegal = sorted(everything(db), key=lambda each: list(Status).index(each.status))
    assert (failed.status, illegal.status) == (Status.COMPILE, Status.CONSTRAINTS)
    assert correct.times == (3.9761919975 / 1e3, 3.87 / 1e3, 3.875 / 1e3)
    assert correct.compile_seconds == 0.9185
    assert correct.schedule == {"block": 16, "unroll": 1}
    assert (correct.workload.key, correct.target.target) == ("kernel-tuner:convolution([4096,4096])", "A100")


def test_t4_of_two_kernels_is_refused(db: Database, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(json.dumps(logs.t4()))
        db.import_log(str(tmp_path / name))
    with pytest.raises(FormatError, match="name one with --workload"):
        exported(db, "t4")
    one = json.loads(exported(db, "t4", Selection(ForeignWorkload("t4", "t4:one"))))
    assert one["metadata"] == {"timeunit": "miliseconds", "kernel": "one", "device": "unknown device"}
    assert one["results"] == logs.t4()["results"]


def test_a_table_has_ours_and_theirs(db: Database, log: Write, tmp_path: Path) -> None:
    with db.session(samples.arguments()) as session:
        session.add(samples.trial(0))
    db.import_log(log(logs.autotvm(), logs.FAILED))
    rows = list(csv.DictReader(io.StringIO(exported(db, "csv"))))
    assert sorted(row["origin"] for row in rows) == ["autotvm", "autotvm", "tunedb"]
    own = next(row for row in rows if row["origin"] == "tunedb")
    assert (float(own["seconds"]), json.loads(own["times"])) == (0.25, [[0.25, 0.5, 0.125]])
    assert json.loads(own["config"])["tile"] == [1, 4]
    parquet = pytest.importorskip("pyarrow.parquet")
    write = FORMATS["parquet"].write_file
    assert write is not None
    assert write(db, tmp_path / "all.parquet", Selection()) == 3
    table = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["trial"] for row in table] == [row["trial"] for row in rows]
    assert [row["seconds"] for row in table if row["verified"]] == [0.25]


@pytest.mark.parametrize("content", [b"", b"  \n", b"hello\n", b"\x00\x01", b"SQLite format 3\x00"])
def test_a_file_in_no_format_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError, match=r"is empty|in no format that tunedb knows"):
        format_of(Source("some", io.BufferedReader(io.BytesIO(content))))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (logs.autotvm(), "autotvm"),
        (f"# comment\n{logs.autotvm()}", "autotvm"),
        (logs.ansor(), "ansor"),
        (logs.metaschedule(), "metaschedule"),
        (logs.METASCHEDULE_WORKLOAD, "metaschedule"),
        (json.dumps(logs.kernel_tuner(), indent=1), "kernel-tuner"),
        (json.dumps(logs.t4(), indent=1), "t4"),
    ],
)
def test_a_format_is_told_from_the_beginning(text: str, name: str) -> None:
    assert format_of(Source("some", io.BufferedReader(io.BytesIO(text.encode())))).name == name


@real_files
@pytest.mark.parametrize(
    ("name", "read", "duplicate"),
    [
        ("tophub/arm_cpu_v0.08.log", 1164, 0),
        ("tophub/cuda_v0.10.log", 825, 1),
        ("tophub/llvm_v0.04.log", 35, 0),
        ("tophub/mali_v0.06.log", 528, 0),
        ("autotvm-x86-3700x/resnet-18.droplet.log.gz", 1340, 0),
        ("ansor/resnet18-x86.json.gz", 1025, 0),
        ("kernel-tuner/convolution_milo-A100.json.gz", 4362, 0),
        ("kernel-tuner/convolution_milo-A100_T4.json.gz", 4362, 0),
    ],
)
def test_real_files_are_read_to_the_last_record(db: Database, name: str, read: int, duplicate: int) -> None:
    result = db.import_log(str(REAL / name))
    assert (result.read, result.duplicate, result.quarantined) == (read, duplicate, 0)
    assert db.import_log(str(REAL / name)).new == 0


@real_files
def test_real_lines_of_autotvm_come_back_equal(db: Database) -> None:
    path = REAL / "autotvm-x86-3700x" / "resnet-18.droplet.log.gz"
    db.import_log(str(path), machine="3700x")
    with gzip.open(path, "rt") as lines:
        original = sorted(map(in_order, lines))
    assert sorted(map(in_order, exported(db, "autotvm").splitlines())) == original


@real_files
def test_all_layers_of_resnet_answer_from_a_real_log(db: Database) -> None:
    db.import_log(str(REAL / "autotvm-x86-3700x" / "resnet-18.droplet.log.gz"), machine="3700x")
    for number in range(1, 13):
        workload: Workload = parse(f"resnet18.C{number}")
        (best,) = db.imported(workload, "3700x")
        assert best.seconds is not None
        assert best.seconds > 0
