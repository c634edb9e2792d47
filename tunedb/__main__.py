"""``python -m tunedb``, and the command ``tunedb``: a process of its own."""

import signal
import sys


def run() -> None:
    """Run the command line."""
    # Where scikit-learn is installed XGBoost imports it, and SciPy's statistics with it, for classes that nothing here
    # uses. None stands for a module that there is not.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    raising = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else a shell wants it ignored
    if raising:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is begun yet that a traceback could be about
    from tunedb.cli import main

    if raising:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main(prog_name="tunedb")


if __name__ == "__main__":
    run()
