"""User-assigned identities, and roles on container registries: what lets a container group pull an image."""

from __future__ import annotations

import time
import uuid
from typing import Any

from amlflow.emulator.arm.registries import REGISTRY_PATTERN, Registries
from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm, check_name, missing, page, required
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error, iso

KIND = "Microsoft.ManagedIdentity/userAssignedIdentities"
_ROLES_KIND = "Microsoft.Authorization/roleAssignments"
_IDENTITIES = f"{GROUP_PATTERN}/providers/{KIND}"
_IDENTITY = f"{_IDENTITIES}/{{identity}}"
_ASSIGNMENTS = f"{REGISTRY_PATTERN}/providers/{_ROLES_KIND}"
_ASSIGNMENT = f"{_ASSIGNMENTS}/{{assignment}}"
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}"
_ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
# An assignment counts after so many paces, as it takes minutes in the service.
_EFFECTIVE_PACES = 3


class Identities:
    def __init__(self, arm: Arm, registries: Registries) -> None:
        self._arm, self._registries = arm, registries

    def routes(self) -> list[Route]:
        return [
            Route("GET", _IDENTITIES, self._list),
            Route("GET", _IDENTITY, self._get),
            Route("PUT", _IDENTITY, self._put),
            Route("DELETE", _IDENTITY, self._delete),
            Route("GET", _ASSIGNMENTS, self._list_assignments),
            Route("GET", _ASSIGNMENT, self._get_assignment),
            Route("PUT", _ASSIGNMENT, self._put_assignment),
            Route("DELETE", _ASSIGNMENT, self._delete_assignment),
        ]

    def may_pull(self, identity: str, registry: str) -> bool:
        """Whether the identity (an ARM id) has the role on the registry by now."""
        found = self._arm.store.get(identity)
        if found is None:
            return False
        since = time.time() - _EFFECTIVE_PACES * self._arm.pace_s
        return any(
            item.body["principalId"] == found.body["principalId"]
            and item.body["roleDefinitionId"].lower().endswith(_ACR_PULL)
            and item.created < since
            for item in self._arm.store.children(f"{registry}/providers/{_ROLES_KIND}")
        )

    def exists(self, identity: str) -> bool:
        return self._arm.store.get(identity) is not None

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

    def _list_assignments(self, request: Request) -> Answer:
        place = f"{self._registries.find(request)}/providers/{_ROLES_KIND}"
        return page(request, self._arm.store.children(place), self._render_assignment)

    def _assignment_id(self, request: Request) -> str:
        return f"{self._registries.find(request)}/providers/{_ROLES_KIND}/{request.values['assignment']}"

    def _get_assignment(self, request: Request) -> Answer:
        found = self._arm.store.get(self._assignment_id(request))
        if found is None:
            name = request.values["assignment"]
            raise arm_error(404, "RoleAssignmentNotFound", f"The role assignment '{name}' is not found.")
        return Answer(content=self._render_assignment(found))

    def _put_assignment(self, request: Request) -> Answer:
        self._check_right(request, "write")
        try:
            uuid.UUID(request.values["assignment"])
        except ValueError:
            text = f"The role assignment ID '{request.values['assignment']}' is not valid. The role assignment ID must be a GUID."
            raise arm_error(400, "InvalidRoleAssignmentId", text) from None
        with required("role assignment"), self._arm.store.undisturbed():
            given, id = request.json()["properties"], self._assignment_id(request)
            body = {name: str(given[name]) for name in ("roleDefinitionId", "principalId")}
            body["principalType"] = str(given.get("principalType") or "ServicePrincipal")
            if not self._known(request, body["principalId"]):
                text = f"Principal {body['principalId']} does not exist in the directory {self._arm.settings.tenant}."
                raise arm_error(400, "PrincipalNotFound", text)
            for item in self._arm.store.children(id.rpartition("/")[0]):
                equal = item.body == body
                if equal and item.id.lower() != id.lower():
                    raise arm_error(409, "RoleAssignmentExists", "The role assignment already exists.")
                if not equal and item.id.lower() == id.lower():
                    text = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
                    raise arm_error(400, "RoleAssignmentUpdateNotPermitted", text)
            before = self._arm.store.get(id)
            made = before or self._arm.store.put(id, body, author(request))[0]
        return Answer(200 if before else 201, self._render_assignment(made))

    def _delete_assignment(self, request: Request) -> Answer:
        self._check_right(request, "delete")
        id = self._assignment_id(request)
        found = self._arm.store.get(id)
        self._arm.store.delete(id)
        return Answer(204) if found is None else Answer(200, self._render_assignment(found))

    def _check_right(self, request: Request, verb: str) -> None:
        """A contributor may do anything but this."""
        principal = self._arm.settings.principal(str(request.caller.get("appid")))
        if principal is None or principal.role != "owner":
            text = (
                f"The client '{request.caller.get('appid')}' with object id '{request.caller.get('oid')}' does not have "
                f"authorization to perform action '{_ROLES_KIND}/{verb}' over scope '{request.path}' or the scope is invalid. If "
                "access was recently granted, please refresh your credentials."
            )
            raise arm_error(403, "AuthorizationFailed", text)

    def _known(self, request: Request, principal: str) -> bool:
        own = self._arm.store.children(f"{self._arm.group_id(request.values['group'])}/providers/{KIND}")
        known = [item.object_id for item in self._arm.settings.principals]
        return principal in [*known, *(item.body["principalId"] for item in own)]

    def _render_assignment(self, document: Document) -> dict[str, Any]:
        moment = iso(document.created)
        properties = {
            **document.body,
            "scope": document.id.rpartition(f"/providers/{_ROLES_KIND}")[0],
            "createdOn": moment,
            "updatedOn": moment,
            "createdBy": document.created_by,
            "updatedBy": document.created_by,
        }
        return {"id": document.id, "name": document.name, "type": _ROLES_KIND, "properties": properties}
