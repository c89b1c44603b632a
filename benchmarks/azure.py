"""What it costs to submit an unchanged project, and to list, against Azure's own SDK: with 150 ms added to every answer.

    .venv/bin/python benchmarks/azure.py [--latency MS] [--rounds N]

Needs Node.js for the emulator's blob storage. Requests are counted from the emulator's record.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
FILES = {
    "MLproject": "conda_env: conda.yaml\nentry_points:\n  main: {command: python train.py}\n",
    "conda.yaml": "dependencies: [python=3.11, pip, {pip: [azureml-mlflow]}]\n",
    "train.py": "print(1)\n",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
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
    for name, text in FILES.items():
        (work / "proj").mkdir(exist_ok=True)
        (work / "proj" / name).write_text(text)
    run([AMLFLOW, "compute", "create", "cpu", "-q"], env, work)
    ours = [AMLFLOW, "run-project", "proj", "--compute", "cpu", "-e", "bench", "--detach", "-q"]
    theirs = [sys.executable, "-W", "ignore", "-c", SDK]
    for command in (ours, theirs):
        run(command, env, work)
    run([AMLFLOW, "emulator", "fault", f"* *:latency={options.latency}"], env, work)
    times = {}
    for name, command in (("amlflow run-project --detach", ours), ("azure-ai-ml create_or_update", theirs)):
        before = lines(record)
        times[name] = [timed(command, env, work) for _ in range(options.rounds)]
        requests = (lines(record) - before) / options.rounds
        print(f"{name:<32} {statistics.median(times[name]):6.2f} s  {requests:5.1f} requests")
    run([AMLFLOW, "emulator", "fault", "--clear"], env, work)
    for command in (
        [AMLFLOW, "compute", "list"],
        [AMLFLOW, "job", "list"],
        [AMLFLOW, "datastore", "list"],
        [sys.executable, "-c", "import azure.ai.ml"],
    ):
        shown = " ".join(["amlflow", *command[1:]]) if command[0] == AMLFLOW else 'python -c "import azure.ai.ml"'
        print(f"{shown:<32} {statistics.median(timed(command, env, work) for _ in range(options.rounds)):6.2f} s")


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
