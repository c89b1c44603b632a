"""A deployment of an online endpoint, and how the service's resource manager writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from amlflow.errors import UsageError
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.service import Service, duration_s, iso_duration

ComputeKind = Literal["Managed", "Kubernetes"]
# What the service gives a request where nothing else is said.
DEFAULT_TIMEOUT_S = 5
COLLECTIONS = ("model_inputs", "model_outputs")
_MODEL_ID = re.compile(r".*/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)
_SCRIPT = "score.py"
_AUTOSCALE_TAG = "amlflow.autoscale"
_OURS_TAG = "amlflow.deploy"


@dataclass(frozen=True, slots=True)
class Autoscale:
    """From `least` to `most` instances, so that their CPU is at about `cpu` percent."""

    least: int
    most: int
    cpu: int

    def __str__(self) -> str:
        return f"{self.least}:{self.most}:{self.cpu}%"

    @classmethod
    def parse(cls, text: str) -> Autoscale:
        """Of MIN:MAX or MIN:MAX:CPU%. Raises `UsageError`."""
        match = re.fullmatch(r"(\d{1,4}):(\d{1,4})(?::(\d{1,2})%?)?", text.strip())
        found = cls(int(match[1]), int(match[2]), int(match[3] or 70)) if match else None
        if found is None or not 1 <= found.least <= found.most or not 10 <= found.cpu <= 95:
            raise UsageError(
                f"{text!r} is no range of instances.",
                "Write MIN:MAX or MIN:MAX:CPU%, such as 1:5:70% (CPU from 10 to 95).",
            )
        return found


@dataclass(frozen=True, slots=True)
class OnlineDeployment:
    """`model` is NAME:VERSION; `state` Azure's provisioning state. `code` and `environment` are the ids of a scoring script's
    assets, empty for the service's own scorer. `collect` is the share of requests, from 0 to 1, whose data is collected. `cpu`
    (cores) and `memory_gb` are what a container on Kubernetes asks for, 0 for the cluster's default; `ours` says
    that amlflow has made it."""

    name: str
    state: str
    model: str
    instance_type: str
    instance_count: int
    variables: Mapping[str, str]
    compute: ComputeKind = "Managed"
    code: str = ""
    environment: str = ""
    timeout_s: int = DEFAULT_TIMEOUT_S
    egress: bool = True
    collect: float = 0.0
    autoscale: Autoscale | None = None
    cpu: float = 0.0
    memory_gb: float = 0.0
    ours: bool = True

    def same_as(self, other: OnlineDeployment) -> bool:
        """Whether both are the same but for their names and states. Where instances are scaled, their number is nobody's."""
        return self._plain() == other._plain()

    def _plain(self) -> OnlineDeployment:
        return replace(
            self,
            name="",
            state="",
            model=self.model.lower(),
            instance_type=self.instance_type.lower(),
            instance_count=0 if self.autoscale else self.instance_count,
            variables=dict(self.variables),
            code=self.code.lower(),
            environment=self.environment.lower(),
            ours=True,
        )


