"""MLflow's own client, unmodified, in programs that know the bridge's address and token and nothing else."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from amlflow.workspaces.local.bridge import Bridge
from amlflow.workspaces.local.rest import LocalRest
from amlflow.workspaces.local.workspace import LocalWorkspace

TOKEN = "token-of-the-test"
TRACKING = """
import math, tempfile, pathlib
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

client = MlflowClient()
mlflow.set_experiment("wine")
with mlflow.start_run(run_name="parent", tags={"stage": "test"}, description="words") as parent:
    mlflow.log_params({"alpha": 0.1, "kind": "ünïcode"})
    for step in range(3):
        mlflow.log_metric("rmse", 1 / (step + 1), step=step)
    mlflow.log_metrics({"nan": math.nan, "inf": math.inf})
    mlflow.set_tags({"a": 1, "b": "two"})
    mlflow.log_dict({"a": 1}, "folder/dict.json")
    mlflow.log_text("words", "text.txt")
    with mlflow.start_run(run_name="child", nested=True) as child:
        many = [Metric("many", i, 1000 + i, i) for i in range(900)]
        client.log_batch(child.info.run_id, many, [Param("p", "1")], [RunTag("t", "u")])
    import pandas
    mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"x": [1.0, 2.0]}), name="frame"), context="training")
run = client.get_run(parent.info.run_id)
assert run.info.status == "FINISHED" and run.data.metrics["rmse"] == 1 / 3, run
assert math.isnan(run.data.metrics["nan"]) and run.data.params == {"alpha": "0.1", "kind": "ünïcode"}
assert run.inputs.dataset_inputs[0].dataset.name == "frame"
assert run.inputs.dataset_inputs[0].tags[0].value == "training"
assert [p.step for p in client.get_metric_history(parent.info.run_id, "rmse")] == [0, 1, 2]
assert len(client.get_metric_history(child.info.run_id, "many")) == 900
assert mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/folder/dict.json") == {"a": 1}
assert sorted(item.path for item in client.list_artifacts(parent.info.run_id)) == ["folder", "text.txt"]
found = mlflow.search_runs(filter_string="metrics.rmse < 0.5 and params.alpha = '0.1'", order_by=["metrics.rmse DESC"])
assert list(found["run_id"]) == [parent.info.run_id]
children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
assert list(children["tags.mlflow.runName"]) == ["child"]
try:
    client.log_param(parent.info.run_id, "alpha", "0.2")
except mlflow.MlflowException as error:
    assert error.error_code == "INVALID_PARAMETER_VALUE" and "Changing param values" in str(error)
else:
    raise AssertionError("a param was changed")
client.delete_run(child.info.run_id)
assert client.get_run(child.info.run_id).info.lifecycle_stage == "deleted"
client.restore_run(child.info.run_id)
assert [e.name for e in client.search_experiments(filter_string="name = 'wine'")] == ["wine"]
"""
MODELS = """
import warnings
warnings.simplefilter("ignore")
import mlflow
import numpy
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

client = MlflowClient()
mlflow.set_experiment("models")
x, y = numpy.arange(8.0).reshape(-1, 1), numpy.arange(8.0)
mlflow.autolog(silent=True)
with mlflow.start_run() as automatic:
    LinearRegression().fit(x, y)
assert client.get_run(automatic.info.run_id).data.params["fit_intercept"] == "True"
assert len(client.get_run(automatic.info.run_id).outputs.model_outputs) == 1
mlflow.autolog(disable=True)
with mlflow.start_run() as run:
    info = mlflow.sklearn.log_model(LinearRegression().fit(x, y), name="model", input_example=x[:2], pip_requirements=[])
    mlflow.log_metric("rmse", 0.5, model_id=info.model_id)
