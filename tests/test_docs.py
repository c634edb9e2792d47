"""Every command and option explains itself, docs/cli.md has all of them and nothing else, and the README is true."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tunedb.cli import main
from tunedb.cli.common import Exit

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CLI = ROOT / "docs" / "cli.md"
COMPARISON = ROOT / "docs" / "comparison.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(command: click.Command, path: str = "tunedb") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


def sections() -> dict[str, str]:
    """The text under each heading that is a command: ``## `tunedb tune` ``."""
    parts = re.split(r"^#+ `(tunedb[^`]*)`$", CLI.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_says_what_it_does(path: str) -> None:
    assert COMMANDS[path].help


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_says_what_it_does(path: str) -> None:
    options = [item for item in COMMANDS[path].params if isinstance(item, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_documentation_has_exactly_the_commands_there_are() -> None:
    assert sorted(sections()) == sorted(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_documentation_has_exactly_the_options_there_are(path: str) -> None:
    documented = set(re.findall(r"^\| `(--[a-z-]+)", sections()[path], flags=re.MULTILINE))
    options = {max(item.opts, key=len) for item in COMMANDS[path].params if isinstance(item, click.Option)}
    assert documented == options


def test_the_documentation_has_exactly_the_exit_codes_there_are() -> None:
    documented = {
        int(code) for code in re.findall(r"^\| (\d+) \|", CLI.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert documented == {0, *(int(code) for code in Exit)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_only_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"^    (tunedb \w+)", README.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def claims() -> list[tuple[str, str]]:
    """The answer (yes, partly, no) and the last column of each row of docs/comparison.md."""
    rows = re.findall(
        r"^\|.*\| (yes|partly|no) \| (.*) \|$", COMPARISON.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return [(answer, shown) for answer, shown in rows]


def test_every_row_of_the_comparison_has_an_answer() -> None:
    rows = [line for line in COMPARISON.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    headings = 2 * 2  # of two tables, the names of the columns and the line under them
    assert len(claims()) == len(rows) - headings > 0


@pytest.mark.parametrize(("answer", "shown"), claims(), ids=lambda text: text[:60])
def test_what_the_comparison_says_is_shown_by_tests_and_commands_that_exist(answer: str, shown: str) -> None:
    quoted = re.findall(r"`([^`]+)`", shown)
    tests = [item.split("::") for item in quoted if "::" in item]
    programs = [item for item in quoted if item.startswith("tunedb ")]
    targets = [item.removeprefix("make ") for item in quoted if item.startswith("make ")]
    assert answer == "no" or tests or programs or targets
    for file, name in tests:
        assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for program in programs:
        command, *options = program.split(" --")
        assert command in COMMANDS
        assert all(f"--{option}" in COMMANDS[command].get_help(click.Context(COMMANDS[command])) for option in options)
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    quick = example.replace("trials=64", "trials=2") + "assert y.shape == (1, 256, 14, 14)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "tuning.sqlite").exists()
