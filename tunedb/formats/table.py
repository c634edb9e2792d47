"""All trials as one flat table, for other programs to read: CSV, and Parquet where pyarrow is installed."""

import csv
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import orjson
from sqlalchemy import select

from tunedb.errors import FormatError
from tunedb.foreign import ForeignTarget
from tunedb.formats.selection import Selection
from tunedb.redact import Redactor
from tunedb.tables import ENVIRONMENT, SCHEDULE, SESSION, TARGET, TEMPLATE, TRIAL, WORKLOAD

if TYPE_CHECKING:
    from tunedb.database import Database

_TEXT = ("trial", "workload", "operator", "target", "origin", "template", "status")
_NUMBERS = ("seconds", "spread", "error", "compile_seconds", "run_seconds")
_JSON = ("times", "config", "schedule", "target_description", "environment")
COLUMNS = (*_TEXT, "verified", "repeats", *_NUMBERS, "message", "retracted", "created", *_JSON)
"""The columns. Seconds throughout; ``times`` to ``environment`` are JSON; what is unknown is empty."""

_NAMING = ("message", "retracted", "target_description", "environment")  # where names may be

_ROWS = 10_000  # a group of rows of a Parquet file


def write_csv(database: "Database", stream: TextIO, selection: Selection) -> int:
    """Write a table with a heading. Returns the number of trials."""
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(COLUMNS)
    written = 0
    for row in _rows(database, selection):
        table.writerow([value.isoformat() if name == "created" and value else value for name, value in row.items()])
        written += 1
    return written


def write_parquet(database: "Database", path: Path, selection: Selection) -> int:
    """Write a Parquet file. Raises FormatError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise FormatError("Parquet needs pyarrow: pip install 'tunedb[parquet]'") from error
    types = dict.fromkeys(COLUMNS, pa.string())
    types |= dict.fromkeys(_NUMBERS, pa.float64())
    types |= {"verified": pa.bool_(), "repeats": pa.int32(), "created": pa.timestamp("us", tz="UTC")}
    schema = pa.schema(list(types.items()))
    rows, written = _rows(database, selection), 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            written += len(batch)
    return written


def _rows(database: "Database", selection: Selection) -> Iterator[dict[str, Any]]:
    statement = selection.narrow(_STATEMENT).execution_options(yield_per=1000)
    with database.read() as connection:
        for row in connection.execute(statement):
            values = row._asdict()
            if selection.redactor is not None:
                values |= _redacted(values, selection.redactor)
            for name in _JSON:
                values[name] = None if values[name] is None else orjson.dumps(values[name]).decode()
            yield {name: values[name] for name in COLUMNS}


def _redacted(values: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """The columns that may hold a name; and the fingerprint, against which guesses of one could be checked."""
    hidden = {name: redactor.value(values[name]) for name in _NAMING}
    if values["origin"] != "tunedb":
        hidden["target"] = ForeignTarget.from_json(hidden["target_description"]).name
        hidden |= {name: redactor.text(values[name]) for name in ("workload", "operator")}
    return hidden | {"trial": redactor.name(values["trial"])}


_STATEMENT = select(
    TRIAL.c.fingerprint.label("trial"),
    WORKLOAD.c.key.label("workload"),
    WORKLOAD.c.operator,
    TARGET.c.name.label("target"),
    SESSION.c.origin,
    (TEMPLATE.c.name + "/" + TEMPLATE.c.version).label("template"),
    TRIAL.c.status,
    TRIAL.c.verified,
    TRIAL.c.repeats,
    *(TRIAL.c[name] for name in (*_NUMBERS, "message", "retracted", "created", "times", "config")),
    SCHEDULE.c.steps.label("schedule"),
    TARGET.c.description.label("target_description"),
    ENVIRONMENT.c.facts.label("environment"),
).select_from(
    TRIAL.join(WORKLOAD)
    .join(TARGET)
    .join(ENVIRONMENT)
    .join(TEMPLATE)
    .join(SCHEDULE)
    .join(SESSION, TRIAL.c.session_id == SESSION.c.id)
)
