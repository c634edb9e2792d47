"""How quickly logs are imported: ``python benchmarks/bench_import.py [--db URL] FILE ...``.

All files go into one empty database, SQLite unless told otherwise, with all its indexes and constraints. Printed are
the records a second of all files together, the processor's time, the largest memory that this process held, and the
size of the database.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import tunedb
from tuner.target import cpu_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--db", metavar="URL", help="an empty database; else SQLite in a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.sqlite"
        with tunedb.open(arguments.db or f"sqlite:///{path}") as db:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            reports = [db.import_log(file) for file in arguments.files]
            seconds = time.perf_counter() - begun
            cpu_seconds = time.process_time() - begun_cpu
            read = sum(report.read for report in reports)
            print(
                json.dumps(
                    {
                        "cpu": cpu_model(),
                        "database": db.engine.dialect.name,
                        "read": read,
                        "new": sum(report.new for report in reports),
                        "quarantined": sum(report.quarantined for report in reports),
                        "seconds": seconds,
                        "cpu_seconds": cpu_seconds,
                        "records_per_second": read / seconds,
                        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                        "database_mib": path.stat().st_size / 2**20 if path.exists() else None,
                    },
                    indent=2,
                )
            )


if __name__ == "__main__":
    main()