model = mlflow.get_logged_model(info.model_id)
assert str(model.status) == "READY" and model.metrics[0].value == 0.5 and model.source_run_id == run.info.run_id
assert client.search_logged_models(experiment_ids=[run.info.experiment_id], filter_string="name = 'model'")[0].model_id
version = mlflow.register_model(f"runs:/{run.info.run_id}/model", "wine", tags={"t": "v"})
client.set_registered_model_alias("wine", "champion", version.version)
assert client.get_model_version_by_alias("wine", "champion").run_id == run.info.run_id
assert [v.version for v in client.search_model_versions("name = 'wine'")] == ["1"]
assert [m.name for m in client.search_registered_models()] == ["wine"]
loaded = mlflow.pyfunc.load_model("models:/wine@champion")
assert abs(loaded.predict(x[:1])[0]) < 1e-6
assert mlflow.get_logged_model(info.model_id).tags["mlflow.modelVersions"]
"""
TRACES = """
import warnings
warnings.simplefilter("ignore")
import mlflow
from mlflow import MlflowClient

mlflow.set_experiment("traces")
with mlflow.start_span("outer") as span:
    span.set_inputs({"q": 1})
    with mlflow.start_span("inner"):
        pass
    span.set_outputs({"a": 2})
mlflow.flush_trace_async_logging()
trace = mlflow.get_trace(span.trace_id)
assert [s.name for s in trace.data.spans] == ["outer", "inner"], trace
assert len(mlflow.search_traces(return_type="list")) == 1
mlflow.log_feedback(trace_id=span.trace_id, name="good", value=True)
assert mlflow.get_trace(span.trace_id).info.assessments[0].name == "good"
mlflow.genai.register_prompt(name="ask", template="Hello {{name}}")
assert mlflow.genai.load_prompt("prompts:/ask/1").format(name="you") == "Hello you"
assert mlflow.genai.load_prompt("prompts:/ask/1").template == "Hello {{name}}"
assert not MlflowClient().search_registered_models()
"""


@dataclass(frozen=True)
class Place:
    workspace: LocalWorkspace
    rest: LocalRest
    url: str

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        try:
            given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers}
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in given.items()})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()


@pytest.fixture
def place(work: Path, clean_env: dict[str, str]) -> Iterator[Place]:
    workspace = LocalWorkspace(work / "workspace")
    workspace.create()
    rest = LocalRest(workspace)
    bridge = Bridge(rest, TOKEN)
    yield Place(workspace, rest, bridge.start())
    bridge.stop()
    rest.close()


def run(place: Place, env: dict[str, str], program: str, folder: Path) -> None:
    given = {
        **env,
        "MLFLOW_TRACKING_URI": place.url,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    done = subprocess.run([sys.executable, "-c", program], env=given, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("program", [TRACKING, MODELS, TRACES], ids=["tracking", "models", "traces and prompts"])
def test_an_unmodified_client_works(place: Place, clean_env: dict[str, str], work: Path, program: str) -> None:
    run(place, clean_env, program, work)
    assert not list(work.glob("mlruns*"))
    assert not list(work.glob("mlflow.db"))


def test_starting_needs_no_heavy_import(work: Path, clean_env: dict[str, str]) -> None:
    LocalWorkspace(work / "workspace").create()
    program = f"""
import sys
from pathlib import Path
from amlflow.workspaces.local.bridge import Bridge
from amlflow.workspaces.local.rest import LocalRest
from amlflow.workspaces.local.workspace import LocalWorkspace
rest = LocalRest(LocalWorkspace(Path({str(work / "workspace")!r})))
with Bridge(rest, "t"):
    made = rest.request("POST", "/api/2.0/mlflow/runs/create", {{"experiment_id": "0"}})
    rest.log_points(made["run"]["info"]["run_id"], [("m", 1.0, 0, 0)])
