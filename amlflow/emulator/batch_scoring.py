"""The front door of batch endpoints: who may ask, what a request means, and the jobs that came of the requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.batch import check_run_settings, default_of, find_endpoint
from amlflow.emulator.arm.computes import node_limits, seconds
from amlflow.emulator.arm.jobs import NAME
from amlflow.emulator.arm.quotas import workspaces
from amlflow.emulator.arm.resources import WORKSPACE_PATTERN, Arm, check_name, page, required
from amlflow.emulator.arm.workspaces import author
from amlflow.emulator.running.batch import OUTPUT, Asked, BatchRuns
from amlflow.emulator.running.data import BadAddress
from amlflow.emulator.running.pipelines import default_output
from amlflow.emulator.store import Document
from amlflow.emulator.web import Answer, Request, Route, ServiceError, service_error
from amlflow.errors import AmlflowError

CHOICE = "azureml-model-deployment"
_DOOR = "/batch/{place}/{endpoint}/jobs"
_LISTS = f"/mferp/managementfrontend{WORKSPACE_PATTERN}/batchEndpoints/{{endpoint}}"
_INPUTS = {"urifile": "uri_file", "urifolder": "uri_folder"}
_KINDS = {"uri_file": "UriFile", "uri_folder": "UriFolder"}
_NAME_DIGITS = 26


class BatchScoring:
    def __init__(self, arm: Arm, runs: BatchRuns) -> None:
        self._arm, self._runs = arm, runs

    def routes(self) -> list[Route]:
        return [
            Route("POST", _DOOR, self._score, plane="ml"),
            Route("GET", f"{_LISTS}/jobs", self._list, plane="data"),
            Route("GET", f"{_LISTS}/deployments/{{deployment}}/jobs", self._list, plane="data"),
        ]

    def _score(self, request: Request) -> Answer:
        workspace, endpoint = self._endpoint(request)
        with required("batch job"):
            properties = _lowered(_lowered(request.json()).get("properties"))
            asked = self._asked(workspace, endpoint, request.headers.get(CHOICE, ""), properties)
        try:
            made = self._runs.submit(workspace, asked, author(request))
        except (BadAddress, AmlflowError) as error:
            raise _refusal(f"The model of the deployment cannot be had: {error}", "ModelNotFound") from error
        return Answer(201, self._render(endpoint, made))

    def _list(self, request: Request) -> Answer:
        endpoint, deployment = find_endpoint(self._arm, request), request.values.get("deployment", "")
        workspace = endpoint.id.rsplit("/", 2)[0]
        found = [
            job
            for job in self._arm.store.children(f"{workspace}/jobs")
            if job.body.get("children")
            and job.body["properties"]["properties"].get("azureml.batchendpoint", "").lower() == endpoint.name.lower()
            and deployment.lower() in ("", job.body["properties"]["tags"]["azureml.deploymentname"].lower())
        ]
        return page(request, found, lambda job: self._render(endpoint, job))

    def _endpoint(self, request: Request) -> tuple[Document, Document]:
        place, name = request.values["place"], request.values["endpoint"]
        workspace = next((item for item in workspaces(self._arm) if item.body["workspaceId"] == place), None)
        endpoint = self._arm.store.get(f"{workspace.id}/batchEndpoints/{name}") if workspace else None
        if workspace is None or endpoint is None:
            raise service_error(404, f"There is no batch endpoint '{name}' here.", inner=("EndpointNotFound",))
        return workspace, endpoint

    def _asked(self, workspace: Document, endpoint: Document, choice: str, properties: Mapping[str, Any]) -> Asked:
        deployment = self._deployment(endpoint, choice)
        name = str(properties.get("name") or f"batchjob-{uuid.uuid4().hex[:_NAME_DIGITS]}")
        check_name(name, NAME, "Job")
        if self._arm.store.get(f"{workspace.id}/jobs/{name}") is not None:
            raise service_error(409, f"There is a job '{name}' already.", inner=("Conflict", "RunIdConflict"))
        kind, uri = _input(properties)
        settings = _settings(deployment, properties)
        check_run_settings(settings)
        self._check_compute(settings)
        experiment = str(_lowered(properties.get("properties")).get("experimentname") or endpoint.name)
        return Asked(name, endpoint, deployment, settings, kind, uri, _output(properties, name), experiment)

    def _deployment(self, endpoint: Document, choice: str) -> Document:
        name = choice or default_of(endpoint)
        if not name:
            raise _refusal(f"The endpoint '{endpoint.name}' has no default deployment.", "NoDefaultDeployment")
        found = self._arm.store.get(f"{endpoint.id}/deployments/{name}")
        if found is None:
            text = f"The deployment '{name}' of the endpoint '{endpoint.name}' was not found."
            raise service_error(404, text, inner=("DeploymentNotFound",))
        return found

    def _check_compute(self, settings: Mapping[str, Any]) -> None:
        found = self._arm.store.get(settings["compute"])
        if found is None or "gone" in found.body:
            name = str(settings["compute"]).rpartition("/")[2]
            raise _refusal(f"Unknown compute target '{name}'.", "InvalidComputeTarget")
        most, count = node_limits(found.body["properties"]).maximum, int(settings["resources"]["instanceCount"])
        if count > most:
            text = f"The job wants {count} nodes, and the compute '{found.name}' has at most {most}."
            raise _refusal(text, "InvalidComputeTarget")

    def _render(self, endpoint: Document, job: Document) -> dict[str, Any]:
        properties = job.body["properties"]
        output, data = properties["outputs"][OUTPUT], properties["inputs"]["data"]
        status = job.body["status"]
        state = {"Completed": "Succeeded", "Failed": "Failed", "Canceled": "Canceled"}.get(status, "InProgress")
        envelope = self._arm.envelope(
            job,
            "workspaces/batchEndpoints/jobs",
            {
                "name": job.name,
                "status": status,
                "provisioningState": state,
                "inputData": {"data": {"jobInputType": _KINDS[data["jobInputType"]], "uri": data["uri"]}},
                "outputData": {OUTPUT: {"jobOutputType": _KINDS[output["jobOutputType"]], "uri": output["uri"]}},
                "tags": properties["tags"],
                "properties": properties["properties"],
            },
        )
        return {**envelope, "id": f"{endpoint.id}/jobs/{job.name}"}


def _input(properties: Mapping[str, Any]) -> tuple[str, str]:
    """The kind and the address of the one input. Raises the service's refusal."""
    given = properties.get("inputdata") or {}
    if len(given) != 1:
        raise _refusal("A model deployment takes one input, as 'InputData'.", "InvalidInputData")
    value = _lowered(next(iter(given.values())))
    kind = _INPUTS.get(str(value.get("jobinputtype")).lower())
    if kind is None or not value.get("uri"):
        text = f"The input is a UriFile or a UriFolder with a Uri, not a '{value.get('jobinputtype')}'."
        raise _refusal(text, "InvalidInputData")
    return kind, str(value["uri"])


