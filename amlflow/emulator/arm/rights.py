"""What the caller may do at a place: the permissions of the built-in role that its principal has."""

from __future__ import annotations

from typing import Any

from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm
from amlflow.emulator.web import Answer, Request, Route

_PERMISSIONS = "providers/Microsoft.Authorization/permissions"
# Azure's own definitions of the roles.
_ROLES: dict[str, dict[str, Any]] = {
    "owner": {"actions": ["*"], "notActions": []},
    "contributor": {
        "actions": ["*"],
        "notActions": [
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
    },
    "reader": {"actions": ["*/read"], "notActions": []},
}


class Rights:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def routes(self) -> list[Route]:
        return [
            Route("GET", f"{GROUP_PATTERN}/{_PERMISSIONS}", self._permissions),
            Route("GET", f"{GROUP_PATTERN}/{{resource*}}/{_PERMISSIONS}", self._permissions),
        ]

    def _permissions(self, request: Request) -> Answer:
        self._arm.check_group(request.values["group"])
        principal = self._arm.settings.principal(str(request.caller.get("appid", "")))
        assert principal is not None
        return Answer(content={"value": [{**_ROLES[principal.role], "dataActions": [], "notDataActions": []}]})