def written(service: Service, wanted: OnlineDeployment, data: Mapping[str, str]) -> dict[str, Any]:
    """The body that asks for the deployment; `data` has the ids of the data assets of its collections."""
    name, _, version = wanted.model.rpartition(":")
    properties: dict[str, Any] = {
        "endpointComputeType": wanted.compute,
        "model": f"{service.path}/models/{segment(name)}/versions/{segment(version)}",
        "environmentVariables": dict(wanted.variables),
        "scaleSettings": {"scaleType": "Default"},
        "appInsightsEnabled": False,
    }
    if wanted.timeout_s != DEFAULT_TIMEOUT_S:
        properties["requestSettings"] = {"requestTimeout": iso_duration(wanted.timeout_s)}
    if wanted.instance_type:
        properties["instanceType"] = wanted.instance_type
    if wanted.code:
        properties["codeConfiguration"] = {"codeId": wanted.code, "scoringScript": _SCRIPT}
        properties["environmentId"] = wanted.environment
    if wanted.compute == "Managed":
        properties["egressPublicNetworkAccess"] = "Enabled" if wanted.egress else "Disabled"
    elif wanted.autoscale is not None:
        properties["scaleSettings"] = {
            "scaleType": "TargetUtilization",
            "minInstances": wanted.autoscale.least,
            "maxInstances": wanted.autoscale.most,
            "targetUtilizationPercentage": wanted.autoscale.cpu,
            "pollingInterval": "PT10S",
        }
    asked = {"cpu": f"{wanted.cpu:g}"} if wanted.cpu else {}
    asked |= {"memory": f"{wanted.memory_gb:g}Gi"} if wanted.memory_gb else {}
    if asked:
        properties["containerResourceRequirements"] = {
            "containerResourceRequests": asked,
            "containerResourceLimits": asked,
        }
    if wanted.collect:
        sampled = {"dataCollectionMode": "Enabled", "samplingRate": wanted.collect}
        collections = {name: {**sampled, "dataId": data[name]} for name in COLLECTIONS}
        properties["dataCollector"] = {"collections": collections, "rollingRate": "Hour"}
    return {
        "location": service.description().location,
        "sku": {"name": "Default", "capacity": wanted.instance_count},
        "tags": {_OURS_TAG: "true", **({_AUTOSCALE_TAG: str(wanted.autoscale)} if wanted.autoscale else {})},
        "properties": properties,
    }


def model_of(id: str) -> str:
    """NAME:VERSION of a model's id; what names none of the workspace's stays as it is."""
    match = _MODEL_ID.fullmatch(id)
    return f"{match['name']}:{match['version']}" if match else id


def read(item: Mapping[str, Any]) -> OnlineDeployment:
    properties = item.get("properties") or {}
    kubernetes = str(properties.get("endpointComputeType") or "").lower() == "kubernetes"
    requests = properties.get("requestSettings") or {}
    asked = (properties.get("containerResourceRequirements") or {}).get("containerResourceRequests") or {}
    tags = item.get("tags") or {}
    return OnlineDeployment(
        str(item.get("name") or ""),
        str(properties.get("provisioningState") or ""),
        model_of(str(properties.get("model") or "")),
        str(properties.get("instanceType") or ""),
        int((item.get("sku") or {}).get("capacity") or 1),
        {str(key): str(value) for key, value in (properties.get("environmentVariables") or {}).items()},
        "Kubernetes" if kubernetes else "Managed",
        str((properties.get("codeConfiguration") or {}).get("codeId") or ""),
        str(properties.get("environmentId") or ""),
        duration_s(requests.get("requestTimeout")) or DEFAULT_TIMEOUT_S,
        str(properties.get("egressPublicNetworkAccess") or "Enabled").lower() == "enabled",
        _collected(properties.get("dataCollector") or {}),
        _scaled(str(tags.get(_AUTOSCALE_TAG) or "")),
        round(_quantity(str(asked.get("cpu") or "")), 3),
        round(_quantity(str(asked.get("memory") or "")) / 2**30, 3),
        _OURS_TAG in tags,
    )


def _collected(collector: Mapping[str, Any]) -> float:
    found = [item or {} for item in (collector.get("collections") or {}).values()]
    rates = [
        float(item.get("samplingRate", 1.0))
        for item in found
        if str(item.get("dataCollectionMode") or "").lower() == "enabled"
    ]
    return max(rates, default=0.0)


def _scaled(text: str) -> Autoscale | None:
    try:
        return Autoscale.parse(text) if text else None
    except UsageError:
        return None


def _quantity(text: str) -> float:
    """A quantity of Kubernetes in cores or bytes: `500m`, `0.5`, `1.5Gi`; 0 for one that is not understood."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|[KMGT]i?)?", text.strip())
    if match is None:
        return 0.0
    unit = match[2] or ""
    decimal = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    factor = 2.0 ** (10 * (1 + "KMGT".index(unit[0]))) if unit.endswith("i") else decimal[unit]
    return float(match[1]) * factor
