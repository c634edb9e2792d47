"""``tunedb show`` and ``tunedb run``: what a schedule becomes, and that it works here."""

import sys
from statistics import median
from time import perf_counter

import click

import tunedb
from tunedb.cli.common import (
    Exit,
    accuracy,
    any_threads_option,
    database_option,
    duration,
    fail,
    json_option,
    place,
    print_facts,
    print_json,
    speed,
    target_option,
    tolerance_option,
    workload_argument,
)
from tuner.build import build, nest_of
from tuner.codegen.cpu import assembly
from tuner.kernel import aligned, compile_kernel
from tuner.measure.lock import machine_lock
from tuner.measure.protocol import Protocol, take_repeats
from tuner.measure.verify import verify
from tuner.schedule import Schedule
from tuner.target import Target
from tuner.templates import template_for
from tuner.workload import Workload, random_arrays, reference

_LEXERS = {"schedule": "text", "nest": "text", "llvm": "llvm", "asm": "gas"}

default_option = click.option(
    "--default", "use_default", is_flag=True, help="Take the schedule that tuning starts from; needs no database."
)


@click.command()
@workload_argument
@click.option(
    "--what",
    type=click.Choice(list(_LEXERS)),
    default="schedule",
    show_default=True,
    help="The steps of the schedule, its loop nest, its LLVM IR, or its assembly.",
)
@default_option
@tolerance_option
@target_option
@any_threads_option
@database_option
@json_option
def show(
    workload: Workload,
    what: str,
    use_default: bool,
    isa: str | None,
    threads: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Print the best schedule of WORKLOAD for this machine, or what becomes of it."""
    schedule, target, source = _find(workload, threads, isa, use_default, url)
    text = _render(workload, schedule, target, what).rstrip("\n")
    if as_json:
        print_json({"workload": workload.key, "target": target.to_json(), "source": source, "what": what, "text": text})
    else:
        _print_code(text, _LEXERS[what])


@click.command()
@workload_argument
@default_option
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of the random inputs."
)
@tolerance_option
@target_option
@any_threads_option
@database_option
@json_option
def run(
    workload: Workload,
    use_default: bool,
    seed: int,
    isa: str | None,
    threads: int | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Run the best kernel of WORKLOAD in this process, compare it with the reference, and time it."""
    schedule, target, source = _find(workload, threads, isa, use_default, url)
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

    protocol = Protocol(seed=seed)
    with machine_lock():
        seconds = median(take_repeats(timer, protocol, beat=None, first=timer(1)))
    # Only now: the threads of NumPy's matrix product, which the reference uses, spin on for a while when it is done.
    verdict = verify(output, reference(workload, arrays), workload.tolerance)
    if verdict.error is None or verdict.problem is not None:
        fail(f"{workload.label}: {verdict.problem}", Exit.FAILED)
    gflops = workload.flops / seconds / 1e9
    if as_json:
        identity = {"workload": workload.key, "target": target.to_json(), "source": source}
        print_json({**identity, "seconds": seconds, "gflops": gflops, "error": verdict.error, "verified": True})
        return
    click.echo(f"{'default' if use_default else 'best'} schedule of {workload.label} on {target.name}")
    print_facts(
        {"time": f"{duration(seconds)}, {speed(gflops)}", "error": f"{accuracy(verdict.error)}: correct"},
    )


def _find(
    workload: Workload, threads: int | None, isa: str | None, use_default: bool, url: str | None
) -> tuple[Schedule, Target, str]:
    """The schedule that was asked for, what it is for, and where it is from."""
    if use_default:
        target = Target.host(threads, isa)
        template = template_for(workload, target)
        return template.schedule(workload, target, template.default(workload, target)), target, "default"
    with tunedb.open(url) as db:
        best = db.best(workload, place(threads, isa))
    return best.schedule, best.target, best.source


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

    Console().print(Syntax("", lexer, theme="ansi_dark").highlight(text), soft_wrap=True)
