"""Batch endpoints of an Azure ML workspace, their deployments, and what they are asked to score."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.retry import Transient, persist
from amlflow.workspaces.azure import arm
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.endpoints import CHOICE_HEADER, UNFINISHED
from amlflow.workspaces.azure.http import Unanswered
from amlflow.workspaces.azure.jobs import READ_API
from amlflow.workspaces.azure.online_deployments import model_of
from amlflow.workspaces.azure.service import Service, duration_s, epoch_ms, iso_duration

ENDPOINTS_API = "2023-10-01"
DEPLOYMENTS_API = "2024-01-01-preview"
JOBS_API = "2020-09-01-dataplanepreview"
_JOBS_SERVICE = "mferp/managementfrontend"
_READ_ONLY = ("provisioningState", "scoringUri", "swaggerUri", "keys")
_SCORING_HOSTS = (".inference.ml.azure.com", ".inference.ml.azure.cn", ".inference.ml.azure.us")
ACTIONS = {"append": "AppendRow", "summary": "SummaryOnly"}
# The name that azure-ai-ml sends; a repetition with the same value makes no second job.
_REPEATABILITY = "repeatability_request-id"


@dataclass(frozen=True, slots=True)
class BatchEndpoint:
    """`default` is the deployment that is asked where none is named, empty for none; `record` all that the service says of it."""

    name: str
    state: str
    scoring_url: str
    default: str
    tags: Mapping[str, str]
    created_ms: int
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchDeployment:
    """`model` is NAME:VERSION; `output_action` append or summary; `retries` and `timeout_s` are those of one mini-batch;
    `plain` says that the service's own script scores, which knows MLflow models and some types of files."""

    name: str
    state: str
    model: str
    compute: str
    instance_count: int
    mini_batch_size: int
    output_action: str
    max_concurrency: int
    retries: int
    timeout_s: int
    variables: Mapping[str, str]
    output_file: str = "predictions.csv"
    plain: bool = True


@dataclass(frozen=True, slots=True)
class ScoringInput:
    """`uri` is what the service reads; `is_file` whether that is one file."""

    uri: str
    is_file: bool


