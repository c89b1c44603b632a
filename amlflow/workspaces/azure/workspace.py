"""An Azure ML workspace: runs and models by MLflow's REST API, the rest by the resource manager."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amlflow import paths
from amlflow.errors import NotSupported
from amlflow.journal.batches import AZURE_ML, Limits
from amlflow.journal.rest import Behind
from amlflow.journal.sinks import Opener
from amlflow.workspaces.azure import clouds
from amlflow.workspaces.azure.arm import Arm
from amlflow.workspaces.azure.auth import VARIABLE, Credential
from amlflow.workspaces.azure.http import Http
from amlflow.workspaces.azure.rest import STORE, AzureClient, AzureRest
from amlflow.workspaces.azure.service import Service
from amlflow.workspaces.base import Artifact
from amlflow.workspaces.server.client import ServerLimits
from amlflow.workspaces.server.rest import RestWorkspace

if TYPE_CHECKING:
    from amlflow.workspaces.abilities import Finding
    from amlflow.workspaces.azure.artifacts import AzureArtifacts
    from amlflow.workspaces.azure.computes import AzureComputes
    from amlflow.workspaces.azure.datastores import AzureDatastores
    from amlflow.workspaces.azure.jobs import AzureJobs

# What the service documents, or was seen to refuse (see the table in the design's azure-wire.md for each).
LIMITS = ServerLimits(
    metrics=250,
    params=100,
    tags=50,
    batch=250,
    runs_page=1000,
    experiments_page=200,
    models_page=200,
    versions_page=200,
    history_page=900,
    bulk_history=False,
    order_by_data=False,
    batch_repeatable=False,
)


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
        super().__init__(AzureClient(self._behind, self.service, LIMITS), name)

    @property
    def tracking_uri(self) -> str:
        return self.service.description().tracking_uri

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

    @property
    def reference(self) -> str:
        service = self.service
        return f"{service.subscription}/{service.group}/{service.name}"

    def behind(self) -> Behind:
        return AzureRest(self.service)

    def limits(self) -> Limits:
        return AZURE_ML

    def sinks(self) -> Mapping[str, Opener]:
        from amlflow.journal import azure

        return azure.opener(AzureRest(self.service, "history/v1.0"), AzureRest(self.service, STORE))

    def login(self) -> Mapping[str, str]:
        return {VARIABLE: self.credential.asked} if self.credential.asked else {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Mapping[str, str]]:
        """A server on 127.0.0.1 that passes requests on: the child gets no token of Azure's, and the one used here is renewed
        for as long as the child runs."""
        from amlflow.journal import attach
        from amlflow.workspaces.local.bridge import Bridge

        token = secrets.token_urlsafe(24)
        with Bridge(AzureRest(self.service), token) as bridge:
            yield {attach.BEHIND: bridge.start(), attach.TOKEN: token}

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

    def delete_model(self, name: str, version: str = "") -> None:
        if not version:
            raise NotSupported(
                f"Azure ML deletes no registered model as a whole, and {name!r} stays.",
                f"Delete its versions, `amlflow model delete {name}:VERSION`; the studio can archive the model.",
            )
        super().delete_model(name, version)

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        return self._artifacts.entries(run_id, path)

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        self._artifacts.keep(self.get_run(run_id), file, folder)

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        return self._artifacts.copy_out(self.get_run(run_id), path, destination)

    def fetch(self, location: str) -> Path:
        return self._artifacts.fetch(location, self.get_run)

    def fetch_file(self, location: str, path: str, destination: Path) -> Path:
        return self._artifacts.fetch_file(location, path, destination, self.get_run)

    @cached_property
    def _artifacts(self) -> AzureArtifacts:
        from amlflow.workspaces.azure.artifacts import AzureArtifacts

        return AzureArtifacts(self.service, self._client, self._behind.server(), AzureRest(self.service, STORE))
