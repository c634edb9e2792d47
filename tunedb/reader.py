"""The process that reads long logs, so that another one has nothing to do but store them: ``python -m tunedb.reader``.

``beside.py`` starts it. A request is a line of JSON that names a log, its format and what is said about it. The answer
is a row of frames, each eight bytes of length and then JSON: the batches of the log, and at its end an empty one.
"""

import gc
import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import orjson

from tunedb.batches import Batch, read_batches
from tunedb.beside import LENGTH
from tunedb.errors import FormatError
from tunedb.formats import FOREIGN
from tunedb.formats.common import About
from tunedb.formats.source import open_source
from tunedb.preparation import Preparation

RECORDS = 1000
"""In a batch: the sooner the first is there, the sooner somebody can begin to store."""

_AHEAD = 4  # batches that wait for being wanted


def main() -> None:
    """Answer requests until standard input ends."""
    gc.disable()  # records have no cycles, and to look for some takes a fifth of the time
    frames: queue.Queue[bytes] = queue.Queue(_AHEAD)
    # The pipe holds less than a batch: without a thread that fills it, this process would wait for the one that stores.
    threading.Thread(target=_write, args=(frames, sys.stdout.buffer), daemon=True).start()
    for line in sys.stdin.buffer:
        for batch in _batches(orjson.loads(line)):
            frames.put(orjson.dumps(batch))
        frames.put(b"")
    frames.join()


def _batches(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    about = About(request["machine"], tuple((name, value) for name, value in request["labels"]))
    try:
        with open_source(request["path"]) as source:
            for batch in read_batches(source, FOREIGN[request["format"]], about, RECORDS):
                yield _json(batch)
    except FormatError as error:  # it is gone: whoever asked has seen it a moment ago
        yield _json(Batch(0, None, str(error), (), (), Preparation().finish()))


def _json(batch: Batch) -> Mapping[str, Any]:
    return {
        "read": batch.read,
        "fraction": batch.fraction,
        "error": batch.error,
        "rejected": [tuple(each) for each in batch.rejected],
        "foreign": batch.foreign._asdict(),
    }


def _write(frames: queue.Queue[bytes], stream: BinaryIO) -> None:
    try:
        while True:
            frame = frames.get()
            stream.write(LENGTH.pack(len(frame)))
            stream.write(frame)
            stream.flush()
            frames.task_done()
    except BrokenPipeError:  # who asked is dead: nobody takes what the other thread may be waiting to give
        os._exit(1)


if __name__ == "__main__":
    main()
