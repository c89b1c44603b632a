"""Batch endpoints and their deployments: checked and kept. What they are asked for becomes jobs; nothing runs before."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.computes import seconds
from amlflow.emulator.arm.endpoints import NAME, STATUS
from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import (
    PROVIDER,
    WORKSPACE_PATTERN,
    Arm,
    body_properties,
    check_name,
    page,
    required,
)
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error

KIND = "workspaces/batchEndpoints"
DEPLOYMENT_KIND = f"{KIND}/deployments"
ENDPOINTS = f"{WORKSPACE_PATTERN}/batchEndpoints"
ENDPOINT = f"{ENDPOINTS}/{{endpoint}}"
_DEPLOYMENTS = f"{ENDPOINT}/deployments"
_DEPLOYMENT = f"{_DEPLOYMENTS}/{{deployment}}"
_ACTIONS = {"appendrow": "AppendRow", "summaryonly": "SummaryOnly"}
_FILE_NAME = re.compile(r"[\w.-]{1,200}")
_MOST_MINI_BATCH = 10_000_000


class BatchEndpoints:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def routes(self) -> list[Route]:
        return [
            Route("GET", ENDPOINTS, self._list),
            Route("GET", ENDPOINT, self._get),
            Route("PUT", ENDPOINT, self._put),
            Route("DELETE", ENDPOINT, self._delete),
        ]

    def _list(self, request: Request) -> Answer:
        found = self._arm.store.children(f"{self._arm.workspace(request).id}/batchEndpoints")
        return page(request, found, lambda item: self._render(item, request))

    def _get(self, request: Request) -> Answer:
        return Answer(content=self._render(find_endpoint(self._arm, request), request))

    def _put(self, request: Request) -> Answer:
        workspace, name = self._arm.workspace(request), request.values["endpoint"]
        check_name(name, NAME, "Endpoint")
        body, properties = body_properties(request)
        mode = properties.get("authMode")
        if str(mode).lower() != "aadtoken":
            raise _refusal(f"A batch endpoint has the authMode 'AADToken', not '{mode}'.", "UnsupportedAuthMode")
        id = f"{workspace.id}/batchEndpoints/{name}"
        default = str((properties.get("defaults") or {}).get("deploymentName") or "")
        with self._arm.store.undisturbed():
            before = self._arm.store.get(id)
            if before is None:
                self._check_free(workspace, name)
            if default and self._arm.store.get(f"{id}/deployments/{default}") is None:
                text = f"The default deployment '{default}' of the endpoint '{name}' does not exist."
                raise _refusal(text, "DeploymentNotFound")
            content = {
                "location": body.get("location") or LOCATION,
                "tags": body.get("tags") or {},
                "properties": {
                    "authMode": "AADToken",
                    "description": properties.get("description") or "",
                    "properties": properties.get("properties") or {},
                    "defaults": {"deploymentName": default} if default else {},
                },
                "ready": time.time() + self._arm.pace_s,
                "provisioning": "Updating" if before else "Creating",
            }
            made, _ = self._arm.store.put(id, content, author(request))
        return self._arm.accepted(request, self._arm.begin(id), 201, self._render(made, request), STATUS)

    def _delete(self, request: Request) -> Answer:
        workspace = self._arm.workspace(request)
        id = f"{workspace.id}/batchEndpoints/{request.values['endpoint']}"
        if not self._arm.store.delete(id):
            return Answer(204)
        return self._arm.accepted(request, self._arm.begin(id), kind=STATUS)

    def _check_free(self, workspace: Document, name: str) -> None:
        """The name is part of the scoring address: it is taken once in a region, whatever workspace has it."""
        for other in workspaces(self._arm):
            if other.id != workspace.id and self._arm.store.get(f"{other.id}/batchEndpoints/{name}") is not None:
                text = f"The endpoint name '{name}' is already in use in the region '{LOCATION}'. Choose another name."
                raise service_error(409, text, inner=("Conflict", "EndpointNameInUse"))

    def _render(self, document: Document, request: Request) -> dict[str, Any]:
        body, place = document.body, self._arm.store.get(document.id.rsplit("/", 2)[0])
        assert place is not None
        inner = {
            **body["properties"],
            "scoringUri": f"{request.base_url}/batch/{place.body['workspaceId']}/{document.name}/jobs",
            "provisioningState": _state(document),
        }
        return self._arm.envelope(document, KIND, inner, location=body["location"], tags=body["tags"])


class BatchDeployments:
    def __init__(self, arm: Arm, servers: Servers) -> None:
        self._arm, self._servers = arm, servers

    def routes(self) -> list[Route]:
        return [
            Route("GET", _DEPLOYMENTS, self._list),
            Route("GET", _DEPLOYMENT, self._get),
            Route("PUT", _DEPLOYMENT, self._put),
            Route("DELETE", _DEPLOYMENT, self._delete),
        ]

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
        with self._arm.store.undisturbed(), required("batch deployment"):
            before = self._arm.store.get(id)
            content = {
                "location": body.get("location") or LOCATION,
                "tags": body.get("tags") or {},
                "properties": self._checked(request, properties),
                "ready": time.time() + self._arm.pace_s,
                "provisioning": "Updating" if before else "Creating",
            }
            made, _ = self._arm.store.put(id, content, author(request))
        return self._arm.accepted(request, self._arm.begin(id), 201, self._render(made), STATUS)

    def _delete(self, request: Request) -> Answer:
        endpoint = find_endpoint(self._arm, request)
        found = self._arm.store.get(f"{endpoint.id}/deployments/{request.values['deployment']}")
        if found is None:
            return Answer(204)
        if default_of(endpoint).lower() == found.name.lower():
            text = f"The deployment '{found.name}' is the default of its endpoint. Make another the default first."
            raise _refusal(text, "DeploymentIsDefault")
        self._arm.store.delete(found.id)
        return self._arm.accepted(request, self._arm.begin(found.id), kind=STATUS)

    def _checked(self, request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
        """The deployment's properties as they are kept. Raises the service's refusals."""
        if given.get("codeConfiguration") or given.get("environmentId") or given.get("deploymentConfiguration"):
            text = "The emulator scores MLflow models, without a scoring script, environment or component of their own."
            raise _refusal(text, "UnsupportedDeployment")
        workspace, model = self._arm.workspace(request), given.get("model") or {}
        if model.get("referenceType") != "Id":
            raise _refusal("The deployment's model must be named by its id.", "UnsupportedModelReference")
        self._servers.check_model(workspace, str(model.get("assetId") or ""))
        compute = str(given.get("compute") or "").rpartition("/")[2].removeprefix("azureml:")
        found = self._arm.store.get(f"{workspace.id}/computes/{compute}")
        if found is None or "gone" in found.body or found.body["computeType"] != "AmlCompute":
            raise _refusal(f"Unknown compute target '{compute}': a cluster of the workspace.", "InvalidComputeTarget")
        action = _ACTIONS.get(str(given.get("outputAction") or "AppendRow").lower())
        if action is None:
            raise _refusal(f"There is no output action '{given.get('outputAction')}'.", "ArgumentInvalid")
        retries = given.get("retrySettings") or {}
        kept = {key: value for key, value in json.loads(json.dumps(given)).items() if value is not None}
        kept.pop("provisioningState", None)
        resources = {key: value for key, value in (given.get("resources") or {}).items() if value is not None}
        wanted = {
            "errorThreshold": -1,
            "loggingLevel": "Info",
            "maxConcurrencyPerInstance": 1,
            "miniBatchSize": 10,
            "outputFileName": "predictions.csv",
            "environmentVariables": {},
            "properties": {},
            **kept,
            "compute": found.id,
            "outputAction": action,
            "resources": {"instanceCount": 1, **resources},
            "retrySettings": {
                "maxRetries": int(retries.get("maxRetries", 3)),
                "timeout": str(retries.get("timeout") or "PT30S"),
            },
        }
        seconds(wanted["retrySettings"]["timeout"])
        check_run_settings(wanted)
        return wanted

    def _find(self, request: Request) -> Document:
        endpoint, name = find_endpoint(self._arm, request), request.values["deployment"]
        found = self._arm.store.get(f"{endpoint.id}/deployments/{name}")
        if found is None:
            text = f"The Resource '{PROVIDER}/{DEPLOYMENT_KIND}/{endpoint.name}/{name}' was not found."
            raise service_error(404, text, inner=("NotFoundError", "DeploymentNotFound"))
        return found

    def _render(self, document: Document) -> dict[str, Any]:
        body = document.body
        inner = {**body["properties"], "provisioningState": _state(document)}
        return self._arm.envelope(document, DEPLOYMENT_KIND, inner, location=body["location"], tags=body["tags"])


def find_endpoint(arm: Arm, request: Request) -> Document:
    """Raises the service's refusals."""
    name = request.values["endpoint"]
    found = arm.store.get(f"{arm.workspace(request).id}/batchEndpoints/{name}")
    if found is None:
        text = f"The Resource '{PROVIDER}/{KIND}/{name}' was not found: there is no batch endpoint '{name}'."
        raise service_error(404, text, inner=("NotFoundError", "EndpointNotFound"))
    return found


def default_of(endpoint: Document) -> str:
    """The deployment that is asked where none is named; empty for none."""
    return str(endpoint.body["properties"]["defaults"].get("deploymentName") or "")


def check_run_settings(wanted: Mapping[str, Any]) -> None:
    """What a deployment and an invocation say in the same words. Raises the service's refusals."""
    if not 1 <= int(wanted["miniBatchSize"]) <= _MOST_MINI_BATCH:
        raise _refusal("The mini batch size must be at least 1.", "ArgumentOutOfRange")
    if int(wanted["maxConcurrencyPerInstance"]) < 1 or int(wanted["resources"]["instanceCount"]) < 1:
        raise _refusal("The concurrency and the number of instances must be at least 1.", "ArgumentOutOfRange")
    if int(wanted["errorThreshold"]) < -1:
        raise _refusal("The error threshold must be at least -1.", "ArgumentOutOfRange")
    if not _FILE_NAME.fullmatch(str(wanted["outputFileName"])):
        raise _refusal(f"'{wanted['outputFileName']}' cannot name the output file.", "ArgumentInvalid")


def _state(document: Document) -> str:
    return "Succeeded" if time.time() >= document.body["ready"] else str(document.body["provisioning"])


def _refusal(text: str, code: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", code))
