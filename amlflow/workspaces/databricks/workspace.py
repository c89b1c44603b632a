"""A Databricks workspace as a place for runs and models, and for jobs on its clusters. Endpoints stay on this machine."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amlflow import paths
from amlflow.errors import AmlflowError, NotAllowed
from amlflow.journal.batches import OPEN_SOURCE, Limits
from amlflow.journal.errors import Refused
from amlflow.journal.rest import Behind
from amlflow.journal.retry import RetryPolicy
from amlflow.journal.sinks import Opener
from amlflow.workspaces.base import Artifact, ModelVersion
from amlflow.workspaces.databricks.access import MEND, Access
from amlflow.workspaces.databricks.artifacts import DatabricksSink, Files
from amlflow.workspaces.databricks.programs import ProgramsRest
from amlflow.workspaces.databricks.registries import Registries
from amlflow.workspaces.databricks.rest import DatabricksRest
from amlflow.workspaces.local import artifacts
from amlflow.workspaces.server.artifacts import Artifacts
from amlflow.workspaces.server.client import Client, ServerLimits, sentence
from amlflow.workspaces.server.rest import RestWorkspace

if TYPE_CHECKING:
    from amlflow.workspaces.databricks.cluster_jobs import ClusterJobs

_POLICY = RetryPolicy(most=4, base_s=0.25, cap_s=2.0, deadline_s=10.0)
# The route for the histories of many runs at once is that of the open-source server alone.
_LIMITS = ServerLimits(bulk_history=False)


class DatabricksClient(Client):
    def refused(self, error: Refused) -> AmlflowError:
        if error.status not in (401, 403):
            return super().refused(error)
        if error.code == "NO_CREDENTIALS":
            return NotAllowed(error.message)
        if error.status == 401:
            return NotAllowed(f"{self.shown} does not know who asks: {sentence(error.message)}", MEND)
        return NotAllowed(
            f"{self.shown} does not let you do this: {error}.",
            "Ask for the right on the experiment, or sign in as somebody else: DATABRICKS_TOKEN, or `-w databricks://PROFILE`.",
        )


class DatabricksWorkspace(RestWorkspace):
    """Nothing is asked, and nobody signed in, before it is needed."""

    kind: Literal["databricks"] = "databricks"

    def __init__(self, profile: str = "") -> None:
        self._asked = f"databricks://{profile}" if profile else "databricks"
        self.access = Access(profile)
        self._rest = DatabricksRest(self.access, _POLICY)
        super().__init__(DatabricksClient(self._rest, f"Databricks ({self._asked})", _LIMITS), self._asked)
        self._files = Files(self.access)
        self._registries = self._models = Registries(self._client, self.name, self.access)

    @cached_property
    def jobs(self) -> ClusterJobs:
        from amlflow.workspaces.databricks.cluster_jobs import ClusterJobs

        return ClusterJobs(self, self.access)

    def away(self, timeout_s: float) -> str:
        with contextlib.suppress(AmlflowError):
            # To find out who asks may take longer than an answer may.
            self.access.headers()
        return super().away(timeout_s)

    @property
    def tracking_uri(self) -> str:
        return self._asked

    @property
    def reference(self) -> str:
        return self._asked

    def state_folder(self) -> Path:
        # By the host: the same variables name another workspace in another shell.
        folder = paths.server(self.access.host)
        for place in (folder.parent, folder):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def behind(self) -> Behind:
        return ProgramsRest(self)

    def limits(self) -> Limits:
        return OPEN_SOURCE

    def sinks(self) -> Mapping[str, Opener]:
        return {"dbfs": lambda root, behind: DatabricksSink(root, self.access)}

    def login(self) -> Mapping[str, str]:
        return {"DATABRICKS_CONFIG_PROFILE": self.access.profile} if self.access.profile else {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Mapping[str, str]]:
        """A server on 127.0.0.1 that passes requests on, so that a token is renewed for as long as the child runs."""
        from amlflow.journal import attach
        from amlflow.workspaces.local.bridge import Bridge

        token = secrets.token_urlsafe(24)
        with Bridge(ProgramsRest(self), token) as bridge:
            yield {attach.BEHIND: bridge.start(), attach.TOKEN: token, **self.login()}

    def describe(self) -> dict[str, Any]:
        """Whether it answers, who asks, and what is in the way where something is."""
        facts: dict[str, Any] = {"host": "", "answers": False, "account": "", "problem": ""}
        try:
            facts["host"] = self.access.host
            self._client.call("POST", "experiments/search", {"max_results": 1})
            facts["answers"] = True
            facts["account"] = str(self._client.call("GET", "/api/2.0/preview/scim/v2/Me").get("userName") or "")
        except AmlflowError as error:
            facts["problem"] = error.paragraph()
        return facts

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        return Artifacts(self._client, self._rest.server).entries(run_id, path)

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        self._files.keep(self.get_run(run_id).artifact_uri, file, folder)

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        root = self.get_run(run_id).artifact_uri
        near = self.list_artifacts(run_id, path.strip("/").rpartition("/")[0]) if path.strip("/") else []
        return self._files.copy_out(root, path, destination, near)

    def in_catalog(self, name: str) -> bool:
        """Whether a model of that name is one of Unity Catalog. Raises `UsageError` for what the chosen registry cannot have."""
        return self._registries.in_catalog(name)

    def create_model_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        if not self.in_catalog(name):
            return super().create_model_version(name, source, run_id, description, tags)
        is_folder = not source.startswith(("models:/", "runs:/")) and Path(source).is_dir()
        recorded, run_id = (source, run_id) if is_folder else self._registrable(name, source, run_id)
        folder = Path(source) if is_folder else self.fetch(recorded)
        return self._registries.catalog.create(name, recorded, run_id, description, tags, folder)

    def fetch(self, location: str) -> Path:
        if Path(location).is_absolute() and (Path(location) / "MLmodel").is_file():
            return Path(location)
        if self._is_catalogued(location):
            catalog = self._registries.catalog
            return self._files.fetch(catalog.stored_at(location), lambda: catalog.repository(location))
        return self._files.fetch(self._stored(location))

    def fetch_file(self, location: str, path: str, destination: Path) -> Path:
        return artifacts.copy_out(self.fetch(location), path, destination)

    def _is_catalogued(self, location: str) -> bool:
        if not location.startswith("models:/") or location.startswith("models:/m-"):
            return False
        return self._registries.in_catalog(location.removeprefix("models:/").rpartition("/")[0])
