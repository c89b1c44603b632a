"""What serves a model in the image that amlflow builds, beside `mlflow models serve`; the two build contexts beside each other;
and what a second build of the same model costs.

    .venv/bin/python benchmarks/deploying.py [--only serving|plan|build] [--rounds N]

The scoring app is started as the Dockerfile starts it, but in this environment, which MLflow's server has as well; the two take
turns, and the medians of all rounds count. The builds are
the emulator's, which carries out a Dockerfile's steps and needs Node.js.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import TRAIN, free_port, measured
from timing import AMLFLOW, BIN, MLFLOW, Row, show

KEY = "benchmark"
LAYERS = ("RUN", "COPY", "ADD")
PARTS = ("serving", "plan", "build")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        env |= {"AMLFLOW_HOME": str(work / "home"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        run([sys.executable, "-W", "ignore", "-c", TRAIN, str(work / "model")], env)
        run([AMLFLOW, "model", "image", str(work / "model"), "--to", str(work / "own")], env)
        if options.only in (None, "serving"):
            serving(work, env, options.rounds)
        if options.only in (None, "plan"):
            plans(work, env)
        if options.only in (None, "build"):
            builds(work, env)


def serving(work: Path, env: dict[str, str], rounds: int) -> None:
    """One row a request, by one client and by eight; the app checks key and signature, MLflow the signature."""
    model, children = work / "model", list[subprocess.Popen[bytes]]()
    body = (model / "serving_input_example.json").read_bytes()

    def spawn(command: list[str], port: int, key: str = "") -> tuple[int, int, dict[str, str]]:
        quiet = subprocess.DEVNULL
        own = {**env, "AMLFLOW_ENDPOINT_KEY": key}
        children.append(subprocess.Popen(command, env=own, stdout=quiet, stderr=quiet, start_new_session=True))
        return children[-1].pid, port, {"authorization": f"Bearer {key}"} if key else {}

    def app() -> tuple[int, int, dict[str, str]]:
        port = free_port()
        return spawn(start_command(work / "own", port), port, KEY)

    def mlflow() -> tuple[int, int, dict[str, str]]:
        port = free_port()
        return spawn([MLFLOW, "models", "serve", "-m", str(model), "-p", str(port), "--env-manager", "local"], port)

    taken: dict[str, list[dict[str, float]]] = {"mlflow": [], "app": []}
    for _ in range(rounds):
        for server in (mlflow, app):
            try:
                taken[server.__name__].append(measured(server, body))
            finally:
                stop(children)
    peer, mine = (medians(taken[name]) for name in ("mlflow", "app"))
    show(
        "The scoring app as the image starts it, one row (peer: mlflow models serve)",
        [
            Row("requests/s, one client", mine["one"], peer["one"], 3, "/s", True),
            Row("requests/s, eight clients", mine["eight"], peer["eight"], 3, "/s", True),
            Row("p50, one client", mine["p50"], peer["p50"], 1 / 3, "ms"),
            Row("p50, eight clients", mine["p50_8"], peer["p50_8"], 1 / 3, "ms"),
            Row("p99, one client", mine["p99"], peer["p99"], 1, "ms"),
            Row("p99, eight clients", mine["p99_8"], peer["p99_8"], 1, "ms"),
            Row("memory, all processes", mine["memory"], peer["memory"], 0.5, "MB"),
        ],
    )


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def start_command(context: Path, port: int) -> list[str]:
    """What the Dockerfile ends with, with the context in the place of the image and this interpreter in that of its own."""
    given = next(value for name, value in steps(context) if name == "CMD")
    spec = context / "app" / "spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "model_folder": str(context / "app" / "model")}))
    command = [word.replace("/app/", f"{context}/app/") for word in json.loads(given)]
    at = command.index("--port") + 1
    return [sys.executable, *command[1:at], str(port), *command[at + 1 :]]


def plans(work: Path, env: dict[str, str]) -> None:
    run([MLFLOW, "models", "generate-dockerfile", "-m", str(work / "model"), "-d", str(work / "mlflow")], env)
    own, theirs = (steps(work / place) for place in ("own", "mlflow"))
    layers = [float(sum(name in LAYERS for name, _ in found)) for found in (own, theirs)]
    show(
        "The build context (peer: mlflow models generate-dockerfile)",
        [
            Row("layers beside the base's", *layers, 0.5, ""),
            Row("instructions", float(len(own)), float(len(theirs)), 1, ""),
        ],
    )
    for what, pattern in (("compiler", r"\b(gcc|g\+\+|build-essential|cmake)\b"), ("second web server", r"\bnginx\b")):
        named = [bool(re.search(pattern, (work / place / "Dockerfile").read_text())) for place in ("own", "mlflow")]
        print(f"{what}: amlflow {'yes' if named[0] else 'no'}, MLflow {'yes' if named[1] else 'no'}")


def builds(work: Path, env: dict[str, str]) -> None:
    record = work / "record.jsonl"
    run([AMLFLOW, "emulator", "start", "--record", str(record)], env)
    try:
        env = {**env, **json.loads(run([AMLFLOW, "emulator", "env", "-o", "json"], env))}
        found = []
        for _ in range(2):
            started = time.perf_counter()
            made = json.loads(run([AMLFLOW, "model", "image", str(work / "model"), "--build", "-o", "json"], env))
            found.append((made["built"], time.perf_counter() - started, record.read_text().count("/scheduleRun")))
    finally:
        run([AMLFLOW, "emulator", "stop"], env)
    print("\nThe same model, built twice in the workspace's registry (the emulator's)")
    for name, (built, took, tasks) in zip(("first", "second"), found, strict=True):
        print(f"{name}: {'built' if built else 'nothing built'}, {tasks} build tasks so far, {took:.1f} s")


def steps(context: Path) -> list[tuple[str, str]]:
    """Instructions and their values; continued lines joined."""
    text = (context / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def stop(children: list[subprocess.Popen[bytes]]) -> None:
    while children:
        child = children.pop()
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:80]} failed: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
