"""Imported records teach what our own trials teach, where their template is known."""

from pathlib import Path

import orjson
import pytest

from tests.tunedb.test_prior import NEW, SOURCES, arguments, fill
from tunedb import Database, prior, training
from tunedb.foreign import ForeignTarget
from tunedb.lessons import Lesson, target_of
from tuner.templates import template_for
from tuner.workload import matmul, parse

CONV2D = "conv2d_NCHWc.x86"
TEMPLATE = template_for(NEW, arguments().target)


def log(path: Path, sizes: tuple[int, ...] = (16, 32), task: str = CONV2D, repeats: int = 1) -> Path:
    """An AutoTVM log: a layer for each number of channels, a record for each legal configuration of its blocks."""
    lines = []
    for channels in sizes:
        shapes = [["TENSOR", [1, channels, 14, 14], "float32"], ["TENSOR", [channels, channels, 3, 3], "float32"]]
        given = ["llvm -keys=cpu ", task, [*shapes, [1, 1], [1, 1, 1, 1], [1, 1], "NCHW", "NCHW", "float32"], {}]
        for ic in (1, 4, 16):
            for oc in (1, 4, 16):
                for ow in (1, 7, 14):
                    entity = [
                        *(["tile_ic", "sp", [-1, ic]], ["tile_oc", "sp", [-1, oc]], ["tile_ow", "sp", [-1, ow]]),
                        ["unroll_kw", "ot", False],
                    ]
                    for repeat in range(repeats):
                        time = 1e-4 * channels * (1 + 1 / oc + 1 / ow + 0.1 / ic) * (1 + 0.01 * repeat)
                        lines.append(
                            {
                                "input": given,
                                "config": {"index": 0, "code_hash": None, "entity": entity},
                                "result": [[time], 0, 1.0, 1.6e9 + repeat],
                                "version": 0.2,
                                "tvm_version": "0.10.0",
                            }
                        )
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return path


def taught(db: Database) -> training.Training:
    with db.read() as connection:
        return training.training([connection])


def test_records_of_another_machine_are_lessons_whatever_network_they_are_from(db: Database, tmp_path: Path) -> None:
    for network in ("a", "b"):
        db.import_log(str(log(tmp_path / "x.log")), machine="ryzen", labels={"network": network})
    known = taught(db)
    assert len(known.examples) == 2 * 27  # each configuration once, though two networks have the layer
    assert all(isinstance(example, Lesson) for example in known.examples.values())
    assert set(known.data.workloads) == {parse(f"conv2d(ci={c},h=14,w=14,co={c},k=3,pad=1)").key for c in (16, 32)}
    assert known.trials == ()


def test_of_several_records_of_a_configuration_the_median_stands(db: Database, tmp_path: Path) -> None:
    db.import_log(str(log(tmp_path / "x.log", sizes=(16,), repeats=3)), machine="ryzen")
    times = sorted(example.seconds or 0.0 for example in taught(db).examples.values())
    assert len(times) == 27
    assert times[0] == pytest.approx(1e-4 * 16 * (1 + 1 / 16 + 1 / 14 + 0.1 / 16) * 1.01)


def test_records_of_unknown_templates_are_counted_as_left_out(db: Database, tmp_path: Path) -> None:
    db.import_log(str(log(tmp_path / "x.log", sizes=(16,), task="conv2d_nchw.cuda")))
    known = taught(db)
    assert known.examples == {}
    assert known.left_out == {"of other tools, in templates that cannot be lowered": 27}


def test_a_warm_start_names_the_machines_and_trusts_no_other_machine_fully(db: Database, tmp_path: Path) -> None:
    db.import_log(str(log(tmp_path / "x.log")), machine="ryzen")
    report = prior.warm_start(db, TEMPLATE, TEMPLATE.space(NEW, arguments().target), arguments()).report
    assert report.machines == {"cpu-x86-64-sse2-8t": 54}
    assert report.verdict == "weak"
    assert "this target" in report.why


def test_imported_records_are_left_out_where_own_trials_do_better_alone(db: Database, tmp_path: Path) -> None:
    for number, source in enumerate(SOURCES):
        fill(db, source, seed=number)
    db.import_log(str(log(tmp_path / "x.log")), machine="ryzen")
    report = prior.warm_start(db, TEMPLATE, TEMPLATE.space(NEW, arguments().target), arguments()).report
    own = arguments().target.name
    assert report.machines[own] == 120
    assert ("cpu-x86-64-sse2-8t" in report.machines) == (training.ELSEWHERE not in report.left_out)
    assert report.verdict == "use"


def test_beside_enough_own_workloads_imported_records_are_not_even_read(db: Database, tmp_path: Path) -> None:
    for number, source in enumerate([*SOURCES, matmul(m=48, k=80, n=112)]):
        fill(db, source, seed=number)
    db.import_log(str(log(tmp_path / "x.log")), machine="ryzen")
    report = prior.warm_start(db, TEMPLATE, TEMPLATE.space(NEW, arguments().target), arguments()).report
    assert report.left_out == {training.BESIDE: 54}
    assert report.machines == {arguments().target.name: 160}


@pytest.mark.parametrize(
    ("text", "isa", "lanes"),
    [
        ("llvm -keys=cpu", "sse2", 4),
        ("llvm -mcpu=skylake-avx512", "avx512", 16),
        ("llvm -mcpu=core-avx2", "avx2", 8),
        ("llvm -mattr=+avx2,+fma", "avx2", 8),
        ("llvm -mcpu=znver3", "avx2", 8),
    ],
)
def test_the_vectors_of_a_machine_follow_from_its_target(text: str, isa: str, lanes: int) -> None:
    target = target_of(ForeignTarget("autotvm", text))
    assert (target.isa, target.lanes) == (isa, lanes)


def test_labels_may_say_what_a_log_does_not() -> None:
    said = target_of(ForeignTarget("autotvm", "llvm", "ryzen", (("l2", "256"), ("network", "a"), ("threads", "x"))))
    assert (said.l2, said.threads, said.model) == (256 * 1024, 8, "ryzen")
