"""Registered models of an Azure ML workspace, and models between workspaces: the emulator stands for Azure."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from azure_workspaces import send_all
from browsers import data_of

MLMODEL = """
flavors:
  python_function:
    loader_module: doubling
    code: code
signature:
  inputs: '[{"type": "double", "name": "x"}]'
"""
TRAIN = """
import sys
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("rmse", 0.5)
    info = mlflow.pyfunc.log_model(name="model", python_model="doubles.py", pip_requirements=[])
assert info.model_id.startswith("m-"), info.model_id
print(run.info.run_id)
"""
DOUBLES = """
import mlflow

class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return [item * 2 for item in model_input]

mlflow.models.set_model(Doubles())
"""


@pytest.fixture
def name() -> str:
    return f"wine-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def folder(amlflow: Any) -> Path:
    """A model's folder."""
    model = amlflow.cwd / "model"
    (model / "code" / "deep").mkdir(parents=True)
    (model / "code" / "deep" / "doubling.py").write_text("x = 1\n")
    (model / "MLmodel").write_text(MLMODEL)
    return model


def test_a_model_that_mlflow_3_logged_is_registered(amlflow: Any, azure: Any, name: str) -> None:
    (amlflow.cwd / "train.py").write_text(TRAIN)
    (amlflow.cwd / "doubles.py").write_text(DOUBLES)
    tracked = amlflow.ok("track", "-e", name, "--", sys.executable, "train.py").out.strip()
    send_all(amlflow)
    run_id = amlflow.ok("run", "show", tracked, "--query", "run_id").out.strip()
    version = amlflow.ok("register", run_id, "--name", name, "-o", "json").json
    assert (version["model"], version["run_id"]) == (f"{name}:1", run_id)
    assert version["source"].startswith("azureml:")
    assert version["source"].endswith(f"/runs/{run_id}/artifacts/model")
    shown = amlflow.ok("model", "show", name, "-o", "json").json
    assert shown["flavors"] == ["python_function"]
    amlflow.ok("model", "download", name, "--to", "down")
    assert (amlflow.cwd / "down" / "doubles.py").read_text() == DOUBLES
    amlflow.ok("compare", run_id, "--html", "page.html")
    page = data_of(amlflow.cwd / "page.html")
    assert page["files"][0]["models"]["model"]["flavors"] == "python_function"
    assert page["files"][0]["packages"]["model"]["python"]
    assert (page["metrics"][0]["key"], page["notes"]) == ("rmse", [])
    script = f"import mlflow; print(mlflow.pyfunc.load_model('models:/{name}/1').predict(['a']))"
    assert "['aa']" in amlflow.ok("track", "-e", name, "--", sys.executable, "-c", script).out


def test_aliases_are_kept_where_the_registry_has_none(amlflow: Any, azure: Any, folder: Path, name: str) -> None:
    made = amlflow.ok("register", "model", "--name", name, "--alias", "champion", "--alias", "first", "-o", "json")
    assert made.json["aliases"] == ["champion", "first"]
    assert made.err.count("has no aliases") == 1
    amlflow.ok("register", "model", "--name", name, "--tag", "a=b", "--description", "second")
    said = amlflow.ok("model", "alias", f"{name}:2", "champion")
    assert "kept as tags of the model" in said.err
    assert amlflow.ok("model", "show", f"{name}@champion", "--query", "version").out == "2\n"
    listed = {item["version"]: item["aliases"] for item in amlflow.ok("model", "list", name, "-o", "json").json}
    assert listed == {"1": ["first"], "2": ["champion"]}
    (model,) = [item for item in amlflow.ok("model", "list", "-o", "json").json if item["name"] == name]
    assert (model["aliases"], model["tags"]) == ({"champion": "2", "first": "1"}, {})
    assert "Did you mean 'champion'" in amlflow("model", "show", f"{name}@champoin").err
    amlflow.ok("model", "alias", name, "champion", "--delete")
    assert amlflow("model", "show", f"{name}@champion").code == 3

    amlflow.ok("model", "delete", f"{name}@first")
    assert [item["version"] for item in amlflow.ok("model", "list", name, "-o", "json").json] == ["2"]
    whole = amlflow("model", "delete", name, "--yes")
    assert whole.code == 1
    assert f"`amlflow model delete {name}:VERSION`" in whole.err
    amlflow.ok("model", "download", f"{name}:2", "--to", "down")
    assert (amlflow.cwd / "down" / "code" / "deep" / "doubling.py").read_text() == "x = 1\n"


def test_a_model_goes_from_one_workspace_to_another_once(
    amlflow: Any, azure: Any, folder: Path, name: str, mlflow_server: str
) -> None:
    amlflow.ok("workspace", "create", "lab")
    amlflow.ok("register", "model", "--name", name, "--tag", "a=b", "--description", "good", "-w", "lab")
    first = amlflow.ok("model", "promote", name, "--to", mlflow_server, "--alias", "staging", "-w", "lab", "-o", "json")
    assert (first.json["model"], first.json["promoted"], first.json["aliases"]) == (f"{name}:1", True, ["staging"])
    assert (first.json["tags"]["a"], first.json["description"]) == ("b", "good")
    assert first.json["tags"]["amlflow.promoted_from"].endswith(f"/lab {name}:1")
    again = amlflow.ok("model", "promote", f"{name}:1", "--to", mlflow_server, "-w", "lab", "-o", "json")
    assert (again.json["model"], again.json["promoted"]) == (f"{name}:1", False)
    assert "promoted before" in again.err

    cloud = azure.variables["AMLFLOW_WORKSPACE"]
    on = ("model", "promote", f"{name}@staging", "-w", mlflow_server, "--name", f"{name}-prod")
    # A folder of this machine would mean nothing to anybody else there.
    made = amlflow.ok(*on, "--to", cloud, "--alias", "champion", "-o", "json").json
    assert made["source"].startswith("azureml:")
    assert made["tags"]["amlflow.promoted_from"] == f"{mlflow_server} {name}:1"
    assert amlflow.ok(*on, "--to", cloud, "-q").out == f"{name}-prod:1\n"
    amlflow.ok("model", "promote", f"{name}-prod@champion", "--to", "lab")
    amlflow.ok("model", "download", f"{name}-prod", "--to", "down", "-w", "lab")
    assert (amlflow.cwd / "down" / "code" / "deep" / "doubling.py").read_text() == "x = 1\n"
    versions = amlflow.ok("model", "list", f"{name}-prod", "-o", "json").json
    assert [item["version"] for item in versions] == ["1"]


def test_what_cannot_be_promoted_says_why(amlflow: Any, azure: Any, folder: Path, name: str) -> None:
    amlflow.ok("register", "model", "--name", name, "-w", "local")
    promote = ("model", "promote", name, "-w", "local")
    assert amlflow(*promote, "--to", "local").code == 2
    registry = amlflow(*promote, "--to", "azureml://registries/company")
    assert registry.code == 1
    assert "az ml model share" in registry.err
    assert amlflow(*promote, "--to", "nowhere").code == 3
    assert amlflow(*promote, "--to", azure.variables["AMLFLOW_WORKSPACE"], "--alias", "v3").code == 2
    assert amlflow("model", "promote", "none", "-w", "local", "--to", azure.variables["AMLFLOW_WORKSPACE"]).code == 3
