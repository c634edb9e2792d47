"""Log formats: one module a format.

What reads the logs of other tools knows no database, so that the process that does nothing else starts quickly.
"""

from tunedb.formats import ansor, autotvm, kernel_tuner, metaschedule
from tunedb.formats.common import Format

FOREIGN = {
    each.name: each
    for each in (
        Format(autotvm.NAME, autotvm.knows, autotvm.read, autotvm.write, content=autotvm.content),
        Format(ansor.NAME, ansor.knows, ansor.read, content=ansor.content),
        Format(metaschedule.NAME, metaschedule.knows, metaschedule.read, content=metaschedule.content),
        Format(kernel_tuner.CACHE, kernel_tuner.knows_cache, kernel_tuner.read_cache, content=kernel_tuner.content),
        Format(
            kernel_tuner.T4,
            kernel_tuner.knows_t4,
            kernel_tuner.read_t4,
            kernel_tuner.write_t4,
            content=kernel_tuner.content,
        ),
    )
}
"""The formats of other tools, by name."""
