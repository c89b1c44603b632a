"""MLflow's client with azureml-mlflow, and plain requests, against the tracking server and the registry."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated import Running


@pytest.fixture
def mlflow(pointed: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow, set to the workspace as its documentation says."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    uri = pointed.request("GET", pointed.workspace_path).json()["properties"]["mlFlowTrackingUri"]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.fixture
def api(emulator: Running) -> Any:
    """Asks the tracking server: `api("POST", "runs/create", {...})` is the status and the JSON of the answer."""

    def ask(method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        place = f"/mlflow/v2.0{emulator.workspace_path}/api/2.0/mlflow/{path}"
        answer = emulator.request(method, place, body, **query)
        return answer.status_code, answer.json() if answer.content else None

    return ask


@pytest.fixture
def run_id(api: Any) -> str:
    _, experiment = api("POST", "experiments/create", {"name": f"exp-{uuid.uuid4().hex[:8]}"})
    _, made = api("POST", "runs/create", {"experiment_id": experiment["experiment_id"], "start_time": 1})
    return made["run"]["info"]["run_id"]


def test_mlflow_logs_reads_and_downloads(mlflow: Any, pointed: Running, tmp_path: Path) -> None:
    mlflow.set_experiment("wine")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"alpha": 1, "kind": "tree"})
        for step in range(3):
            mlflow.log_metric("rmse", 1 - step / 10, step=step)
        mlflow.set_tag("stage", "trial")
        mlflow.log_text("hello", "notes/a.txt")
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    found = client.get_run(run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert found.data.params == {"alpha": "1", "kind": "tree"}
    assert [point.value for point in client.get_metric_history(run_id, "rmse")] == [1.0, 0.9, 0.8]
    assert uuid.UUID(found.info.experiment_id)
    assert found.info.artifact_uri.startswith(
        f"azureml://127.0.0.1:{pointed.settings['port']}/mlflow/v2.0/subscriptions/"
    )
    assert mlflow.search_runs(filter_string="params.kind = 'tree' and metrics.rmse < 0.85")["run_id"].tolist() == [
        run_id
    ]
    assert [item.path for item in client.list_artifacts(run_id)] == ["notes"]
    local = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="notes/a.txt", dst_path=str(tmp_path))
    assert Path(local).read_text() == "hello"
    with pytest.raises(Exception, match="Resource Conflict: ArtifactId ExperimentRun"):
        client.log_text(run_id, "again", "notes/a.txt")


def test_a_model_is_registered_and_loaded(mlflow: Any) -> None:
    from mlflow.pyfunc import PythonModel

    class Doubles(PythonModel):
        def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
            return [item * 2 for item in model_input]

    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        mlflow.pyfunc.save_model("m", python_model=Doubles(), pip_requirements=[])
        mlflow.log_artifacts("m", "model")
    client = mlflow.MlflowClient()
    client.create_registered_model("doubles")
    made = client.create_model_version("doubles", f"{run.info.artifact_uri}/model", run.info.run_id)
    assert (made.version, made.run_id, made.status) == ("1", run.info.run_id, "READY")
    assert mlflow.pyfunc.load_model("models:/doubles/1").predict(["ab"]) == ["abab"]
    client.transition_model_version_stage("doubles", "1", "Production")
    assert [item.version for item in client.get_latest_versions("doubles", ["Production"])] == ["1"]
    client.delete_model_version("doubles", "1")
    assert client.search_model_versions("name = 'doubles'") == []


def test_what_the_service_lacks_is_lacking(api: Any, run_id: str) -> None:
    assert api("POST", "logged-models", {"experiment_id": "0"}) == (404, None)
    assert api("POST", "runs/outputs", {"run_id": run_id}) == (404, None)
    assert api("POST", "registered-models/alias", {"name": "x", "alias": "a", "version": "1"}) == (404, None)
    assert api("GET", "webhooks") == (404, None)
    status, content = api("POST", "traces", {})
    assert (status, content["error_code"]) == (403, "PERMISSION_DENIED")


def test_an_error_has_the_service_s_shape(api: Any) -> None:
    status, content = api("GET", "runs/get", run_id="no-such-run")
    assert (status, content["statusCode"], content["error_code"]) == (404, 404, "RESOURCE_DOES_NOT_EXIST")
    assert content["ComponentName"] == "mlflow"
    assert "no-such-run" in content["Error"]["Message"]
    assert set(content["Correlation"]) == {"operation", "request"}
    assert "message" not in content
    status, content = api("GET", "experiments/get", experiment_id="7")
    assert (status, content["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("runs/search", {"order_by": ["metrics.rmse ASC"]}, "attributes only"),
        ("runs/search", {"order_by": ["params.`a b` desc"]}, "attributes only"),
        ("runs/search", {"filter": "tags.a != 'b'"}, "!= is not supported for tags"),
        ("runs/search", {"filter": "params.a ilike 'b'"}, "ilike is not supported for params"),
        ("runs/search", {"filter": "metrics.a = 1 or metrics.b = 2"}, "Invalid filter"),
        ("experiments/create", {"name": "x" * 257}, "at most 256"),
        ("registered-models/delete", {"name": "x"}, "not supported"),
        ("registered-models/rename", {"name": "x", "new_name": "y"}, "not supported"),
    ],
)
def test_beyond_its_limits_the_service_refuses(api: Any, path: str, body: dict[str, Any], message: str) -> None:
    method = "DELETE" if path.endswith("/delete") else "POST"
    status, content = api(method, path, body)
    assert (status, content["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert message in content["Error"]["Message"]


def test_a_run_has_limits(api: Any, run_id: str) -> None:
    def batch(**content: Any) -> int:
        return api("POST", "runs/log-batch", {"run_id": run_id, **content})[0]

    points = [{"key": "m", "value": number, "timestamp": 1, "step": number} for number in range(251)]
    assert batch(metrics=points) == 400
    assert batch(metrics=points[:250]) == 200
    params = [{"key": f"p{number}", "value": "1"} for number in range(201)]
    assert [batch(params=params[:100]), batch(params=params[100:200]), batch(params=params[200:])] == [200, 200, 400]
    tags = [{"key": f"t{number}", "value": "1"} for number in range(51)]
    assert [batch(tags=tags[:50]), batch(tags=tags[50:])] == [200, 400]
    assert batch(tags=[{"key": "t0", "value": "x" * 1001}]) == 400
    assert batch(tags=[{"key": "mlflow.user", "value": "me"}]) == 400


def test_a_metric_s_history_comes_in_pages(api: Any, run_id: str) -> None:
    for first in range(0, 1250, 250):
        points = [{"key": "m", "value": 1, "timestamp": 1, "step": number} for number in range(first, first + 250)]
        assert api("POST", "runs/log-batch", {"run_id": run_id, "metrics": points})[0] == 200
    _, page = api("GET", "metrics/get-history", run_id=run_id, metric_key="m", max_results="25000")
    assert len(page["metrics"]) == 1000
    token = page["next_page_token"]
    _, rest = api("GET", "metrics/get-history", run_id=run_id, metric_key="m", max_results="25000", page_token=token)
    steps = [int(point.get("step", 0)) for point in [*page["metrics"], *rest["metrics"]]]
    assert steps == list(range(1250))


def test_a_filter_by_status_is_in_the_service_s_words(api: Any, run_id: str) -> None:
    _, run = api("GET", "runs/get", run_id=run_id)
    ids = [run["run"]["info"]["experiment_id"]]
    api("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": 5})
    for status, count in (("Finished", 1), ("FINISHED", 1), ("Failed", 0)):
        _, found = api("POST", "runs/search", {"experiment_ids": ids, "filter": f"attributes.status = '{status}'"})
        assert len(found.get("runs", [])) == count


def test_a_batch_may_be_sent_in_the_background(api: Any, run_id: str) -> None:
    body = {"run_id": run_id, "metrics": [{"key": "m", "value": 2, "timestamp": 1, "step": 0}]}
    _, accepted = api("POST", "runs/log-batch-async", body)
    query = {"run_id": run_id, "batch_tracking_id": accepted["batch_tracking_id"]}
    assert api("GET", "runs/get-run-data-status", **query) == (200, {"is_complete": True})
    _, run = api("GET", "runs/get", run_id=run_id)
    assert run["run"]["data"]["metrics"][0]["value"] == 2
