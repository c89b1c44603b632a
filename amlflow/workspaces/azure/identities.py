"""User-assigned identities, and the roles by which one may pull from a container registry and write blobs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amlflow.errors import AmlflowError, NotAllowed, NotFound
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.service import Service

IDENTITIES_API = "2023-01-31"
ROLES_API = "2022-04-01"
_REPLICATED_S = 120.0
_POLL_S = 3.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` is its ARM id, `principal` the object that roles are assigned to, `client` the id by which a program asks for tokens
    of it."""

    id: str
    principal: str
    client: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Role:
    """A built-in role; the same id in every subscription."""

    name: str
    id: str


ACR_PULL = Role("AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d")
BLOB_WRITER = Role("Storage Blob Data Contributor", "ba92f5b4-2d11-453d-a403-e96b0029c9fe")


class AzureIdentities:
    """Identities of the workspace's resource group."""

    def __init__(self, service: Service) -> None:
        self._arm = service.arm
        self._root = f"{service.path.split('/providers/')[0]}/providers/Microsoft.ManagedIdentity"

    def get(self, name: str) -> Identity | None:
        try:
            return _identity(self._arm.get(self._path(name), IDENTITIES_API, f"identity {name!r}"))
        except NotFound:
            return None

    def create(self, name: str, location: str, tags: Mapping[str, str]) -> Identity:
        what, body = f"identity {name!r}", {"location": location, "tags": dict(tags)}
        return _identity(self._arm.content(self._arm.put(self._path(name), IDENTITIES_API, what, body)))

    def delete(self, name: str) -> None:
        """That it is gone already is as good."""
        try:
            self._arm.delete(self._path(name), IDENTITIES_API, f"identity {name!r}")
        except NotFound:
            return

    def has(self, role: Role, name: str, scope: str) -> bool:
        """Whether `grant` was done for the identity and what it may use, an ARM id."""
        try:
            self._arm.get(self._assignment(role, name, scope), ROLES_API, "role assignment")
        except NotFound:
            return False
        return True

    def grant(self, role: Role, name: str, identity: Identity, scope: str) -> None:
        """Give the identity the role there; done again, it is one assignment. Raises `NotAllowed` without the right to assign
        roles."""
        path, what = self._assignment(role, name, scope), f"role {role.name} on {scope.rpartition('/')[2]!r}"
        subscription = scope.split("/")[2]
        definition = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role.id}"
        properties = {
            "roleDefinitionId": definition,
            "principalId": identity.principal,
            "principalType": "ServicePrincipal",
        }
        deadline = time.monotonic() + _REPLICATED_S
        while True:
            try:
                self._arm.put(path, ROLES_API, what, {"properties": properties})
                return
            except AmlflowError as error:
                if "RoleAssignmentExists" in error.message:
                    # Somebody else gave it that role.
                    return
                if "RoleAssignmentUpdateNotPermitted" in error.message:
                    # Of an identity of this name that is gone.
                    self.withdraw(role, name, scope)
                elif "PrincipalNotFound" not in error.message or time.monotonic() > deadline:
                    raise
                else:
                    # A new identity is not known everywhere at once.
                    time.sleep(_POLL_S)

    def withdraw(self, role: Role, name: str, scope: str) -> None:
        """That it was never given is as good. Raises `NotAllowed` without the right to assign roles."""
        what = f"role {role.name} of {name!r} on {scope.rpartition('/')[2]!r}"
        try:
            self._arm.delete(self._assignment(role, name, scope), ROLES_API, what)
        except NotFound:
            return
        except NotAllowed as error:
            mend = (
                f"Ask for the role «User Access Administrator» on {scope.rpartition('/')[2]!r}, or let whoever deployed the "
                "endpoint delete it."
            )
            raise NotAllowed(error.message, mend) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/userAssignedIdentities/{segment(name)}"

    def _assignment(self, role: Role, name: str, scope: str) -> str:
        """Always the same for a role, an identity's name and a scope, so that it is found again when the identity is gone."""
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope} {self._path(name)} {role.id}".lower())
        return f"{scope}/providers/Microsoft.Authorization/roleAssignments/{own}"


def _identity(item: Mapping[str, Any]) -> Identity:
    tags = {str(key): str(value) for key, value in (item.get("tags") or {}).items()}
    properties = item.get("properties") or {}
    return Identity(
        str(item.get("id") or ""), str(properties.get("principalId") or ""), str(properties.get("clientId") or ""), tags
    )
