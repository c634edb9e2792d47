"""The command line: one file a command group, each thin over what ``import tunedb`` offers."""

from importlib import import_module

import click

from tunedb import __version__
from tunedb.cli.common import Commands

_HOMES = {
    "tune": "tune.tune",
    "best": "lookup.best",
    "top": "lookup.top",
    "stale": "stale.stale",
    "history": "care.history",
    "next": "next.next_",
    "compare": "compare.compare_",
    "verify": "verify.verify",
    "show": "show.show",
    "run": "show.run",
    "import": "transfer.import_",
    "export": "transfer.export",
    "quarantine": "transfer.quarantine",
    "merge": "care.merge",
    "retract": "care.retract",
    "check": "care.check",
    "compact": "care.compact",
    "backup": "care.backup",
    "stats": "lookup.stats",
    "model": "model.model",
    "experiment": "experiment.experiment",
    "db": "database.database",
}
"""Module and name of each command, in the order of a first day's work."""


class _Main(Commands):
    """Loads a command when it is asked for: the compiler and the models behind some take longer than a lookup."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        module, _, name = _HOMES[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"tunedb.cli.{module}"), name)
        return command


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-V", "--version", help="Print the version.")
def main() -> None:
    """Tune tensor programs on this machine, keep every trial in a database, and look the best up again.

    A WORKLOAD is a named layer (resnet18.C7), possibly with other arguments (resnet18.C7(layout=NCHW16c)), or a whole
    key: conv2d(n=1,ci=128,h=28,w=28,co=256,k=3,stride=2,pad=1).
    """
