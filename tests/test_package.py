"""The wheel is whole: installed in an environment of its own, the program starts and finds its migrations."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import tunedb

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tunedb`` in a clean environment, which borrows only the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    # A plain path, not a site directory: the editable installation of this source tree stays behind.
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "tunedb"


def call(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run([program, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_carries_the_migrations_the_types_and_the_licence_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tunedb/_schema/env.py", "tunedb/py.typed", "tuner/py.typed"} <= set(names)
    assert any(name.startswith("tunedb/_schema/versions/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "schema")) or name.endswith(".pyc")]


def test_the_installed_program_runs_from_its_own_files(program: Path, tmp_path: Path) -> None:
    code = "import tunedb, tuner; print(tunedb.__file__, tuner.__file__)"
    python = program.parent / "python"
    found = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(Path(path).is_relative_to(program.parent.parent) for path in found.split())


def test_the_installed_program_helps(program: Path, tmp_path: Path) -> None:
    result = call(program, "--help", folder=tmp_path)
    assert result.returncode == 0
    assert "tune" in result.stdout
    assert tunedb.__version__ in call(program, "--version", folder=tmp_path).stdout


def test_the_installed_program_makes_and_checks_a_database(program: Path, tmp_path: Path) -> None:
    for command in ("upgrade", "check"):
        result = call(program, "db", command, "--db", "sqlite:///x.sqlite", folder=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "x.sqlite").exists()


def test_the_installed_program_says_in_one_line_that_there_is_nothing_yet(program: Path, tmp_path: Path) -> None:
    result = call(program, "best", "resnet18.C7", folder=tmp_path)
    assert result.returncode == 3
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
