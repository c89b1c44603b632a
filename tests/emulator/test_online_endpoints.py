"""Online endpoints with the unmodified azure-ai-ml, as its documentation shows them."""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import contract
import pytest
import requests
from azure.ai.ml.entities import (
    CodeConfiguration,
    Environment,
    KubernetesCompute,
    KubernetesOnlineDeployment,
    KubernetesOnlineEndpoint,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    ResourceRequirementsSettings,
    ResourceSettings,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from deployable import ROW, sample
from emulated import Running


def deployment(endpoint: str, name: str, model: str, **more: Any) -> ManagedOnlineDeployment:
    size = more.pop("instance_type", "Standard_DS3_v2")
    options = {"instance_type": size, "instance_count": 1, **more}
    return ManagedOnlineDeployment(name=name, endpoint_name=endpoint, model=model, **options)


def test_blue_green_with_the_sdk(ml_client: Any, emulator: Running, registered: str, tmp_path: Path) -> None:
    name, request_file = f"ep-{uuid.uuid4().hex[:8]}", str(sample(tmp_path))
    endpoints, deployments = ml_client.online_endpoints, ml_client.online_deployments
    endpoint = endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key")).result()
    deployments.begin_create_or_update(deployment(name, "blue", f"azureml:{registered}:1")).result()
    endpoint = endpoints.get(name)
    assert (endpoint.provisioning_state, endpoint.traffic) == ("Succeeded", {"blue": 0})
    with pytest.raises(ResourceNotFoundError):
        endpoints.invoke(name, request_file=request_file)
    assert json.loads(endpoints.invoke(name, deployment_name="blue", request_file=request_file)) == [1.0]
    key = endpoints.get_keys(name).primary_key

    def asked(**headers: str) -> requests.Response:
        return requests.post(
            endpoint.scoring_uri,
            json={"input_data": ROW},
            headers={"Authorization": f"Bearer {key}", **headers},
            verify=emulator.env["SSL_CERT_FILE"],
            timeout=60,
        )

    deployments.begin_create_or_update(deployment(name, "green", f"azureml:{registered}:2")).result()
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 100}, {"green": 50}
    endpoints.begin_create_or_update(endpoint).result()
    # Not by the SDK, which goes on naming the deployment that it was once told.
    assert {asked().json()[0] for _ in range(20)} == {1.0}
    deadline = time.monotonic() + 30
    while '"POST /score HTTP/1.1" 200' not in deployments.get_logs("green", name, lines=50):
        assert time.monotonic() < deadline, "no request was mirrored"
        time.sleep(0.1)
    endpoint.traffic, endpoint.mirror_traffic = {"blue": 50, "green": 50}, {}
    endpoints.begin_create_or_update(endpoint).result()
    answers = [asked() for _ in range(40)]
    split = {(item.headers["azureml-model-deployment"], item.json()[0]) for item in answers}
    assert split == {("blue", 1.0), ("green", 2.0)}
    assert asked(Authorization="Bearer wrong").status_code == 401
    wrong = requests.post(
        endpoint.scoring_uri,
        json={"inputs": [[1]]},
        headers={"Authorization": f"Bearer {key}"},
        verify=emulator.env["SSL_CERT_FILE"],
        timeout=60,
    )
    assert (wrong.status_code, wrong.headers["ms-azureml-model-error-statuscode"]) == (424, "400")

    endpoints.begin_regenerate_keys(name, key_type="primary").result()
    assert endpoints.get_keys(name).primary_key != key
    assert asked().status_code == 401
    with pytest.raises(HttpResponseError, match="Set its traffic to 0"):
        deployments.begin_delete("blue", name).result()
    endpoint.traffic = {"green": 100}
    endpoints.begin_create_or_update(endpoint).result()
    deployments.begin_delete("blue", name).result()
    assert [item.name for item in deployments.list(name)] == ["green"]
    assert "Waiting for green to answer" in deployments.get_logs("green", name, lines=50)
    endpoints.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        endpoints.get(name)


def test_what_fails_says_why(ml_client: Any, emulator: Running, registered: str) -> None:
    name = f"ep-{uuid.uuid4().hex[:8]}"
    ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key")).result()
    make = ml_client.online_deployments.begin_create_or_update
    with pytest.raises(HttpResponseError, match=r"Current usage/limit: 0/24\. Additional needed: 48"):
        make(deployment(name, "blue", f"azureml:{registered}:1", instance_type="Standard_NC24s_v3"))
    with pytest.raises(HttpResponseError, match="not supported in the region"):
        make(deployment(name, "blue", f"azureml:{registered}:1", instance_type="Standard_NOPE"))
    with pytest.raises(HttpResponseError, match="User container has crashed"):
        make(deployment(name, "blue", f"azureml:{registered}:3")).result()
    assert ml_client.online_deployments.get("blue", name).provisioning_state == "Failed"
    assert "UnpicklingError" in ml_client.online_deployments.get_logs("blue", name, lines=100)
    place = f"{emulator.workspace_path}/onlineEndpoints/{name}"
    body = {"location": "local", "properties": {"authMode": "Key", "traffic": {"blue": 100}}}
    refused = emulator.request("PUT", place, body, api_version="2022-02-01-preview")
    assert (refused.status_code, "Failed" in refused.json()["error"]["message"]) == (400, True)
    assert emulator.request("DELETE", place, api_version="2022-02-01-preview").status_code == 202
    deadline = time.monotonic() + 60
    while emulator.request("GET", place, api_version="2022-02-01-preview").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)