class AzureBatch:
    """Every method that takes a name raises `NotFound` for what is not there."""

    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm

    def all(self) -> list[BatchEndpoint]:
        path = f"{self._service.path}/batchEndpoints"
        return [_endpoint(item) for item in self._arm.pages(path, ENDPOINTS_API, "list of batch endpoints")]

    def get(self, name: str) -> BatchEndpoint:
        return _endpoint(self._arm.get(self._path(name), ENDPOINTS_API, f"batch endpoint {name!r}"))

    def create(self, name: str) -> BatchEndpoint:
        """A new endpoint without a deployment, marked as unfinished until one is asked; returns once it is there."""
        return self._put(name, {"tags": {UNFINISHED: "true"}, "properties": {"authMode": "AADToken"}})

    def set_default(self, endpoint: BatchEndpoint, deployment: str, tags: Mapping[str, str]) -> BatchEndpoint:
        """Ask this deployment from now on, and set these tags beside those that are there; with one, it is finished."""
        given = endpoint.record.get("properties") or {}
        properties = {key: value for key, value in given.items() if key not in _READ_ONLY and value is not None}
        properties["defaults"] = {"deploymentName": deployment}
        kept = {name: value for name, value in endpoint.tags.items() if name != UNFINISHED or not deployment}
        return self._put(endpoint.name, {"tags": {**kept, **tags}, "properties": properties})

    def delete(self, name: str) -> None:
        """The endpoint with all its deployments; the jobs that it made stay."""
        what = f"batch endpoint {name!r}"
        self._arm.finished(self._arm.delete(self._path(name), ENDPOINTS_API, what), what)

    def deployments(self, name: str) -> list[BatchDeployment]:
        path = f"{self._path(name)}/deployments"
        return [_deployment(item) for item in self._arm.pages(path, DEPLOYMENTS_API, f"batch endpoint {name!r}")]

    def deployment(self, endpoint: str, name: str) -> BatchDeployment:
        what = f"deployment {name!r} of endpoint {endpoint!r}"
        return _deployment(self._arm.get(self._deployment_path(endpoint, name), DEPLOYMENTS_API, what))

    def begin_deployment(self, endpoint: str, wanted: BatchDeployment) -> Callable[[Callable[[str], None]], None]:
        """Ask for the deployment; what is returned waits until it is there and raises `AmlflowError` when it fails."""
        name, _, version = wanted.model.rpartition(":")
        properties = {
            "model": {
                "referenceType": "Id",
                "assetId": f"{self._service.path}/models/{segment(name)}/versions/{segment(version)}",
            },
            "compute": f"{self._service.path}/computes/{segment(wanted.compute)}",
            "resources": {"instanceCount": wanted.instance_count},
            "miniBatchSize": wanted.mini_batch_size,
            "maxConcurrencyPerInstance": wanted.max_concurrency,
            "outputAction": ACTIONS[wanted.output_action],
            "retrySettings": {"maxRetries": wanted.retries, "timeout": iso_duration(wanted.timeout_s)},
            "environmentVariables": dict(wanted.variables),
            # The service's own -1 leaves out what cannot be scored, and the job succeeds without a word of it.
            "errorThreshold": 0,
        }
        if wanted.output_action == "append":
            properties["outputFileName"] = wanted.output_file
        body = {"location": self._service.description().location, "properties": properties}
        what = f"deployment {wanted.name!r} of endpoint {endpoint!r}"
        answer = self._arm.put(self._deployment_path(endpoint, wanted.name), DEPLOYMENTS_API, what, body)

        def wait(report: Callable[[str], None]) -> None:
            self._arm.finished(answer, what, report)

        return wait

    def delete_deployment(self, endpoint: str, name: str) -> None:
        what = f"deployment {name!r} of endpoint {endpoint!r}"
        answer = self._arm.delete(self._deployment_path(endpoint, name), DEPLOYMENTS_API, what)
        self._arm.finished(answer, what)

    def score(self, endpoint: BatchEndpoint, deployment: str, data: ScoringInput, output: str) -> str:
        """Begin with a job that scores the input; its name. `output` is where its file of predictions goes, empty for a place
        that the service chooses. The job's name is made here: after an attempt that may have been carried out, one look says
        whether the job is there."""
        self._check_address(endpoint)
        name = f"batchjob-{uuid.uuid4().hex[:26]}"
        given = {"jobInputType": "UriFile" if data.is_file else "UriFolder", "uri": data.uri}
        properties: dict[str, Any] = {"name": name, "inputData": {"data": given}}
        if output:
            properties["outputData"] = {"score": {"jobOutputType": "UriFile", "uri": output}}
        headers = {CHOICE_HEADER: deployment, _REPEATABILITY: str(uuid.uuid4())}
        what = f"scoring by endpoint {endpoint.name!r}"

        def attempt(_remaining_s: float) -> str:
            try:
                answer = self._service.http.send(
                    "POST",
                    endpoint.scoring_url,
                    scope=self._service.http.credential.cloud.ml_scope,
                    body={"properties": properties},
                    headers=headers,
                    repeatable=False,
                )
            except Unanswered as error:
                if not error.maybe_applied:
                    raise
                if self._begun(name):
                    return name
                raise error.failure from error
            if not 200 <= answer.status_code < 300:
                credential = self._service.http.credential
                raise arm.refusal(answer, what, credential.clock_ahead_s, credential.winner)
            return str(self._arm.content(answer).get("name") or name)

        try:
            return persist(self._service.http.policy, attempt)
        except Transient as failure:
            raise Unanswered(f"Endpoint {endpoint.name!r} took no job: Azure", failure) from failure

    def last_job(self, name: str) -> str:
        """The newest job of the endpoint; empty for none."""
        root = f"{self._service.data_plane(_JOBS_SERVICE)}/batchEndpoints/{segment(name)}/jobs"
        http, found = self._service.http, list[Mapping[str, Any]]()
        url: str = f"{root}?api-version={JOBS_API}"
        # The service says nothing of their order. A link that leads elsewhere gets no token.
        while url and urlsplit(url).netloc == urlsplit(root).netloc:
            answer = http.send("GET", url, scope=http.credential.cloud.ml_scope)
            if not 200 <= answer.status_code < 300:
                what = f"jobs of endpoint {name!r}"
                raise arm.refusal(answer, what, http.credential.clock_ahead_s, http.credential.winner)
            content = self._arm.content(answer)
            found += content.get("value") or []
            url = str(content.get("nextLink") or "")
        newest = max(found, key=lambda job: str((job.get("systemData") or {}).get("createdAt") or ""), default={})
        return str(newest.get("name") or "")

    def _begun(self, name: str) -> bool:
        try:
            self._arm.get(f"{self._service.path}/jobs/{segment(name)}", READ_API, f"job {name!r}")
        except NotFound:
            return False
        return True

    def _check_address(self, endpoint: BatchEndpoint) -> None:
        """Raises `AmlflowError` for a scoring address that no token may be sent to."""
        address = urlsplit(endpoint.scoring_url)
        own = (self._service.host, urlsplit(self._service.http.credential.cloud.arm).netloc)
        if address.scheme != "https" or not (address.netloc in own or address.netloc.endswith(_SCORING_HOSTS)):
            raise AmlflowError(
                f"Endpoint {endpoint.name!r} has no address of Azure's to ask: {endpoint.scoring_url!r}.",
                "It may still be being made; try later.",
            )

    def _put(self, name: str, body: Mapping[str, Any]) -> BatchEndpoint:
        what = f"batch endpoint {name!r}"
        whole = {"location": self._service.description().location, **body}
        answer = self._arm.put(self._path(name), ENDPOINTS_API, what, whole)
        made = _endpoint(self._arm.content(answer))
        self._arm.finished(answer, what)
        return made if made.scoring_url else self.get(name)

    def _path(self, name: str) -> str:
        return f"{self._service.path}/batchEndpoints/{segment(name)}"

    def _deployment_path(self, endpoint: str, name: str) -> str:
        return f"{self._path(endpoint)}/deployments/{segment(name)}"


