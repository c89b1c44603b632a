"""Two tiny models, which say 1 and 2, with requirements that a deployment can be made of."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated import Running

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
ROW = {"columns": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"], "index": [0], "data": [[0.1] * 10]}


@pytest.fixture(scope="session")
def deployable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `one`, `two`, and `broken`, whose code fails when it is loaded."""
    folder = tmp_path_factory.mktemp("deployable")
    wanted = [f"{name}=={version(name)}" for name in ("scikit-learn", "numpy", "pandas", "cloudpickle")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN, str(folder), *wanted], check=True, capture_output=True)
    subprocess.run(["cp", "-r", str(folder / "one"), str(folder / "broken")], check=True)
    (folder / "broken" / "model.pkl").write_bytes(b"this is no pickle")
    return folder


@pytest.fixture
def registered(emulator: Running, deployable: Path, ml_client: Any, tmp_path: Path) -> str:
    """The name of a registered model with three versions: one, two and broken."""
    from azure.ai.ml.entities import Model

    name = f"dummy-{uuid.uuid4().hex[:6]}"
    for folder in ("one", "two", "broken"):
        place = monitored(deployable / folder, tmp_path / folder)
        ml_client.models.create_or_update(Model(name=name, path=str(place), type="mlflow_model"))
    return name


def monitored(model: Path, place: Path) -> Path:
    """A copy of the model, with the package among its requirements that the service's own scorer imports."""
    shutil.copytree(model, place)
    with (place / "requirements.txt").open("a") as file:
        file.write("\nazureml-ai-monitoring\n")
    conda = yaml.safe_load((place / "conda.yaml").read_text())
    next(entry for entry in conda["dependencies"] if isinstance(entry, dict))["pip"].append("azureml-ai-monitoring")
    (place / "conda.yaml").write_text(yaml.safe_dump(conda))
    return place


def sample(folder: Path) -> Path:
    """A request as Azure's documentation writes it, in a file."""
    file = folder / "sample-request.json"
    file.write_text(json.dumps({"input_data": ROW}))
    return file


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