def _output(properties: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The job's output. Raises the service's refusal."""
    given = properties.get("outputdata") or {}
    if not given:
        return default_output(name, OUTPUT)
    value = _lowered(next(iter(given.values())))
    kind = _INPUTS.get(str(value.get("joboutputtype")).lower())
    uri = str(value.get("uri") or "")
    if len(given) != 1 or kind is None or "datastores/" not in uri:
        raise _refusal("The output is one UriFile or UriFolder, in a datastore.", "InvalidOutputData")
    return {"jobOutputType": kind, "uri": uri, "mode": "ReadWriteMount"}


def _settings(deployment: Document, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The deployment's, with what the invocation says otherwise."""
    settings: dict[str, Any] = json.loads(json.dumps(deployment.body["properties"]))
    for key in ("errorThreshold", "maxConcurrencyPerInstance", "miniBatchSize", "outputFileName"):
        if properties.get(key.lower()) is not None:
            settings[key] = properties[key.lower()]
    if count := _lowered(properties.get("compute")).get("instancecount"):
        settings["resources"]["instanceCount"] = count
    retries = _lowered(properties.get("retrysettings"))
    for key in ("maxRetries", "timeout"):
        if retries.get(key.lower()) is not None:
            settings["retrySettings"][key] = retries[key.lower()]
    seconds(settings["retrySettings"]["timeout"])
    return settings


def _lowered(given: Any) -> dict[str, Any]:
    """The service reads names in any case: its documentation writes `InputData`, its SDK `inputData`."""
    return {str(key).lower(): value for key, value in (given or {}).items()}


def _refusal(text: str, code: str) -> ServiceError:
    return service_error(400, text, inner=("BadArgument", code))
