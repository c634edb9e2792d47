"""The command line: one file a command group, each thin over what ``import tunedb`` offers."""

import click

from tunedb import __version__
from tunedb.cli import care, compare, database, lookup, model, next, show, stale, transfer, tune, verify
from tunedb.cli.common import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-V", "--version", help="Print the version.")
def main() -> None:
    """Tune tensor programs on this machine, keep every trial in a database, and look the best up again.

    A WORKLOAD is a named layer (resnet18.C7), possibly with other arguments (resnet18.C7(layout=NCHW16c)), or a whole
    key: conv2d(n=1,ci=128,h=28,w=28,co=256,k=3,stride=2,pad=1).
    """


for command in (
    tune.tune,
    lookup.best,
    lookup.top,
    stale.stale,
    care.history,
    next.next_,
    compare.compare_,
    verify.verify,
    show.show,
    show.run,
    transfer.import_,
    transfer.export,
    transfer.quarantine,
    care.merge,
    care.retract,
    care.check,
    care.backup,
    lookup.stats,
    model.model,
    database.database,
):
    main.add_command(command)
