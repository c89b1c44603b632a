"""Where runs and experiments begin: in the workspace, which gives them their ids, or here, while it cannot be reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict

from . import records
from .errors import Refused, Unreachable
from .folder import new_id

if TYPE_CHECKING:
    from .router import Router

# A run carries it, so that a request whose answer was lost is not repeated: the run is looked for by it.
KEY_TAG = "amlflow.key"
# How long a program waits for the workspace when it must have an id from it, before it goes on without.
TIMEOUT_S = 2.0
_OFFLINE = "offline-"


def run(router: Router, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
    """A new run, as the program sees it."""
    key, tags = new_id(), list(body.get("tags", []))
    if not body.get("experiment_id", "").startswith(_OFFLINE):
        keyed = {**body, "tags": [*tags, {"key": KEY_TAG, "value": key}]}
        try:
            made = router.locations.real_run(_in_workspace(router, path, keyed, key))
        except Unreachable:
            pass
        else:
            router.journal.run(made["info"]["run_id"]).begin({"run": made, "fresh": True, "offline": False})
            return router.locations.outward_run(made)
    return _here(router, {**body, "tags": tags}, key)


def experiment(router: Router, method: str, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
    """experiments/get, get-by-name and create: asked of the workspace; offline, from what is remembered."""
    try:
        answer = router.ask(method, path, body, timeout_s=TIMEOUT_S, retry=method == "GET")
    except Unreachable:
        return _experiment_here(router, path, body)
    found = answer.get("experiment")
    if found:
        router.journal.note_experiment(found["name"], found["experiment_id"], found.get("artifact_location", ""))
    return answer


def _in_workspace(router: Router, path: str, body: Dict[str, Any], key: str) -> Dict[str, Any]:
    """Make the run in the workspace. Where it is not known whether it has been made, it is looked for by its key."""
    try:
        answer = router.ask_once("POST", path, body, TIMEOUT_S)
    except Unreachable as error:
        if not error.maybe_applied:
            raise
        search = path.replace("runs/create", "runs/search")
        wanted = {"experiment_ids": [body["experiment_id"]], "filter": f"tags.`{KEY_TAG}` = '{key}'", "max_results": 1}
        found = router.ask_once("POST", search, wanted, TIMEOUT_S)
        if not found.get("runs"):
            raise
        return dict(found["runs"][0])
    return dict(answer["run"])


def _here(router: Router, body: Dict[str, Any], key: str) -> Dict[str, Any]:
    """Make the run in the journal alone; whoever sends it makes it in the workspace first."""
    name, run_id = body.get("run_name") or f"offline-{key[:8]}", new_id()
    tags = {item["key"]: item.get("value", "") for item in body["tags"]}
    tags.setdefault("mlflow.runName", name)
    experiment_id = body.get("experiment_id", "0")
    made = {
        "info": {
            "run_id": run_id,
            "run_uuid": run_id,
            "run_name": name,
            "experiment_id": experiment_id,
            "user_id": body.get("user_id", ""),
            "status": "RUNNING",
            "start_time": int(body.get("start_time") or time.time_ns() // 1_000_000),
            "lifecycle_stage": "active",
            "artifact_uri": router.locations.of_run(run_id),
        },
        "data": {"tags": [{"key": tag, "value": value} for tag, value in tags.items()]},
    }
    router.journal.run(run_id).begin({"run": made, "fresh": True, "offline": True})
    beginning = {
        "key": key,
        "experiment_id": experiment_id,
        "experiment_name": _name_of(router, experiment_id),
        "run_name": name,
        "start_time": made["info"]["start_time"],
        "user_id": made["info"]["user_id"],
        "tags": [[tag, value] for tag, value in tags.items()],
    }
    router.open(run_id).append([records.CREATED, beginning])
    return made


def _experiment_here(router: Router, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
    known = router.journal.experiments()
    if path.endswith("create"):
        made = f"{_OFFLINE}{new_id()[:12]}"
        router.journal.note_experiment(body["name"], made, "")
        return {"experiment_id": made}
    if path.endswith("get-by-name"):
        name = body["experiment_name"]
    else:
        name = _name_of(router, body["experiment_id"])
        if not name and body["experiment_id"] == "0":
            return {"experiment": {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active"}}
    if name not in known:
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"No experiment {name!r} is known here, offline.")
    return {"experiment": {"name": name, "lifecycle_stage": "active", **known[name]}}


def _name_of(router: Router, experiment_id: str) -> str:
    for name, entry in router.journal.experiments().items():
        if entry["experiment_id"] == experiment_id:
            return name
    return ""
