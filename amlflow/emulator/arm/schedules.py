"""Schedules: kept, enabled and disabled, fired at their own time and triggered when asked."""

from __future__ import annotations

import time
import uuid
from typing import Any

from amlflow.emulator.arm import monitors
from amlflow.emulator.arm.jobs import JobResources
from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm, body_properties, check_name, page
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.monitors import MonitorRuns, shown_name
from amlflow.emulator.schedules import triggers
from amlflow.emulator.schedules.timekeeper import Timekeeper
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error
from amlflow.workspaces.azure.service import epoch_ms

KIND = "workspaces/schedules"
_SCHEDULES = f"{WORKSPACE_PATTERN}/schedules"
_SCHEDULE = f"{_SCHEDULES}/{{schedule}}"
_ACTIONS = ("CreateJob", "InvokeBatchEndpoint", "ImportData", "CreateMonitor")
_TRIGGERS = ("Cron", "Recurrence")
# A job's name has 36 characters here.
_NAME_CHARS = 27


class Schedules:
    """`start` lets their time come, until `close`."""

    def __init__(self, arm: Arm, jobs: JobResources, monitor_runs: MonitorRuns) -> None:
        self._arm, self._jobs, self._monitor_runs = arm, jobs, monitor_runs
        self._timekeeper = Timekeeper(arm.store, self._all, self._fire)
        self.start, self.close = self._timekeeper.start, self._timekeeper.close

    def routes(self) -> list[Route]:
        return [
            Route("GET", _SCHEDULES, self._list),
            Route("GET", _SCHEDULE, self._get),
            Route("PUT", _SCHEDULE, self._put),
            Route("DELETE", _SCHEDULE, self._delete),
            Route("POST", f"{_SCHEDULE}/trigger", self._trigger),
        ]

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/schedules")
        view = request.query.get("listViewType", "EnabledOnly").lower()
        if view != "all":
            found = [item for item in found if bool(item.body.get("isEnabled")) == (view == "enabledonly")]
        return page(request, found, self._render)

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._find(request)))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["schedule"]
        check_name(name, r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}", "Schedule")
        _, properties = body_properties(request)
        action, trigger = properties.get("action") or {}, properties.get("trigger") or {}
        if action.get("actionType") not in _ACTIONS or trigger.get("triggerType") not in _TRIGGERS:
            raise _refused(f"A schedule has an action ({', '.join(_ACTIONS)}) and a trigger ({', '.join(_TRIGGERS)}).")
        try:
            triggers.read(trigger, time.time())
        except ValueError as error:
            raise _refused(f"The trigger of the schedule '{name}' is not valid: {error}.") from error
        if action["actionType"] == "CreateMonitor":
            monitors.check(self._arm.store, action.get("monitorDefinition"))
        content = {"isEnabled": True, **{key: value for key, value in properties.items() if value is not None}}
        made, new = self._arm.store.put(f"{workspace.id}/schedules/{name}", content, author(request))
        self._timekeeper.arm(made, new)
        answer = self._arm.accepted(
            request, self._arm.begin(made.id), 201 if new else 200, self._render(made), "mfeOperationsStatus"
        )
        return answer if new else Answer(200, answer.content)

    def _delete(self, request: Request) -> Answer:
        self._arm.workspace(request)
        found = self._arm.store.get(f"{self._arm.workspace_id(request)}/schedules/{request.values['schedule']}")
        if found is None:
            return Answer(204)
        if found.body.get("isEnabled"):
            text = f"The schedule '{found.name}' is enabled: disable it before it is deleted."
            raise service_error(400, text, inner=("BadArgument",))
        self._arm.store.delete(found.id)
        return self._arm.accepted(request, self._arm.begin(found.id), kind="mfeOperationsStatus")

    def _trigger(self, request: Request) -> Answer:
        """As if it were due at the time that is asked for. azure-ai-ml takes the answer's `submissionId` for the job's name."""
        found, said = self._find(request), str(request.json().get("scheduleTime") or "")
        at_ms = epoch_ms(said)
        if at_ms is None:
            raise _refused(f"The scheduleTime '{said}' is no time in ISO 8601.")
        made = self._submit(self._arm.workspace(request), found, at_ms / 1000, author(request))
        return Answer(content={"scheduleActionType": found.body["action"]["actionType"], "submissionId": made.name})

    def _all(self) -> list[Document]:
        store = self._arm.store
        return [schedule for place in workspaces(self._arm) for schedule in store.children(f"{place.id}/schedules")]

    def _fire(self, schedule: Document, due: float) -> None:
        workspace = self._arm.store.get(schedule.id.rsplit("/", 2)[0])
        if workspace is not None:
            self._submit(workspace, schedule, due, schedule.created_by)

    def _submit(self, workspace: Document, schedule: Document, due: float, by: str) -> Document:
        """The job that the schedule makes, begun. Raises the service's refusals."""
        action = schedule.body["action"]
        name = f"{schedule.name.lower()[:_NAME_CHARS]}-{uuid.uuid4().hex[:8]}"
        if action["actionType"] == "CreateJob":
            shown = {**action["jobDefinition"], "displayName": shown_name(schedule.name, due)}
            return self._jobs.submit(workspace, name, shown, by, schedule.name)
        if action["actionType"] == "CreateMonitor":
            return self._monitor_runs.submit(workspace, schedule, name, due, by)
        raise _refused(f"The emulator carries out no schedule of the action '{action['actionType']}'.")

    def _find(self, request: Request) -> Document:
        workspace, name = self._arm.workspace(request), request.values["schedule"]
        found = self._arm.store.get(f"{workspace.id}/schedules/{name}")
        if found is None:
            raise _missing(name)
        return found

    def _render(self, document: Document) -> dict[str, Any]:
        body = document.body
        properties = {
            "displayName": document.name,
            "tags": {},
            "properties": {},
            **body,
            "provisioningState": "Succeeded",
        }
        return self._arm.envelope(document, KIND, properties)


def _refused(text: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))


def _missing(name: str) -> ServiceError:
    return service_error(404, f"Schedule '{name}' was not found.", inner=("NotFoundError", "ScheduleNotFound"))
