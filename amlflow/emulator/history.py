"""The run history: what a run has come to, and the logs of a job."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.datastores import ARTIFACTS, Datastores
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.places import Places
from amlflow.emulator.running.data import run_path
from amlflow.emulator.running.state import TERMINAL
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, data_error, iso
from amlflow.errors import NotFound
from amlflow.workspaces.base import Run

_ROOT = f"/history/v1.0{WORKSPACE_PATTERN}"
_LOG_FOLDERS = ("user_logs/", "system_logs/", "azureml-logs/", "logs/")
_RUN_STATUS = {
    "FINISHED": "Completed",
    "FAILED": "Failed",
    "KILLED": "Canceled",
    "RUNNING": "Running",
    "SCHEDULED": "Queued",
}


class History:
    def __init__(self, arm: Arm, blobs: Blobs, datastores: Datastores, places: Places) -> None:
        self._arm, self._blobs, self._datastores, self._places = arm, blobs, datastores, places

    def routes(self) -> list[Route]:
        routes = [
            Route("POST", f"{_ROOT}/rundata", self._run_data, "data", reads=True),
            Route(
                "POST",
                f"/data/v1.0{WORKSPACE_PATTERN}/dataversion/batchGetResolvedUris",
                self._data,
                "data",
                reads=True,
            ),
        ]
        for scope in ("", "/experiments/{experiment}", "/experimentids/{experiment}"):
            run = f"{_ROOT}{scope}/runs/{{run}}"
            routes += [
                Route("GET", run, self._run, "data"),
                Route("PATCH", run, self._patch, "data"),
                Route("GET", f"{run}/details", self._details, "data"),
                Route("GET", f"{run}/children", self._children, "data"),
            ]
        return routes

    # runs

    def _run(self, request: Request) -> Answer:
        workspace, run, job = self._find(request, request.values["run"])
        return Answer(content=self._record(workspace, run, job))

    def _run_data(self, request: Request) -> Answer:
        asked = str(request.json().get("runId") or "")
        workspace, run, job = self._find(request, asked)
        return Answer(
            content={"runMetadata": self._record(workspace, run, job), "runDefinition": None, "jobSpecification": None}
        )

    def _patch(self, request: Request) -> Answer:
        workspace, run, job = self._find(request, request.values["run"])
        change = request.json()
        names = {"displayName": "displayName", "description": "description", "tags": "tags", "hidden": "isArchived"}

        def edit(body: dict[str, Any]) -> None:
            for given, kept in names.items():
                if change.get(given) is not None:
                    body["properties"][kept] = change[given]
            body["properties"]["properties"].update(change.get("properties") or {})

        if job is not None:
            job = self._arm.store.change(job.id, edit)
        if tags := {str(key): str(value) for key, value in (change.get("tags") or {}).items()}:
            self._places.of(workspace).log_batch(run.id, tags=tags)
        return Answer(content=self._record(workspace, run, job))

    def _details(self, request: Request) -> Answer:
        workspace, run, job = self._find(request, request.values["run"])
        record = self._record(workspace, run, job)
        names = (
            "runId runUuid rootRunUuid target status createdTimeUtc startTimeUtc endTimeUtc error warnings tags properties "
            "services revision runTypeV2 compute createdBy runNumber rootRunId outputs"
        ).split()
        content = {name: record[name] for name in names if name in record}
        content["createdTimeUtc"] = record["createdUtc"]
        content["logFiles"] = self._logs(workspace, run.id) if job is not None else {}
        return Answer(content=content)

    def _children(self, request: Request) -> Answer:
        workspace, _, job = self._find(request, request.values["run"])
        names = job.body.get("children", []) if job is not None else []
        found = [self._named(workspace, name) for name in names]
        return Answer(content={"value": [self._record(*item) for item in found]})

    def _logs(self, workspace: Document, run_id: str) -> dict[str, str]:
        container, prefix = self._datastores.container(workspace, ARTIFACTS), run_path(run_id)
        names = [name for name, _ in self._blobs.entries(container, f"{prefix}/")]
        short = {name: name.removeprefix(f"{prefix}/") for name in names}
        return {
            short[name]: self._blobs.signed_url(container, name)
            for name in names
            if short[name].startswith(_LOG_FOLDERS)
        }

    def _find(self, request: Request, run_id: str) -> tuple[Document, Run, Document | None]:
        return self._named(self._arm.workspace(request), run_id)

    def _named(self, workspace: Document, run_id: str) -> tuple[Document, Run, Document | None]:
        try:
            run = self._places.of(workspace).get_run(run_id)
        except NotFound as error:
            raise data_error(404, f"Run {run_id} was not found", inner="RunNotFoundError") from error
        return workspace, run, self._arm.store.get(f"{workspace.id}/jobs/{run_id}")

    def _record(self, workspace: Document, run: Run, job: Document | None) -> dict[str, Any]:
        body: Mapping[str, Any] = job.body if job is not None else {}
        properties = body.get("properties") or {}
        status = body.get("status") or _RUN_STATUS[run.status]
        started = body.get("started") or (run.start_time_ms or 0) / 1000
        ended = body.get("ended") or (run.end_time_ms or 0) / 1000
        identifier = str(uuid.uuid5(uuid.UUID(workspace.body["workspaceId"]), run.id))
        record: dict[str, Any] = {
            "runNumber": 1,
            "runId": run.id,
            "runUuid": identifier,
            "rootRunId": run.tags.get("mlflow.rootRunId", run.id),
            "rootRunUuid": identifier,
            "parentRunId": body.get("parent"),
            "experimentId": run.experiment_id,
            "status": status,
            "createdUtc": iso(job.created if job is not None else (run.start_time_ms or 0) / 1000),
            "startTimeUtc": iso(started) if started and status not in ("Starting", "Preparing", "Queued") else None,
            "endTimeUtc": iso(ended) if ended and status in TERMINAL else None,
            "displayName": properties.get("displayName") or run.name,
            "name": run.name,
            "dataContainerId": f"dcid.{run.id}",
            "description": properties.get("description") or None,
            "hidden": bool(properties.get("isArchived")),
            "runType": _run_type(body),
            "runTypeV2": {
                "orchestrator": "Execution" if job is not None else "Mlflow",
                "traits": [],
                "attribution": None,
            },
            "target": body["compute"].rpartition("/")[2] if body else "local",
            "tags": properties.get("tags") or dict(run.tags),
            "properties": properties.get("properties") or {},
            "error": {"error": {"severity": None, **body["error"]}} if body.get("error") else None,
            "warnings": None,
            "services": {},
            "revision": 1,
            "outputs": self._outputs(workspace, run.id, properties.get("outputs") or {}) if job is not None else {},
            "createdBy": {"userObjectId": self._arm.settings.principals[0].object_id, "userName": "emulator"},
        }
        return {name: value for name, value in record.items() if value is not None}

    def _outputs(self, workspace: Document, run_id: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
        root = f"azureml://locations/local/workspaces/{workspace.body['workspaceId']}/data"
        names = {"default": {"jobOutputType": "uri_folder"}, **outputs}
        return {
            name: {"assetId": f"{root}/azureml_{run_id}_output_{name}/versions/1", "type": value["jobOutputType"]}
            for name, value in names.items()
        }

    def _data(self, request: Request) -> Answer:
        """Where the outputs of jobs are, by the ids that `rundata` gives."""
        workspace = self._arm.workspace(request)
        values = {}
        for asset in request.json().get("values") or []:
            run_id, _, output = str(asset).split("/")[-3].removeprefix("azureml_").rpartition("_output_")
            if output == "default":
                uri = f"azureml://datastores/{ARTIFACTS}/paths/{run_path(run_id)}/"
                values[asset] = {"uri": _long(workspace, uri), "type": "uri_folder"}
                continue
            job = self._arm.store.get(f"{workspace.id}/jobs/{run_id}")
            found = (job.body["properties"]["outputs"] if job else {}).get(output)
            if found:
                values[asset] = {"uri": _long(workspace, found["uri"]), "type": found["jobOutputType"]}
        return Answer(content={"values": values})


def _run_type(job: Mapping[str, Any]) -> str:
    if not job:
        return "mlflow"
    return "azureml.PipelineRun" if job.get("children") else "azureml.scriptrun"


def _long(workspace: Document, uri: str) -> str:
    """A datastore address with its workspace in it."""
    if not uri.startswith("azureml://datastores/"):
        return uri
    parts = workspace.id.split("/")
    scope = f"subscriptions/{parts[2]}/resourcegroups/{parts[4]}/workspaces/{workspace.name}"
    return uri.replace("azureml://", f"azureml://{scope}/", 1)
