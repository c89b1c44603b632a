"""A model in the emulated workspace, and names of endpoints that are gone after the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated import Running


@pytest.fixture
def wine(azure: Running, amlflow: Any, deployable: Path) -> str:
    """A model of the workspace with three versions, which say 1, say 2 and cannot be loaded."""
    name = f"wine-{uuid.uuid4().hex[:6]}"
    for version, folder in enumerate(("one", "two", "broken"), 1):
        put(azure, name, deployable / folder, version)
    return name


@pytest.fixture
def endpoint(azure: Running) -> Iterator[str]:
    name = f"ep-{uuid.uuid4().hex[:8]}"
    yield name
    azure.request("DELETE", f"{azure.workspace_path}/onlineEndpoints/{name}", api_version="2022-02-01-preview")


def put(azure: Running, name: str, folder: Path, version: int) -> None:
    """Register a folder as the SDK does: its files in the workspace's datastore, a model version that names them."""
    from azure.storage.blob import ContainerClient

    store = f"{azure.workspace_path}/datastores/workspaceblobstore"
    container = azure.request("GET", store, api_version="2024-10-01-preview").json()["properties"]["containerName"]
    client = ContainerClient(
        f"https://127.0.0.1:{azure.settings['storage_port']}/emulatorstorage",
        container,
        credential={"account_name": "emulatorstorage", "account_key": azure.settings["storage_key"]},
        connection_verify=azure.env["SSL_CERT_FILE"],
    )
    if not client.exists():
        client.create_container()
    path = f"LocalUpload/{name}-{version}"
    for file in folder.iterdir():
        client.upload_blob(f"{path}/{file.name}", file.read_bytes())
    uri = f"azureml:/{azure.workspace_path}/datastores/workspaceblobstore/paths/{path}"
    body = {"properties": {"modelUri": uri, "modelType": "mlflow_model"}}
    place = f"{azure.workspace_path}/models/{name}/versions/{version}"
    made = azure.request("PUT", place, body, api_version="2023-08-01-preview")
    assert made.status_code == 201, made.text
