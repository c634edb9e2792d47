"""docs/add-an-operator.md is right: the two files on it make an operator that is tuned like any other."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tuner.build
import tuner.workload
from tests.tuner.kernels import assert_right
from tuner.errors import WorkloadError
from tuner.operators import OPERATORS
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import parse

PAGE = Path(__file__).parents[2] / "docs" / "add-an-operator.md"
KEY = "average_pool2d(n=2,c=3,h=11,w=37,k=3x2,stride=2x1)"


def module(name: str, text: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    result = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(result)
    return result


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The template of the page; its operator is known to the engine for the length of a test."""
    operator, template = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    pool = module("pool_operator", operator, tmp_path).AVERAGE_POOL2D
    known = {**OPERATORS, pool.name: pool}
    monkeypatch.setattr(tuner.workload, "OPERATORS", known)
    monkeypatch.setattr(tuner.build, "OPERATORS", known)
    return module("pool_template", template, tmp_path).POOL


@pytest.mark.usefixtures("added")
def test_the_operator_of_the_page_compiles_with_the_empty_schedule() -> None:
    workload = parse(KEY)
    assert workload.key == KEY
    assert workload.flops == 2 * 3 * 5 * 36 * 6
    assert_right(workload, Schedule(), Target.host(threads=1))


@pytest.mark.usefixtures("added")
def test_the_operator_of_the_page_refuses_a_window_that_does_not_fit() -> None:
    with pytest.raises(WorkloadError, match="window is larger than the image"):
        parse("average_pool2d(c=3,h=4,w=4,k=5)")


def test_every_legal_configuration_of_the_template_of_the_page_is_right(added: Any) -> None:
    workload, target = parse(KEY), Target.host(threads=2)
    space = added.space(workload, target)
    indices = np.arange(space.size)
    legal = indices[~added.illegal(workload, target, space.columns(indices))]
    assert space.index(added.default(workload, target)) in legal
    for index in legal.tolist():
        assert_right(workload, added.schedule(workload, target, space.config(index)), target)
    assert np.isfinite(added.features(workload, target, space.columns(indices))).all()
