"""Every command and every option explains itself, and docs/cli.md has all of them and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tunedb.cli import main
from tunedb.cli.common import Exit

CLI = Path(__file__).parent.parent / "docs" / "cli.md"


def commands(command: click.Command, path: str = "tunedb") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
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
    options = {item.opts[0] for item in COMMANDS[path].params if isinstance(item, click.Option)}
    assert documented == options


def test_the_documentation_has_exactly_the_exit_codes_there_are() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI.read_text(encoding="utf-8"), flags=re.MULTILINE)}
    assert documented == {0, *(int(code) for code in Exit)}