SCRIPT = """
import json, os
from pathlib import Path

def init():
    global model
    model = next(Path(os.environ["AZUREML_MODEL_DIR"]).glob("*/MLmodel"))

def run(raw_data):
    content = json.loads(raw_data)
    if content == "fail":
        raise ValueError("as asked")
    return {"got": content, "mode": os.environ["MODE"], "model": model.name}
"""
CONDA = f"""
dependencies:
- python={sys.version_info.major}.{sys.version_info.minor}
- pip
- pip: [azureml-inference-server-http>=1.0]
"""


def scripted(folder: Path) -> dict[str, Any]:
    """What a deployment with a scoring script of the user's own has beside its model."""
    (folder / "code").mkdir()
    (folder / "code" / "ask.py").write_text(SCRIPT)
    (folder / "conda.yaml").write_text(CONDA)
    image = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
    environment = Environment(name=f"scripted-{uuid.uuid4().hex[:6]}", image=image, conda_file=folder / "conda.yaml")
    code = CodeConfiguration(code=str(folder / "code"), scoring_script="ask.py")
    return {"code_configuration": code, "environment": environment, "environment_variables": {"MODE": "own"}}


def test_a_script_and_a_token(ml_client: Any, emulator: Running, registered: str, tmp_path: Path) -> None:
    name, endpoints = f"ep-{uuid.uuid4().hex[:8]}", ml_client.online_endpoints
    made = endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="aad_token")).result()
    assert made.auth_mode == "aad_token"
    wanted = deployment(name, "blue", f"azureml:{registered}:1", **scripted(tmp_path))
    ml_client.online_deployments.begin_create_or_update(wanted).result()
    request = tmp_path / "request.json"
    request.write_text("[1, 2]")
    sent = endpoints.invoke(name, deployment_name="blue", request_file=str(request))
    assert json.loads(sent) == {"got": [1, 2], "mode": "own", "model": "MLmodel"}
    request.write_text('"fail"')
    with pytest.raises(HttpResponseError, match="error occurred in scoring script"):
        endpoints.invoke(name, deployment_name="blue", request_file=str(request))
    assert "ValueError: as asked" in ml_client.online_deployments.get_logs("blue", name, lines=100)
    place = f"{emulator.workspace_path}/onlineEndpoints/{name}/listKeys"
    keys = emulator.request("POST", place, {}, api_version="2022-02-01-preview")
    assert (keys.status_code, "and so no keys" in keys.json()["error"]["message"]) == (400, True)
    endpoints.begin_delete(name).result()


def test_a_cluster_with_the_sdk(ml_client: Any, registered: str, tmp_path: Path) -> None:
    name, cluster = f"ep-{uuid.uuid4().hex[:8]}", f"k8s-{uuid.uuid4().hex[:6]}"
    id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/k"
    attached = ml_client.compute.begin_create_or_update(KubernetesCompute(name=cluster, resource_id=id)).result()
    assert (attached.type.lower(), attached.resource_id) == ("kubernetes", id)
    endpoint = KubernetesOnlineEndpoint(name=name, compute=cluster, auth_mode="key")
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert ml_client.online_endpoints.get(name).compute.endswith(f"/computes/{cluster}")
    model = f"azureml:{registered}:1"
    resources = ResourceRequirementsSettings(requests=ResourceSettings(cpu="0.1", memory="0.5Gi"))
    make = ml_client.online_deployments.begin_create_or_update
    with pytest.raises(HttpResponseError, match="needs a scoring script"):
        make(KubernetesOnlineDeployment(name="blue", endpoint_name=name, model=model))
    made = make(
        KubernetesOnlineDeployment(
            name="blue", endpoint_name=name, model=model, resources=resources, **scripted(tmp_path)
        )
    ).result()
    assert made.provisioning_state == "Succeeded"
    (tmp_path / "request.json").write_text("3")
    sent = ml_client.online_endpoints.invoke(name, deployment_name="blue", request_file=str(tmp_path / "request.json"))
    assert json.loads(sent)["got"] == 3
    ml_client.online_endpoints.begin_delete(name).result()
    ml_client.compute.begin_delete(cluster, action="Detach").result()


def test_all_of_it_is_as_the_contract_says(emulator: Running) -> None:
    root = contract.folder()
    if root is None:
        pytest.skip("the contract folder is not beside the repository (AMLFLOW_CONTRACT names another place)")
    openapi, found, checked = contract.Contract(root), [], set()
    for line in emulator.record.read_text().splitlines():
        exchange = json.loads(line)
        if "/onlineEndpoints" in exchange["target"]:
            checked.add(exchange["method"])
            found += openapi.problems(exchange) or []
    assert not found, "\n".join(sorted(set(found)))
    assert checked == {"GET", "PUT", "POST", "DELETE"}
