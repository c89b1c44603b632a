"""An Azure ML workspace: runs and models by MLflow's REST API, the rest by the resource manager."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amlflow import paths
from amlflow.errors import NotAllowed
from amlflow.journal.errors import Refused
from amlflow.journal.rest import RestServer
from amlflow.workspaces.azure import clouds
from amlflow.workspaces.azure.arm import Arm
from amlflow.workspaces.azure.auth import Credential, clock_sentence
from amlflow.workspaces.azure.http import POLICY, Http
from amlflow.workspaces.azure.service import Service
from amlflow.workspaces.base import Artifact
from amlflow.workspaces.server.artifacts import Artifacts
from amlflow.workspaces.server.client import Client, Limits
from amlflow.workspaces.server.rest import RestWorkspace

if TYPE_CHECKING:
    from amlflow.workspaces.abilities import Finding
    from amlflow.workspaces.azure.computes import AzureComputes
    from amlflow.workspaces.azure.datastores import AzureDatastores
    from amlflow.workspaces.azure.jobs import AzureJobs

# What the service documents, or was seen to refuse (see the table in the design's azure-wire.md for each).
LIMITS = Limits(
    metrics=250,
    params=100,
    tags=50,
    batch=250,
    runs_page=200,
    experiments_page=200,
    models_page=200,
    versions_page=200,
    history_page=900,
    bulk_history=False,
    order_by_data=False,
    batch_repeatable=False,
)
_JOB_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105  the name of a variable


class AzureWorkspace(RestWorkspace):
    """Nothing is asked before it is needed. `auth` is the only way to sign in that is tried, or empty for the chain; `say`
    shows a person what to do to sign in."""

    kind: Literal["azure"] = "azure"

    def __init__(
        self,
        subscription: str,
        group: str,
        name: str,
        host: str = "",
        auth: str = "",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.credential = Credential(clouds.current(), auth, say=say)
        self.http = Http(self.credential)
        self.service = Service(Arm(self.http), subscription, group, name, host)
        self._behind = AzureRest(self.service)
        super().__init__(Client(self._behind, f"Workspace {name!r}", LIMITS), name)

    @property
    def tracking_uri(self) -> str:
        return self.service.description().tracking_uri

    @property
    def behind(self) -> AzureRest:
        """MLflow's REST API of the workspace."""
        return self._behind

    @cached_property
    def computes(self) -> AzureComputes:
        from amlflow.workspaces.azure.computes import AzureComputes

        return AzureComputes(self.service)

    @cached_property
    def datastores(self) -> AzureDatastores:
        from amlflow.workspaces.azure.datastores import AzureDatastores

        return AzureDatastores(self.service)

    @cached_property
    def jobs(self) -> AzureJobs:
        from amlflow.workspaces.azure.jobs import AzureJobs

        return AzureJobs(self.service, self.computes, self.datastores)

    def state_folder(self) -> Path:
        name = hashlib.sha256(self.service.path.lower().encode()).hexdigest()[:16]
        folder = paths.azure() / "workspaces" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def child_environment(self) -> Mapping[str, str]:
        """The token goes to the child by its environment, where other users cannot read it."""
        service = self.service
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.tracking_uri,
            _JOB_TOKEN: self.credential.token().value,
            "AMLFLOW_WORKSPACE": f"{service.subscription}/{service.group}/{service.name}",
        }

    def describe(self) -> dict[str, Any]:
        """The workspace as the service describes it, and who asks."""
        record = self.service.read()
        properties = record.get("properties") or {}
        account = self.credential.account()
        return {
            "location": str(record.get("location") or ""),
            "tracking_uri": self.tracking_uri,
            "state": str(properties.get("provisioningState") or ""),
            "studio": self.page(),
            "cloud": self.credential.cloud.name,
            "signed_in_by": self.credential.winner,
            "account": account["name"] or account["id"],
            "tenant": account["tenant"],
        }

    def diagnose(self) -> Iterator[Finding]:
        from amlflow.workspaces.azure import diagnosis

        return diagnosis.of(self)

    def page(self, job: str = "") -> str:
        page = f"/runs/{job}" if job else "/home"
        tenant = self.service.description().tenant
        return f"{self.credential.cloud.studio}{page}?wsid={self.service.path}{f'&tid={tenant}' if tenant else ''}"

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        return self._artifacts.entries(run_id, path)

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        self._artifacts.keep(self.get_run(run_id).artifact_uri, file, folder)

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        return self._artifacts.copy_out(self.get_run(run_id).artifact_uri, path, destination)

    def fetch(self, location: str) -> Path:
        if location.startswith("runs:/"):
            owner, _, path = location.removeprefix("runs:/").partition("/")
            location = f"{self.get_run(owner).artifact_uri}/{path}"
        return self._artifacts.fetch(location)

    @cached_property
    def _artifacts(self) -> Artifacts:
        return Artifacts(self._client, self._behind.server())


class AzureRest:
    """MLflow's REST API of a workspace, as the journal and the workspace ask it: the address is found out first, and a token
    that was refused is replaced once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._server: RestServer | None = None

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> dict[str, Any]:
        """See `Behind`. Also raises `NotAllowed` and `NotFound` where one cannot sign in or there is no workspace."""
        server = self.server()
        try:
            return server.request(method, path, body, timeout_s=timeout_s, retry=retry)
        except Refused as error:
            if error.status != 401 or os.environ.get(_JOB_TOKEN):
                raise
            self._service.http.credential.token(fresh=True)
        try:
            return server.request(method, path, body, timeout_s=timeout_s, retry=retry)
        except Refused as error:
            if error.status != 401:
                raise
            credential = self._service.http.credential
            clock = clock_sentence(credential.clock_ahead_s)
            raise NotAllowed(
                f"The token of {credential.winner} is refused by the workspace {self._service.name!r}: {error}. {clock}".strip(),
                "Sign in again; AZURE_TENANT_ID names the workspace's tenant. `amlflow doctor` says more.",
            ) from error

    def server(self) -> RestServer:
        if self._server is None:
            self._server = RestServer(
                f"https://{self._service.host}",
                headers=self._headers,
                prefix=f"/mlflow/v2.0{self._service.path}",
                policy=POLICY,
            )
        return self._server

    def _headers(self) -> Mapping[str, str]:
        # Within a job the service has put a token for its own run here, and there may be no other way to sign in.
        given = os.environ.get(_JOB_TOKEN) if os.environ.get("AZUREML_RUN_ID") else ""
        return {"Authorization": f"Bearer {given}"} if given else self._service.http.credential.header()