heavy = {{"mlflow", "sqlalchemy", "flask", "fastapi", "requests", "numpy", "pandas", "asyncio"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=clean_env)


def test_nobody_is_answered_without_the_token_or_by_another_name(place: Place) -> None:
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert place.ask("GET", path)[0] == 200
    assert place.ask("GET", path, Authorization="")[1]["error_code"] == "UNAUTHENTICATED"
    assert place.ask("GET", path, Authorization="Bearer token-of-the-tes")[0] == 401
    assert place.ask("GET", path, Authorization=f"Basic {TOKEN}")[0] == 401
    assert place.ask("GET", path, Authorization="Bearer \xff")[0] == 401
    assert place.ask("GET", path, Host="evil.example")[0] == 403
    assert place.ask("GET", path, Host="127.0.0.1:1")[0] == 403


def test_refusals_have_mlflows_form_and_the_connection_goes_on(place: Place) -> None:
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for _ in range(2):
        connection.request("GET", "/api/2.0/mlflow/runs/get?run_id=none", headers=headers)
        answer = connection.getresponse()
        refused = json.loads(answer.read())
        assert (answer.status, refused) == (
            404,
            {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run with id=none not found"},
        )
    connection.close()


def test_a_request_is_read_to_its_limit_and_in_chunks(place: Place) -> None:
    made = place.rest.request("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    run_id = made["run"]["info"]["run_id"]
    body = json.dumps({"run_id": run_id, "tags": [{"key": "long", "value": "x" * (5 << 20)}]}).encode()
    assert place.ask("POST", "/api/2.0/mlflow/runs/log-batch", body)[0] == 200
    assert place.ask("POST", "/api/2.0/mlflow/runs/log-batch", Content_Length=str((64 << 20) + 1))[0] == 413
    assert place.ask("POST", "/api/2.0/mlflow/runs/log-batch", Content_Length="-1")[0] == 400
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"), timeout=60)
    parts = [b'{"run_id": "', run_id.encode(), b'", "key": "t", ', b'"value": "chunked"}']
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", "/api/2.0/mlflow/runs/set-tag", iter(parts), headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert place.workspace.get_run(run_id).tags["t"] == "chunked"


def test_a_stopped_bridge_answers_no_more(place: Place) -> None:
    bridge = Bridge(place.rest, TOKEN)
    url = bridge.start()
    assert url == bridge.start()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request("GET", "/health", headers=headers)
    assert connection.getresponse().read() == b"OK"
    bridge.stop()
    with pytest.raises((ConnectionError, http.client.HTTPException)):  # noqa: PT012
        # Which of the two fails depends on when the end arrives.
        connection.request("GET", "/health", headers=headers)
        connection.getresponse()
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=60).request("GET", "/health")


def test_many_threads_write_at_once_and_nothing_is_lost(place: Place) -> None:
    made = place.rest.request("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    run_id = made["run"]["info"]["run_id"]
    start = threading.Barrier(8)

    def write(thread: int) -> None:
        start.wait()
        for part in range(20):
            steps = range(part * 50, part * 50 + 50)
            if thread % 2:
                place.rest.log_points(run_id, [(f"m{thread}", float(step), step, step) for step in steps])
                continue
            metrics = [{"key": f"m{thread}", "value": float(s), "step": s, "timestamp": s} for s in steps]
            body = {"run_id": run_id, "metrics": metrics, "tags": [{"key": f"t{thread}", "value": str(part)}]}
            assert place.ask("POST", "/api/2.0/mlflow/runs/log-batch", json.dumps(body).encode())[0] == 200

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, thread) for thread in range(8)]:
            done.result()
    histories = place.workspace.metric_histories([run_id])[run_id]
    assert {key: len(points) for key, points in histories.items()} == {f"m{thread}": 1000 for thread in range(8)}
    assert place.workspace.get_run(run_id).metrics == {f"m{thread}": 999.0 for thread in range(8)}


def test_mlflow_itself_is_asked_by_several_at_once_while_others_log(place: Place) -> None:
    made = place.rest.request("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    run_id, stop = made["run"]["info"]["run_id"], threading.Event()

    def log() -> int:
        step = 0
        while not stop.is_set():
            place.rest.log_points(run_id, [("m", 1.0, step, step)])
            step += 1
            time.sleep(0.001)
        return step

    with ThreadPoolExecutor(5) as pool:
        logged = pool.submit(log)
        try:
            body = {"name": "d"}
            asked = [pool.submit(place.rest.request, "POST", "/api/3.0/mlflow/datasets/create", body) for _ in range(8)]
            made_ids = {done.result()["dataset"]["dataset_id"] for done in asked}
        finally:
            stop.set()
        assert len(made_ids) == 8
        count = logged.result()
    assert len(place.workspace.metric_histories([run_id])[run_id]["m"]) == count
