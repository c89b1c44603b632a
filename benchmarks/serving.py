"""The local endpoint beside `mlflow models serve` and beside a bare Starlette app, on the same model and row."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from timing import BIN, MLFLOW, Row, show

TRAIN = """
import sys
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
x, y = load_wine(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=50).fit(x, y)
mlflow.sklearn.save_model(model, sys.argv[1], serialization_format="cloudpickle",
    signature=infer_signature(x, model.predict(x)), input_example=x.head(1))
"""
BARE = """
import pickle, sys
import pandas
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
model = pickle.load(open(sys.argv[1] + "/model.pkl", "rb"))
async def score(request):
    split = (await request.json())["dataframe_split"]
    frame = pandas.DataFrame(split["data"], columns=split["columns"])
    return JSONResponse({"predictions": model.predict(frame).tolist()})
async def ping(request):
    return JSONResponse({})
uvicorn.run(Starlette(routes=[Route("/invocations", score, methods=["POST"]), Route("/ping", ping)]),
    port=int(sys.argv[2]), log_level="warning")
"""
SECONDS = 5.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            # Without the key ours refuses, which it can do only once it answers.
            if connection.getresponse().status in (200, 401):
                return
        except OSError:
            time.sleep(0.02)


def load(port: int, body: bytes, headers: dict[str, str], clients: int) -> tuple[float, float, float]:
    """Requests a second, median and 99th percentile in milliseconds, over connections that stay open."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < end:
            start = time.perf_counter()
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            taken.append(time.perf_counter() - start)
            if answer.status != 200:
                raise SystemExit(f"answered {answer.status}: {content[:500]!r}")
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = sorted(taken)
    return len(taken) / SECONDS, statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.99)] * 1000


def resident(pid: int) -> float:
    """Megabytes of a process and all below it. Shared pages count once, as PSS gives them."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in family) / 1e6


def measured(start: Callable[[], tuple[int, int, dict[str, str]]], body: bytes) -> dict[str, float]:
    """Start a server by a function that returns (pid, port, headers) and measure it."""
    begun = time.perf_counter()
    pid, port, headers = start()
    wait_for(port)
    found = {"cold": time.perf_counter() - begun}
    headers = {"content-type": "application/json", **headers}
    load(port, body, headers, 1)
    found["one"], found["p50"], found["p99"] = load(port, body, headers, 1)
    found["eight"], found["p50_8"], found["p99_8"] = load(port, body, headers, 8)
    found["memory"] = resident(pid)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN, str(model)], check=True, capture_output=True)
        body = (model / "serving_input_example.json").read_bytes()
        assert "dataframe_split" in json.loads(body)
        children: list[subprocess.Popen[bytes]] = []
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

        def spawn(command: list[str], port: int) -> tuple[int, int, dict[str, str]]:
            quiet = subprocess.DEVNULL
            children.append(subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet, start_new_session=True))
            return children[-1].pid, port, {}

        def mlflow() -> tuple[int, int, dict[str, str]]:
            port = free_port()
            return spawn([MLFLOW, "models", "serve", "-m", str(model), "-p", str(port), "--env-manager", "local"], port)

        def bare() -> tuple[int, int, dict[str, str]]:
            port = free_port()
            return spawn([sys.executable, "-c", BARE, str(model), str(port)], port)

        os.environ["AMLFLOW_HOME"] = f"{temporary}/home"
        amlflow = [sys.executable, "-m", "amlflow"]

        def ours() -> tuple[int, int, dict[str, str]]:
            command = [*amlflow, "deploy", str(model), "--name", "bench", "--env-manager", "local", "-o", "json"]
            shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            key = subprocess.run([*amlflow, "endpoint", "keys", "bench", "-q"], check=True, capture_output=True).stdout
            supervisor = psutil.Process(shown["pid"]).ppid()
            return supervisor, shown["port"], {"authorization": f"Bearer {key.decode().strip()}"}

        try:
            peer, mine = measured(mlflow, body), measured(ours, body)
            floor = measured(bare, body)
        finally:
            subprocess.run([*amlflow, "endpoint", "delete", "bench"], check=False, capture_output=True)
            for child in children:
                os.killpg(child.pid, signal.SIGKILL)
        show(
            "Local endpoint, one row, signature checked (peer: mlflow models serve)",
            [
                Row("requests/s, one client", mine["one"], peer["one"], 3, "/s", True),
                Row("requests/s, eight clients", mine["eight"], peer["eight"], 3, "/s", True),
                Row("p50, one client", mine["p50"], peer["p50"], 1 / 3, "ms"),
                Row("p99, one client", mine["p99"], peer["p99"], 1, "ms"),
                Row("p99, eight clients", mine["p99_8"], peer["p99_8"], 1, "ms"),
                Row("cold start, command to first answer", mine["cold"], peer["cold"], 0.5),
                Row("memory, all processes", mine["memory"], peer["memory"], 0.5, "MB"),
            ],
        )
        print(f"bare Starlette, unchecked: {floor['one']:.0f}/s and {floor['eight']:.0f}/s, {floor['memory']:.0f} MB")


if __name__ == "__main__":
    main()
