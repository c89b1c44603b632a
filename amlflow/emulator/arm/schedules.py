"""Schedules: kept, enabled and disabled, and triggered when asked. Their own time does not come in the emulator."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from amlflow.emulator.arm import monitors
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm, body_properties, check_name, page
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/schedules"
_SCHEDULES = f"{WORKSPACE_PATTERN}/schedules"
_SCHEDULE = f"{_SCHEDULES}/{{schedule}}"
_ACTIONS = ("CreateJob", "InvokeBatchEndpoint", "ImportData", "CreateMonitor")
_TRIGGERS = ("Cron", "Recurrence")
Submit = Callable[[Document, str, dict[str, Any], str], Document]


class Schedules:
    """`submit` starts the job that a schedule describes."""

    def __init__(self, arm: Arm, submit: Submit) -> None:
        self._arm, self._submit = arm, submit

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
            text = f"A schedule has an action ({', '.join(_ACTIONS)}) and a trigger ({', '.join(_TRIGGERS)})."
            raise service_error(400, text, inner=("BadArgument", "ArgumentInvalid"))
        if action["actionType"] == "CreateMonitor":
            monitors.check(self._arm.store, action.get("monitorDefinition"))
        content = {"isEnabled": True, **{key: value for key, value in properties.items() if value is not None}}
        made, new = self._arm.store.put(f"{workspace.id}/schedules/{name}", content, author(request))
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
        found = self._find(request)
        action = found.body["action"]
        if action["actionType"] != "CreateJob":
            text = (
                f"The emulator triggers schedules that create jobs, not those of the action '{action['actionType']}'."
            )
            raise service_error(400, text, inner=("BadArgument",))
        name = f"{found.name.lower()[:20]}-{uuid.uuid4().hex[:8]}"
        self._submit(self._arm.workspace(request), name, action["jobDefinition"], author(request))
        return Answer(content={"scheduleActionType": "CreateJob", "submissionId": name})

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


def _missing(name: str) -> ServiceError:
    return service_error(404, f"Schedule '{name}' was not found.", inner=("NotFoundError", "ScheduleNotFound"))
