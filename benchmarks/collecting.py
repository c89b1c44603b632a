"""What --collect costs a request: two endpoints with the same model, one of which collects, asked in turn."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import TRAIN, wait_for
from timing import Row, show

ROUNDS = 40
IN_A_ROW = 100


def connect(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def asked(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> float:
    start = time.perf_counter()
    connection.request("POST", "/invocations", body, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"answered {answer.status}")
    return (time.perf_counter() - start) * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN, str(model)], check=True, capture_output=True)
        body = (model / "serving_input_example.json").read_bytes()
        os.environ["AMLFLOW_HOME"] = f"{temporary}/home"
        amlflow = [sys.executable, "-m", "amlflow"]
        taken: dict[str, list[float]] = {"plain": [], "collecting": []}
        try:
            clients = {}
            for name in taken:
                command = [*amlflow, "deploy", str(model), "--name", name, "--env-manager", "local", "-o", "json"]
                command += ["--collect"] if name == "collecting" else []
                port = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["port"]
                key = subprocess.run([*amlflow, "endpoint", "keys", name, "-q"], check=True, capture_output=True).stdout
                headers = {"content-type": "application/json", "authorization": f"Bearer {key.decode().strip()}"}
                wait_for(port)
                clients[name] = connect(port), headers
            for number in range(ROUNDS + 2):
                for name, (connection, headers) in clients.items():
                    times = [asked(connection, body, headers) for _ in range(IN_A_ROW)]
                    taken[name] += times if number >= 2 else []
            time.sleep(2)
            files = Path(temporary).rglob("model_inputs/*/*/*/*/*.jsonl")
            kept = sum(1 for file in files for _ in file.open())
            if kept != (ROUNDS + 2) * IN_A_ROW:
                raise SystemExit(f"{kept} of {(ROUNDS + 2) * IN_A_ROW} requests were collected")
        finally:
            for name in taken:
                subprocess.run([*amlflow, "endpoint", "delete", name], check=False, capture_output=True)
        medians = {name: statistics.median(times) for name, times in taken.items()}
        worst = {name: statistics.quantiles(times, n=100)[98] for name, times in taken.items()}
        show(
            f"A request to an endpoint that collects all of them, {ROUNDS * IN_A_ROW} each in turn (peer: one that does not)",
            [
                Row("p50, one client", medians["collecting"], medians["plain"], 1.05, "ms"),
                Row("p99, one client", worst["collecting"], worst["plain"], 1.5, "ms"),
            ],
        )


if __name__ == "__main__":
    main()
