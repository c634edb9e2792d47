"""How quickly logs are imported: ``python benchmarks/bench_import.py [--url URL] [--lines N] FILE ...``.

All files go into one empty database, SQLite unless told otherwise, with all its indexes and constraints. ``--lines``
makes one file of N AutoTVM lines of them first: theirs again and again, each time with other timestamps, which makes
each a record of its own. Printed are the records a second of all files together, the processor's time, the largest
memory that this process and the one that reads held, and the size of the database.
"""

import argparse
import json
import resource
import sqlite3
import tempfile
import time
from itertools import islice
from pathlib import Path

import orjson
import sqlalchemy

import tunedb
from tunedb.formats.source import open_source
from tuner.target import cpu_model


def vary(files: list[str], lines: int, path: Path) -> None:
    """Write so many lines to ``path``."""
    with path.open("wb") as out:
        turn = 0
        while lines > 0:
            for file in files:
                with open_source(file) as source:
                    for _, line in islice(source.lines(), lines):
                        data = orjson.loads(line)
                        data["result"][3] += turn
                        out.write(orjson.dumps(data) + b"\n")
                        lines -= 1
            turn += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--url", help="an empty database; else SQLite in a temporary folder")
    parser.add_argument("--lines", type=int, metavar="N", help="make one file of so many lines of them first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.sqlite"
        files = arguments.files
        if arguments.lines:
            vary(files, arguments.lines, Path(folder) / "long.log")
            files = [f"{folder}/long.log"]
        with tunedb.open(arguments.url or f"sqlite:///{path}") as db:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            reports = list(db.import_logs(files))
            seconds = time.perf_counter() - begun
            used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            cpu_seconds = sum(each.ru_utime + each.ru_stime for each in used) - begun_cpu
            read = sum(report.read for report in reports)
            report = {
                "cpu": cpu_model(),
                "database": db.engine.dialect.name,
                "sqlite": sqlite3.sqlite_version,
                "sqlalchemy": sqlalchemy.__version__,
                "orjson": orjson.__version__,
                "read": read,
                "new": sum(report.new for report in reports),
                "quarantined": sum(report.quarantined for report in reports),
                "seconds": round(seconds, 3),
                "cpu_seconds": round(cpu_seconds, 3),
                "records_per_second": round(read / seconds),
                "memory_mib": sum(each.ru_maxrss for each in used) >> 10,
            }
        report["database_mib"] = path.stat().st_size >> 20 if path.exists() else None
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
