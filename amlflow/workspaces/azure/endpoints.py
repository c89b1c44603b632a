"""Managed online endpoints of an Azure ML workspace and their deployments, as the service has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.service import Service, epoch_ms

ENDPOINTS_API = "2022-02-01-preview"
DEPLOYMENTS_API = "2023-04-01-preview"
CHOICE_HEADER = "azureml-model-deployment"
_MODEL_ID = re.compile(r".*/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)
_READ_ONLY = ("provisioningState", "scoringUri", "swaggerUri", "keys")
_SCORE_S = 120.0


@dataclass(frozen=True, slots=True)
class OnlineEndpoint:
    """`traffic` has the deployments with a share in percent; `state` is Azure's provisioning state; `record` all that the service
    says of it, so that a change keeps what it does not mean to change."""

    name: str
    state: str
    scoring_url: str
    auth: str
    traffic: Mapping[str, int]
    tags: Mapping[str, str]
    created_ms: int
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnlineDeployment:
    """`model` is NAME:VERSION; `state` Azure's provisioning state."""

    name: str
    state: str
    model: str
    instance_type: str
    instance_count: int
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scoring address answered. `model_status` is what the model's own server said, 0 where it was not asked."""

    status: int
    model_status: int
    deployment: str
    content: bytes
    elapsed_s: float


class AzureEndpoints:
    """Every method that takes a name raises `NotFound` for what is not there."""

    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm

    def all(self) -> list[OnlineEndpoint]:
        path = f"{self._service.path}/onlineEndpoints"
        return [_endpoint(item) for item in self._arm.pages(path, ENDPOINTS_API, "list of online endpoints")]

    def get(self, name: str) -> OnlineEndpoint:
        return _endpoint(self._arm.get(self._path(name), ENDPOINTS_API, f"online endpoint {name!r}"))

    def create(self, name: str, report: Callable[[str], None]) -> OnlineEndpoint:
        """A new endpoint with keys and no deployment; returns once it is there."""
        properties = {"authMode": "Key", "publicNetworkAccess": "Enabled"}
        return self._put(name, {"identity": {"type": "SystemAssigned"}, "properties": properties}, report)

    def set_traffic(
        self,
        endpoint: OnlineEndpoint,
        traffic: Mapping[str, int],
        tags: Mapping[str, str],
        report: Callable[[str], None] = lambda state: None,
    ) -> OnlineEndpoint:
        """Split the traffic so, and set these tags beside those that are there."""
        record = endpoint.record
        properties = {key: value for key, value in (record.get("properties") or {}).items() if key not in _READ_ONLY}
        properties["traffic"] = {name: share for name, share in traffic.items() if share}
        identity = record.get("identity") or {"type": "SystemAssigned"}
        kept: dict[str, Any] = {"type": identity.get("type")}
        if users := identity.get("userAssignedIdentities"):
            kept["userAssignedIdentities"] = {user: {} for user in users}
        body = {"identity": kept, "tags": {**endpoint.tags, **tags}, "properties": properties}
        return self._put(endpoint.name, body, report)

    def delete(self, name: str, report: Callable[[str], None] = lambda state: None) -> None:
        """The endpoint with all its deployments."""
        what = f"online endpoint {name!r}"
        self._arm.finished(self._arm.delete(self._path(name), ENDPOINTS_API, what), what, report)

    def keys(self, name: str) -> tuple[str, str]:
        content = self._arm.content(
            self._arm.post(f"{self._path(name)}/listKeys", ENDPOINTS_API, f"keys of endpoint {name!r}")
        )
        return str(content.get("primaryKey") or ""), str(content.get("secondaryKey") or "")

    def renew_key(self, name: str) -> None:
        """A new primary key; the one before stops working."""
        what = f"key of endpoint {name!r}"
        body = {"keyType": "Primary"}
        self._arm.finished(self._arm.post(f"{self._path(name)}/regenerateKeys", ENDPOINTS_API, what, body), what)

    def deployments(self, name: str) -> list[OnlineDeployment]:
        path = f"{self._path(name)}/deployments"
        return [_deployment(item) for item in self._arm.pages(path, DEPLOYMENTS_API, f"endpoint {name!r}")]

    def deployment(self, endpoint: str, name: str) -> OnlineDeployment:
        what = f"deployment {name!r} of endpoint {endpoint!r}"
        return _deployment(self._arm.get(self._deployment_path(endpoint, name), DEPLOYMENTS_API, what))

    def begin_deployment(self, endpoint: str, wanted: OnlineDeployment) -> Callable[[Callable[[str], None]], None]:
        """Ask for the deployment; what is returned waits until it is there and raises `AmlflowError` when it fails."""
        name, _, version = wanted.model.rpartition(":")
        properties = {
            "endpointComputeType": "Managed",
            "model": f"{self._service.path}/models/{segment(name)}/versions/{segment(version)}",
            "instanceType": wanted.instance_type,
            "environmentVariables": dict(wanted.variables),
            "scaleSettings": {"scaleType": "Default"},
            "appInsightsEnabled": False,
        }
        body = {
            "location": self._service.description().location,
            "sku": {"name": "Default", "capacity": wanted.instance_count},
            "properties": properties,
        }
        what = f"deployment {wanted.name!r} of endpoint {endpoint!r}"
        answer = self._arm.put(self._deployment_path(endpoint, wanted.name), DEPLOYMENTS_API, what, body)

        def wait(report: Callable[[str], None]) -> None:
            self._arm.finished(answer, what, report)

        return wait

    def delete_deployment(self, endpoint: str, name: str) -> None:
        what = f"deployment {name!r} of endpoint {endpoint!r}"
        answer = self._arm.delete(self._deployment_path(endpoint, name), DEPLOYMENTS_API, what)
        self._arm.finished(answer, what)

    def logs(self, endpoint: str, deployment: str, lines: int) -> list[str]:
        path = f"{self._deployment_path(endpoint, deployment)}/getLogs"
        what = f"log of deployment {deployment!r}"
        body = {"containerType": "InferenceServer", "tail": lines}
        content = self._arm.content(self._arm.post(path, DEPLOYMENTS_API, what, body))
        return str(content.get("content") or "").splitlines()

    def score(self, endpoint: OnlineEndpoint, key: str, body: bytes, deployment: str = "") -> Scored:
        """Ask the scoring address, or one deployment whatever its traffic is. Raises `Unavailable`."""
        if not endpoint.scoring_url.startswith("https://"):
            raise AmlflowError(
                f"Endpoint {endpoint.name!r} has no https address to ask: {endpoint.scoring_url!r}.",
                "It may still be being made; try later.",
            )
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if deployment:
            headers[CHOICE_HEADER] = deployment
        answer = self._service.http.send(
            "POST", endpoint.scoring_url, scope=None, data=body, headers=headers, timeout_s=_SCORE_S
        )
        return Scored(
            answer.status_code,
            int(answer.headers.get("ms-azureml-model-error-statuscode") or 0),
            str(answer.headers.get(CHOICE_HEADER) or ""),
            answer.content,
            answer.elapsed.total_seconds(),
        )

    def _put(self, name: str, body: Mapping[str, Any], report: Callable[[str], None]) -> OnlineEndpoint:
        what = f"online endpoint {name!r}"
        whole = {"location": self._service.description().location, **body}
        answer = self._arm.put(self._path(name), ENDPOINTS_API, what, whole)
        made = _endpoint(self._arm.content(answer))
        self._arm.finished(answer, what, report)
        return made if made.scoring_url else self.get(name)

    def _path(self, name: str) -> str:
        return f"{self._service.path}/onlineEndpoints/{segment(name)}"

    def _deployment_path(self, endpoint: str, name: str) -> str:
        return f"{self._path(endpoint)}/deployments/{segment(name)}"


