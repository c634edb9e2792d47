"""What the commands share: their options, how an error ends the program, and how numbers are printed."""

import errno
import functools
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

import click

import tunedb
from tunedb.engine import hide_password
from tunedb.errors import DatabaseError, NotFoundError, UnknownNameError
from tunedb.foreign import ForeignWorkload
from tunedb.formats.registry import FORMATS
from tuner.errors import KnobError, TunedbError, WorkloadError
from tuner.target import ISAS, Target
from tuner.workload import Workload


class Exit(IntEnum):
    """The exit codes of what did not work; docs/cli.md explains them."""

    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DATABASE = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


def fail(message: str, code: Exit) -> NoReturn:
    """End the program with one line on standard error and this exit code."""
    complain(message)
    raise SystemExit(code)


def complain(message: str) -> None:
    """Print an error as one line on standard error."""
    click.echo("Error: " + printable(hide_password(" ".join(message.split()))), err=True)


def say(text: str, *, err: bool = False) -> None:
    """Print lines that may hold names and texts from elsewhere."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def printable(text: str) -> str:
    """A text with its control characters as escapes: a name in somebody's log must not give a terminal commands."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Commands(click.Group):
    """Commands that end in one line when something goes wrong that the program has a word for."""

    def invoke(self, ctx: click.Context) -> Any:
        logger = logging.getLogger("tunedb")
        logger.handlers = [_Warnings()]
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(hide_password(error.format_message()), error.ctx) from None  # it says what was typed
        except TunedbError as error:
            fail(str(error), _exit(error))
        except MemoryError as error:
            fail(f"there is not enough memory. {error}", Exit.FAILED)
        except UnicodeEncodeError as error:
            what = error.object[error.start : error.end]
            fail(f"{what!a} cannot be written as {error.encoding}: names, texts and terminals are UTF-8", Exit.USAGE)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # who reads has enough, and click ends the program without a word
            fail(f"{error.filename or 'the output'}: {error.strerror or error}", Exit.FAILED)
        except KeyboardInterrupt:
            fail("interrupted", Exit.INTERRUPTED)


class _Warnings(logging.Handler):
    """A warning of the library is one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo("Warning: " + printable(hide_password(" ".join(record.getMessage().split()))), err=True)


def _exit(error: TunedbError) -> Exit:
    if isinstance(error, WorkloadError | KnobError | UnknownNameError):
        return Exit.USAGE
    if isinstance(error, NotFoundError):
        return Exit.NOT_FOUND
    return Exit.DATABASE if isinstance(error, DatabaseError) else Exit.FAILED


class WorkloadType(click.ParamType[Workload | ForeignWorkload]):
    """A workload of ours, or one that only another tool knows by the name that it is stored under."""

    name = "workload"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Workload | ForeignWorkload:
        format_name, colon, _ = value.partition(":")
        if colon and format_name in FORMATS:
            return ForeignWorkload(value.partition("(")[0], value)
        return tunedb.workload(value)  # whose errors say what is wrong, and where


class WorkloadOrTrial(click.ParamType[Workload | str]):
    """A workload, or the beginning of a trial's fingerprint: 8 or more hexadecimal digits."""

    name = "workload or trial"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Workload | str:
        return value if re.fullmatch("[0-9a-f]{8,64}", value) else tunedb.workload(value)


class NameType(click.ParamType[str]):
    """A name that something stored is asked for by."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip() or not value.isprintable():
            self.fail(f"{value!a} is no name: give signs that can be seen", param, ctx)
        return value


workload_argument = click.argument("workload", type=tunedb.workload)
database_option = click.option(
    "--db",
    "url",
    metavar="URL",
    help="The database, such as sqlite:///tuning.sqlite; else $TUNEDB_URL, else a file in your data folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
_THREADS = click.IntRange(1, 1024)
threads_option = click.option("--threads", type=_THREADS, metavar="N", help="The threads of a kernel; else one a core.")
target_option = click.option(
    "--target",
    "isa",
    type=click.Choice(ISAS),
    help="This machine as if it had no wider vectors than these; else all that it has.",
)
any_threads_option = click.option(
    "--threads", type=_THREADS, metavar="N", help="Only kernels with so many threads; else with any number."
)


def count_option(default: int, help: str = "How many to list.") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option ``--count``."""
    number = click.IntRange(1, 1_000_000)
    return click.option("--count", "-n", type=number, default=default, show_default=True, metavar="N", help=help)


def database_of(place: str) -> str:
    """The URL of a database that has to be there: ``place`` is one, or a SQLite file."""
    if "://" in place:
        return place
    if not Path(place).is_file():
        raise click.UsageError(
            f"{place!r} is no file: give a SQLite file or a URL such as postgresql+psycopg://host/name"
        )
    return f"sqlite:///{place}"


def name_values(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """What an option that is given several times says, by name. Each name may be given once."""
    pairs = [value.partition("=") for value in values]
    for name, _, text in pairs:
        if not name or not text:
            raise click.BadParameter(f"{name or '='}{text} is not {parameter.metavar}", context, parameter)
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("a name is given twice", context, parameter)
    return {name: text for name, _, text in pairs}


def tolerance_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option ``--tolerance``, which gives the ``workload`` of a command another tolerance."""

    @functools.wraps(command)
    def within(*, workload: Workload | ForeignWorkload, tolerance: str | None, **others: Any) -> None:
        if tolerance is not None:
            if isinstance(workload, ForeignWorkload):
                raise click.UsageError(
                    f"--tolerance is not for {workload.label}: nobody knows the errors of its records"
                )
            workload = workload.within(tolerance)
        command(workload=workload, **others)

    option = click.option(
        "--tolerance",
        metavar="NUMBER",
        help="Largest error of a right result, relative to the largest reference value, such as 1e-5; the same as "
        "WORKLOAD's own parameter.",
    )
    return option(within)


def place(threads: int | None, isa: str | None) -> Target | None:
    """The target that an answer must be for; None for this machine with any number of threads."""
    return None if threads is None and isa is None else Target.host(threads, isa)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and what there is to say about each, aligned."""
    width = max(map(len, facts))
    for name, text in facts.items():
        click.echo(f"  {name:<{width}}  {printable(text)}")


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Rows of as many cells each, in columns: all but the last one aligned to the right."""
    cells = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    for row in cells:
        click.echo("  " + "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def duration(seconds: float) -> str:
    """``1.234 ms``: four digits in the unit that suits."""
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if seconds >= s), (1e-9, "ns"))
    return f"{seconds / scale:.4g} {unit}"


def speed(gflops: float) -> str:
    """``94.2 GFLOP/s``."""
    return f"{gflops:.1f} GFLOP/s"


def accuracy(error: float) -> str:
    """An error against the reference, in words."""
    return f"{error:.1e} of the largest reference value"
