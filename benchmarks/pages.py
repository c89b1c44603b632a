"""The page of 200 runs with 100 histories of 10,000 steps each: its size and what writing it takes.

The 200 million points are made as they are asked for: as rows of MLflow's tables they would not fit on most disks.
`--stored` measures the command itself on 200 runs in a database, with so many histories of each.
"""

from __future__ import annotations

import argparse
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from timing import AMLFLOW, wall

RUNS, HISTORIES, STEPS = 200, 100, 10_000
LIMIT_MB = 20


class Made:
    """As much of a workspace as the page asks for: histories that are random walks, no files."""

    name = "made"

    def __init__(self, histories: int, steps: int) -> None:
        self.histories, self.steps = histories, steps
        self.making = 0.0

    def metric_histories(self, run_ids: Sequence[str], keys: Sequence[str] = ()) -> dict:
        start = time.process_time()
        found = {run_id: dict(self._lines(run_id)) for run_id in run_ids}
        self.making += time.process_time() - start
        return found

    def _lines(self, run_id: str) -> Iterator[tuple[str, list]]:
        import numpy

        from amlflow.workspaces.base import MetricPoint

        chance = numpy.random.default_rng(int(run_id, 16))
        for number in range(self.histories):
            values = chance.normal(size=self.steps).cumsum().tolist()
            times = (1_700_000_000_000 + chance.integers(90, 110, self.steps).cumsum()).tolist()
            yield f"m{number}", list(map(MetricPoint, values, range(self.steps), times))

    def list_artifacts(self, run_id: str, path: str = "") -> list:
        return []

    def logged_models(self, run_id: str) -> list:
        return []


def made(runs: int, histories: int, steps: int, file: Path) -> None:
    from amlflow.reports.comparison import Comparison, MetricRow, ParamRow
    from amlflow.services import comparison_page
    from amlflow.workspaces.base import Run

    chance = random.Random(0)
    listed = [
        Run(
            f"{number:032x}", f"run-{number}", "1", "bench", "FINISHED", 0, 1, "active", "/none",
            metrics={f"m{metric}": chance.random() for metric in range(histories)},
            params={f"p{param}": str(chance.randrange(10)) for param in range(20)},
        )
        for number in range(runs)
    ]  # fmt: skip
    workspace = Made(histories, steps)
    metrics = [
        MetricRow(key, "lower", [run.metrics[key] for run in listed], frozenset(), [None] * runs)
        for key in listed[0].metrics
    ]
    params = [ParamRow(key, [run.params[key] for run in listed], True) for key in listed[0].params]
    table = Comparison(listed, metrics, params)
    start = time.process_time()
    size = comparison_page.write(lambda run_id: (workspace, run_id), table, file, lambda _line: None).size_bytes
    took = time.process_time() - start - workspace.making
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mark = "" if size < LIMIT_MB * 1e6 else "  NOT REACHED"
    print(f"{runs} runs x {histories} histories x {steps} steps: {size / 1e6:.1f} MB (to stay below {LIMIT_MB}){mark},")
    print(
        f"  {took:.1f} s to thin, pack and write, {memory:.0f} MB of memory; {workspace.making:.0f} s to make the points"
    )


def stored(runs: int, histories: int, steps: int, folder: Path, file: Path) -> None:
    from amlflow.workspaces.local.workspace import LocalWorkspace

    workspace = LocalWorkspace(folder)
    experiment = workspace.ensure_experiment("bench")
    chance = random.Random(0)
    listed = [
        workspace.create_run(experiment.id, f"run-{number}", {}, {"p": str(number % 9)}).id for number in range(runs)
    ]
    now = 1_700_000_000_000
    with sqlite3.connect(folder / "mlflow.db") as db:
        for run in listed:
            for metric in range(histories):
                rows = [(f"m{metric}", chance.random(), now + step * 100, step, 0, run) for step in range(steps)]
                columns = "(key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
                db.executemany(f"INSERT INTO metrics {columns}", rows)
                db.execute(f"INSERT INTO latest_metrics {columns}", rows[-1])
    command = [AMLFLOW, "-w", f"local:{folder}", "compare", "-e", "bench", "--html", str(file)]
    took = wall(command)
    print(f"the command, {runs} runs x {histories} histories x {steps} steps in a database: {took:.1f} s,", end=" ")
    print(f"{file.stat().st_size / 1e6:.1f} MB; without --html {wall(command[:-2]):.1f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=RUNS)
    options.add_argument("--histories", type=int, default=HISTORIES)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--stored", type=int, default=1, help="histories of each run in the database; 0 leaves it out")
    options.add_argument("--keep", type=Path, help="write the pages into this folder")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        made(chosen.runs, chosen.histories, chosen.steps, folder / "made.html")
        if chosen.stored:
            stored(chosen.runs, chosen.stored, chosen.steps, Path(temporary) / "workspace", folder / "stored.html")


if __name__ == "__main__":
    main()
