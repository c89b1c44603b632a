"""User-assigned identities: what a container group pulls its image by, and writes to the storage."""

from __future__ import annotations

import uuid
from typing import Any

from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm, check_name, missing, page
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route

KIND = "Microsoft.ManagedIdentity/userAssignedIdentities"
_IDENTITIES = f"{GROUP_PATTERN}/providers/{KIND}"
_IDENTITY = f"{_IDENTITIES}/{{identity}}"
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}"


class Identities:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def routes(self) -> list[Route]:
        return [
            Route("GET", _IDENTITIES, self._list),
            Route("GET", _IDENTITY, self._get),
            Route("PUT", _IDENTITY, self._put),
            Route("DELETE", _IDENTITY, self._delete),
        ]

    def get(self, identity: str) -> Document | None:
        """The identity with that ARM id."""
        return self._arm.store.get(identity)

    def _list(self, request: Request) -> Answer:
        self._arm.check_group(request.values["group"])
        place = f"{self._arm.group_id(request.values['group'])}/providers/{KIND}"
        return page(request, self._arm.store.children(place), self._render)

    def _id(self, request: Request) -> str:
        self._arm.check_group(request.values["group"])
        return f"{self._arm.group_id(request.values['group'])}/providers/{KIND}/{request.values['identity']}"

    def _get(self, request: Request) -> Answer:
        found = self._arm.store.get(self._id(request))
        if found is None:
            raise missing(f"{KIND}/{request.values['identity']}", request.values["group"])
        return Answer(content=self._render(found))

    def _put(self, request: Request) -> Answer:
        check_name(request.values["identity"], _NAME, "Identity")
        body, id = request.json(), self._id(request)
        before = self._arm.store.get(id)
        own = before.body if before else {"principalId": str(uuid.uuid4()), "clientId": str(uuid.uuid4())}
        own = {**own, "location": body.get("location") or LOCATION, "tags": body.get("tags") or {}}
        made, new = self._arm.store.put(id, own, author(request))
        return Answer(201 if new else 200, self._render(made))

    def _delete(self, request: Request) -> Answer:
        return Answer(200 if self._arm.store.delete(self._id(request)) else 204)

    def _render(self, document: Document) -> dict[str, Any]:
        body = document.body
        properties = {
            "tenantId": self._arm.settings.tenant,
            "principalId": body["principalId"],
            "clientId": body["clientId"],
        }
        envelope = {"id": document.id, "name": document.name, "type": KIND, "location": body["location"]}
        return {**envelope, "tags": body["tags"], "properties": properties}
