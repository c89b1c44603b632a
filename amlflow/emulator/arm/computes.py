"""Computes: clusters whose nodes come and go, and instances that are started and stopped."""

from __future__ import annotations

import re
import time
from typing import Any

from amlflow.emulator.arm.quotas import Quotas, workspaces
from amlflow.emulator.arm.resources import (
    PROVIDER,
    WORKSPACE_PATTERN,
    Arm,
    body_properties,
    merge,
    missing,
    page,
    required,
)
from amlflow.emulator.arm.sizes import SIZES, quota
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.pools import Pools, PoolSize
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, arm_error, iso

KIND = "workspaces/computes"
_COMPUTES = f"{WORKSPACE_PATTERN}/computes"
_COMPUTE = f"{_COMPUTES}/{{compute}}"
_LOCATIONS = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"
_NAME = {
    "AmlCompute": r"[A-Za-z][A-Za-z0-9-]{0,30}[A-Za-z0-9]",
    "ComputeInstance": r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]",
    "Kubernetes": r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]",
}
# What a cluster offers where nobody has defined others, with the name that Azure's extension gives it.
_CLUSTER_TYPES = {
    "defaultinstancetype": {
        "resources": {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
    }
}
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_DEFAULT_IDLE = "PT120S"
# What an instance has only in api-versions that are previews.
_PREVIEW_ONLY = ("enableOSPatching", "enableRootAccess", "enableSSO", "releaseQuotaOnStop")


class Computes:
    def __init__(self, arm: Arm, pools: Pools, quotas: Quotas) -> None:
        self._arm, self._pools, self._quotas = arm, pools, quotas

    def routes(self) -> list[Route]:
        return [
            Route("GET", _COMPUTES, self._list),
            Route("GET", _COMPUTE, self._get),
            Route("PUT", _COMPUTE, self._put),
            Route("PATCH", _COMPUTE, self._patch),
            Route("DELETE", _COMPUTE, self._delete),
            Route("POST", f"{_COMPUTE}/listNodes", self._list_nodes, reads=True),
            Route("POST", f"{_COMPUTE}/start", self._switch),
            Route("POST", f"{_COMPUTE}/stop", self._switch),
            Route("POST", f"{_COMPUTE}/restart", self._switch),
            Route("GET", f"{_LOCATIONS}/vmSizes", self._sizes),
            Route("GET", f"{_LOCATIONS}/usages", self._usages),
            Route("GET", f"{_LOCATIONS}/computeOperationsStatus/{{operation}}", self._arm.operation_status),
            Route("GET", f"{_LOCATIONS}/computeOperationResults/{{operation}}", self._arm.operation_result),
            Route("GET", f"{_LOCATIONS}/workspaceOperationsStatus/{{operation}}", self._arm.operation_status),
            Route("GET", f"{_LOCATIONS}/workspaceOperationResults/{{operation}}", self._arm.operation_result),
        ]

    def restore(self) -> None:
        """Give the computes that were kept their nodes again."""
        for workspace in workspaces(self._arm):
            for compute in self._arm.store.children(f"{workspace.id}/computes"):
                self._define(compute)

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/computes")
        return page(request, [item for item in found if not _gone(item)], lambda item: self._render(item, request))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._find(request), request))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["compute"]
        body, properties = body_properties(request)
        kind = properties.get("computeType")
        if kind not in _NAME:
            text = f"The compute type '{kind}' is not one that the emulator has: it has {', '.join(_NAME)}."
            raise _refusal("UnsupportedComputeType", text)
        if not re.fullmatch(_NAME[kind], name):
            text = (
                f"Compute name '{name}' is invalid. It can include letters, digits and dashes. It must start with a letter, end "
                "with a letter or digit, and be between 2 and 32 characters in length."
            )
            raise _refusal("BadRequest", text)
        inner = properties.get("properties") or {}
        if kind == "Kubernetes":
            inner = _attached(properties, inner)
        else:
            self._check(kind, name, inner)
        id = f"{workspace.id}/computes/{name}"
        before = self._arm.store.get(id)
        if before and before.body["computeType"] != kind:
            raise _refusal(
                "BadRequest", f"A compute of another type, {before.body['computeType']}, has the name '{name}'.", 409
            )
        content = {
            "computeType": kind,
            "location": body.get("location") or LOCATION,
            "tags": body.get("tags") or {},
            "description": properties.get("description") or "",
            "properties": inner,
            "ready": time.time() + self._arm.pace_s,
            "provisioning": "Updating" if before else "Creating",
        }
        if body.get("identity"):
            content["identity"] = body["identity"]
        if kind == "Kubernetes":
            content["resourceId"] = properties["resourceId"]
        if kind == "ComputeInstance":
            content["state"], content["last"] = "Running", "Create"
        made, new = self._arm.store.put(id, content, author(request))
        self._define(made)
        operation = self._arm.begin(id)
        return self._arm.accepted(request, operation, 201 if new else 200, self._render(made, request))

    def _patch(self, request: Request) -> Answer:
        found = self._find(request)
        change = request.json().get("properties") or {}
        content = found.body
        inner = change.get("properties", change)
        merge(content["properties"], {"scaleSettings": inner.get("scaleSettings") or {}})
        self._check(content["computeType"], found.name, content["properties"])
        made, _ = self._arm.store.put(found.id, content)
        self._define(made)
        return Answer(content=self._render(made, request))

    def _delete(self, request: Request) -> Answer:
        if request.query.get("underlyingResourceAction") not in ("Delete", "Detach"):
            raise _refusal("BadRequest", "The query parameter 'underlyingResourceAction' must be Delete or Detach.")
        self._arm.workspace(request)
        found = self._arm.store.get(self._id(request))
        if found is None:
            return Answer(204)

        def edit(content: dict[str, Any]) -> None:
            content["gone"] = time.time() + self._arm.pace_s

        self._arm.store.change(found.id, edit)
        self._pools.forget(found.id)
        return self._arm.accepted(request, self._arm.begin(found.id))

    def _switch(self, request: Request) -> Answer:
        found, verb = self._find(request), request.path.rstrip("/").rpartition("/")[2].lower()
        if found.body["computeType"] != "ComputeInstance":
            raise _refusal(
                "BadRequest", f"The compute '{found.name}' is no instance: only instances are started and stopped."
            )
        now, passing = instance_state(found.body)
        if passing:
            raise _refusal("Conflict", f"The compute instance '{found.name}' is {now}: wait until it has settled.", 409)

        def edit(content: dict[str, Any]) -> None:
            content["state"] = "Stopped" if verb == "stop" else "Running"
            content["passing"] = {"stop": "Stopping", "start": "Starting", "restart": "Restarting"}[verb]
            content["until"] = time.time() + self._arm.pace_s
            content["last"] = verb.capitalize()

        changed = self._arm.store.change(found.id, edit)
        assert changed is not None
        self._define(changed)
        return self._arm.accepted(request, self._arm.begin(found.id))

    def _list_nodes(self, request: Request) -> Answer:
        found = self._find(request)
        nodes = [
            {
                "nodeId": node.id,
                "privateIpAddress": "127.0.0.1",
                "port": 22,
                "nodeState": node.state,
                "runId": node.run_id or None,
            }
            for node in self._pools.nodes(found.id)
        ]
        return Answer(
            content={"nodes": [{key: value for key, value in node.items() if value is not None} for node in nodes]}
        )

    def _sizes(self, _: Request) -> Answer:
        return Answer(content={"value": [size.record() for size in SIZES.values()]})

    def _usages(self, request: Request) -> Answer:
        used = self._quotas.used()
        root = f"/subscriptions/{self._arm.settings.subscription}/providers/{PROVIDER}/locations/{LOCATION}/usages"
        content = [
            {
                "id": f"{root}/{family}",
                "type": f"{PROVIDER}/usages",
                "unit": "Count",
                "currentValue": used[family],
                "limit": quota(family),
                "name": {"value": family, "localizedValue": family},
            }
            for family in used
        ]
        return Answer(content={"value": content})

    def _id(self, request: Request) -> str:
        return f"{self._arm.workspace_id(request)}/computes/{request.values['compute']}"

    def _find(self, request: Request) -> Document:
        self._arm.workspace(request)
        found = self._arm.store.get(self._id(request))
        if found is not None and _gone(found):
            self._arm.store.delete(found.id)
            found = None
        if found is None:
            values = request.values
            raise missing(f"{PROVIDER}/workspaces/{values['workspace']}/computes/{values['compute']}", values["group"])
        return found

    def _check(self, kind: str, name: str, inner: dict[str, Any]) -> None:
        wanted = str(inner.get("vmSize") or "")
        size = SIZES.get(wanted.lower())
        if size is None:
            text = f"The specified VM size '{wanted}' is not supported in the location '{LOCATION}'."
            raise _refusal("InvalidVmSize", text)
        if kind != "AmlCompute":
            return
        with required("scale setting"):
            limits = node_limits(inner)
        if limits.minimum > limits.maximum:
            text = f"The minimum node count {limits.minimum} of '{name}' is above its maximum {limits.maximum}."
            raise _refusal("InvalidScaleSettings", text)
        if limits.minimum * size.cores > quota(size.family):
            text = (
                f"The specified subscription has a {size.family} vCPU quota of {quota(size.family)} and cannot accommodate "
                f"for at least {limits.minimum} requested managed compute nodes, which maps to "
                f"{limits.minimum * size.cores} vCPUs."
            )
            raise _refusal("ClusterMinNodesExceedCoreQuota", text)

    def _define(self, document: Document) -> None:
        if document.body["computeType"] == "Kubernetes":
            # How many nodes it has is the cluster's own affair: one job at a time runs here.
            self._pools.define(document.id, PoolSize(1, 1, 0.0))
        elif document.body["computeType"] == "AmlCompute":
            self._pools.define(document.id, node_limits(document.body["properties"]))
        else:
            on = int(document.body.get("state") == "Running")
            self._pools.define(document.id, PoolSize(on, on, 0.0))

    def _render(self, document: Document, request: Request) -> dict[str, Any]:
        body = document.body
        ready = time.time() >= body["ready"]
        state = "Deleting" if "gone" in body else "Succeeded" if ready else body["provisioning"]
        kind = body["computeType"]
        if kind == "Kubernetes":
            inner = _known(body["properties"])
        else:
            inner = self._cluster(document) if kind == "AmlCompute" else self._instance(document, request)
        properties = {
            "computeType": kind,
            "computeLocation": body["location"],
            "description": body["description"],
            "provisioningState": state,
            "provisioningErrors": None,
            "createdOn": iso(document.created),
            "modifiedOn": iso(document.updated),
            "resourceId": body.get("resourceId"),
            "isAttachedCompute": "resourceId" in body,
            "disableLocalAuth": True,
            "properties": inner,
        }
        identity = {"identity": body["identity"]} if "identity" in body else {}
        return self._arm.envelope(
            document, KIND, _known(properties), location=body["location"], tags=body["tags"], **identity
        )

    def _cluster(self, document: Document) -> dict[str, Any]:
        inner = document.body["properties"]
        nodes = self._pools.nodes(document.id)
        counts = {
            f"{state}NodeCount": sum(node.state == state for node in nodes)
            for state in ("idle", "running", "preparing", "leaving")
        }
        scale = {
            "minNodeCount": 0,
            "nodeIdleTimeBeforeScaleDown": _DEFAULT_IDLE,
            **_known(inner.get("scaleSettings") or {}),
        }
        target = self._pools.target(document.id)
        shown = {
            "osType": "Linux",
            "vmPriority": "Dedicated",
            "remoteLoginPortPublicAccess": "NotSpecified",
            "enableNodePublicIp": True,
            "isolatedNetwork": False,
            **_known(inner),
            "scaleSettings": scale,
            "allocationState": "Steady" if len(nodes) == target else "Resizing",
            "allocationStateTransitionTime": iso(document.updated),
            "currentNodeCount": len(nodes),
            "targetNodeCount": target,
            "nodeStateCounts": {**counts, "unusableNodeCount": 0, "preemptedNodeCount": 0},
        }
        shown.pop("userAccountCredentials", None)
        return shown

    def _instance(self, document: Document, request: Request) -> dict[str, Any]:
        body = document.body
        state, passing = instance_state(body)
        preview = request.query.get("api-version", "").endswith("-preview")
        settings = self._arm.settings
        operation = {
            "operationName": body["last"],
            "operationTime": iso(document.updated),
            "operationStatus": "InProgress" if passing else "Succeeded",
            "operationTrigger": "User",
        }
        return {
            "applicationSharingPolicy": "Shared",
            **{key: value for key, value in _known(body["properties"]).items() if preview or key not in _PREVIEW_ONLY},
            "state": state,
            "connectivityEndpoints": {"publicIpAddress": "127.0.0.1", "privateIpAddress": "127.0.0.1"},
            "applications": [],
            "createdBy": {
                "userName": "emulator",
                "userOrgId": settings.tenant,
                "userId": settings.principals[0].object_id,
            },
            "lastOperation": operation,
        }


