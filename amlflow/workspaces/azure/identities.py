"""User-assigned identities, and the role by which one may pull from a container registry."""

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
# The built-in role AcrPull, the same in every subscription.
ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
_REPLICATED_S = 120.0
_POLL_S = 3.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` is its ARM id, `principal` the object that roles are assigned to."""

    id: str
    principal: str
    tags: Mapping[str, str]


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

    def may_pull(self, name: str, registry: str) -> bool:
        """Whether `allow_pull` was done for the identity and the registry, an ARM id."""
        try:
            self._arm.get(self._assignment(name, registry), ROLES_API, "role assignment")
        except NotFound:
            return False
        return True

    def allow_pull(self, name: str, identity: Identity, registry: str) -> None:
        """Give the identity the role AcrPull on the registry; done again, it is one assignment. Raises `NotAllowed` without the
        right to assign roles."""
        path, what = self._assignment(name, registry), f"role AcrPull on {registry.rpartition('/')[2]!r}"
        subscription = registry.split("/")[2]
        role = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{ACR_PULL}"
        properties = {"roleDefinitionId": role, "principalId": identity.principal, "principalType": "ServicePrincipal"}
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
                    self.forbid_pull(name, registry)
                elif "PrincipalNotFound" not in error.message or time.monotonic() > deadline:
                    raise
                else:
                    # A new identity is not known everywhere at once.
                    time.sleep(_POLL_S)

    def forbid_pull(self, name: str, registry: str) -> None:
        """That it was never allowed is as good. Raises `NotAllowed` without the right to assign roles."""
        what = f"role AcrPull of {name!r} on {registry.rpartition('/')[2]!r}"
        try:
            self._arm.delete(self._assignment(name, registry), ROLES_API, what)
        except NotFound:
            return
        except NotAllowed as error:
            mend = "Ask for the role «User Access Administrator» on the registry, or let whoever deployed the endpoint delete it."
            raise NotAllowed(error.message, mend) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/userAssignedIdentities/{segment(name)}"

    def _assignment(self, name: str, registry: str) -> str:
        """Always the same for an identity's name and a registry, so that it is found again when the identity is gone."""
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"{registry} {self._path(name)} {ACR_PULL}".lower())
        return f"{registry}/providers/Microsoft.Authorization/roleAssignments/{own}"


def _identity(item: Mapping[str, Any]) -> Identity:
    tags = {str(key): str(value) for key, value in (item.get("tags") or {}).items()}
    return Identity(str(item.get("id") or ""), str((item.get("properties") or {}).get("principalId") or ""), tags)
