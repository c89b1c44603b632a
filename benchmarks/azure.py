"""What it costs to submit a project, unchanged and with 200 MB changed, to list and to compare, against Azure's own SDK: with 150
ms added to every answer, and 50 ms for the comparison of 10,000 runs.

    .venv/bin/python benchmarks/azure.py [--latency MS] [--rounds N] [--only submit|changed|list|compare]

Needs Node.js for the emulator's blob storage. Requests are counted from the emulator's record.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import reading

AMLFLOW = str(Path(sys.executable).with_name("amlflow"))
SDK = """
import os
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import Environment
from azure.identity import ClientSecretCredential
env = os.environ
credential = ClientSecretCredential(
    env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"],
    authority=env["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True,
)
subscription, group, name = env["AMLFLOW_WORKSPACE"].split("/")
client = MLClient(credential, subscription, group, name)
job = command(
    code="proj", command="python train.py", compute="cpu", experiment_name="bench",
    environment=Environment(name="bench", version="1", image="python:3.11", conda_file="proj/conda.yaml"),
)
print(client.jobs.create_or_update(job).name)
"""
SEARCH = """
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
found = mlflow.search_runs(experiment_names=["bench"])
print(found.sort_values("metrics.m3", ascending=False).head(20))
assert len(found) == int(sys.argv[2])
"""
CHANGED_FILES, CHANGED_BYTES = 200, 1_000_000
SEARCH_LATENCY_MS = 50
PARTS = ("submit", "changed", "list", "compare")
FILES = {
    "MLproject": "conda_env: conda.yaml\nentry_points:\n  main: {command: python train.py}\n",
    "conda.yaml": "dependencies: [python=3.11, pip, {pip: [azureml-mlflow]}]\n",
    "train.py": "print(1)\n",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        record = work / "record.jsonl"
        env = {**os.environ, "AMLFLOW_HOME": str(work / "home")}
        run([AMLFLOW, "emulator", "start", "--record", str(record)], env, work)
        try:
            env |= json.loads(run([AMLFLOW, "emulator", "env", "-o", "json"], env, work))
            measure(env, work, record, options)
        finally:
            run([AMLFLOW, "emulator", "stop"], env, work)


def measure(env: dict[str, str], work: Path, record: Path, options: argparse.Namespace) -> None:
    (work / "proj").mkdir()
    for name, text in FILES.items():
        (work / "proj" / name).write_text(text)
    run([AMLFLOW, "compute", "create", "cpu", "-q"], env, work)
    ours = [AMLFLOW, "run-project", "proj", "--compute", "cpu", "-e", "bench", "--detach", "-q"]
    theirs = [sys.executable, "-W", "ignore", "-c", SDK]
    parts = [options.only] if options.only else list(PARTS)
    if "submit" in parts:
        unchanged(env, work, record, options, ours, theirs)
    if "changed" in parts:
        changed(env, work, options, ours, theirs)
    if "list" in parts:
        listing(env, work, options.rounds)
    if "compare" in parts:
        comparing(env, work, record, options.rounds)


def unchanged(
    env: dict[str, str], work: Path, record: Path, options: argparse.Namespace, ours: list[str], theirs: list[str]
) -> None:
    for command in (ours, theirs):
        run(command, env, work)
    with latency(options.latency, env, work):
        for name, command in (("amlflow run-project --detach", ours), ("azure-ai-ml create_or_update", theirs)):
            before = lines(record)
            times = [timed(command, env, work) for _ in range(options.rounds)]
            requests = (lines(record) - before) / options.rounds
            print(f"{name:<40} {statistics.median(times):6.2f} s  {requests:5.1f} requests")


def changed(env: dict[str, str], work: Path, options: argparse.Namespace, ours: list[str], theirs: list[str]) -> None:
    """All files are new to the service before each submission."""
    taken: dict[str, list[float]] = {"amlflow, 200 MB changed": [], "azure-ai-ml, 200 MB changed": []}
    with latency(options.latency, env, work):
        for _ in range(options.rounds):
            for name, command in zip(taken, (ours, theirs), strict=True):
                for number in range(CHANGED_FILES):
                    (work / "proj" / f"data-{number}.bin").write_bytes(os.urandom(CHANGED_BYTES))
                taken[name].append(timed(command, env, work))
    for number in range(CHANGED_FILES):
        (work / "proj" / f"data-{number}.bin").unlink()
    for name, times in taken.items():
        print(f"{name:<40} {statistics.median(times):6.2f} s")


def listing(env: dict[str, str], work: Path, rounds: int) -> None:
    for command in (
        [AMLFLOW, "compute", "list"],
        [AMLFLOW, "job", "list"],
        [AMLFLOW, "datastore", "list"],
        [sys.executable, "-c", "import azure.ai.ml"],
    ):
        shown = " ".join(["amlflow", *command[1:]]) if command[0] == AMLFLOW else 'python -c "import azure.ai.ml"'
        print(f"{shown:<40} {statistics.median(timed(command, env, work) for _ in range(rounds)):6.2f} s")


def comparing(env: dict[str, str], work: Path, record: Path, rounds: int) -> None:
    """The runs go straight into the emulator's database: sending them would take an hour."""
    run([AMLFLOW, "run", "list"], env, work)
    (place,) = (Path(env["AMLFLOW_HOME"]) / "emulator" / "workspaces").iterdir()
    reading.build(place, long=0)
    uri = json.loads(run([AMLFLOW, "workspace", "show", "-o", "json"], env, work))["tracking_uri"]
    ours = [AMLFLOW, "compare", "--experiment", "bench", "--sort", "m3", "--top", "20"]
    theirs = [sys.executable, "-W", "ignore", "-c", SEARCH, uri, str(reading.RUNS)]
    with latency(SEARCH_LATENCY_MS, env, work):
        for name, command in (
            ("amlflow compare --top 20 of 10,000", ours),
            ("mlflow.search_runs, azureml-mlflow", theirs),
        ):
            run(command, env, work)
            before = lines(record)
            times = [timed(command, env, work) for _ in range(rounds)]
            requests = (lines(record) - before) / rounds
            print(f"{name:<40} {statistics.median(times):6.2f} s  {requests:5.1f} requests")


@contextlib.contextmanager
def latency(milliseconds: int, env: dict[str, str], work: Path) -> Iterator[None]:
    run([AMLFLOW, "emulator", "fault", f"* *:latency={milliseconds}"], env, work)
    try:
        yield
    finally:
        run([AMLFLOW, "emulator", "fault", "--clear"], env, work)


def timed(command: list[str], env: dict[str, str], work: Path) -> float:
    started = time.perf_counter()
    run(command, env, work)
    return time.perf_counter() - started


def run(command: list[str], env: dict[str, str], work: Path) -> str:
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:80]} failed: {done.stderr[-2000:]}")
    return done.stdout


def lines(record: Path) -> int:
    return len(record.read_text().splitlines()) if record.exists() else 0


if __name__ == "__main__":
    main()
