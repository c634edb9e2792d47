"""An answer that was not measured where it is asked for, and says so: a schedule, where it comes from, and its risk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tunedb.lookup import Best
from tuner.schedule import Schedule
from tuner.space import Value
from tuner.target import Target
from tuner.workload import Workload

if TYPE_CHECKING:
    from tuner.kernel import Kernel

Source: TypeAlias = Literal["exact", "related", "nearest", "predicted", "default"]
SOURCES: tuple[Source, ...] = ("exact", "related", "nearest", "predicted", "default")
"""From the surest to the least sure: the rungs of the ladder."""


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """A legal schedule of ``workload`` on ``target`` that nobody has measured there: it has no time, and is unverified.

    ``expected_loss`` is the mean part of the best speed that was lost where the same way of answering could be tried
    on workloads that were measured (docs/fallback.md); None when there was no such workload.
    """

    workload: Workload
    target: Target
    source: Source
    template: str
    config: Mapping[str, Value]
    schedule: Schedule
    expected_loss: float | None
    held_out: int  # how many workloads those are
    distance: float | None = None  # octaves and words between what was measured and what was asked for
    origin: Best | None = None  # what was measured, for "related" and "nearest"

    def compile(self) -> "Kernel":
        """The kernel, ready to run in this process."""
        from tuner.kernel import compile_kernel  # looking up needs no compiler

        return compile_kernel(self.workload, self.schedule, self.target)

    def to_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.key,
            "target": self.target.to_json(),
            "source": self.source,
            "verified": False,
            "seconds": None,
            "gflops": None,
            "error": None,
            "expected_loss": self.expected_loss,
            "held_out": self.held_out,
            "distance": self.distance,
            "origin": self.origin.to_json() if self.origin else None,
            "template": self.template,
            "config": {name: list(v) if isinstance(v, tuple) else v for name, v in self.config.items()},
            "schedule": self.schedule.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Prediction(Fallback):
    """A schedule that was chosen without measuring anything; never to be mistaken for a measured one."""

    scored: int  # legal candidates, of which this is the best
    whole: bool  # whether these are all there are
    model: str  # fingerprint

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "scored": self.scored, "whole_space": self.whole, "model": self.model}
