"""``tunedb model``: cost models that the database's own trials have trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import tunedb
from tunedb.cli.common import NameType, database_option, json_option, print_facts, print_json, print_table, say
from tunedb.errors import FormatError
from tuner.cost_model.objectives import OBJECTIVES, Objective

if TYPE_CHECKING:
    from tunedb.registry import StoredModel
    from tuner.cost_model.global_model import Kind
    from tuner.cost_model.held_out import HeldOut

KINDS = ("gbt", "tree-gru", "context-gru")  # those of tuner.cost_model.global_model, which takes long to import

name_argument = click.argument("name")


@click.group("model")
def model() -> None:
    """Train, judge and exchange the cost models that a warm start uses."""


@model.command()
@click.option(
    "--name",
    type=NameType(),
    default="default",
    show_default=True,
    metavar="NAME",
    help="What to call the model.",
)
@click.option(
    "--model",
    "kind",
    type=click.Choice(KINDS),
    default="gbt",
    show_default=True,
    help="Boosted trees, which a warm start uses; or TreeGRU, or its context-encoded form, which need PyTorch.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default="regression",
    show_default=True,
    help="What to learn: log(best/time), the order of pairs, or the order of the fastest.",
)
@database_option
@json_option
def train(name: str, kind: "Kind", objective: Objective, url: str | None, as_json: bool) -> None:
    """Train a model on all suitable trials of the database, and store it.

    The same trials give the same model.
    """
    from tunedb import prior
    from tuner.cost_model.global_model import Settings

    with tunedb.open(url) as db:
        stored = prior.train(db, name, Settings(kind, objective))
    _print_model(stored, as_json)
    if stored.name != name:
        say(f"These trials had given this model before: it is stored as {stored.name}.", err=True)


@model.command("list")
@database_option
@json_option
def list_(url: str | None, as_json: bool) -> None:
    """List the stored models, the newest first."""
    from tunedb import registry

    with tunedb.open(url) as db, db.read() as connection:
        found = registry.models(connection)
    if as_json:
        print_json({"models": [stored.to_json() for stored in found]})
    elif not found:
        click.echo("no model is stored; `tunedb model train` trains one")
    else:
        rows = [
            (stored.fingerprint[:12], f"{stored.created:%Y-%m-%d %H:%M}", str(stored.parameters["trials"]), stored.name)
            for stored in found
        ]
        print_table([("model", "trained (UTC)", "trials", "name"), *rows])


@model.command()
@name_argument
@database_option
@json_option
def show(name: str, url: str | None, as_json: bool) -> None:
    """Print what a model was trained on, and how it did on the workloads that were held out.

    NAME is a model's name, of which the newest is taken, or the beginning of its fingerprint.
    """
    from tunedb import registry

    with tunedb.open(url) as db, db.read() as connection:
        stored = registry.find(connection, name)
    _print_model(stored, as_json)


@model.command()
@name_argument
@database_option
@json_option
def evaluate(name: str, url: str | None, as_json: bool) -> None:
    """Compare what a model says of each stored workload with what was measured.

    A workload that the model was trained on says little; the others say what it is worth.
    """
    from tunedb import prior, registry

    with tunedb.open(url) as db:
        with db.read() as connection:
            stored = registry.find(connection, name)
        found = prior.evaluate(db, stored)
    if as_json:
        rows = [{**vars(one), **vars(error), "seen": seen} for one, error, seen in found]
        # NaN, which JSON does not have, is the share that is explained of times that are all equal.
        rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        print_json({"model": stored.fingerprint, "workloads": rows})
    else:
        _print_scores([(one, "trained on" if seen else "new") for one, _, seen in found])


@model.command()
@name_argument
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file.")
@database_option
@json_option
def export(name: str, output: Path, url: str | None, as_json: bool) -> None:
    """Write a model to a file: a line of JSON that says what it was trained on, then the model."""
    from tunedb import registry

    with tunedb.open(url) as db, db.read() as connection:
        stored = registry.find(connection, name)
    try:
        output.write_bytes(registry.write_file(stored))
    except OSError as error:
        raise FormatError(f"{output} cannot be written: {error.strerror}") from error
    if as_json:
        print_json({"model": stored.fingerprint, "sha256": stored.sha256, "bytes": len(stored.blob)})
    else:
        say(f"{output}: model {stored.name}, {len(stored.blob)} bytes, SHA-256 {stored.sha256}")


@model.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", type=NameType(), metavar="NAME", help="What to call the model; else the name of the file.")
@database_option
@json_option
def import_(file: Path, name: str | None, url: str | None, as_json: bool) -> None:
    """Store a model that `tunedb model export` has written."""
    from tunedb import registry
    from tuner.cost_model.global_model import ModelError

    try:
        data = file.read_bytes()
    except OSError as error:
        raise FormatError(f"{file} cannot be read: {error.strerror}") from error
    try:
        stored = registry.read_file(file.stem if name is None else name, data)
    except ModelError as error:
        raise FormatError(f"{file}: {error}") from error
    with tunedb.open(url) as db, db.write() as connection:
        kept, new = registry.save(connection, stored)
    if as_json:
        print_json({**kept.to_json(), "new": new})
    else:
        say(f"model {kept.name}: {'stored' if new else 'it was stored already'}")


def _print_model(stored: "StoredModel", as_json: bool) -> None:
    if as_json:
        print_json(stored.to_json())
        return
    parameters = stored.parameters
    say(f"model {stored.name}")
    print_facts(
        {
            "fingerprint": stored.fingerprint,
            "features": stored.feature_version,
            "trained on": f"{parameters['trials']} trials of {len(parameters['workloads'])} workloads",
            "trials": stored.training_digest,
            "model": f"{stored.kind}, {parameters['objective']}, {parameters['used_rounds']} rounds",
            "file": f"{len(stored.blob)} bytes, SHA-256 {stored.sha256}",
            "trained": f"{stored.created:%Y-%m-%d %H:%M} UTC",
        }
    )
    click.echo()
    _print_scores([(one, "held out") for one in stored.held_out])


def _print_scores(scores: list[tuple["HeldOut", str]]) -> None:
    if not scores:
        click.echo("no workload could be held out: that takes two of them")
        return
    print_table(
        [
            ("rank corr.", "pairs", "top-1", "top-5", "trials", "", "workload"),
            *(
                (
                    f"{one.rank_correlation:.2f}",
                    f"{one.pairwise:.2f}",
                    f"{one.top1:.3f}",
                    f"{one.top5:.3f}",
                    str(one.trials),
                    note,
                    f"{one.workload} on {one.target}",
                )
                for one, note in scores
            ),
        ]
    )
