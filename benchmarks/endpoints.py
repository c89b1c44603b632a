"""What it costs to deploy to a managed endpoint, against azure-ai-ml's documented calls, with 150 ms added to every answer; and
whether a request is lost while the traffic moves from one deployment to another under 20 clients.

    .venv/bin/python benchmarks/endpoints.py [--latency MS] [--rounds N] [--clients N]

Needs Node.js for the emulator's blob storage. Requests are counted from the emulator's record: those to the service, without the
two kinds that Azure's SDKs and amlflow send alike, tokens and the cloud's metadata.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from timing import AMLFLOW, Row, show

TRAIN = """
import sys
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
x, y = load_diabetes(return_X_y=True, as_frame=True)
for name, constant in (("one", 1.0), ("two", 2.0)):
    model = DummyRegressor(strategy="constant", constant=constant).fit(x, y)
    mlflow.sklearn.save_model(model, f"{sys.argv[1]}/{name}", serialization_format="cloudpickle",
        signature=infer_signature(x, y), input_example=x.head(2), pip_requirements=sys.argv[2:])
"""
CLIENT = """
import os, sys
from azure.ai.ml import MLClient
from azure.identity import ClientSecretCredential
env = os.environ
credential = ClientSecretCredential(
    env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"],
    authority=env["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True,
)
client = MLClient(credential, *env["AMLFLOW_WORKSPACE"].split("/"))
"""
REGISTER = """
from azure.ai.ml.entities import Model
for name in ("one", "two"):
    client.models.create_or_update(Model(name="bench", path=f"{sys.argv[1]}/{name}", type="mlflow_model"))
"""
# The steps of the documentation's «safe rollout»: endpoint, deployment, a request to it, traffic.
DEPLOY = """
from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint
name = sys.argv[1]
endpoint = client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key")).result()
client.online_deployments.begin_create_or_update(ManagedOnlineDeployment(
    name="blue", endpoint_name=name, model="azureml:bench:1", instance_type="Standard_DS3_v2", instance_count=1)).result()
client.online_endpoints.invoke(name, deployment_name="blue", request_file="request.json")
endpoint.traffic = {"blue": 100}
client.online_endpoints.begin_create_or_update(endpoint).result()
"""
ROW = {"columns": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"], "index": [0], "data": [[0.1] * 10]}
ALIKE = ("/oauth2/", "/metadata/endpoints", "/.well-known/", "/msi/token")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        record = work / "record.jsonl"
        env = {**os.environ, "AMLFLOW_HOME": str(work / "home"), "AZURE_ML_SDK_TELEMETRY": "false"}
        run([AMLFLOW, "emulator", "start", "--record", str(record)], env, work)
        try:
            env |= json.loads(run([AMLFLOW, "emulator", "env", "-o", "json"], env, work))
            prepare(env, work)
            deploying(env, work, record, options)
            switching(env, work, options.clients)
        finally:
            run([AMLFLOW, "emulator", "stop"], env, work)


def prepare(env: dict[str, str], work: Path) -> None:
    wanted = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "pandas", "cloudpickle")]
    # The service's own scorer imports it; both sides deploy with that scorer.
    wanted.append("azureml-ai-monitoring")
    run([sys.executable, "-W", "ignore", "-c", TRAIN, str(work), *wanted], env, work)
    run([sys.executable, "-W", "ignore", "-c", CLIENT + REGISTER, str(work)], env, work)
    (work / "request.json").write_text(json.dumps({"input_data": ROW}))
    run([AMLFLOW, "deploy", "bench:1", "-t", "managed", "--scoring", "azure", "--name", "warm-up"], env, work)
    run([AMLFLOW, "endpoint", "delete", "warm-up"], env, work)


def deploying(env: dict[str, str], work: Path, record: Path, options: argparse.Namespace) -> None:
    """Each deploy is a first one: endpoint, deployment, a question, traffic."""
    run([AMLFLOW, "emulator", "fault", f"* *:latency={options.latency}"], env, work)
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    counts: dict[str, list[int]] = {"ours": [], "theirs": []}
    for number in range(options.rounds):
        for who in times:
            name = f"bench-{who}-{number}"
            ours = [AMLFLOW, "deploy", "bench:1", "-t", "managed", "--scoring", "azure", "--name", name]
            theirs = [sys.executable, "-W", "ignore", "-c", CLIENT + DEPLOY, name]
            before, started = requests_sent(record), time.perf_counter()
            run(ours if who == "ours" else theirs, env, work)
            times[who].append(time.perf_counter() - started)
            counts[who].append(requests_sent(record) - before)
            run([AMLFLOW, "endpoint", "delete", name], env, work)
    run([AMLFLOW, "emulator", "fault", "--clear"], env, work)
    requests = [float(statistics.median(counts[who])) for who in counts]
    walls = [statistics.median(times[who]) for who in times]
    rows = [
        Row("requests to deploy, warm", *requests, 1.0, unit=""),
        Row(f"wall time at {options.latency} ms", *walls, 0.7),
    ]
    show("A first deploy to managed, beside azure-ai-ml's documented calls", rows)


def switching(env: dict[str, str], work: Path, clients: int) -> None:
    deploy = [AMLFLOW, "deploy", "-t", "managed", "--scoring", "azure", "--name", "switched"]
    run([*deploy, "bench:1"], env, work)
    shown = json.loads(run([AMLFLOW, "endpoint", "show", "switched", "-o", "json"], env, work))
    key = run([AMLFLOW, "endpoint", "keys", "switched", "-q"], env, work).strip()
    ended, answers = threading.Event(), Counter[str]()
    context = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
    body = json.dumps({"input_data": ROW}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask() -> None:
        while not ended.is_set():
            request = urllib.request.Request(shown["scoring_url"], body, headers)
            try:
                with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                    answers[answer.read().decode()] += 1
            except OSError as error:
                answers[f"failed: {error}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        run([*deploy, "bench:2", "--canary", "10,50,100", "--canary-wait", "1"], env, work)
        started = time.perf_counter()
        run([AMLFLOW, "endpoint", "rollback", "switched"], env, work)
        took = time.perf_counter() - started
        run([*deploy, "bench:2"], env, work)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    failed = {text: count for text, count in answers.items() if text.startswith("failed")}
    print(f"\nSwitched, rolled back ({took:.1f} s) and switched again under {clients} clients:")
    print(f"{sum(answers.values())} requests, {sum(failed.values())} failed{f': {failed}' if failed else ''}")


def requests_sent(record: Path) -> int:
    exchanges: list[dict[str, Any]] = [json.loads(line) for line in record.read_text().splitlines()]
    return sum(not any(part in exchange["target"] for part in ALIKE) for exchange in exchanges)


def run(command: list[str], env: dict[str, str], work: Path) -> str:
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:80]} failed: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
