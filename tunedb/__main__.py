"""``python -m tunedb``, and the command ``tunedb``: a process of its own."""

import sys

from tunedb.cli import main


def run() -> None:
    """Run the command line."""
    # Where scikit-learn is installed XGBoost imports it, and SciPy's statistics with it, for classes that nothing here
    # uses. None stands for a module that there is not.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    main(prog_name="tunedb")


if __name__ == "__main__":
    run()
