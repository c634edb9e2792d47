"""Every log format by name."""

from tunedb.errors import FormatError
from tunedb.formats import FOREIGN, native, table
from tunedb.formats.common import Format
from tunedb.formats.source import Source

FORMATS = {
    "tunedb": Format(native.NAME, native.knows, native.read, native.write),
    **FOREIGN,
    "csv": Format("csv", write=table.write_csv),
    "parquet": Format("parquet", write_file=table.write_parquet),
}


def format_of(source: Source, name: str = "auto") -> Format:
    """The format with that name; for ``auto``, the one that the beginning of ``source`` is in.

    Raises FormatError when no format knows it.
    """
    if name != "auto":
        return FORMATS[name]
    if not source.head.strip():
        raise FormatError(f"{source.name} is empty")
    for each in FORMATS.values():
        if each.knows is not None and each.knows(source.head):
            return each
    raise FormatError(f"{source.name} is in no format that tunedb knows: if it is, name it with --format")
