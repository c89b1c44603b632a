"""Online endpoints of an Azure ML workspace and their deployments, as the service has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.retry import RETRYABLE_STATUS
from amlflow.workspaces.azure import autoscale, collected, online_deployments
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.online_deployments import COLLECTIONS, OnlineDeployment
from amlflow.workspaces.azure.service import Service, epoch_ms

ENDPOINTS_API = "2022-02-01-preview"
DEPLOYMENTS_API = "2023-04-01-preview"
CHOICE_HEADER = "azureml-model-deployment"
# The tag of an endpoint that a deploy has made, and that has not yet answered for the first time.
UNFINISHED = "amlflow.unfinished"
_DATA_API = "2023-04-01-preview"
_READ_ONLY = ("provisioningState", "scoringUri", "swaggerUri", "keys")
# The longest that the service lets a request take is 180 s.
_SCORE_S = 200.0
_SETTLE_S = 3600.0
_POLL_S = 2.0
# A model that is too slow once is so again.
_RETRIED = RETRYABLE_STATUS - {408}


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

    @property
    def compute(self) -> str:
        """The cluster that its deployments run on; empty for machines that the service manages."""
        return str((self.record.get("properties") or {}).get("compute") or "").rpartition("/")[2]

    @property
    def private(self) -> bool:
        """Whether it answers within its network alone."""
        access = (self.record.get("properties") or {}).get("publicNetworkAccess")
        return str(access or "").lower() == "disabled"

    @property
    def by_token(self) -> bool:
        """Whether a token of Microsoft Entra opens it, and no key."""
        return self.auth.lower() == "aadtoken"


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """What a new endpoint is to be. `compute` names the cluster of its deployments, empty for managed machines."""

    name: str
    by_token: bool = False
    private: bool = False
    compute: str = ""


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

    def create(self, wanted: EndpointSpec) -> OnlineEndpoint:
        """A new endpoint without a deployment, tagged as unfinished; returns once it is there."""
        properties = {
            "authMode": "AADToken" if wanted.by_token else "Key",
            "publicNetworkAccess": "Disabled" if wanted.private else "Enabled",
        }
        if wanted.compute:
            properties["compute"] = f"{self._service.path}/computes/{segment(wanted.compute)}"
        body = {"identity": {"type": "SystemAssigned"}, "tags": {UNFINISHED: "true"}, "properties": properties}
        return self._put(wanted.name, body)

    def set_traffic(
        self,
        endpoint: OnlineEndpoint,
        traffic: Mapping[str, int],
        tags: Mapping[str, str | None],
        mirror: Mapping[str, int] | None = None,
    ) -> OnlineEndpoint:
        """Split the traffic so, and set these tags beside those that are there, or take away those that are None. `mirror` has
        the shares in percent of requests that are also sent to another deployment; None leaves them as they are."""
        record = endpoint.record
        properties = {key: value for key, value in (record.get("properties") or {}).items() if key not in _READ_ONLY}
        properties["traffic"] = {name: share for name, share in traffic.items() if share}
        if mirror is not None:
            properties["mirrorTraffic"] = {name: share for name, share in mirror.items() if share}
        identity = record.get("identity") or {"type": "SystemAssigned"}
        kept: dict[str, Any] = {"type": identity.get("type")}
        if users := identity.get("userAssignedIdentities"):
            kept["userAssignedIdentities"] = {user: {} for user in users}
        tagged = {key: value for key, value in {**endpoint.tags, **tags}.items() if value is not None}
        return self._put(endpoint.name, {"identity": kept, "tags": tagged, "properties": properties})

    def delete(self, name: str) -> None:
        """The endpoint with all its deployments."""
        what = f"online endpoint {name!r}"
        self._arm.finished(self._arm.delete(self._path(name), ENDPOINTS_API, what), what)

    def secret(self, endpoint: OnlineEndpoint, fresh: bool = False) -> str:
        """What opens the endpoint as a bearer: its key, or a token of this account. `fresh` for after one that was refused."""
        if endpoint.by_token:
            credential = self._service.http.credential
            return credential.token(credential.cloud.ml_scope, fresh).value
        return self.keys(endpoint.name)[0]

    def wait_settled(self, name: str) -> OnlineEndpoint:
        """The endpoint, once it is not being changed any more. Raises `AmlflowError` where that takes an hour."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            found = self.get(name)
            if found.state.lower() not in ("creating", "updating"):
                return found
            time.sleep(_POLL_S)
        raise AmlflowError(f"The endpoint {name!r} has not settled after {_SETTLE_S / 60:.0f} minutes.")

    def wait_gone(self, name: str) -> None:
        """Until the deletion that somebody has begun is done. Raises `AmlflowError` where that takes an hour."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            try:
                self.get(name)
            except NotFound:
                return
            time.sleep(_POLL_S)
        raise AmlflowError(f"The endpoint {name!r} is still being deleted after {_SETTLE_S / 60:.0f} minutes.")

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
        return [online_deployments.read(item) for item in self._arm.pages(path, DEPLOYMENTS_API, f"endpoint {name!r}")]

    def deployment(self, endpoint: str, name: str) -> OnlineDeployment:
        what = f"deployment {name!r} of endpoint {endpoint!r}"
        return online_deployments.read(self._arm.get(self._deployment_path(endpoint, name), DEPLOYMENTS_API, what))

    def begin_deployment(self, endpoint: str, wanted: OnlineDeployment) -> Callable[[Callable[[str], None]], None]:
        """Ask for the deployment; what is returned waits until it is there and raises `AmlflowError` when it fails."""
        data = {name: self._collection(endpoint, wanted.name, name) for name in COLLECTIONS if wanted.collect}
        body = online_deployments.written(self._service, wanted, data)
        what = f"deployment {wanted.name!r} of endpoint {endpoint!r}"
        answer = self._arm.put(self._deployment_path(endpoint, wanted.name), DEPLOYMENTS_API, what, body)

        def wait(report: Callable[[str], None]) -> None:
            self._arm.finished(answer, what, report)

        return wait

    def scale(self, endpoint: str, deployment: OnlineDeployment) -> None:
        """Have the rules by which the number of its instances changes, where it has any."""
        if deployment.autoscale is not None and deployment.compute == "Managed":
            autoscale.put(self._service, endpoint, deployment.name, deployment.autoscale)

    def unscale(self, endpoint: str, deployment: OnlineDeployment) -> None:
        if deployment.autoscale is not None and deployment.compute == "Managed":
            autoscale.delete(self._service, endpoint, deployment.name)

    def delete_deployment(self, endpoint: str, deployment: OnlineDeployment) -> None:
        """With the rules that scale it."""
        self.unscale(endpoint, deployment)
        what = f"deployment {deployment.name!r} of endpoint {endpoint!r}"
        answer = self._arm.delete(self._deployment_path(endpoint, deployment.name), DEPLOYMENTS_API, what)
        self._arm.finished(answer, what)

    def logs(self, endpoint: str, deployment: str, lines: int) -> list[str]:
        path = f"{self._deployment_path(endpoint, deployment)}/getLogs"
        what = f"log of deployment {deployment!r}"
        body = {"containerType": "InferenceServer", "tail": lines}
        content = self._arm.content(self._arm.post(path, DEPLOYMENTS_API, what, body))
        return str(content.get("content") or "").splitlines()

    def score(self, endpoint: OnlineEndpoint, secret: str, body: bytes, deployment: str = "") -> Scored:
        """Ask the scoring address, or one deployment whatever its traffic is. Raises `Unavailable`."""
        if not endpoint.scoring_url.startswith("https://"):
            raise AmlflowError(
                f"Endpoint {endpoint.name!r} has no https address to ask: {endpoint.scoring_url!r}.",
                "It may still be being made; try later.",
            )
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        if deployment:
            headers[CHOICE_HEADER] = deployment
        answer = self._service.http.send(
            "POST",
            endpoint.scoring_url,
            scope=None,
            data=body,
            headers=headers,
            timeout_s=_SCORE_S,
            retried=_RETRIED,
        )
        return Scored(
            answer.status_code,
            int(answer.headers.get("ms-azureml-model-error-statuscode") or 0),
            str(answer.headers.get(CHOICE_HEADER) or ""),
            answer.content,
            answer.elapsed.total_seconds(),
        )

    def _collection(self, endpoint: str, deployment: str, name: str) -> str:
        """The id of the data asset by which collected data is found, made if there is none."""
        asset = f"{endpoint}-{deployment}-{name}"
        path, what = f"{self._service.path}/data/{segment(asset)}/versions/1", f"data asset {asset!r}"
        try:
            return str(self._arm.get(path, _DATA_API, what).get("id") or path)
        except NotFound as error:
            if error.mend:
                raise
        properties = {"dataType": "uri_folder", "dataUri": collected.place(endpoint, deployment, name)}
        made = self._arm.content(self._arm.put(path, _DATA_API, what, {"properties": properties}))
        return str(made.get("id") or path)

    def _put(self, name: str, body: Mapping[str, Any]) -> OnlineEndpoint:
        what = f"online endpoint {name!r}"
        whole = {"location": self._service.description().location, **body}
        answer = self._arm.put(self._path(name), ENDPOINTS_API, what, whole)
        made = _endpoint(self._arm.content(answer))
        self._arm.finished(answer, what)
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
