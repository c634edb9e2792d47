"""Tunes tensor programs on this machine and keeps every trial in an SQL database.

>>> import tunedb
>>> db = tunedb.open("sqlite:///tuning.sqlite")
>>> workload = tunedb.workload("resnet18.C7")
>>> result = tunedb.tune(workload, db=db, trials=64)
>>> kernel = db.best(workload).compile()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunedb.database import Database, open
    from tunedb.tuning import tune
    from tuner.errors import TunedbError
    from tuner.workload import Workload, batch_matmul, conv2d, dense, depthwise_conv2d, matmul
    from tuner.workload import parse as workload

__version__ = "0.1.0"

__all__ = [
    "Database",
    "TunedbError",
    "Workload",
    "batch_matmul",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "matmul",
    "open",
    "tune",
    "workload",
]

_HOMES = {
    "Database": "tunedb.database",
    "TunedbError": "tuner.errors",
    "open": "tunedb.database",
    "tune": "tunedb.tuning",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is asked for: what lies behind all of them takes half a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES.get(name, "tuner.workload"))
    return getattr(home, "parse" if name == "workload" else name)
