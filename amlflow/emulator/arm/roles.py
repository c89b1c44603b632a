"""Role assignments on container registries and containers of the storage account, and what they let one do."""

from __future__ import annotations

import time
import uuid
from typing import Any

from amlflow.emulator.arm.identities import KIND as IDENTITIES_KIND
from amlflow.emulator.arm.registries import REGISTRY_PATTERN, Registries
from amlflow.emulator.arm.resources import GROUP_PATTERN, Arm, missing, page, required
from amlflow.emulator.arm.workspaces import author, storage_id
from amlflow.emulator.settings import STORAGE_ACCOUNT
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, arm_error, iso

_KIND = "Microsoft.Authorization/roleAssignments"
_STORAGE_KIND = "Microsoft.Storage/storageAccounts"
_CONTAINER_PATTERN = (
    f"{GROUP_PATTERN}/providers/{_STORAGE_KIND}/{{account}}/blobServices/default/containers/{{container}}"
)
_ASSIGNMENTS = tuple(f"{scope}/providers/{_KIND}" for scope in (REGISTRY_PATTERN, _CONTAINER_PATTERN))
ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
# «Storage Blob Data» Reader, Contributor and Owner.
_BLOB_WRITERS = ("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "b7e6dc6d-f1e8-4753-8033-0f276bb0955b")
_BLOB_READERS = ("2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", *_BLOB_WRITERS)
# An assignment counts after so many paces, as it takes minutes in the service.
_EFFECTIVE_PACES = 3


class Roles:
    def __init__(self, arm: Arm, registries: Registries) -> None:
        self._arm, self._registries = arm, registries

    def routes(self) -> list[Route]:
        return [
            route
            for scope in _ASSIGNMENTS
            for route in (
                Route("GET", scope, self._list_assignments),
                Route("GET", f"{scope}/{{assignment}}", self._get_assignment),
                Route("PUT", f"{scope}/{{assignment}}", self._put_assignment),
                Route("DELETE", f"{scope}/{{assignment}}", self._delete_assignment),
            )
        ]

    def may_pull(self, identity: Document | None, registry: str) -> bool:
        """Whether the identity has the role on the registry by now."""
        return identity is not None and self._holds(str(identity.body["principalId"]), (ACR_PULL,), registry)

    def may_use_blobs(self, principal: str, container: str, writes: bool) -> bool:
        """Whether the principal has a role by now that lets it read, or write, the blobs of the container."""
        groups = self._arm.store.children(f"/subscriptions/{self._arm.settings.subscription}/resourceGroups")
        roles = _BLOB_WRITERS if writes else _BLOB_READERS
        return any(self._holds(principal, roles, self._container(group.name, container)) for group in groups)

    def _holds(self, principal: str, roles: tuple[str, ...], scope: str) -> bool:
        since = time.time() - _EFFECTIVE_PACES * self._arm.pace_s
        return any(
            item.body["principalId"] == principal
            and item.body["roleDefinitionId"].lower().rpartition("/")[2] in roles
            and item.created < since
            for item in self._arm.store.children(f"{scope}/providers/{_KIND}")
        )

    def _container(self, group: str, name: str) -> str:
        return f"{storage_id(self._arm, group)}/blobServices/default/containers/{name}"

    def _scope(self, request: Request) -> str:
        """The id of what the request's path assigns roles on. Raises ARM's refusals."""
        if "registry" in request.values:
            return self._registries.find(request)
        self._arm.check_group(request.values["group"])
        if request.values["account"].lower() != STORAGE_ACCOUNT:
            raise missing(f"{_STORAGE_KIND}/{request.values['account']}", request.values["group"])
        return self._container(request.values["group"], request.values["container"])

    def _list_assignments(self, request: Request) -> Answer:
        place = f"{self._scope(request)}/providers/{_KIND}"
        return page(request, self._arm.store.children(place), self._render_assignment)

    def _assignment_id(self, request: Request) -> str:
        return f"{self._scope(request)}/providers/{_KIND}/{request.values['assignment']}"

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
                f"authorization to perform action '{_KIND}/{verb}' over scope '{request.path}' or the scope is invalid. If "
                "access was recently granted, please refresh your credentials."
            )
            raise arm_error(403, "AuthorizationFailed", text)

    def _known(self, request: Request, principal: str) -> bool:
        own = self._arm.store.children(f"{self._arm.group_id(request.values['group'])}/providers/{IDENTITIES_KIND}")
        known = [item.object_id for item in self._arm.settings.principals]
        return principal in [*known, *(item.body["principalId"] for item in own)]

    def _render_assignment(self, document: Document) -> dict[str, Any]:
        moment = iso(document.created)
        properties = {
            **document.body,
            "scope": document.id.rpartition(f"/providers/{_KIND}")[0],
            "createdOn": moment,
            "updatedOn": moment,
            "createdBy": document.created_by,
            "updatedBy": document.created_by,
        }
        return {"id": document.id, "name": document.name, "type": _KIND, "properties": properties}