def gone(act: Callable[[], None]) -> None:
    """Do what deletes; that it is gone already is as good."""
    try:
        act()
    except NotFound:
        return


def named(deployments: Sequence[OnlineDeployment], name: str) -> OnlineDeployment | None:
    return next((item for item in deployments if item.name == name), None)


def model_of(id: str) -> str:
    """NAME:VERSION of a model's id; what names none of the workspace's stays as it is."""
    match = _MODEL_ID.fullmatch(id)
    return f"{match['name']}:{match['version']}" if match else id


def _endpoint(item: Mapping[str, Any]) -> OnlineEndpoint:
    properties = item.get("properties") or {}
    return OnlineEndpoint(
        str(item.get("name") or ""),
        str(properties.get("provisioningState") or ""),
        str(properties.get("scoringUri") or ""),
        str(properties.get("authMode") or ""),
        {str(name): int(share) for name, share in (properties.get("traffic") or {}).items() if share},
        {str(key): str(value) for key, value in (item.get("tags") or {}).items()},
        epoch_ms((item.get("systemData") or {}).get("createdAt")) or 0,
        item,
    )


def _deployment(item: Mapping[str, Any]) -> OnlineDeployment:
    properties = item.get("properties") or {}
    return OnlineDeployment(
        str(item.get("name") or ""),
        str(properties.get("provisioningState") or ""),
        model_of(str(properties.get("model") or "")),
        str(properties.get("instanceType") or ""),
        int((item.get("sku") or {}).get("capacity") or 1),
        {str(key): str(value) for key, value in (properties.get("environmentVariables") or {}).items()},
    )
