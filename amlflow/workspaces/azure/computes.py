"""Computes of an Azure ML workspace."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from amlflow.errors import NotSupported, UsageError
from amlflow.workspaces.abilities import Compute, ComputeKind, ComputeSpec
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.service import Service, duration_s, iso_duration, or_nearest

API = "2023-08-01-preview"
_KINDS: Mapping[str, ComputeKind] = {
    "amlcompute": "cluster",
    "computeinstance": "instance",
    "kubernetes": "kubernetes",
    "aks": "kubernetes",
    "virtualmachine": "machine",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
_CLUSTER = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
    r"(?:Microsoft\.ContainerService/managedClusters|Microsoft\.Kubernetes/connectedClusters)/[^/]+",
    re.IGNORECASE,
)
_DEFAULT_IDLE_S = 120


class AzureComputes:
    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm

    def list(self) -> list[Compute]:
        found = self._arm.pages(f"{self._service.path}/computes", API, "list of computes")
        return [_compute(item) for item in found]

    def get(self, name: str) -> Compute:
        return or_nearest(
            lambda: _compute(self._arm.get(self._path(name), API, f"compute {name!r}")),
            name,
            lambda: (compute.name for compute in self.list()),
            "`amlflow compute list` shows them; `amlflow compute create` makes one.",
        )

    def create(self, spec: ComputeSpec, report: Callable[[str], None]) -> Compute:
        _check_name(spec.name)
        if spec.kind == "cluster" and not 0 <= spec.min_nodes <= max(spec.max_nodes, 1):
            raise UsageError(
                f"A cluster cannot have from {spec.min_nodes} to {spec.max_nodes} nodes.", "Give --min below --max."
            )
        if spec.kind == "instance" and spec.tier != "dedicated":
            raise UsageError("A compute instance is never on the spot tier.", "Leave out --tier, or make a cluster.")
        body = {"location": self._service.description().location, "properties": _properties(spec)}
        answer = self._arm.put(self._path(spec.name), API, f"compute {spec.name!r}", body)
        self._arm.finished(answer, f"compute {spec.name!r}", report)
        return self.get(spec.name)

    def attach(self, name: str, cluster: str, namespace: str, report: Callable[[str], None]) -> Compute:
        """Make the Kubernetes cluster with the ARM id `cluster` a compute of the workspace."""
        _check_name(name)
        if not _CLUSTER.fullmatch(cluster):
            raise UsageError(
                f"{cluster!r} is no id of a Kubernetes cluster.",
                "It ends with /providers/Microsoft.ContainerService/managedClusters/NAME, or with "
                "/providers/Microsoft.Kubernetes/connectedClusters/NAME; `az aks show --query id` prints it.",
            )
        properties = {
            "computeType": "Kubernetes",
            "resourceId": cluster,
            "properties": {"namespace": namespace},
        }
        body = {
            "location": self._service.description().location,
            "identity": {"type": "SystemAssigned"},
            "properties": properties,
        }
        answer = self._arm.put(self._path(name), API, f"compute {name!r}", body)
        self._arm.finished(answer, f"compute {name!r}", report)
        return self.get(name)

    def start(self, name: str, report: Callable[[str], None]) -> Compute:
        return self._turned(name, "start", report)

    def stop(self, name: str, report: Callable[[str], None]) -> Compute:
        return self._turned(name, "stop", report)

    def delete(self, name: str, report: Callable[[str], None]) -> None:
        # A cluster was there before the workspace, and goes on without it.
        action = "Detach" if self.get(name).kind == "kubernetes" else "Delete"
        what = f"compute {name!r}"
        answer = self._arm.delete(self._path(name), API, what, underlyingResourceAction=action)
        self._arm.finished(answer, what, report)

    def _turned(self, name: str, action: str, report: Callable[[str], None]) -> Compute:
        found = self.get(name)
        if found.kind != "instance":
            raise NotSupported(
                f"{name!r} is a {found.kind}: only a compute instance is started and stopped by hand.",
                "A cluster's nodes come with its jobs and go when they are idle."
                if found.kind == "cluster"
                else "Start and stop the machine itself.",
            )
        what = f"compute {name!r}"
        self._arm.finished(self._arm.post(f"{self._path(name)}/{action}", API, what), what, report)
        return self.get(name)

    def _path(self, name: str) -> str:
        return f"{self._service.path}/computes/{segment(name)}"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a compute: 3 to 24 letters, digits and '-', beginning with a letter and not ending with '-'."
        )


def _properties(spec: ComputeSpec) -> dict[str, Any]:
    if spec.kind == "instance":
        instance: dict[str, Any] = {"vmSize": spec.size}
        if spec.idle_s is not None:
            instance["idleTimeBeforeShutdown"] = iso_duration(spec.idle_s)
        return {"computeType": "ComputeInstance", "properties": instance}
    return {
        "computeType": "AmlCompute",
        "properties": {
            "vmSize": spec.size,
            # The service's old name of what it now calls spot.
            "vmPriority": "LowPriority" if spec.tier == "spot" else "Dedicated",
            "scaleSettings": {
                "minNodeCount": spec.min_nodes,
                "maxNodeCount": spec.max_nodes,
                "nodeIdleTimeBeforeScaleDown": iso_duration(_DEFAULT_IDLE_S if spec.idle_s is None else spec.idle_s),
            },
        },
    }


def _compute(item: Mapping[str, Any]) -> Compute:
    outer = item.get("properties") or {}
    inner = outer.get("properties") or {}
    kind = _KINDS.get(str(outer.get("computeType", "")).lower(), "other")
    scale = inner.get("scaleSettings") or {}
    provisioned = str(outer.get("provisioningState") or "")
    state = provisioned
    if provisioned in ("Succeeded", ""):
        state = str(inner.get("state") or inner.get("allocationState") or provisioned or "Unknown")
    problems = [*(outer.get("provisioningErrors") or []), *(inner.get("errors") or [])]
    cluster = kind == "cluster"
    return Compute(
        str(item.get("name")),
        kind,
        state,
        str(inner.get("vmSize") or ("" if kind != "kubernetes" else inner.get("defaultInstanceType")) or ""),
        "spot" if str(inner.get("vmPriority", "")).lower() == "lowpriority" else "dedicated",
        int(scale.get("minNodeCount") or 0) if cluster else 1,
        int(scale.get("maxNodeCount") or 0) if cluster else 1,
        int(inner.get("currentNodeCount") or 0) if cluster else int(state == "Running"),
        duration_s(scale.get("nodeIdleTimeBeforeScaleDown") or inner.get("idleTimeBeforeShutdown")),
        str(item.get("location") or outer.get("computeLocation") or ""),
        "; ".join(_message(problem) for problem in problems),
        tuple(inner.get("instanceTypes") or ()) if kind == "kubernetes" else (),
    )


def _message(problem: Mapping[str, Any]) -> str:
    error = problem.get("error") or problem
    return str(error.get("message") or error.get("code") or "")
