"""Reading 10,000 runs x 20 metrics x 10 params, and 20 histories of 10,000 steps, beside MLflow's own commands."""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
import uuid
from pathlib import Path

from timing import AMLFLOW, MLFLOW, Row, medians, show

RUNS, METRICS, PARAMS, LONG, STEPS = 10_000, 20, 10, 20, 10_000
READ_HISTORIES = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
for run_id in sys.argv[2:]:
    client.get_metric_history(run_id, "loss")
"""


def build(root: Path, long: int = LONG, width: int = METRICS) -> list[str]:
    """A workspace of that size, written in bulk into a database that amlflow made. Returns the `long` runs with histories."""
    from amlflow.workspaces.local.workspace import LocalWorkspace

    workspace = LocalWorkspace(root)
    workspace.create()
    experiment = int(workspace.ensure_experiment("bench").id)
    histories = int(workspace.ensure_experiment("histories").id)
    chance, now = random.Random(0), 1_700_000_000_000
    ids = [uuid.UUID(int=chance.getrandbits(128)).hex for _ in range(RUNS + long)]
    with sqlite3.connect(root / "mlflow.db") as db:
        for number, run_id in enumerate(ids):
            where = experiment if number < RUNS else histories
            db.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
                "end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
                "VALUES (?, ?, 'UNKNOWN', '', '', 'me', 'FINISHED', ?, ?, '', 'active', ?, ?)",
                (
                    run_id,
                    f"run-{number}",
                    now + number,
                    now + number + 5,
                    f"{root}/artifacts/{where}/{run_id}/artifacts",
                    where,
                ),
            )
        first = ids[:RUNS]
        metrics = [(f"m{m}", chance.random(), now, 0, 0, run) for run in first for m in range(width)]
        db.executemany(
            "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)", metrics
        )
        db.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
            metrics,
        )
        db.executemany(
            "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
            [(f"p{p}", str(chance.randrange(100)), run) for run in first for p in range(PARAMS)],
        )
        db.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.runName', ?, ?)",
            [(f"run-{number}", run) for number, run in enumerate(ids)],
        )
        for run in ids[RUNS:]:
            points = [("loss", chance.random(), now + step, step, 0, run) for step in range(STEPS)]
            db.executemany(
                "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)", points
            )
            db.execute(
                "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
                points[-1],
            )
    return ids[RUNS:]


def sql_alone(root: Path) -> tuple[float, float, float]:
    """The floor: the rows themselves, without making anything of them."""
    times = []
    with sqlite3.connect(root / "mlflow.db") as db:
        for statements in (
            ["SELECT r.run_uuid FROM runs r LEFT JOIN latest_metrics m ON m.run_uuid = r.run_uuid AND m.key = 'm3' "
             "WHERE r.experiment_id = 1 ORDER BY m.value LIMIT 20"],
            ["SELECT * FROM runs", "SELECT * FROM latest_metrics", "SELECT * FROM params", "SELECT * FROM tags"],
            ["SELECT value, step, timestamp FROM metrics WHERE key = 'loss'"],
        ):  # fmt: skip
            start = time.perf_counter()
            for statement in statements:
                db.execute(statement).fetchall()
            times.append(time.perf_counter() - start)
    return times[0], times[1], times[2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, help="keep the store here between runs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--metrics", type=int, default=METRICS, help="of each run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.store or Path(temporary) / "store").absolute()
        marker = root / "histories.txt"
        if not marker.exists():
            marker.write_text("\n".join(build(root, width=options.metrics)))
        long_runs = marker.read_text().split()
        uri = f"sqlite:///{root}/mlflow.db"
        env = {"MLFLOW_TRACKING_URI": uri, "AMLFLOW_WORKSPACE": f"local:{root}", "PYTHONWARNINGS": "ignore"}
        os.environ.update(env)
        top, every, history = medians(
            [
                [AMLFLOW, "compare", "--experiment", "bench", "--sort", "m3", "--top", "20"],
                [AMLFLOW, "run", "list", "--experiment", "bench", "-o", "json"],
                [AMLFLOW, "compare", *long_runs, "--history", "loss", "-o", "json"],
            ],
            options.runs,
        )
        listing, exporting, reading = medians(
            [
                [MLFLOW, "runs", "list", "--experiment-id", "1"],
                [MLFLOW, "experiments", "csv", "-x", "1", "-o", f"{temporary}/out.csv"],
                [sys.executable, "-c", READ_HISTORIES, uri, *long_runs],
            ],
            min(3, options.runs),
        )
        floor = sql_alone(root)
        show(
            f"Reading {RUNS} runs x {options.metrics} metrics x {PARAMS} params, whole processes",
            [
                Row("compare --sort m3 --top 20 / mlflow runs list", top, listing, 1 / 15),
                Row("run list -o json / mlflow experiments csv", every, exporting, 0.1),
                Row(f"{LONG} histories of {STEPS} / get_metric_history", history, reading, 0.2),
            ],
        )
        print("SQL alone: " + ", ".join(f"{seconds:.3f} s" for seconds in floor))


if __name__ == "__main__":
    main()
