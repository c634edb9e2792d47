"""Log formats: one module a format, and the registry of their names."""

from tunedb.errors import FormatError
from tunedb.formats import ansor, autotvm, kernel_tuner, metaschedule, native, table
from tunedb.formats.common import About, Format, Imported, Rejected
from tunedb.formats.selection import Selection
from tunedb.formats.source import Source, open_source
from tunedb.formats.writer import open_writer

FORMATS = {
    each.name: each
    for each in (
        Format("tunedb", native.knows, native.read, native.write),
        Format(autotvm.NAME, autotvm.knows, autotvm.read, autotvm.write),
        Format(ansor.NAME, ansor.knows, ansor.read),
        Format(metaschedule.NAME, metaschedule.knows, metaschedule.read),
        Format(kernel_tuner.CACHE, kernel_tuner.knows_cache, kernel_tuner.read_cache),
        Format(kernel_tuner.T4, kernel_tuner.knows_t4, kernel_tuner.read_t4, kernel_tuner.write_t4),
        Format("csv", write=table.write_csv),
        Format("parquet", write_file=table.write_parquet),
    )
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


__all__ = [
    "FORMATS",
    "About",
    "Format",
    "Imported",
    "Rejected",
    "Selection",
    "Source",
    "format_of",
    "open_source",
    "open_writer",
]