def named(deployments: Sequence[BatchDeployment], name: str) -> BatchDeployment | None:
    return next((item for item in deployments if item.name == name), None)


def _endpoint(item: Mapping[str, Any]) -> BatchEndpoint:
    properties = item.get("properties") or {}
    return BatchEndpoint(
        str(item.get("name") or ""),
        str(properties.get("provisioningState") or ""),
        str(properties.get("scoringUri") or ""),
        str((properties.get("defaults") or {}).get("deploymentName") or ""),
        {str(key): str(value) for key, value in (item.get("tags") or {}).items()},
        epoch_ms((item.get("systemData") or {}).get("createdAt")) or 0,
        item,
    )


def _deployment(item: Mapping[str, Any]) -> BatchDeployment:
    properties = item.get("properties") or {}
    retries = properties.get("retrySettings") or {}
    action = str(properties.get("outputAction") or "AppendRow")
    return BatchDeployment(
        str(item.get("name") or ""),
        str(properties.get("provisioningState") or ""),
        model_of(str((properties.get("model") or {}).get("assetId") or "")),
        str(properties.get("compute") or "").rpartition("/")[2],
        int((properties.get("resources") or {}).get("instanceCount") or 1),
        int(properties.get("miniBatchSize") or 10),
        next((ours for ours, theirs in ACTIONS.items() if theirs.lower() == action.lower()), action),
        int(properties.get("maxConcurrencyPerInstance") or 1),
        int(retries.get("maxRetries", 3)),
        duration_s(retries.get("timeout")) or 30,
        {str(key): str(value) for key, value in (properties.get("environmentVariables") or {}).items()},
        str(properties.get("outputFileName") or "predictions.csv"),
        not properties.get("codeConfiguration") and not properties.get("deploymentConfiguration"),
    )
