"""Log formats: one module a format, and the registry of their names."""

from tunedb.formats import native
from tunedb.formats.common import Format, Imported, Rejected, open_reader, open_writer

FORMATS = {each.name: each for each in (Format("tunedb", native.export, native.import_),)}

__all__ = ["FORMATS", "Format", "Imported", "Rejected", "open_reader", "open_writer"]
