"""Batch endpoints with the unmodified azure-ai-ml, as its documentation shows them."""

from __future__ import annotations

import csv
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contract
import pytest
import requests
from azure.ai.ml import Input, Output
from azure.ai.ml.entities import (
    AmlCompute,
    BatchEndpoint,
    BatchRetrySettings,
    Data,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
)
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from deployable import ROW
from emulated import Running

# Each job imports MLflow, and a crowded machine takes its time for that.
pytestmark = pytest.mark.timeout(900)
CLUSTER = "batch-cluster"


@pytest.fixture
def client(ml_client: Any) -> Any:
    if CLUSTER not in [item.name for item in ml_client.compute.list()]:
        cluster = AmlCompute(name=CLUSTER, size="Standard_DS3_v2", max_instances=2, idle_time_before_scale_down=600)
        ml_client.compute.begin_create_or_update(cluster).result()
    return ml_client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three files with two rows each."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        lines = [",".join(ROW["columns"]), *([",".join(["0.5"] * 10)] * 2)]
        (folder / f"part-{number}.csv").write_text("\n".join(lines) + "\n")
    return folder


def deployment(endpoint: str, name: str, model: str, **settings: Any) -> ModelBatchDeployment:
    chosen = {"mini_batch_size": 1, "output_action": "append_row", "output_file_name": "predictions.csv", **settings}
    return ModelBatchDeployment(
        name=name,
        endpoint_name=endpoint,
        model=model,
        compute=CLUSTER,
        settings=ModelBatchDeploymentSettings(
            max_concurrency_per_instance=chosen.pop("max_concurrency_per_instance", 2),
            instance_count=chosen.pop("instance_count", 1),
            retry_settings=BatchRetrySettings(max_retries=1, timeout=120),
            error_threshold=chosen.pop("error_threshold", 0),
            **chosen,
        ),
    )


def made(client: Any, model: str, *names: str, **settings: Any) -> str:
    """An endpoint with deployments of the versions 1, 2, … of the model, the first of which is asked."""
    name = f"bat-{uuid.uuid4().hex[:8]}"
    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name=name)).result()
    for version, deployed in enumerate(names, 1):
        wanted = deployment(name, deployed, f"azureml:{model}:{version}", **settings)
        client.batch_deployments.begin_create_or_update(wanted).result()
    ask(client, name, names[0])
    return name


def ask(client: Any, endpoint: str, name: str) -> None:
    found = client.batch_endpoints.get(endpoint)
    found.defaults.deployment_name = name
    client.batch_endpoints.begin_create_or_update(found).result()


def ended(client: Any, name: str) -> Any:
    deadline = time.monotonic() + 400
    while (status := client.jobs.get(name).status) not in ("Completed", "Failed", "Canceled"):
        assert time.monotonic() < deadline, status
        time.sleep(0.3)
    return status


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as source:
        return list(csv.reader(source))


def test_a_folder_is_scored(client: Any, registered: str, data: Path, tmp_path: Path) -> None:
    endpoint = made(client, registered, "blue", "green")
    found = client.batch_endpoints.get(endpoint)
    assert (found.provisioning_state, found.defaults.deployment_name) == ("Succeeded", "blue")
    kept = client.batch_deployments.get("blue", endpoint)
    assert (kept.retry_settings.timeout, kept.output_action, kept.mini_batch_size) == (120, "append_row", 1)

    job = client.batch_endpoints.invoke(endpoint_name=endpoint, input=Input(type="uri_folder", path=str(data)))
    client.jobs.stream(job.name)
    whole = client.jobs.get(job.name)
    assert (whole.status, whole.type) == ("Completed", "pipeline")
    assert job.name in [item.name for item in client.jobs.list(max_results=25)]
    (step,) = client.jobs.list(parent_job_name=job.name)
    assert step.name not in [item.name for item in client.jobs.list(max_results=25)]
    client.jobs.download(job.name, download_path=tmp_path / "down", output_name="score")
    scored = rows(tmp_path / "down" / "named-outputs" / "score" / "predictions.csv")
    assert scored == [[str(row), "1.0", f"part-{number}.csv"] for number in range(3) for row in range(2)]
    client.jobs.download(step.name, download_path=tmp_path / "step", all=True)
    printed = "".join(file.read_text() for file in (tmp_path / "step").rglob("std_log*.txt"))
    assert "3 files in 3 mini-batches" in printed

    client.data.create_or_update(Data(name="rows", version=endpoint, type="uri_folder", path=str(data)))
    place = f"azureml://datastores/workspaceblobstore/paths/{endpoint}/own.csv"
    job = client.batch_endpoints.invoke(
        endpoint_name=endpoint,
        deployment_name="green",
        inputs={"rows": Input(type="uri_folder", path=f"azureml:rows:{endpoint}")},
        outputs={"score": Output(type="uri_file", path=place)},
    )
    assert ended(client, job.name) == "Completed"
    client.jobs.download(job.name, download_path=tmp_path / "own", output_name="score")
    (file,) = (tmp_path / "own").rglob("own.csv")
    assert {row[1] for row in rows(file)} == {"2.0"}
    assert {item.name for item in client.batch_endpoints.list_jobs(endpoint)} >= {job.name}
    assert [item.name for item in client.batch_deployments.list_jobs(endpoint, name="green")] == [job.name]
    with pytest.raises(HttpResponseError, match="is the default"):
        client.batch_deployments.begin_delete("blue", endpoint).result()
    ask(client, endpoint, "green")
    client.batch_deployments.begin_delete("blue", endpoint).result()
    assert [item.name for item in client.batch_deployments.list(endpoint)] == ["green"]
    client.batch_endpoints.begin_delete(endpoint).result()
    with pytest.raises(ResourceNotFoundError):
        client.batch_endpoints.get(endpoint)


