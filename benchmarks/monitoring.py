"""Drift of a million rows by 100 columns, from Parquet and from CSV, and of a fifth of the rows by 4 columns in one window and
in a thousand: time and the most memory, each in a process of its own.

The limits are fixed ones: 20 s and 2 GB. AMLFLOW_BENCH_ROWS makes the tables smaller.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import AMLFLOW

ROWS, COLUMNS, BASELINE_ROWS = int(os.environ.get("AMLFLOW_BENCH_ROWS", 1_000_000)), 100, 1_000_000
MOST_S, MOST_BYTES = 20.0, 2e9
WINDOWS = 1000


def table(rows: int, seed: int):
    """70 columns of numbers, 15 of integers, 10 of categories and 5 of truths, with a null in a hundred of the numbers."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    columns = {}
    for i in range(COLUMNS):
        if i < 70:
            values = rng.normal(i, 1 + i / 50, rows)
            columns[f"n{i}"] = pa.array(values, mask=rng.random(rows) < 0.01)
        elif i < 85:
            columns[f"i{i}"] = pa.array(rng.integers(0, 10 ** (1 + i % 6), rows))
        elif i < 95:
            columns[f"c{i}"] = pa.array([f"category {j}" for j in range(20)]).take(pa.array(rng.integers(0, 20, rows)))
        else:
            columns[f"b{i}"] = pa.array(rng.random(rows) < 0.3)
    return pa.table(columns)


PROGRAM = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of the processors, and the most bytes of memory that the process held."""
    start = time.perf_counter()
    whole = [sys.executable, "-c", PROGRAM, *command]
    done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, check=True)
    cpu, most = done.stdout.split()
    return time.perf_counter() - start, float(cpu), int(most) * (1 if sys.platform == "darwin" else 1024)


def told(name: str, command: list[str], folder: Path) -> None:
    whole = [AMLFLOW, "-w", f"local:{folder}/ws", "monitor", "drift", "--no-log", "-o", "json", *command]
    took, cpu, most = measured(whole, folder)
    mark = "" if took <= MOST_S and most <= MOST_BYTES else "  NOT REACHED"
    print(f"{name:14}{took:8.1f} s (<= {MOST_S:.0f}), of processors {cpu:.1f} s", end="")
    print(f"{most / 1e9:8.2f} GB (<= {MOST_BYTES / 1e9:.0f}){mark}")


def timed(rows: int):
    """Four columns of numbers, and the time of each row: an even stretch of hours, as many as there are windows."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(2)
    at = pa.array(np.arange(rows) * (WINDOWS * 3_600_000) // rows, pa.timestamp("ms", tz="UTC"))
    return pa.table({**{f"n{i}": pa.array(rng.normal(i, 1, rows)) for i in range(4)}, "at": at})


def main() -> None:
    import pyarrow.csv
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, rows, seed in (("baseline", BASELINE_ROWS, 0), ("data", ROWS, 1)):
            made = table(rows, seed)
            pyarrow.parquet.write_table(made, folder / f"{file}.parquet")
            pyarrow.csv.write_csv(made, folder / f"{file}.csv")
            del made
        print(f"\nDrift of {ROWS:,} rows by {COLUMNS} columns against {BASELINE_ROWS:,} rows")
        for kind in ("parquet", "csv"):
            told(kind, ["--data", f"data.{kind}", "--baseline", f"baseline.{kind}"], folder)
        made = timed(ROWS // 5)
        pyarrow.parquet.write_table(made, folder / "timed.parquet")
        pyarrow.parquet.write_table(made.drop_columns("at"), folder / "before.parquet")
        print(f"\nDrift of {ROWS // 5:,} rows by 4 columns, in windows of time")
        for every, name in ((f"{WINDOWS}h", "1 window"), ("1h", f"{WINDOWS:,} windows")):
            parted = ["--time", "at", "--every", every]
            told(name, ["--data", "timed.parquet", "--baseline", "before.parquet", *parted], folder)


if __name__ == "__main__":
    main()
