"""An MLflow tracking server as a workspace, by its address. Jobs and endpoints stay on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from amlflow import paths
from amlflow.errors import AmlflowError, NotAllowed, UsageError
from amlflow.journal.batches import OPEN_SOURCE, Limits
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import Behind, RestServer
from amlflow.journal.retry import RetryPolicy
from amlflow.journal.sinks import Opener
from amlflow.workspaces.base import Artifact
from amlflow.workspaces.server.artifacts import Artifacts
from amlflow.workspaces.server.client import Client, unavailable
from amlflow.workspaces.server.rest import RestWorkspace

# Somebody waits at a terminal: a server that is down is told of within seconds.
_POLICY = RetryPolicy(most=3, base_s=0.25, cap_s=2.0, deadline_s=6.0)


class ServerWorkspace(RestWorkspace):
    """`url` may hold `user:password@`, which is used and never shown; else MLflow's own variables say who asks. Nothing is
    asked before it is needed. Raises `UsageError` or `NotAllowed` for an address or credentials that cannot be used."""

    kind: Literal["mlflow"] = "mlflow"

    def __init__(self, url: str) -> None:
        try:
            self._server = RestServer(url, policy=_POLICY)
        except Refused as error:
            kind = NotAllowed if error.code == "INVALID_CREDENTIALS" else UsageError
            raise kind(error.message, "Look at -w and the MLFLOW_TRACKING_* variables.") from error
        super().__init__(Client(self._server, f"The server {self._server.url}"), self._server.url)
        self._artifacts = Artifacts(self._client, self._server)

    @property
    def tracking_uri(self) -> str:
        return self._server.url

    def state_folder(self) -> Path:
        folder = paths.server(self._server.url)
        for place in (folder.parent, folder):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    @property
    def reference(self) -> str:
        return self._server.url

    def behind(self) -> Behind:
        return RestServer(self._server.url, credentials=self._server.credentials)

    def limits(self) -> Limits:
        return OPEN_SOURCE

    def sinks(self) -> Mapping[str, Opener]:
        return {}

    def login(self) -> Mapping[str, str]:
        if not (self._server.user or self._server.password):
            return {}
        return {"MLFLOW_TRACKING_USERNAME": self._server.user, "MLFLOW_TRACKING_PASSWORD": self._server.password}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Mapping[str, str]]:
        from amlflow.journal import attach

        yield {attach.BEHIND: self._server.url, **self.login()}

    def describe(self) -> dict[str, Any]:
        """Whether the server answers, which MLflow it runs, and what is in the way where something is."""
        facts: dict[str, Any] = {"answers": False, "mlflow": "", "problem": ""}
        try:
            facts["mlflow"] = _version(self._server)
            self._client.call("POST", "experiments/search", {"max_results": 1})
            facts["answers"] = True
        except AmlflowError as error:
            facts["problem"] = error.paragraph()
        return facts

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        return self._artifacts.entries(run_id, path)

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        self._artifacts.keep(self.get_run(run_id).artifact_uri, file, folder)

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        return self._artifacts.copy_out(self.get_run(run_id).artifact_uri, path, destination)

    def download_files(self, run_id: str, paths: Sequence[str], destination: Path) -> None:
        self._artifacts.copy_files(self.get_run(run_id).artifact_uri, paths, destination)

    def fetch(self, location: str) -> Path:
        if Path(location).is_absolute() and (Path(location) / "MLmodel").is_file():
            return Path(location)
        return self._artifacts.fetch(self._stored(location))

    def fetch_file(self, location: str, path: str, destination: Path) -> Path:
        return self._artifacts.copy_out(location, path, destination)


def _version(server: RestServer) -> str:
    """Of the MLflow that answers; empty where it does not say."""
    try:
        said = server.text("/version").strip()
    except Refused:
        return ""
    except Unreachable as error:
        raise unavailable(error) from error
    return said if len(said) < 40 and said[:1].isdigit() else ""
