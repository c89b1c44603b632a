"""The routes of the tracking server and the model registry."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from amlflow.emulator.arm.datastores import ARTIFACTS, Datastores
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.places import Places
from amlflow.emulator.running.data import run_path
from amlflow.emulator.running.state import TERMINAL
from amlflow.emulator.store import Document
from amlflow.emulator.tracking import differences, versions
from amlflow.emulator.tracking.differences import HISTORY_PAGE, PARAMS_A_RUN, TAGS_A_RUN, Refusal
from amlflow.emulator.tracking.translation import Translation, UnknownExperiment
from amlflow.emulator.web import Answer, Request, Route, ServiceError, iso_now
from amlflow.journal.errors import Refused, Unreachable
from amlflow.workspaces.local.rest import ROUTES, LocalRest
from amlflow.workspaces.local.rest import Route as LocalRoute

_READ_ACTIONS = ("/search", "/get-latest-versions", "/list")
_LIST_PAGE = 1000


class Tracking:
    """`aliases` says whether the registry has model aliases, which is not known of the service for sure."""

    def __init__(self, arm: Arm, blobs: Blobs, datastores: Datastores, places: Places, aliases: bool) -> None:
        self._arm, self._blobs, self._datastores, self._places = arm, blobs, datastores, places
        self._aliases = aliases
        self._lock = threading.Lock()
        self._rests: dict[str, LocalRest] = {}

    def routes(self) -> list[Route]:
        found = []
        for version in ("v1.0", "v2.0"):
            root = f"/mlflow/{version}{WORKSPACE_PATTERN}/api"
            for method in ("GET", "POST", "PATCH", "DELETE"):
                # Searches are POSTs that a reader may send: who may write is checked below the route.
                found.append(Route(method, f"{root}/{{rest*}}", self._answer, "data", reads=True))
        return found

    def rest(self, workspace: Document) -> LocalRest:
        """MLflow's REST API over the workspace's runs and models."""
        key = str(workspace.body["workspaceId"])
        with self._lock:
            if key not in self._rests:
                routes = {**ROUTES, "POST model-versions/create": LocalRoute(versions.create, "write")}
                self._rests[key] = LocalRest(self._places.of(workspace), limits=differences.BATCH_LIMITS, routes=routes)
            return self._rests[key]

    def close(self) -> None:
        for rest in self._rests.values():
            rest.close()

    def _answer(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        path = request.values["rest"].removeprefix("2.0/").removeprefix("preview/").removeprefix("mlflow/")
        if not request.values["rest"].startswith("2.0/"):
            return Answer(404)
        if path.startswith("traces"):
            raise _error(403, "PERMISSION_DENIED", "Traces are not supported by this workspace.")
        if not differences.KNOWN.fullmatch(path) or (path == "registered-models/alias" and not self._aliases):
            return Answer(404)
        self._check_role(request, path)
        translation = Translation(self._arm.settings, workspace)
        try:
            body = translation.asked(_fields(request))
            differences.check(path, body)
            content = self._handled(request, workspace, path, body)
        except UnknownExperiment as error:
            text = f"Experiment with id '{error}' was not found."
            raise _error(404, "RESOURCE_DOES_NOT_EXIST", text) from error
        except Refusal as error:
            raise _error(400, "INVALID_PARAMETER_VALUE", str(error)) from error
        except Refused as error:
            raise _error(error.status, error.code, error.message) from error
        except Unreachable as error:
            raise _error(503, "TEMPORARILY_UNAVAILABLE", error.reason) from error
        return Answer(content=translation.answered(content))

    def _handled(self, request: Request, workspace: Document, path: str, body: dict[str, Any]) -> dict[str, Any]:
        rest, method, place = self.rest(workspace), request.method, f"/api/2.0/mlflow/{path}"
        if path == "runs/search":
            body["filter"] = differences.normalized_filter(str(body.get("filter") or ""))
        if path == "runs/create":
            body.pop("run_id", None)
        if path == "runs/update":
            self._keep_job_status(workspace, body)
        if path in ("runs/log-batch", "runs/log-batch-async", "runs/log-parameter", "runs/set-tag"):
            self._check_totals(rest, path, body)
        if path == "runs/log-batch-async":
            rest.request("POST", "/api/2.0/mlflow/runs/log-batch", body)
            return {"batch_tracking_id": str(uuid.uuid4()) if body.get("metrics") else ""}
        if path == "runs/get-run-data-status":
            return {"is_complete": True}
        if path == "metrics/get-history":
            body["max_results"] = min(int(body.get("max_results") or HISTORY_PAGE), HISTORY_PAGE)
        if path == "artifacts/list":
            return self._artifacts(rest, workspace, body)
        return rest.request(method, place, body)

    def _check_role(self, request: Request, path: str) -> None:
        principal = self._arm.settings.principal(str(request.caller.get("appid")))
        if (
            request.method == "GET"
            or f"/{path}".endswith(_READ_ACTIONS)
            or principal is None
            or principal.role != "reader"
        ):
            return
        text = f"The client '{principal.client_id}' has no permission to write to this workspace."
        raise _error(403, "PERMISSION_DENIED", text)

    def _keep_job_status(self, workspace: Document, body: dict[str, Any]) -> None:
        """The status of a job's run is the service's while the job runs, whatever its program says."""
        job = self._arm.store.get(f"{workspace.id}/jobs/{body.get('run_id') or body.get('run_uuid')}")
        if job is not None and job.body["status"] not in TERMINAL:
            body.pop("status", None)
            body.pop("end_time", None)

    def _check_totals(self, rest: LocalRest, path: str, body: Mapping[str, Any]) -> None:
        """Raises `Refusal` where the run would have more params or tags than one may have."""
        params = {item.get("key") for item in body.get("params") or []}
        tags = {item.get("key") for item in body.get("tags") or []}
        if path == "runs/log-parameter":
            params.add(body.get("key"))
        if path == "runs/set-tag":
            tags.add(body.get("key"))
        if not params and not tags:
            return
        run_id = body.get("run_id") or body.get("run_uuid")
        data = rest.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"].get("data") or {}
        for what, new, most in (("params", params, PARAMS_A_RUN), ("tags", tags, TAGS_A_RUN)):
            before = {item["key"] for item in data.get(what) or []}
            # Tags of the system do not count.
            counted = {key for key in before | new if not (what == "tags" and str(key).startswith("mlflow."))}
            if new - before and len(counted) > most:
                raise Refusal(f"The run would have {len(counted)} {what}; at most {most} are allowed.")

    def _artifacts(self, rest: LocalRest, workspace: Document, body: Mapping[str, Any]) -> dict[str, Any]:
        """One folder of a run's artifacts, which are blobs."""
        run_id, folder = str(body.get("run_id") or body.get("run_uuid") or ""), str(body.get("path") or "").strip("/")
        info = rest.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]["info"]
        container, prefix = self._datastores.container(workspace, ARTIFACTS), run_path(run_id, folder)
        files: dict[str, dict[str, Any]] = {}
        for name, size in self._blobs.entries(container, f"{prefix}/"):
            head, _, rest_of_path = name.removeprefix(f"{prefix}/").partition("/")
            path = f"{folder}/{head}".lstrip("/")
            files[path] = (
                {"path": path, "is_dir": True} if rest_of_path else {"path": path, "is_dir": False, "file_size": size}
            )
        translation = Translation(self._arm.settings, workspace)
        root = translation.artifact_uri(run_id, translation.experiment_guid(info["experiment_id"]))
        return {"root_uri": root, "files": [files[path] for path in sorted(files)]}


def _fields(request: Request) -> dict[str, Any]:
    if request.method == "GET":
        query = parse_qs(request.raw_query, keep_blank_values=True)
        query.pop("api-version", None)
        return {name: values[0] if len(values) == 1 else values for name, values in query.items()}
    try:
        found = json.loads(request.body or b"{}")
    except ValueError as error:
        raise _error(400, "BAD_REQUEST", "The request is no JSON.") from error
    return found if isinstance(found, dict) else {}


def _error(status: int, code: str, message: str) -> ServiceError:
    """An error as the service's MLflow server gives it."""
    error: dict[str, Any] = {
        "Code": "UserError" if status < 500 else "ServiceError",
        "Severity": None,
        "Message": message,
        "MessageFormat": None,
        "MessageParameters": None,
        "ReferenceCode": None,
        "DetailsUri": None,
        "Target": None,
        "Details": [],
        "InnerError": None,
        "DebugInfo": None,
        "AdditionalInfo": None,
    }
    content = {
        "Error": error,
        "Correlation": {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]},
        "Environment": "emulator",
        "Location": "local",
        "Time": iso_now(),
        "ComponentName": "mlflow",
        "statusCode": status,
        "error_code": code,
    }
    return ServiceError(Answer(status, content))
