"""``tunedb show`` and ``tunedb run``: what a schedule becomes, and that it works here."""

import sys

import click

import tunedb
from tunedb.cli.common import (
    Exit,
    Failure,
    database_option,
    duration,
    json_option,
    print_columns,
    print_json,
    speed,
    target_of,
    threads_option,
    workload_argument,
)
from tunedb.errors import NotFoundError
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.workload import Workload

_LEXERS = {"schedule": "python", "nest": "python", "llvm": "llvm", "asm": "gas"}

default_option = click.option(
    "--default", "use_default", is_flag=True, help="Take the schedule that tuning starts from; no database is needed."
)


@click.command()
@workload_argument
@click.option(
    "--what",
    type=click.Choice(list(_LEXERS)),
    default="schedule",
    show_default=True,
    help="The steps of the schedule, its loop nest, its LLVM IR, or its machine code.",
)
@default_option
@threads_option
@database_option
@json_option
def show(workload: Workload, what: str, use_default: bool, threads: int | None, url: str | None, as_json: bool) -> None:
    """Print the best schedule of WORKLOAD, or what it becomes."""
    target = target_of(threads)
    schedule, source = _schedule(workload, target, use_default, url)
    text = _render(workload, schedule, target, what).rstrip("\n")
    if as_json:
        print_json({"workload": workload.key, "target": target.name, "source": source, "what": what, "text": text})
    else:
        _print_code(text, _LEXERS[what])


@click.command()
@workload_argument
@default_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
@threads_option
@database_option
@json_option
def run(workload: Workload, use_default: bool, seed: int, threads: int | None, url: str | None, as_json: bool) -> None:
    """Run the best kernel of WORKLOAD in this process, compare it with the reference and time it."""
    from time import perf_counter

    from tuner.kernel import aligned, compile_kernel
    from tuner.measure.protocol import Protocol, take_repeats
    from tuner.measure.verify import verify
    from tuner.workload import random_arrays, reference

    target = target_of(threads)
    schedule, source = _schedule(workload, target, use_default, url)
    kernel = compile_kernel(workload, schedule, target)
    arrays = random_arrays(workload, seed)
    operands = [
        kernel.pack(arrays[argument.name], argument.name).data if argument.role == "constant" else arrays[argument.name]
        for argument in kernel.inputs
    ]
    output = aligned(kernel.output.size).reshape(kernel.output.shape)

    def timer(calls: int) -> float:
        start = perf_counter()
        for _ in range(calls):
            kernel.run(operands, output)
        return perf_counter() - start

    timer(1)
    protocol = Protocol(seed=seed)
    verdict = verify(output, reference(workload, arrays), protocol.tolerance)
    if verdict.problem:
        raise Failure(f"{workload.label}: {verdict.problem}", Exit.FAILED)
    seconds = median(take_repeats(timer, protocol, beat=None))
    gflops = workload.flops / seconds / 1e9
    if as_json:
        print_json(
            {
                "workload": workload.key,
                "target": target.name,
                "source": source,
                "seconds": seconds,
                "gflops": gflops,
                "error": verdict.error,
                "verified": True,
            }
        )
        return
    click.echo(f"{workload.label} on {target.name}, {source} schedule")
    print_columns(
        [
            ("time", f"{duration(seconds)}, {speed(gflops)}"),
            ("error", f"{verdict.error:.2g} of the largest reference value: correct"),
        ]
    )


def _schedule(workload: Workload, target: Target, use_default: bool, url: str | None) -> tuple[Schedule, str]:
    """The schedule asked for, and where it is from."""
    if use_default:
        return default_schedule(workload, target), "default"
    with tunedb.open(url) as db:
        best = db.best(workload, target)
    return best.schedule, best.source


def _render(workload: Workload, schedule: Schedule, target: Target, what: str) -> str:
    if what == "schedule":
        return str(schedule)
    if what == "nest":
        return str(nest_of(workload, schedule))
    program = build(workload, schedule, target)
    return program.ir if what == "llvm" else assembly(program.ir, target)


def _print_code(text: str, lexer: str) -> None:
    """In colours on a terminal, as it is in a pipe."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, lexer, background_color="default"))
