"""The benchmark compares like with like: right results only, everybody in turn, and honest means."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contender
from benchmarks.bench_kernels import main, select, store, task_of
from benchmarks.race import HERE, Contender, Result, processes, race
from benchmarks.table import Row, mean, render, summary
from tuner.errors import WorkloadError
from tuner.target import Target
from tuner.workload import Workload, conv2d, dense, depthwise_conv2d, matmul, parse, random_arrays, reference

SMALL = conv2d(ci=32, h=9, w=9, co=32, k=3, pad=1)
PYTHON = Path(sys.executable)


def foreign(folder: Path, name: str, run: str, output: str = "np.zeros(1)") -> Contender:
    """A contender that somebody else has written."""
    file = folder / f"{name}.py"
    file.write_text(
        "import os\nimport numpy as np\nVERSION = '1'\n"
        f"def prepare(task, x, w, threads, opts):\n    return lambda: {run}, lambda: {output}\n"
    )
    return Contender(name, file, PYTHON, {})


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.sqlite'}"


@pytest.mark.parametrize("layout", ["NCHW", "NCHW16c", "own"])
@pytest.mark.parametrize(
    "workload",
    [
        SMALL,
        conv2d(ci=3, h=11, w=11, co=16, k=7, stride=2, pad=3),
        depthwise_conv2d(c=32, h=8, w=8, k=3, stride=2, pad=1),
    ],
    ids=str,
)
def test_our_contender_computes_a_convolution_in_either_layout(workload: Workload, layout: str, database: str) -> None:
    arrays = random_arrays(workload, seed=0)
    task = task_of(workload)
    run, get = contender.prepare(task, arrays["data"], arrays["weight"], 1, {"layout": layout, "db": database})
    run()
    np.testing.assert_allclose(get(), reference(workload, arrays), atol=1e-4)
    assert contender.NOTE[task["name"]] == "default"


def test_our_own_layout_fills_vectors_and_where_there_are_matrix_registers_these() -> None:
    vectors = replace(Target.host(), features=("avx512f",))
    matrices = replace(vectors, features=("amx-bf16", "amx-tile", "avx512f"))
    layouts = {
        (ci, co, target.has_tiles): contender.layout_of(task_of(conv2d(ci=ci, h=8, w=8, co=co, k=3)), "own", target)
        for ci, co in ((3, 64), (64, 128), (48, 64), (24, 64))
        for target in (vectors, matrices)
    }
    assert [layouts[3, 64, tiles] for tiles in (False, True)] == ["NCHW16c", "NCHW32c"]
    assert [layouts[64, 128, tiles] for tiles in (False, True)] == ["NCHW16c", "NCHW32c"]
    assert [layouts[48, 64, tiles] for tiles in (False, True)] == ["NCHW16c", "NCHW16c"]
    assert [layouts[24, 64, tiles] for tiles in (False, True)] == ["NCHW", "NCHW32c"]
    deep = task_of(depthwise_conv2d(c=64, h=8, w=8, k=3))
    assert contender.layout_of(deep, "own", matrices) == "NCHW16c"


def test_our_contender_computes_a_matrix_product(database: str) -> None:
    workload = matmul(m=5, k=40, n=24)
    arrays = random_arrays(workload, seed=0)
    run, get = contender.prepare(task_of(workload), arrays["a"], arrays["b"], 1, {"db": database})
    run()
    np.testing.assert_allclose(get(), arrays["a"] @ arrays["b"], atol=1e-4)


def test_a_dense_layer_is_handed_out_as_a_matrix_product(tmp_path: Path) -> None:
    store(dense(m=3, ci=8, co=5), tmp_path)
    x, w, expected = (np.load(tmp_path / f"{name}.npy") for name in ("x", "w", "reference"))
    np.testing.assert_allclose(x @ w, expected, atol=1e-5)


def test_a_race_times_the_right_and_says_why_the_others_are_left_out(tmp_path: Path, database: str) -> None:
    store(SMALL, tmp_path)
    contenders = [
        Contender("ours", HERE / "contender.py", PYTHON, {"db": database}),
        Contender("peak", HERE / "peak.py", PYTHON, {}),
        Contender("absent", HERE / "contender.py", tmp_path / "python", {}),
        foreign(tmp_path, "wrong", "None", "np.full((1, 32, 9, 9), 1e3)"),
        foreign(tmp_path, "blank", "None", "np.full((1, 32, 9, 9), np.nan)"),
        foreign(tmp_path, "dying", "os._exit(3)"),
        foreign(tmp_path, "clumsy", "1 / 0"),
    ]
    with processes(contenders, 1) as runners:
        results = race(runners, task_of(SMALL), tmp_path, rounds=2, seconds=0.002)
    assert len(results["ours"].samples) >= 2
    assert results["ours"].flops == SMALL.flops
    assert results["ours"].error is not None
    assert results["peak"].flops > 0
    assert results["peak"].error is None
    problems = {name: str(result.problem) for name, result in results.items() if not result.samples}
    assert problems.keys() == {"absent", "wrong", "blank", "dying", "clumsy"}
    assert "cannot be started" in problems["absent"]
    assert "wrong result" in problems["wrong"]
    assert "wrong result" in problems["blank"]
    assert "ended with 3" in problems["dying"]
    assert "division by zero" in problems["clumsy"]


def row(**seconds: float) -> Row:
    results = {name: Result((value,) * 3, 10**9) for name, value in seconds.items() if value}
    return Row("one", "own", 1, results | {name: Result(problem="no") for name in seconds.keys() - results.keys()})


def test_a_row_compares_with_the_fastest_peer_and_with_the_peak() -> None:
    one = row(peak=1.0, tunedb=2.0, slow=8.0, quick=4.0)
    assert one.fastest_peer == "quick"
    assert one.ratio == pytest.approx(2.0)
    assert one.share("tunedb") == pytest.approx(0.5)


def test_without_a_peer_there_is_no_ratio() -> None:
    one = row(peak=1.0, tunedb=2.0, absent=0.0)
    assert one.fastest_peer is None
    assert one.ratio is None
    assert "| -" in render([one])


def test_means_are_geometric_and_only_of_complete_columns() -> None:
    rows = [row(peak=1.0, tunedb=1.0, peer=2.0, ill=1.0), row(peak=1.0, tunedb=4.0, peer=2.0, ill=0.0)]
    total = summary(rows)
    assert total["gflops"]["tunedb"] == pytest.approx(0.5)
    assert total["gflops"]["ill"] is None
    assert total["worst"] == {"workload": "one", "ratio": pytest.approx(0.5)}
    assert mean([1.0, None]) is None


def test_patterns_choose_named_layers() -> None:
    assert select(["resnet18.C?", "resnet18.C2"]) == [parse(f"resnet18.C{number}") for number in range(1, 10)]


@pytest.mark.parametrize(
    "key",
    [
        "resnet18.C2(n=2)",
        "resnet18.C2(epilogue=relu)",
        "conv2d(ci=8,h=9,w=9,co=8,k=1x7)",
        "batch_matmul(b=2,m=8,k=8,n=8)",
    ],
)
def test_what_not_all_contenders_can_do_is_refused(key: str) -> None:
    with pytest.raises(WorkloadError):
        task_of(parse(key))


def test_without_peers_the_tables_and_the_json_still_say_what_we_reach(
    tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    options = ["--threads", "1", "--layouts", "NCHW", "--rounds", "1", "--db", database, "--json", str(file)]
    assert main([SMALL.key, *options, "--peers", str(tmp_path / "absent")]) == 0
    printed = capsys.readouterr().out
    assert "| geometric mean" in printed
    assert "oneDNN left out of every row" in printed
    (table,) = json.loads(file.read_text())["tables"]
    assert table["rows"][0]["contenders"]["tunedb"]["gflops"] > 0
    assert table["rows"][0]["ratio"] is None


@pytest.mark.parametrize("options", [["resnet18.C99"], ["--threads", "4096"], ["--threads", "1", "--json", "no/x"]])
def test_a_mistake_is_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 1
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--rounds", "x"], ["--tune", "-1"], ["--threads", "1,x"]])
def test_what_is_no_number_ends_it_before_anything_is_measured(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([SMALL.key, *option])
    assert ended.value.code == 2
    assert f"{option[1].split(',')[-1]!r} is not a number of 1 or more" in capsys.readouterr().err
