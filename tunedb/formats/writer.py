"""Where records go to: files, packed by gzip when their name says so, and standard output."""

import contextlib
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tunedb.formats.source import plain_errors


@contextlib.contextmanager
def open_writer(path: str) -> Iterator[TextIO]:
    """A text file, packed by gzip when its name ends in ``.gz``, or standard output for ``-``.

    Raises FormatError when it cannot be written.
    """
    with plain_errors(path):
        if path == "-":
            yield sys.stdout
        elif path.endswith(".gz"):
            with gzip.open(path, "wt", encoding="utf-8") as packed:
                yield packed
        else:
            with Path(path).open("w", encoding="utf-8") as text:
                yield text
