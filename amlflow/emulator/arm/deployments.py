"""Online deployments: checked, kept, and handed to the servers that run them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.endpoints import ENDPOINT, NAME, STATUS, find_endpoint
from amlflow.emulator.arm.quotas import Quotas
from amlflow.emulator.arm.resources import (
    PROVIDER,
    UNKNOWN_S,
    Arm,
    body_properties,
    check_name,
    page,
    required,
)
from amlflow.emulator.arm.sizes import SIZES
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.serving import Failed, Servers
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/onlineEndpoints/deployments"
_DEPLOYMENTS = f"{ENDPOINT}/deployments"
_DEPLOYMENT = f"{_DEPLOYMENTS}/{{deployment}}"
_PASSING = ("Creating", "Updating", "Deleting")
_MOST_LINES = 1000
_PROBE = {
    "failureThreshold": 30,
    "initialDelay": "PT10S",
    "period": "PT10S",
    "successThreshold": 1,
    "timeout": "PT2S",
}


class OnlineDeployments:
    def __init__(self, arm: Arm, quotas: Quotas, servers: Servers) -> None:
        self._arm, self._quotas, self._servers = arm, quotas, servers

    def routes(self) -> list[Route]:
        return [
            Route("GET", _DEPLOYMENTS, self._list),
            Route("GET", _DEPLOYMENT, self._get),
            Route("PUT", _DEPLOYMENT, self._put),
            Route("DELETE", _DEPLOYMENT, self._delete),
            Route("POST", f"{_DEPLOYMENT}/getLogs", self._get_logs, reads=True),
        ]

    def resume(self, workspaces: list[Document]) -> None:
        """Go on with what was being made, and bring up what ran, when the emulator was stopped."""
        for workspace in workspaces:
            for endpoint in self._arm.store.children(f"{workspace.id}/onlineEndpoints"):
                for deployment in self._arm.store.children(f"{endpoint.id}/deployments"):
                    if deployment.body["state"] == "Deleting":
                        self._work(self._take_down, deployment)
                    elif deployment.body["state"] != "Failed" and not self._servers.running(deployment):
                        self._work(self._bring_up, deployment)

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{find_endpoint(self._arm, request).id}/deployments")
        return page(request, found, self._render)

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(self._find(request)))

    def _put(self, request: Request) -> Answer:
        endpoint, name = find_endpoint(self._arm, request), request.values["deployment"]
        check_name(name, NAME, "Deployment")
        body, properties = body_properties(request)
        id = f"{endpoint.id}/deployments/{name}"
        with self._arm.store.undisturbed(), required("managed online deployment"):
            before = self._arm.store.get(id)
            if before is not None and before.body["state"] in _PASSING:
                text = f"The deployment '{name}' is {before.body['state'].lower()}: wait until it has settled."
                raise service_error(409, text, inner=("Conflict", "OperationInProgress"))
            count = int((body.get("sku") or {}).get("capacity") or 1)
            wanted = self._checked(request, endpoint, id, properties, count)
            operation = self._arm.begin(id, takes_s=UNKNOWN_S)
            content = {
                "location": body.get("location") or LOCATION,
                "tags": body.get("tags") or {},
                "kind": body.get("kind") or "Managed",
                "capacity": count,
                "properties": wanted,
                "state": "Updating" if before else "Creating",
                "operation": operation.id,
            }
            made, _ = self._arm.store.put(id, content, author(request))
        answer = self._arm.accepted(request, operation, 201, self._render(made), STATUS)
        self._work(self._bring_up, made)
        return answer

    def _delete(self, request: Request) -> Answer:
        endpoint = find_endpoint(self._arm, request)
        found = self._arm.store.get(f"{endpoint.id}/deployments/{request.values['deployment']}")
        if found is None:
            return Answer(204)
        if endpoint.body["properties"]["traffic"].get(found.name):
            text = (
                f"The deployment '{found.name}' takes {endpoint.body['properties']['traffic'][found.name]} percent of the "
                "endpoint's traffic. Set its traffic to 0 before it is deleted."
            )
            raise service_error(400, text, inner=("BadArgument", "DeploymentHasTraffic"))
        operation = self._arm.begin(found.id, takes_s=UNKNOWN_S)
        self._arm.store.change(found.id, lambda content: content.update(state="Deleting", operation=operation.id))
        self._work(self._take_down, found)
        return self._arm.accepted(request, operation, kind=STATUS)

    def _get_logs(self, request: Request) -> Answer:
        found, asked = self._find(request), request.json()
        tail = min(int(asked.get("tail") or _MOST_LINES), _MOST_LINES)
        storage = asked.get("containerType") == "StorageInitializer"
        return Answer(content={"content": self._servers.log(found.id, tail, storage)})

    def _checked(
        self, request: Request, endpoint: Document, id: str, given: Mapping[str, Any], count: int
    ) -> dict[str, Any]:
        """The deployment's properties as they are kept. Raises the service's refusals."""
        cluster = endpoint.body["properties"].get("compute")
        kind = "Kubernetes" if cluster else "Managed"
        if given.get("endpointComputeType") != kind:
            text = f"The deployments of this endpoint are {kind}, not '{given.get('endpointComputeType')}' ones."
            raise _refusal(text, "UnsupportedComputeType")
        if count < 1:
            raise _refusal("The instance count must be at least 1.", "InvalidInstanceCount")
        workspace = self._arm.workspace(request)
        size = str(given.get("instanceType") or "")
        if cluster:
            self._check_cluster(cluster, size, given)
        else:
            size = self._check_size(id, size, count)
        self._servers.check_model(workspace, str(given.get("model") or ""))
        self._servers.check_script(workspace, given)
        kept = {key: value for key, value in json.loads(json.dumps(given)).items() if value is not None}
        kept.pop("provisioningState", None)
        return {
            "appInsightsEnabled": False,
            "egressPublicNetworkAccess": "Enabled",
            "scaleSettings": {"scaleType": "Default"},
            "requestSettings": {
                "maxConcurrentRequestsPerInstance": 1,
                "maxQueueWait": "PT0.5S",
                "requestTimeout": "PT5S",
            },
            "livenessProbe": _PROBE,
            "readinessProbe": _PROBE,
            "environmentVariables": {},
            "properties": {},
            **kept,
            **({"instanceType": size} if size else {}),
        }

    def _check_size(self, id: str, asked: str, count: int) -> str:
        size = SIZES.get(asked.lower())
        if size is None:
            text = f"The instance type '{asked}' is not supported in the region '{LOCATION}'."
            raise _refusal(text, "InvalidInstanceType")
        self._quotas.check_deployment(id, size, count)
        return size.name

    def _check_cluster(self, cluster: str, asked: str, given: Mapping[str, Any]) -> None:
        found = self._arm.store.get(cluster)
        known = (found.body["properties"].get("instanceTypes") or {}) if found else {}
        if found is None or (asked and known and asked not in known):
            text = f"The instance type '{asked}' is none of those of the cluster: {', '.join(known) or 'it is gone'}."
            raise _refusal(text, "InvalidInstanceType")
        if not given.get("codeConfiguration"):
            text = "A deployment on a Kubernetes cluster needs a scoring script and an environment."
            raise _refusal(text, "UnsupportedDeployment")

    def _bring_up(self, deployment: Document) -> None:
        error = None
        try:
            self._servers.start(deployment)
        except Failed as failure:
            if self._servers.closed:
                # The emulator's end is not the deployment's failure: it goes on after the next start.
                return
            error = failure.record()
        self._arm.store.change(
            deployment.id, lambda content: content.update(state="Failed" if error else "Succeeded", operation="")
        )
        if deployment.body["operation"]:
            self._arm.finish(deployment.body["operation"], error)

    def _take_down(self, deployment: Document) -> None:
        self._servers.stop(deployment.id)
        now = self._arm.store.get(deployment.id)
        self._arm.store.delete(deployment.id)
        if now is not None:
            self._arm.finish(now.body["operation"])

    @staticmethod
    def _work(act: Any, deployment: Document) -> None:
        threading.Thread(target=act, args=(deployment,), name=f"deployment {deployment.name}", daemon=True).start()

    def _find(self, request: Request) -> Document:
        endpoint, name = find_endpoint(self._arm, request), request.values["deployment"]
        found = self._arm.store.get(f"{endpoint.id}/deployments/{name}")
        if found is None:
            text = f"The Resource '{PROVIDER}/{KIND}/{endpoint.name}/{name}' was not found."
            raise service_error(404, text, inner=("NotFoundError", "DeploymentNotFound"))
        return found

    def _render(self, document: Document) -> dict[str, Any]:
        body = document.body
        return self._arm.envelope(
            document,
            KIND,
            {**body["properties"], "provisioningState": body["state"]},
            location=body["location"],
            tags=body["tags"],
            kind=body["kind"],
            sku={"name": "Default", "capacity": body["capacity"]},
        )


def _refusal(text: str, code: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", code))
