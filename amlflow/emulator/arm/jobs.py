"""Command jobs as resources: checked, kept, listed, cancelled."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.assets import described
from amlflow.emulator.arm.computes import instance_state, node_limits, seconds
from amlflow.emulator.arm.datastores import DEFAULT
from amlflow.emulator.arm.resources import PROVIDER, WORKSPACE_PATTERN, Arm, body_properties, check_name, page, required
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.data import run_path
from amlflow.emulator.running.scheduler import SERVERLESS_NODES, Scheduler
from amlflow.emulator.running.state import TERMINAL, Jobs
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/jobs"
# The service takes 255 characters and capitals as well; the local workspace, whose run has this id, does not.
NAME = r"[a-z0-9][a-z0-9_-]{0,35}"
_JOBS = f"{WORKSPACE_PATTERN}/jobs"
_JOB = f"{_JOBS}/{{job}}"
_LOCATIONS = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"
_PAGE = 25
# What a job keeps for ever once it is there.
_FIXED = ("command", "codeId", "environmentId", "experimentName")


class JobResources:
    def __init__(self, arm: Arm, jobs: Jobs, scheduler: Scheduler) -> None:
        self._arm, self._jobs, self._scheduler = arm, jobs, scheduler

    def routes(self) -> list[Route]:
        return [
            Route("GET", _JOBS, self._list),
            Route("GET", _JOB, self._get),
            Route("PUT", _JOB, self._put),
            Route("PATCH", _JOB, self._patch),
            Route("DELETE", _JOB, self._delete),
            Route("POST", f"{_JOB}/cancel", self._cancel),
            Route("GET", f"{_LOCATIONS}/mfeOperationsStatus/{{operation}}", self._arm.operation_status),
            Route("GET", f"{_LOCATIONS}/mfeOperationResults/{{operation}}", self._arm.operation_result),
        ]

    def find(self, workspace: Document, name: str) -> Document:
        found = self._arm.store.get(f"{workspace.id}/jobs/{name}")
        if found is None:
            raise service_error(404, f"Run {name} was not found", inner=("NotFoundError", "RunNotFound"))
        return found

    def all(self) -> list[Document]:
        """Every job of every workspace, oldest first."""
        store = self._arm.store
        groups = store.children(f"/subscriptions/{self._arm.settings.subscription}/resourceGroups")
        places = [item for group in groups for item in store.children(f"{group.id}/providers/{PROVIDER}/workspaces")]
        found = [job for place in places for job in store.children(f"{place.id}/jobs")]
        return sorted(found, key=lambda job: job.created)

    def preempt(self, name: str) -> bool:
        """Take the nodes of the running job of that name, or of its step; False where none runs."""
        return any(self._scheduler.preempt(job) for job in self.all() if name in (job.name, job.body.get("parent")))

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/jobs")
        found = [item for item in found if not item.body.get("parent")]
        query = request.query
        shown = [item for item in found if bool(item.body["properties"].get("isArchived")) == _archived(query)]
        if query.get("listViewType", "").lower() == "all":
            shown = found
        if "jobType" in query:
            shown = [item for item in shown if item.body["properties"]["jobType"].lower() == query["jobType"].lower()]
        if "tag" in query:
            name, _, value = query["tag"].partition("=")
            shown = [item for item in shown if _tagged(item, name, value)]
        if query.get("scheduled", "").lower() in ("true", "false"):
            shown = [
                item for item in shown if bool(item.body.get("schedule")) == (query["scheduled"].lower() == "true")
            ]
        if "scheduleId" in query:
            asked = query["scheduleId"].rpartition("/")[2].lower()
            shown = [item for item in shown if item.body.get("schedule", "").lower() == asked]
        return page(request, shown, lambda item: self._render(item, request.base_url), _PAGE)

    def _get(self, request: Request) -> Answer:
        found = self.find(self._arm.workspace(request), request.values["job"])
        return Answer(content=self._render(found, request.base_url))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["job"]
        check_name(name, NAME, "Job")
        _, properties = body_properties(request)
        before = self._arm.store.get(f"{workspace.id}/jobs/{name}")
        if before is not None:
            return Answer(200, self._render(self._update(before, properties), request.base_url))
        made = self.submit(workspace, name, properties, author(request))
        return Answer(201, self._render(made, request.base_url))

    def submit(
        self, workspace: Document, name: str, properties: Mapping[str, Any], by: str, schedule: str = ""
    ) -> Document:
        """Make the job and its run, and begin with it. `schedule` is the name of the one that it comes from. Raises the service's
        refusals."""
        with required("command job"):
            wanted, compute = self._checked(workspace, name, properties)
        content = {"properties": wanted, "compute": compute, "status": "Starting", "submitted": time.time()}
        if schedule:
            content["schedule"] = schedule
        made, new = self._arm.store.put(f"{workspace.id}/jobs/{name}", content, by)
        if not new:
            return made
        tags = {
            **{str(key): str(value) for key, value in wanted["tags"].items()},
            "mlflow.rootRunId": name,
            "mlflow.runName": wanted["displayName"],
            "mlflow.user": "emulator",
            "mlflow.source.type": "JOB",
        }
        self._jobs.places.create_run(workspace, name, wanted["experimentName"], wanted["displayName"], tags)
        self._jobs.places.set_status(workspace, name, "SCHEDULED")
        self._scheduler.submit(made)
        return made

    def _patch(self, request: Request) -> Answer:
        found = self.find(self._arm.workspace(request), request.values["job"])
        return Answer(
            content=self._render(self._update(found, request.json().get("properties") or {}), request.base_url)
        )

    def _delete(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        found = self._arm.store.get(f"{workspace.id}/jobs/{request.values['job']}")
        if found is None:
            return Answer(204)
        if found.body["status"] not in TERMINAL:
            text = f"Run {found.name} is in status {found.body['status']}: only a run that has ended can be deleted."
            raise service_error(400, text, inner=("BadArgument",))
        for job in (found, *self._jobs.steps_of(found)):
            self._arm.store.delete(job.id)
            self._jobs.places.of(workspace).delete_run(job.name)
        return self._arm.accepted(request, self._arm.begin(found.id), kind="mfeOperationsStatus")

    def _cancel(self, request: Request) -> Answer:
        found = self.find(self._arm.workspace(request), request.values["job"])
        if found.body["status"] in TERMINAL:
            text = f"Run {found.name} is in terminal status, it can't be canceled."
            raise service_error(400, text, inner=("BadArgument", "InvalidRunStatus"))
        for job in self._jobs.steps_of(found) or [found]:
            self._scheduler.cancel(job)
        answer = self._arm.accepted(request, self._arm.begin(found.id), kind="mfeOperationsStatus")
        return Answer(202, None, {name: answer.headers[name] for name in ("location", "retry-after")})

    def _update(self, found: Document, properties: Mapping[str, Any]) -> Document:
        """Change what may be changed of a job that is there; sending it once more changes nothing."""
        for key in _FIXED:
            before, now = found.body["properties"].get(key), properties.get(key)
            if now and str(now).lower() != str(before).lower():
                text = f"The property '{key}' of run {found.name} cannot be changed."
                raise service_error(400, text, inner=("BadArgument", "ImmutableProperty"))

        def edit(body: dict[str, Any]) -> None:
            for key in ("displayName", "description", "tags", "isArchived"):
                if properties.get(key) is not None:
                    body["properties"][key] = properties[key]
            body["properties"]["properties"].update(properties.get("properties") or {})

        changed = self._arm.store.change(found.id, edit)
        assert changed is not None
        return changed

    def _checked(self, workspace: Document, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The job as it is kept, and its compute's id. Raises the service's refusals."""
        if given.get("jobType") != "Command":
            text = f"The emulator runs command jobs, not jobs of the type '{given.get('jobType')}'."
            raise service_error(400, text, inner=("BadArgument", "UnsupportedJobType"))
        for key in ("command", "environmentId"):
            if not given.get(key):
                raise service_error(
                    400, f"The property '{key}' is missing.", inner=("BadArgument", "ArgumentBlankOrEmpty")
                )
        self._check_references(given)
        if timeout := (given.get("limits") or {}).get("timeout"):
            seconds(timeout)
        compute = self._compute(workspace, given)
        wanted = {key: value for key, value in json.loads(json.dumps(given)).items() if value is not None}
        wanted = {
            **wanted,
            **described(wanted),
            "displayName": wanted.get("displayName") or name,
            "experimentName": wanted.get("experimentName") or "Default",
            "outputs": wanted.get("outputs") or {},
            "inputs": wanted.get("inputs") or {},
        }
        wanted.pop("status", None)
        wanted.pop("services", None)
        for output, value in wanted["outputs"].items():
            value.setdefault("jobOutputType", "uri_folder")
            if not value.get("uri"):
                value["uri"] = f"azureml://datastores/{DEFAULT}/paths/azureml/{name}/{output}/"
        return wanted, compute

    def _check_references(self, given: Mapping[str, Any]) -> None:
        for key, title in (("environmentId", "environments"), ("codeId", "codes")):
            wanted = str(given.get(key) or "")
            if not wanted or wanted.startswith("azureml://registries/"):
                continue
            if self._arm.store.get(wanted) is None:
                parts = wanted.split("/")
                shown = ":".join((parts[-3], parts[-1])) if f"/{title}/" in wanted.lower() else wanted
                text = f"The {title.removesuffix('s')} '{shown}' of the job was not found in the workspace."
                raise service_error(404, text, inner=("NotFoundError", f"{title.removesuffix('s').title()}NotFound"))

    def _compute(self, workspace: Document, given: Mapping[str, Any]) -> str:
        count = int((given.get("resources") or {}).get("instanceCount") or 1)
        wanted = str(given.get("computeId") or "")
        if not wanted or wanted.rpartition("/")[2].lower() == "serverless":
            if count > SERVERLESS_NODES:
                raise _unfit(
                    f"Serverless compute has at most {SERVERLESS_NODES} nodes here, and the job wants {count}."
                )
            return f"{workspace.id}/computes/serverless"
        name = wanted.rpartition("/")[2]
        found = self._arm.store.get(f"{workspace.id}/computes/{name}")
        if found is None or "gone" in found.body:
            raise _unfit(f"Unknown compute target '{name}'.")
        if found.body["computeType"] == "ComputeInstance":
            state, _ = instance_state(found.body)
            most = 1
            if state in ("Stopped", "Stopping"):
                raise _unfit(f"The compute instance '{name}' is {state}. Start it and try again.")
        else:
            most = node_limits(found.body["properties"]).maximum
        if count > most:
            raise _unfit(f"The job wants {count} nodes, and the compute '{name}' has at most {most}.")
        return found.id

    def _render(self, document: Document, base_url: str) -> dict[str, Any]:
        body, workspace = document.body, document.id.rsplit("/", 2)[0]
        properties, host = body["properties"], base_url.removeprefix("https://")
        outputs = properties["outputs"]
        if body["status"] in TERMINAL:
            artifacts = f"azureml://datastores/workspaceartifactstore/{run_path(document.name)}"
            outputs = {
                "default": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": artifacts},
                **outputs,
            }
        studio = f"https://ml.azure.com/runs/{document.name}?wsid={workspace}&tid={self._arm.settings.tenant}"
        services = {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": f"azureml://{host}/mlflow/v1.0{workspace}?"},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio},
        }
        compute = body["compute"]
        shown = {
            **({} if properties["jobType"] == "Pipeline" else {"resources": {"instanceCount": 1, "properties": {}}}),
            "isArchived": False,
            **properties,
            "computeId": "" if compute.endswith("/serverless") else compute,
            "outputs": outputs,
            "services": services,
            "status": body["status"],
            "properties": {
                **properties["properties"],
                "_azureml.ComputeTargetType": "amlctrain",
                "ProcessInfoFile": "azureml-logs/process_info.json",
                "ProcessStatusFile": "azureml-logs/process_status.json",
            },
        }
        if not shown["computeId"]:
            del shown["computeId"]
        return self._arm.envelope(document, KIND, shown)


def _archived(query: Mapping[str, str]) -> bool:
    return query.get("listViewType", "ActiveOnly").lower() == "archivedonly"


def _tagged(job: Document, name: str, value: str) -> bool:
    tags = job.body["properties"]["tags"]
    return name in tags and (not value or str(tags[name]) == value)


def _unfit(text: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", "InvalidComputeTarget"))
