"""Models in Unity Catalog: the registry that MLflow 3 takes for a Databricks workspace, beside the workspace's own."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from databricks_host import Fault, Host

from amlflow.errors import NotFound, UsageError
from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

SEARCH = "/api/2.0/mlflow/unity-catalog/registered-models/search"
SIGNATURE = """signature:
  inputs: '[{"type": "double", "name": "a", "required": true}]'
  outputs: '[{"type": "double", "name": "a", "required": true}]'
"""
MLMODEL = (
    "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    python_version: 3.11.7\nmodel_uuid: abc\n"
)


@pytest.fixture
def workspace(databricks: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatabricksWorkspace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AMLFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return DatabricksWorkspace()


def model(folder: Path, signature: str = SIGNATURE, content: str = "data") -> str:
    (folder / "deep").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL + signature)
    (folder / "deep" / "a file.bin").write_text(content)
    return str(folder)


def name() -> str:
    return f"main.default.wine_{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("by_sdk", [False, True], ids=["signed addresses", "the SDK"])
def test_a_model_is_registered_found_and_fetched(
    databricks: Host, workspace: DatabricksWorkspace, tmp_path: Path, by_sdk: bool
) -> None:
    databricks.catalog.by_sdk = by_sdk
    wine, folder = name(), model(tmp_path / "model")
    first = workspace.create_model_version(
        wine, folder, "", "for rosé", {"stage": "prod", "amlflow.promoted_from": "x"}
    )
    assert (first.version, first.status, first.description) == ("1", "READY", "for rosé")
    assert first.tags == {"stage": "prod", "amlflow.promoted_from": "x"}
    workspace.create_model_version(wine, folder, "", "", {})
    assert workspace.set_alias(wine, "champion", "1")
    assert workspace.get_model(wine).latest_version == "2"
    assert [(item.version, item.aliases) for item in workspace.list_model_versions(wine)] == [
        ("2", []),
        ("1", ["champion"]),
    ]
    fetched = workspace.fetch(workspace.get_model_version(wine, "1").location)
    assert (fetched / "deep" / "a file.bin").read_text() == "data"
    assert (fetched / "MLmodel").read_text() == MLMODEL + SIGNATURE
    workspace.delete_alias(wine, "champion")
    assert workspace.get_model(wine).aliases == {}
    workspace.delete_model(wine)
    with pytest.raises(NotFound, match=re.escape(wine)):
        workspace.get_model(wine)
    assert list(tmp_path.glob("*.db")) == []


def test_a_number_that_was_given_again_is_another_version(workspace: DatabricksWorkspace, tmp_path: Path) -> None:
    wine, found = name(), []
    for content in ("old", "new"):
        workspace.create_model_version(wine, model(tmp_path / content, content=content), "", "", {})
        found.append((workspace.fetch(f"models:/{wine}/1") / "deep" / "a file.bin").read_text())
        workspace.delete_model(wine)
    assert found == ["old", "new"]


def test_what_the_catalog_does_not_take_leaves_no_model(
    databricks: Host, workspace: DatabricksWorkspace, tmp_path: Path
) -> None:
    wine = name()
    with pytest.raises(UsageError, match="takes no model for"):
        workspace.create_model_version(wine, model(tmp_path / "none", signature=""), "", "", {})
    with pytest.raises(UsageError, match="key of a tag"):
        workspace.create_model_version(wine, model(tmp_path / "tags"), "", "", {"a.b": "c"})
    with pytest.raises(NotFound, match=r"main\.nowhere"):
        workspace.create_model_version("main.nowhere.wine", model(tmp_path / "nowhere"), "", "", {})
    assert databricks.catalog.models == {}


def test_the_registry_is_chosen_by_the_name_or_the_variable(
    workspace: DatabricksWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wine = name()
    bare = wine.rpartition(".")[2]
    for each in (wine, bare):
        workspace.create_model_version(each, model(tmp_path / each), "", "", {})
    names = {item.name for item in workspace.list_models()}
    assert {wine, bare} <= names
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    assert {item.name for item in workspace.list_models()} == {item for item in names if item.count(".") == 2}
    with pytest.raises(UsageError, match="names no model of Unity Catalog"):
        workspace.get_model(bare)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks")
    assert wine not in {item.name for item in workspace.list_models()}
    with pytest.raises(NotFound):
        workspace.get_model(wine)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc://other")
    with pytest.raises(UsageError, match="the profile 'other'"):
        workspace.list_models()


def test_a_workspace_without_a_metastore_has_its_own_registry(databricks: Host, workspace: DatabricksWorkspace) -> None:
    databricks.faults.append(Fault(SEARCH, 404, 1, "METASTORE_DOES_NOT_EXIST"))
    workspace.list_models()
    assert ("GET", SEARCH) in databricks.paths
    assert databricks.faults[0].times == 0
