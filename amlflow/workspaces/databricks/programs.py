"""What programs that are tracked here are answered: requests of MLflow's registry about a model of Unity Catalog go there. To
MLflow the registry of a tracked program is one whose client sends no files; those of a new version go along here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amlflow.errors import AmlflowError
from amlflow.journal.errors import Refused
from amlflow.workspaces.databricks.catalog import Catalog
from amlflow.workspaces.databricks.rest import DatabricksRest
from amlflow.workspaces.server.client import API, pairs

if TYPE_CHECKING:
    from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

_REGISTRY = re.compile(rf"{re.escape(API)}/(?P<route>(?:registered-models|model-versions)/.*)")
_NAMED = re.compile(r"\bname\s*=\s*'([^']*)'")


class ProgramsRest(DatabricksRest):
    def __init__(self, workspace: DatabricksWorkspace) -> None:
        super().__init__(workspace.access)
        self._workspace = workspace

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        match = _REGISTRY.fullmatch(path)
        given = body or {}
        if match is None or not self._is_catalogued(given):
            return super().request(method, path, body, timeout_s=timeout_s, retry=retry)
        if match["route"] == "model-versions/create":
            return self._created(given)
        there = f"{API}/{Catalog.root}{match['route']}"
        answer = super().request(method, there, body, timeout_s=timeout_s, retry=retry)
        return _as_of_mlflow(answer)

    def _is_catalogued(self, given: Mapping[str, Any]) -> bool:
        found = _NAMED.search(str(given.get("filter", "")))
        name = str(given.get("name") or (found[1] if found else ""))
        try:
            return bool(name) and self._workspace.in_catalog(name)
        except AmlflowError as error:
            raise Refused(400, "INVALID_PARAMETER_VALUE", error.paragraph()) from error

    def _created(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = str(given["name"])
        source = f"models:/{given['model_id']}" if given.get("model_id") else str(given["source"])
        said = (str(given.get("run_id") or ""), str(given.get("description") or ""), pairs(given.get("tags")))
        try:
            made = self._workspace.create_model_version(name, source, *said)
        except AmlflowError as error:
            raise Refused(400, "INVALID_PARAMETER_VALUE", error.paragraph()) from error
        return self.request("GET", f"{API}/model-versions/get", {"name": name, "version": made.version})


def _as_of_mlflow(answer: dict[str, Any]) -> dict[str, Any]:
    """A version's aliases are names to MLflow, and names with numbers to the catalog."""
    version = answer.get("model_version")
    if isinstance(version, dict) and version.get("aliases"):
        names = [item["alias"] if isinstance(item, dict) else item for item in version["aliases"]]
        return {**answer, "model_version": {**version, "aliases": names}}
    return answer
