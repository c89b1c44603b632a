"""Workspaces, computes, datastores and assets, by azure-ai-ml and by plain requests."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import AmlCompute, AzureBlobDatastore, ComputeInstance, Data, Environment, Model, Workspace
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from emulated import Running


def test_a_workspace_is_made_listed_and_deleted(ml_client: Any) -> None:
    name = f"ws-{uuid.uuid4().hex[:8]}"
    made = ml_client.workspaces.begin_create(Workspace(name=name, location="eastus", tags={"a": "b"})).result()
    assert (made.name, made.tags["a"]) == (name, "b")
    assert made.mlflow_tracking_uri.startswith("azureml://127.0.0.1:")
    assert name in [item.name for item in ml_client.workspaces.list()]
    ml_client.workspaces.begin_delete(name, delete_dependent_resources=False).result()
    with pytest.raises(ResourceNotFoundError) as missing:
        ml_client.workspaces.get(name)
    assert missing.value.error.code == "ResourceNotFound"


def test_a_cluster_is_made_changed_and_deleted(ml_client: Any) -> None:
    cluster = AmlCompute(name="to-change", size="Standard_DS3_v2", min_instances=0, max_instances=2)
    poller = ml_client.compute.begin_create_or_update(cluster)
    assert ml_client.compute.get("to-change").provisioning_state == "Creating"
    assert poller.result().provisioning_state == "Succeeded"
    cluster.max_instances, cluster.min_instances = 3, 1
    assert ml_client.compute.begin_update(cluster).result().max_instances == 3
    deadline = time.monotonic() + 30
    while not any(node.nodeState == "idle" for node in ml_client.compute.list_nodes("to-change")):
        assert time.monotonic() < deadline, "the minimum of one node never came"
        time.sleep(0.2)
    ml_client.compute.begin_delete("to-change").result()
    with pytest.raises(ResourceNotFoundError):
        ml_client.compute.get("to-change")


def test_an_instance_is_stopped_and_started(ml_client: Any) -> None:
    ml_client.compute.begin_create_or_update(ComputeInstance(name="mine-1", size="Standard_DS3_v2")).result()
    ml_client.compute.begin_stop("mine-1").result()
    assert ml_client.compute.get("mine-1").state == "Stopped"
    ml_client.compute.begin_start("mine-1").result()
    assert ml_client.compute.get("mine-1").state == "Running"


@pytest.mark.parametrize(
    ("size", "minimum", "code"),
    [("Standard_None", 0, "InvalidVmSize"), ("Standard_NC24s_v3", 2, "ClusterMinNodesExceedCoreQuota")],
)
def test_a_cluster_that_cannot_be_is_refused(ml_client: Any, size: str, minimum: int, code: str) -> None:
    cluster = AmlCompute(name="cannot-be", size=size, min_instances=minimum, max_instances=4)
    with pytest.raises(HttpResponseError) as refused:
        ml_client.compute.begin_create_or_update(cluster).result()
    assert refused.value.error.code == code


def test_an_operation_is_polled_at_both_addresses(emulator: Running) -> None:
    path = f"{emulator.workspace_path}/computes/polled"
    scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    cluster = {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS2_v2", "scaleSettings": scale}}
    made = emulator.request("PUT", path, {"location": "local", "properties": cluster})
    assert (made.status_code, made.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert _polled(emulator, made.headers["azure-asyncoperation"])["status"] == "Succeeded"
    again = emulator.request("PUT", path, {"location": "local", "properties": cluster})
    assert again.status_code == 200
    deleted = emulator.request("DELETE", path, underlyingResourceAction="Delete")
    assert deleted.status_code == 202
    assert deleted.headers["retry-after"] == "1"
    deadline = time.monotonic() + 30
    while (result := emulator.request("GET", deleted.headers["location"])).status_code == 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert result.status_code in (200, 204)
    assert emulator.request("GET", path).status_code == 404
    assert emulator.request("DELETE", path, underlyingResourceAction="Delete").status_code == 204


def _polled(emulator: Running, place: str) -> Any:
    deadline = time.monotonic() + 30
    while (state := emulator.request("GET", place).json())["status"] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return state


def test_lists_come_in_pages(emulator: Running) -> None:
    names = [f"paged-{number:02}" for number in range(35)]
    for name in names:
        place = f"{emulator.workspace_path}/environments/{name}/versions/1"
        assert emulator.request("PUT", place, {"properties": {"image": "python:3.11"}}).status_code == 201
    first = emulator.request("GET", f"{emulator.workspace_path}/environments", listViewType="ActiveOnly").json()
    assert len(first["value"]) == 30
    found, link = first["value"], first.get("nextLink")
    while link:
        page = emulator.request("GET", link).json()
        found, link = [*found, *page["value"]], page.get("nextLink")
    assert set(names) <= {item["name"] for item in found}
    assert len({item["id"] for item in found}) == len(found)


def test_a_datastore_hands_out_its_secrets_to_who_may_have_them(ml_client: Any, emulator: Running) -> None:
    assert ml_client.datastores.get_default().name == "workspaceblobstore"
    account = "emulatorstorage"
    store = AzureBlobDatastore(name="extra", account_name=account, container_name="extra", credentials=None)
    ml_client.datastores.create_or_update(store)
    own = ml_client.datastores.get("workspaceblobstore", include_secrets=True)
    assert "sig=" in own.credentials.sas_token
    place = f"{emulator.workspace_path}/datastores/workspaceblobstore"
    key = emulator.request("POST", f"{place}/listSecrets").json()
    assert key == {"secretsType": "AccountKey", "key": emulator.settings["storage_key"]}
    assert "secrets" not in emulator.request("GET", place).json()["properties"]["credentials"]
    reader = emulator.token(role=1)
    assert emulator.request("POST", f"{place}/listSecrets", token=reader).status_code == 403


def test_data_goes_up_and_comes_back(ml_client: Any, tmp_path: Path) -> None:
    import azure.ai.ml._artifacts._artifact_utilities as artifacts

    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "a.csv").write_text("x,y\n1,2\n")
    made = ml_client.data.create_or_update(
        Data(name="some", version="1", type="uri_folder", path=str(tmp_path / "data"))
    )
    assert "/datastores/workspaceblobstore/paths/LocalUpload/" in made.path
    assert [item.version for item in ml_client.data.list("some")] == ["1"]
    artifacts.download_artifact_from_aml_uri(made.path, str(tmp_path / "back"), ml_client.datastores)
    assert (tmp_path / "back" / "sub" / "a.csv").read_text() == "x,y\n1,2\n"


def test_an_asset_s_version_is_for_ever(ml_client: Any, emulator: Running) -> None:
    first = Environment(name="fixed", version="1", image="python:3.11", tags={"a": "1"})
    ml_client.environments.create_or_update(first)
    ml_client.environments.create_or_update(
        Environment(name="fixed", version="1", image="python:3.11", tags={"a": "2"})
    )
    assert ml_client.environments.get("fixed", "1").tags == {"a": "2"}
    place = f"{emulator.workspace_path}/environments/fixed/versions/1"
    changed = emulator.request("PUT", place, {"properties": {"image": "python:3.12"}})
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "UserError")
    assert (
        emulator.request("GET", f"{emulator.workspace_path}/environments/fixed").json()["properties"]["nextVersion"]
        == "2"
    )
    missing = emulator.request("GET", f"{emulator.workspace_path}/environments/none/versions/1")
    assert missing.status_code == 404
    kinds = {item["type"] for item in missing.json()["error"]["additionalInfo"]}
    assert {"ComponentName", "Correlation"} <= kinds


def test_a_model_is_one_and_the_same_in_both_registries(ml_client: Any, emulator: Running, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights").write_bytes(b"\0" * 100)
    name = f"model-{uuid.uuid4().hex[:6]}"
    for number in ("1", "2"):
        made = ml_client.models.create_or_update(Model(name=name, path=str(tmp_path / "m"), type="custom_model"))
        assert made.version == number
    assert ml_client.models.get(name, label="latest").version == "2"
    tracking = f"/mlflow/v2.0{emulator.workspace_path}/api/2.0/mlflow"
    asked = emulator.request("GET", f"{tracking}/model-versions/get", name=name, version="2").json()
    assert asked["model_version"]["source"] == made.path
    emulator.request(
        "POST", f"{tracking}/model-versions/set-tag", {"name": name, "version": "2", "key": "k", "value": "v"}
    )
    assert ml_client.models.get(name, version="2").tags == {"k": "v"}
    ml_client.models.archive(name, version="1")
    assert [item.version for item in ml_client.models.list(name)] == ["2"]


def test_a_schedule_submits_its_job_when_triggered(emulator: Running, ml_client: Any) -> None:
    ml_client.environments.create_or_update(Environment(name="base", version="1", image="python:3.11"))
    environment = f"{emulator.workspace_path}/environments/base/versions/1"
    job = {"jobType": "Command", "command": "echo scheduled", "environmentId": environment}
    trigger = {"triggerType": "Cron", "expression": "0 0 * * *"}
    content = {"action": {"actionType": "CreateJob", "jobDefinition": job}, "trigger": trigger}
    place = f"{emulator.workspace_path}/schedules/nightly"
    made = emulator.request("PUT", place, {"properties": content})
    assert _polled(emulator, made.headers["azure-asyncoperation"])["status"] == "Succeeded"
    assert "nightly" in [item.name for item in ml_client.schedules.list()]
    now = {"scheduleTime": "2030-01-01T00:00:00Z"}
    triggered = emulator.request("POST", f"{place}/trigger", now, api_version="2024-01-01-preview")
    submitted = triggered.json()["submissionId"]
    deadline = time.monotonic() + 60
    while (status := ml_client.jobs.get(submitted).status) not in ("Completed", "Failed"):
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    assert status == "Completed"
    assert emulator.request("DELETE", place).status_code == 400
    # azure-ai-ml's own `begin_disable` takes no schedule of a command job.
    assert emulator.request("PUT", place, {"properties": {**content, "isEnabled": False}}).status_code == 200
    ml_client.schedules.begin_delete("nightly").result()
    assert emulator.request("GET", place).status_code == 404
