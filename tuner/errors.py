"""The errors a person can cause, as one small tree.

Each message is one line that says what was wrong, where, and what to do next; the command line prints it as it is.
"""


class TunedbError(Exception):
    """Root of every error that this project raises on purpose."""


class WorkloadError(TunedbError):
    """A workload that is unknown, malformed or impossible. ``position`` is the offset in the key text, if known."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ScheduleError(TunedbError):
    """A schedule step or a configuration that is not legal for its workload."""


class KnobError(ScheduleError):
    """A knob that a space does not have, or a value that a knob cannot have."""


class CompileError(TunedbError):
    """A legal loop nest that could not be turned into machine code."""


class ArgumentError(TunedbError):
    """An array handed to a kernel has the wrong shape, dtype or device."""


class MeasureError(TunedbError):
    """The measuring process could not be started or kept alive (not the failure of one candidate: that is a status)."""
