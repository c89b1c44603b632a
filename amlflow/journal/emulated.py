"""Logged models of MLflow 3 where the workspace has none: kept here, and in the artifacts of the run that made them.

A model's files stand among the run's artifacts under the model's name, as those of MLflow 2 do, so `runs:/RUN_ID/NAME` loads it
everywhere. What MLflow 3 knows of it besides goes into `amlflow/models/MODEL_ID.json` beside them, and a tag of the run,
`amlflow.model.MODEL_ID` = NAME, leads any later process from the model's id to the run.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from . import records
from .errors import Refused, Unreachable
from .folder import new_id

if TYPE_CHECKING:
    from .router import Router

TAG_PREFIX = "amlflow.model."
FOLDER = "amlflow/models"
_CONDITION = re.compile(r"\s*(?P<key>[\w.]+)\s*=\s*(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\s*")
_STATUS = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}


class Models:
    def __init__(self, router: Router) -> None:
        self._router, self._journal = router, router.journal

    def has(self, model_id: str) -> bool:
        return bool(model_id) and self._journal.model(model_id) is not None

    def create(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        now = time.time_ns() // 1_000_000
        model_id = f"m-{new_id()}"
        name = body.get("name") or f"model-{model_id[2:10]}"
        run_id = body.get("source_run_id") or self._run_of_its_own(body, name)
        model = {
            "info": {
                "model_id": model_id,
                "experiment_id": body.get("experiment_id", ""),
                "name": name,
                "creation_timestamp_ms": now,
                "last_updated_timestamp_ms": now,
                "artifact_uri": f"{self._router.locations.of_run(run_id)}/{name}",
                "status": "LOGGED_MODEL_PENDING",
                "model_type": body.get("model_type", ""),
                "source_run_id": run_id,
                "tags": list(body.get("tags", [])),
            },
            "data": {"params": list(body.get("params", [])), "metrics": []},
        }
        self._keep(model)
        return {"model": model}

    def call(self, method: str, route: str, body: Mapping[str, Any]) -> Dict[str, Any]:
        """Everything that can be asked of one model: `logged-models/ID…`."""
        _, model_id, *rest = route.split("/")
        model = self.find(model_id)
        if model is None:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"There is no logged model {model_id!r}.")
        info, changed = model["info"], True
        if method == "PATCH" and rest == ["tags"]:
            tags = {tag["key"]: tag for tag in [*info["tags"], *body.get("tags", [])]}
            info["tags"] = list(tags.values())
        elif method == "DELETE" and rest[:1] == ["tags"]:
            info["tags"] = [tag for tag in info["tags"] if tag["key"] != "/".join(rest[1:])]
        elif method == "POST" and rest == ["params"]:
            model["data"]["params"] = [*model["data"].get("params", []), *body.get("params", [])]
        elif method == "PATCH":
            status = body.get("status", info["status"])
            info["status"] = _STATUS.get(status, status)
        elif method == "DELETE":
            info["status"] = "LOGGED_MODEL_UPLOAD_FAILED"
            info["tags"] = [*info["tags"], {"key": "amlflow.deleted", "value": "true"}]
        else:
            changed = False
        if changed:
            info["last_updated_timestamp_ms"] = time.time_ns() // 1_000_000
            self._keep(model)
        return {"model": model}

    def find(self, model_id: str) -> Optional[Dict[str, Any]]:
        """The model, from this machine or by the tag of the run that made it."""
        kept = self._journal.model(model_id)
        if kept is not None:
            return kept
        for run in self._tagged(model_id):
            model = self._of_run(run, model_id)
            if model is not None:
                self._journal.keep_model(model)
                return model
        return None

    def search(self, router: Router, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        """Those of the workspace, and those that are kept here."""
        found: List[Dict[str, Any]] = []
        answer: Dict[str, Any] = {}
        try:
            answer = router.pass_on(method, path, body)
            found = list(answer.get("models", []))
        except Refused as error:
            if not error.lacks_route:
                raise
            self._fetch_of_run(body.get("filter", ""))
        except Unreachable:
            if not self._journal.models():
                raise
        if not body.get("page_token"):
            known = {model["info"]["model_id"] for model in found}
            found += [m for m in self._journal.models() if m["info"]["model_id"] not in known and _fits(m, body)]
        return {**answer, "models": found}

    def _fetch_of_run(self, filter: str) -> None:
        """A model of a run that was made on another machine is found by the run's tags."""
        run_id = _conditions(filter).get("source_run_id")
        if not run_id:
            return
        try:
            run = self._router.ask("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]
        except Refused:
            return
        for tag in run.get("data", {}).get("tags", []):
            model_id = tag["key"][len(TAG_PREFIX) :]
            if tag["key"].startswith(TAG_PREFIX) and not self.has(model_id):
                model = self._of_run(run, model_id)
                if model is not None:
                    self._journal.keep_model(model)

    def _tagged(self, model_id: str) -> List[Dict[str, Any]]:
        try:
            experiments = self._router.ask("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1000})
            ids = [experiment["experiment_id"] for experiment in experiments.get("experiments", [])]
            # Its value is not known here, and not every service has an operator for that: LIKE does on all.
            wanted = f"tags.`{TAG_PREFIX}{model_id}` LIKE '%'"
            body = {"experiment_ids": ids, "filter": wanted, "max_results": 1}
            return list(self._router.ask("POST", "/api/2.0/mlflow/runs/search", body).get("runs", []))
        except (Refused, Unreachable):
            return []

    def _of_run(self, run: Mapping[str, Any], model_id: str) -> Optional[Dict[str, Any]]:
        from .artifacts import read_file

        root = self._router.locations.of_run(run["info"]["run_id"])
        folder = self._journal.run(run["info"]["run_id"])
        if not folder.exists():
            root = run["info"]["artifact_uri"]
        try:
            model: Dict[str, Any] = json.loads(
                read_file(self._router, f"{root}/{FOLDER}/{self._newest(root, model_id)}")
            )
        except (OSError, ValueError):
            return None
        model["info"]["artifact_uri"] = f"{root}/{model['info']['name']}"
        return model

    def _newest(self, root: str, model_id: str) -> str:
        """The name of the last description: a service that overwrites nothing has several, with numbers."""
        from .artifacts import names

        versions = [name.split(".") for name in names(self._router, f"{root}/{FOLDER}") if name.startswith(model_id)]
        numbers = [int(parts[1]) for parts in versions if len(parts) == 3 and parts[1].isdigit()]
        return f"{model_id}.{max(numbers)}.json" if numbers else f"{model_id}.json"

    def _keep(self, model: Dict[str, Any]) -> None:
        self._journal.keep_model(model)
        run = self._router.general(model["info"]["source_run_id"])
        tag = f"{TAG_PREFIX}{model['info']['model_id']}"
        if run.view().tags.get(tag) is None:
            run.append([records.TAG, tag, model["info"]["name"]])
        run.append([records.MODEL, {"model": model, "emulated": True}])

    def _run_of_its_own(self, body: Mapping[str, Any], name: str) -> str:
        """A model that was logged outside of any run needs one, for its files to have a place."""
        made = {"experiment_id": body.get("experiment_id", "0"), "run_name": name, "tags": []}
        run = self._router.call("POST", "/api/2.0/mlflow/runs/create", made)["run"]
        run_id: str = run["info"]["run_id"]
        ended = {"run_id": run_id, "status": "FINISHED", "end_time": time.time_ns() // 1_000_000}
        self._router.call("POST", "/api/2.0/mlflow/runs/update", ended)
        return run_id


def _fits(model: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    info = model["info"]
    if any(tag["key"] == "amlflow.deleted" for tag in info["tags"]):
        return False
    ids = body.get("experiment_ids") or []
    if ids and info["experiment_id"] not in ids:
        return False
    shown = {"name": info["name"], "source_run_id": info["source_run_id"], "model_id": info["model_id"]}
    wanted = _conditions(body.get("filter", ""))
    return all(shown.get(key, value) == value for key, value in wanted.items())


def _conditions(filter: str) -> Dict[str, str]:
    """`name = 'a' AND source_run_id = 'b'` as a mapping: what MLflow itself asks for when it looks for a model by its run."""
    found = {}
    for part in re.split(r"\s+and\s+", filter or "", flags=re.IGNORECASE):
        match = _CONDITION.fullmatch(part)
        if match:
            found[match["key"].split(".")[-1]] = match["single"] if match["single"] is not None else match["double"]
    return found
