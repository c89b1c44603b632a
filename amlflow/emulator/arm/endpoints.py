"""Online endpoints: their keys, and how they split their traffic."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import (
    PROVIDER,
    UNKNOWN_S,
    WORKSPACE_PATTERN,
    Arm,
    body_properties,
    check_name,
    page,
)
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/onlineEndpoints"
NAME = r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]"
STATUS = "mfeOperationsStatus"
ENDPOINTS = f"{WORKSPACE_PATTERN}/onlineEndpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpoint}}"
MODES = {"key": "Key", "aadtoken": "AADToken"}


class OnlineEndpoints:
    def __init__(self, arm: Arm, servers: Servers) -> None:
        self._arm, self._servers = arm, servers

    def routes(self) -> list[Route]:
        return [
            Route("GET", ENDPOINTS, self._list),
            Route("GET", ENDPOINT, self._get),
            Route("PUT", ENDPOINT, self._put),
            Route("DELETE", ENDPOINT, self._delete),
            Route("POST", f"{ENDPOINT}/listKeys", self._list_keys),
            Route("POST", f"{ENDPOINT}/regenerateKeys", self._regenerate_keys),
        ]

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/onlineEndpoints")
        if "name" in request.query:
            found = [item for item in found if item.name == request.query["name"]]
        return page(request, found, lambda item: self._render(item, request))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(find_endpoint(self._arm, request), request))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["endpoint"]
        check_name(name, NAME, "Endpoint")
        body, properties = body_properties(request)
        mode = MODES.get(str(properties.get("authMode")).lower())
        if mode is None:
            text = f"The emulator has endpoints with keys or AAD tokens, not with the authMode '{properties.get('authMode')}'."
            raise service_error(400, text, inner=("BadArgument", "UnsupportedAuthMode"))
        compute = self._compute(workspace, str(properties.get("compute") or ""))
        id = f"{workspace.id}/onlineEndpoints/{name}"
        traffic, mirror = (_shares(properties, key) for key in ("traffic", "mirrorTraffic"))
        with self._arm.store.undisturbed():
            before = self._arm.store.get(id)
            if before is not None and before.body["provisioning"] == "Deleting":
                text = f"The endpoint '{name}' is being deleted."
                raise service_error(409, text, inner=("Conflict", "OperationInProgress"))
            if before is None:
                self._check_free(workspace, name)
            elif (before.body["properties"]["authMode"], before.body["properties"].get("compute")) != (mode, compute):
                text = f"The authMode and the compute of the endpoint '{name}' cannot be changed."
                raise service_error(400, text, inner=("BadArgument", "ImmutablePropertyChanged"))
            self._check_traffic(id, traffic, mirror)
            keys = before.body["keys"] if before else {**_new_keys(), **_given(properties.get("keys"))}
            content = {
                "location": body.get("location") or LOCATION,
                "tags": body.get("tags") or {},
                "kind": body.get("kind") or "Managed",
                "identity": _identity(body.get("identity"), self._arm),
                "properties": {
                    "authMode": mode,
                    "compute": compute,
                    "description": properties.get("description") or "",
                    "properties": properties.get("properties") or {},
                    "publicNetworkAccess": properties.get("publicNetworkAccess") or "Enabled",
                    "traffic": traffic,
                    "mirrorTraffic": mirror,
                },
                "keys": keys,
                "ready": time.time() + self._arm.pace_s,
                "provisioning": "Updating" if before else "Creating",
            }
            made, _ = self._arm.store.put(id, content, author(request))
        return self._arm.accepted(request, self._arm.begin(id), 201, self._render(made, request), STATUS)

    def _delete(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        found = self._arm.store.get(f"{workspace.id}/onlineEndpoints/{request.values['endpoint']}")
        if found is None:
            return Answer(204)
        self._arm.store.change(found.id, lambda content: content.update(provisioning="Deleting", ready=UNKNOWN_S * 1e3))
        operation = self._arm.begin(found.id, takes_s=UNKNOWN_S)

        def work() -> None:
            for deployment in self._arm.store.children(f"{found.id}/deployments"):
                self._servers.stop(deployment.id)
            self._arm.store.delete(found.id)
            self._arm.finish(operation.id)

        threading.Thread(target=work, name=f"delete {found.name}", daemon=True).start()
        return self._arm.accepted(request, operation, kind=STATUS)

    def _list_keys(self, request: Request) -> Answer:
        keys = self._with_keys(request).body["keys"]
        return Answer(content={"primaryKey": keys["primary"], "secondaryKey": keys["secondary"]})

    def _regenerate_keys(self, request: Request) -> Answer:
        found, asked = self._with_keys(request), request.json()
        which = str(asked.get("keyType", "")).lower()
        if which not in ("primary", "secondary"):
            raise service_error(400, "'keyType' is Primary or Secondary.", inner=("BadArgument", "ArgumentInvalid"))

        def edit(content: dict[str, Any]) -> None:
            given = asked.get("keyValue")
            # azure-ai-ml sends the key that there is, and means a new one.
            fresh = given and given != content["keys"][which]
            content["keys"][which] = given if fresh else secrets.token_urlsafe(24)

        self._arm.store.change(found.id, edit)
        answer = self._arm.accepted(request, self._arm.begin(found.id), kind=STATUS)
        return Answer(202, None, {name: answer.headers[name] for name in ("location", "retry-after")})

    def _with_keys(self, request: Request) -> Document:
        found = find_endpoint(self._arm, request)
        if found.body["properties"]["authMode"] != "Key":
            text = (
                f"The endpoint '{found.name}' has the authMode {found.body['properties']['authMode']}, and so no keys."
            )
            raise service_error(400, text, inner=("BadArgument", "KeyAuthDisabled"))
        return found

    def _compute(self, workspace: Document, id: str) -> str | None:
        """The id of the cluster; None for machines that the service manages. Raises the service's refusal."""
        if not id:
            return None
        found = self._arm.store.get(id)
        if found is None or not found.id.lower().startswith(f"{workspace.id}/computes/".lower()):
            raise service_error(404, f"The compute '{id}' was not found.", inner=("NotFoundError", "ComputeNotFound"))
        if found.body["computeType"] != "Kubernetes":
            text = f"The compute '{found.name}' is of the type {found.body['computeType']}, and an endpoint's is Kubernetes."
            raise service_error(400, text, inner=("BadArgument", "UnsupportedComputeType"))
        return found.id

    def _check_free(self, workspace: Document, name: str) -> None:
        """The name is part of the scoring address: it is taken once in a region, whatever workspace has it."""
        for other in workspaces(self._arm):
            if other.id != workspace.id and self._arm.store.get(f"{other.id}/onlineEndpoints/{name}") is not None:
                text = f"The endpoint name '{name}' is already in use in the region '{LOCATION}'. Choose another name."
                raise service_error(409, text, inner=("Conflict", "EndpointNameInUse"))

    def _check_traffic(self, id: str, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> None:
        there = {item.name: item.body["state"] for item in self._arm.store.children(f"{id}/deployments")}
        for name, share in (*traffic.items(), *mirror.items()):
            if share and name not in there:
                text = f"The traffic of endpoint '{id.rpartition('/')[2]}' names a deployment '{name}' that does not exist."
                raise _bad_traffic(text)
            if share and there[name] != "Succeeded":
                raise _bad_traffic(f"The deployment '{name}' is in state {there[name]} and takes no traffic.")
        if sum(traffic.values()) not in (0, 100):
            raise _bad_traffic(f"Traffic values must sum to 0 or 100, not to {sum(traffic.values())}.")
        if sum(mirror.values()) > 50:
            raise _bad_traffic(f"Mirror traffic values must sum to at most 50, not to {sum(mirror.values())}.")

    def _render(self, document: Document, request: Request) -> dict[str, Any]:
        body, workspace = document.body, document.id.rsplit("/", 2)[0]
        place = self._arm.store.get(workspace)
        assert place is not None
        door = f"{request.base_url}/online/{place.body['workspaceId']}/{document.name}"
        inner = {
            **body["properties"],
            "scoringUri": f"{door}/score",
            "swaggerUri": f"{door}/swagger.json",
            "provisioningState": "Succeeded" if time.time() >= body["ready"] else body["provisioning"],
        }
        return self._arm.envelope(
            document,
            KIND,
            inner,
            location=body["location"],
            tags=body["tags"],
            kind=body["kind"],
            identity=body["identity"],
        )


def find_endpoint(arm: Arm, request: Request) -> Document:
    """Raises the service's refusals."""
    name = request.values["endpoint"]
    found = arm.store.get(f"{arm.workspace(request).id}/onlineEndpoints/{name}")
    if found is None:
        text = f"The Resource '{PROVIDER}/{KIND}/{name}' was not found: there is no online endpoint '{name}'."
        raise service_error(404, text, inner=("NotFoundError", "EndpointNotFound"))
    return found


def _shares(properties: Mapping[str, Any], key: str) -> dict[str, int]:
    given = properties.get(key) or {}
    if not isinstance(given, dict) or not all(type(share) is int and 0 <= share <= 100 for share in given.values()):
        raise _bad_traffic(f"'{key}' must give each deployment a whole percentage from 0 to 100.")
    return {name: share for name, share in given.items() if share}


def _bad_traffic(text: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", "InvalidTraffic"))


def _identity(given: Any, arm: Arm) -> dict[str, Any]:
    kind = (given or {}).get("type") or "SystemAssigned"
    shown: dict[str, Any] = {"type": kind}
    if "SystemAssigned" in kind:
        shown |= {"principalId": arm.settings.principals[0].object_id, "tenantId": arm.settings.tenant}
    if users := (given or {}).get("userAssignedIdentities"):
        shown["userAssignedIdentities"] = {name: {} for name in users}
    return shown


def _new_keys() -> dict[str, str]:
    return {"primary": secrets.token_urlsafe(24), "secondary": secrets.token_urlsafe(24)}


def _given(keys: Any) -> dict[str, str]:
    given = keys if isinstance(keys, dict) else {}
    named = {"primary": given.get("primaryKey"), "secondary": given.get("secondaryKey")}
    return {name: str(value) for name, value in named.items() if value}
