"""The metadata service that a container of Azure Container Instances asks for tokens of its group's identities.

The real one has an address of its own, 169.254.169.254, which no process can be given here: azure-identity's variable leads to
a place below the emulator instead, another for each group.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from amlflow.emulator import certificates
from amlflow.emulator.arm import container_rules
from amlflow.emulator.arm.identities import Identities
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.identity import Identity
from amlflow.emulator.settings import Principal
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError


class Metadata:
    def __init__(self, arm: Arm, identity: Identity, identities: Identities) -> None:
        self._arm, self._identity, self._identities = arm, identity, identities

    def routes(self) -> list[Route]:
        return [Route("GET", "/groups/{key}/metadata/identity/oauth2/token", self._token, "open")]

    def variables(self, group: Document) -> Mapping[str, str]:
        """What lets a container of the group find it; empty for a group without an identity."""
        if not group.body.get("identity"):
            return {}
        return {
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"{self._arm.settings.base_url}/groups/{self._key(group)}",
            "SSL_CERT_FILE": str(self._arm.place / certificates.AUTHORITY),
        }

    def _key(self, group: Document) -> str:
        secret = self._arm.settings.identity_header.encode()
        return hmac.new(secret, group.id.lower().encode(), hashlib.sha256).hexdigest()[:32]

    def _token(self, request: Request) -> Answer:
        if request.headers.get("metadata", "").lower() != "true":
            raise _refusal("Required metadata header not specified")
        groups = container_rules.every(self._arm)
        group = next((item for item in groups if self._key(item) == request.values["key"]), None)
        given = (group.body.get("identity") or {}).get("userAssignedIdentities") or {} if group else {}
        own = [found for found in map(self._identities.get, given) if found is not None]
        wanted = request.query.get("client_id", "")
        fitting = [item for item in own if not wanted or item.body["clientId"] == wanted]
        if len(fitting) != 1:
            raise _refusal("Identity not found" if wanted or not own else "Multiple user assigned identities exist")
        body = fitting[0].body
        principal = Principal(body["clientId"], body["principalId"], "", "")
        return Answer(content=self._identity.managed(principal, request.query.get("resource", "")))


def _refusal(text: str) -> ServiceError:
    return ServiceError(Answer(400, {"error": "invalid_request", "error_description": text}))
