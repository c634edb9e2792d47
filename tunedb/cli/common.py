"""What the commands share: their options, how an error ends the program, and how numbers are printed."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

import click

import tunedb
from tunedb.errors import DatabaseError, NotFoundError
from tuner.errors import TunedbError, WorkloadError
from tuner.target import Target
from tuner.workload import Workload

Command = TypeVar("Command", bound=Callable[..., Any])


class Exit(IntEnum):
    """The exit codes that docs/cli.md explains."""

    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DATABASE = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Failure(click.ClickException):
    """Ends the program with the one line ``Error: ...`` and this exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = code


class Commands(click.Group):
    """A group of commands that end in one line when something goes wrong that the program has a word for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TunedbError as error:
            raise Failure(str(error), _exit(error)) from error
        except KeyboardInterrupt:
            raise Failure("interrupted", Exit.INTERRUPTED) from None


def _exit(error: TunedbError) -> Exit:
    if isinstance(error, WorkloadError):
        return Exit.USAGE
    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    return Exit.DATABASE if isinstance(error, DatabaseError) else Exit.FAILED


class _WorkloadType(click.ParamType):
    """A workload in text; its parser's message is the error."""

    name = "workload"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Workload:
        return value if isinstance(value, Workload) else tunedb.workload(value)


workload_argument = click.argument("workload", type=_WorkloadType())
database_option = click.option(
    "--db",
    "url",
    metavar="URL",
    envvar="TUNEDB_URL",
    help="The database, for example sqlite:///tuning.sqlite; otherwise TUNEDB_URL, otherwise one in your data folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="How many threads a kernel uses; otherwise one a core.",
)


def target_of(threads: int | None) -> Target:
    """This machine with that many threads."""
    return Target.host(threads=threads)


def print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_columns(rows: Iterable[Sequence[str]], indent: int = 2) -> None:
    """Rows as aligned text: the first column to the left, the others to the right, the last one as it is."""
    lines = [list(row) for row in rows]
    widths = [max(len(line[column]) for line in lines if column < len(line)) for column in range(max(map(len, lines)))]
    for line in lines:
        cells = [
            cell if column and column == len(line) - 1 else cell.rjust(widths[column]) if column else cell.ljust(widths[0])
            for column, cell in enumerate(line)
        ]
        click.echo(" " * indent + "  ".join(cells).rstrip())


def duration(seconds: float | None) -> str:
    """``1.234 ms``; a failed trial has none: ``-``."""
    if seconds is None:
        return "-"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def speed(gflops: float | None) -> str:
    return "-" if gflops is None else f"{gflops:.1f} GFLOP/s"
