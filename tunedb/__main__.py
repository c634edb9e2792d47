"""``python -m tunedb`` is ``tunedb``."""

from tunedb.cli import main

main(prog_name="tunedb")
