"""Logged models of MLflow 3 that were made here: described in the run's artifacts, and made in a workspace that has such."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from .aside import Aside
from .creation import KEY_TAG
from .errors import Refused
from .folder import RunFolder, read_json, write_json
from .identities import Identities
from .rest import Behind

FOLDER = "amlflow/models"
_API = "/api/2.0/mlflow/logged-models"
_PENDING = "LOGGED_MODEL_PENDING"
_DOUBTFUL = ("", "LOGGED_MODEL_STATUS_UNSPECIFIED", _PENDING)


class Models:
    """The models of one run."""

    def __init__(
        self,
        folder: RunFolder,
        behind: Behind,
        identities: Identities,
        aside: Aside,
        insist: Callable[[Callable[[bool], Any], bool], Any],
    ) -> None:
        self._folder, self._behind, self._identities = folder, behind, identities
        self._aside, self._insist = aside, insist
        self._are_lacking = False

    def send(self, change: Mapping[str, Any], unsure: bool, wait_for_files: Callable[[], None]) -> None:
        """Bring the workspace to what `change` says: {"model": the model as MLflow's REST API shows it, "emulated": whether it
        was made here}. A model is ready there when its files are."""
        model = change["model"]
        if change.get("emulated"):
            if model["info"].get("status", "") not in _DOUBTFUL:
                # Not before: some services keep the first file that is sent to a path.
                self._aside.put(f"{FOLDER}/{model['info']['model_id']}.json", self._portable(model))
            if not self._make(model, unsure):
                return
        model_id = self._identities.real(model["info"]["model_id"])
        present = self._behind.request("GET", f"{_API}/{model_id}")["model"]
        self._bring(model, present, wait_for_files)

    def _make(self, model: Mapping[str, Any], unsure: bool) -> bool:
        """Whether the workspace has the model now, under an id of its own."""
        info = model["info"]
        if self._identities.is_mapped(info["model_id"]):
            return True
        if self._are_lacking:
            return False
        body = {
            "experiment_id": self._experiment(info),
            "name": info.get("name"),
            "model_type": info.get("model_type") or None,
            "source_run_id": self._identities.real(info.get("source_run_id", "")),
            "params": model.get("data", {}).get("params", []),
            "tags": [*self._identities.replaced(info.get("tags", [])), {"key": KEY_TAG, "value": info["model_id"]}],
        }
        body = {name: value for name, value in body.items() if value is not None}

        def attempt(look: bool) -> Dict[str, Any]:
            found = self._made_before(body["experiment_id"], info["model_id"]) if look else None
            return found or self._behind.request("POST", _API, body, retry=False)["model"]

        try:
            made = self._insist(attempt, unsure)["info"]
        except Refused as refused:
            if not refused.lacks_route:
                raise
            self._are_lacking = True
            return False
        note_root(self._folder, info["name"], made.get("artifact_uri", ""))
        self._identities.note(info["model_id"], made["model_id"])
        return True

    def _bring(self, model: Mapping[str, Any], present: Mapping[str, Any], wait_for_files: Callable[[], None]) -> None:
        info, there = model["info"], present["info"]
        path = f"{_API}/{there['model_id']}"
        tags = _lacking(self._identities.replaced(info.get("tags", [])), there.get("tags", []))
        if tags:
            self._behind.request("PATCH", f"{path}/tags", {"tags": tags})
        params = _lacking(model.get("data", {}).get("params", []), present.get("data", {}).get("params", []))
        if params:
            self._behind.request("POST", f"{path}/params", {"model_id": there["model_id"], "params": params})
        status = info.get("status", "")
        if status not in _DOUBTFUL and status != there.get("status"):
            wait_for_files()
            self._behind.request("PATCH", path, {"model_id": there["model_id"], "status": status})

    def _made_before(self, experiment_id: str, key: str) -> Optional[Dict[str, Any]]:
        asked = {"experiment_ids": [experiment_id], "filter": f"tags.`{KEY_TAG}` = '{key}'", "max_results": 1}
        models: List[Dict[str, Any]] = self._behind.request("POST", f"{_API}/search", asked).get("models", [])
        return models[0] if models else None

    def _experiment(self, info: Mapping[str, Any]) -> str:
        """That of the run, which has been made by now."""
        base = self._folder.base() or {}
        own: str = base.get("run", {}).get("info", {}).get("experiment_id", "")
        return self._identities.real(own or info.get("experiment_id", ""))

    def _portable(self, model: Mapping[str, Any]) -> Dict[str, Any]:
        """The description as another machine can use it."""
        base = self._folder.base() or {}
        root = base.get("run", {}).get("info", {}).get("artifact_uri", "")
        real: Dict[str, Any] = self._identities.replaced(
            {**model, "info": {name: value for name, value in model["info"].items() if name != "model_id"}}
        )
        real["info"]["model_id"] = model["info"]["model_id"]
        real["info"]["artifact_uri"] = f"{root}/{model['info'].get('name', '')}" if root else ""
        return real


def note_root(folder: RunFolder, name: str, artifact_uri: str) -> None:
    """Where, besides among the run's artifacts, the workspace looks for the files of the model of that name."""
    if artifact_uri:
        write_json(folder.path / "models.json", {**roots(folder), name: artifact_uri})


def roots(folder: RunFolder) -> Dict[str, str]:
    """Model name -> artifact address, of models that were made in the workspace."""
    return read_json(folder.path / "models.json") or {}


def _lacking(wanted: List[Dict[str, str]], present: List[Dict[str, str]]) -> List[Dict[str, str]]:
    known = {item["key"]: item.get("value", "") for item in present}
    return [item for item in wanted if known.get(item["key"]) != item.get("value", "")]
