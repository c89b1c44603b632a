"""Autoscale settings of Azure Monitor: kept, and held to what they scale; no instance comes or goes by them here, where a
deployment is one process."""

from __future__ import annotations

from typing import Any

from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm, body_properties, page, system_data
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error

_SETTINGS = f"{GROUP_PATTERN}/providers/Microsoft.Insights/autoscaleSettings"
_SETTING = f"{_SETTINGS}/{{setting}}"


class Autoscale:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def routes(self) -> list[Route]:
        return [
            Route("GET", _SETTINGS, self._list),
            Route("GET", _SETTING, self._get),
            Route("PUT", _SETTING, self._put),
            Route("DELETE", _SETTING, self._delete),
        ]

    def _list(self, request: Request) -> Answer:
        return page(request, self._arm.store.children(self._root(request)), self._render)

    def _get(self, request: Request) -> Answer:
        found = self._arm.store.get(f"{self._root(request)}/{request.values['setting']}")
        if found is None:
            text = f"The autoscale setting '{request.values['setting']}' was not found."
            raise arm_error(404, "ResourceNotFound", text)
        return Answer(content=self._render(found))

    def _put(self, request: Request) -> Answer:
        body, properties = body_properties(request)
        target = str(properties.get("targetResourceUri") or "")
        if not body.get("location") or not properties.get("profiles"):
            raise arm_error(400, "InvalidRequest", "An autoscale setting needs a location and at least one profile.")
        if self._arm.store.get(target) is None:
            raise arm_error(400, "TargetResourceNotFound", f"The target resource '{target}' was not found.")
        for profile in properties["profiles"]:
            capacity = profile.get("capacity") or {}
            least, usual, most = (int(capacity.get(key, 0)) for key in ("minimum", "default", "maximum"))
            if not 1 <= least <= usual <= most:
                text = f"The capacity {least} to {most}, by default {usual}, of profile '{profile.get('name')}' is not valid."
                raise arm_error(400, "InvalidCapacity", text)
        made, new = self._arm.store.put(
            f"{self._root(request)}/{request.values['setting']}",
            {"location": body["location"], "tags": body.get("tags") or {}, "properties": properties},
        )
        return Answer(201 if new else 200, self._render(made))

    def _delete(self, request: Request) -> Answer:
        return Answer(200 if self._arm.store.delete(f"{self._root(request)}/{request.values['setting']}") else 204)

    def _root(self, request: Request) -> str:
        self._arm.check_group(request.values["group"])
        return f"{self._arm.group_id(request.values['group'])}/providers/Microsoft.Insights/autoscaleSettings"

    def _render(self, document: Document) -> dict[str, Any]:
        body = document.body
        return {
            "id": document.id,
            "name": document.name,
            "type": "Microsoft.Insights/autoscaleSettings",
            "location": body["location"],
            "tags": body["tags"],
            "properties": {"name": document.name, **body["properties"]},
            "systemData": system_data(document),
        }