def _attached(properties: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    """What a Kubernetes cluster shows once it is attached. Raises the service's refusal."""
    id = str(properties.get("resourceId") or "")
    if not re.search(r"/(managedClusters|connectedClusters)/[^/]+$", id, re.IGNORECASE):
        raise _refusal("BadRequest", f"The resourceId '{id}' is none of a Kubernetes cluster.")
    return {
        "namespace": "default",
        "defaultInstanceType": "defaultinstancetype",
        "instanceTypes": _CLUSTER_TYPES,
        **inner,
    }


def instance_state(body: dict[str, Any]) -> tuple[str, bool]:
    """The state of an instance, and whether it is on the way to another."""
    if time.time() < body["ready"] and body["provisioning"] == "Creating":
        return "Creating", True
    if time.time() < body.get("until", 0):
        return body["passing"], True
    return body["state"], False


def node_limits(inner: dict[str, Any]) -> PoolSize:
    scale = _known(inner.get("scaleSettings") or {"maxNodeCount": 1})
    return PoolSize(
        int(scale.get("minNodeCount", 0)),
        int(scale["maxNodeCount"]),
        seconds(scale.get("nodeIdleTimeBeforeScaleDown", _DEFAULT_IDLE)),
    )


def seconds(duration: str) -> float:
    """An ISO 8601 duration of days, hours, minutes and seconds. Raises `ValueError`."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(duration)
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + rest


def _gone(document: Document) -> bool:
    return time.time() >= float(document.body.get("gone", "inf"))


def _known(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}


def _refusal(code: str, message: str, status: int = 400) -> ServiceError:
    return arm_error(status, code, message)