@pytest.mark.slow
def test_what_fails_says_why(client: Any, registered: str, data: Path, tmp_path: Path) -> None:
    endpoint = made(client, registered, "blue", "green", "broken", output_action="summary_only", output_file_name=None)
    (data / "odd.avro").write_text("no table")
    asked: Callable[..., Any] = client.batch_endpoints.invoke
    job = asked(endpoint_name=endpoint, input=Input(type="uri_folder", path=str(data)))
    assert ended(client, job.name) == "Failed"
    (step,) = client.jobs.list(parent_job_name=job.name)
    client.jobs.download(step.name, download_path=tmp_path / "step")
    printed = "".join(file.read_text() for file in (tmp_path / "step").rglob("std_log*.txt"))
    assert "File type 'avro' is not supported" in printed
    assert "exceeds the error threshold 0" in printed
    # Its model cannot be loaded.
    one = Input(type="uri_file", path=str(data / "part-0.csv"))
    job = asked(endpoint_name=endpoint, deployment_name="broken", input=one)
    assert ended(client, job.name) == "Failed"
    job = asked(endpoint_name=endpoint, deployment_name="green", input=one)
    assert ended(client, job.name) == "Completed"
    gone = Input(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/nowhere/")
    job = asked(endpoint_name=endpoint, input=gone)
    assert ended(client, job.name) == "Failed"


def test_the_door_is_guarded(client: Any, emulator: Running, registered: str) -> None:
    endpoint = made(client, registered, "blue")
    url = client.batch_endpoints.get(endpoint).scoring_uri
    given = {"data": {"JobInputType": "UriFolder", "Uri": "azureml://datastores/workspaceblobstore/paths/x/"}}

    def asked(token: str, body: Any = None, **headers: str) -> requests.Response:
        return requests.post(
            url,
            json={"properties": {"InputData": given}} if body is None else body,
            headers={**({"Authorization": f"Bearer {token}"} if token else {}), **headers},
            verify=emulator.env["SSL_CERT_FILE"],
            timeout=60,
        )

    own = emulator.token("https://ml.azure.com/.default")
    assert asked("").status_code == 401
    assert asked(emulator.token()).status_code == 401
    assert asked(emulator.token("https://ml.azure.com/.default", role=1)).status_code == 403
    assert asked(own, **{"azureml-model-deployment": "grey"}).status_code == 404
    assert asked(own, {"properties": {"InputData": {}}}).status_code == 400
    assert asked(own, {"properties": "none"}).status_code == 400
    named = {"properties": {"Name": f"mine-{endpoint}", "InputData": given}}
    assert asked(own, named).status_code == 201
    assert asked(own, named).status_code == 409
    assert ended(client, f"mine-{endpoint}") == "Failed"
    wanted = deployment(endpoint, "green", f"azureml:{registered}:1")
    wanted.compute = f"{emulator.workspace_path}/computes/none"
    with pytest.raises(HttpResponseError, match="Unknown compute target 'none'"):
        client.batch_deployments.begin_create_or_update(wanted).result()
    with pytest.raises((HttpResponseError, ClientAuthenticationError)):
        ask(client, endpoint, "grey")


def test_all_of_it_is_as_the_contract_says(emulator: Running) -> None:
    root = contract.folder()
    if root is None:
        pytest.skip("the contract folder is not beside the repository (AMLFLOW_CONTRACT names another place)")
    openapi, found, checked = contract.Contract(root), [], set()
    for line in emulator.record.read_text().splitlines():
        exchange = json.loads(line)
        target = exchange["target"]
        if any(part in target for part in ("/batchEndpoints", "/batch/", "/children", "/jobs/batchjob-")):
            problems = openapi.problems(exchange)
            assert problems is not None, target
            checked.add((exchange["method"], "/batch/" in target, "/mferp/" in target, "/children" in target))
            found += problems
    assert not found, "\n".join(sorted(set(found)))
    plain, door, front, history = (False,) * 3, (True, False, False), (False, True, False), (False, False, True)
    assert checked >= {(method, *plain) for method in ("GET", "PUT", "DELETE")}
    assert checked >= {("POST", *door), ("GET", *front), ("GET", *history)}
