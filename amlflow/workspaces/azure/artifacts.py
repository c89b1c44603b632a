"""Files of runs: listed by MLflow's API, sent and fetched by addresses that the run history hands out."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from amlflow import paths
from amlflow.errors import AmlflowError, NotFound, NotSupported
from amlflow.journal.azure import writable
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import Behind, RestServer
from amlflow.workspaces.azure import arm, blobs
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.job_bodies import datastore_path
from amlflow.workspaces.azure.service import Service
from amlflow.workspaces.base import Artifact, Run
from amlflow.workspaces.local import artifacts as local
from amlflow.workspaces.server.artifacts import Artifacts, files_at
from amlflow.workspaces.server.client import Client, unavailable

_PATHS_A_REQUEST = 500
_OF_RUN = re.compile(r"/runs/(?P<run>[^/]+)/artifacts(?:/(?P<path>.*))?$")
_STORED = re.compile(r"ExperimentRun/dcid\.(?P<run>[^/]+)(?:/(?P<path>.*))?$")


class AzureArtifacts:
    def __init__(self, service: Service, client: Client, server: RestServer, store: Behind) -> None:
        self._service, self._client, self._store = service, client, store
        self._listing = Artifacts(client, server)

    def entries(self, run_id: str, path: str) -> list[Artifact]:
        return self._listing.entries(run_id, path)

    def keep(self, run: Run, file: Path, folder: str) -> None:
        """Keep a file, or a folder with all it holds, below `folder`. Raises `AmlflowError` for a path that is taken: the service
        keeps what it has."""
        base = folder.strip("/")
        files = [(_joined(base, name), one) for one, name in files_at(file)] if file.exists() else []
        if not files:
            raise NotFound(f"There is no file in {str(file)!r} to keep.", "Give a file, or a folder with files.")
        for start in range(0, len(files), _PATHS_A_REQUEST):
            part = files[start : start + _PATHS_A_REQUEST]
            places = self.places(run.experiment_id, run.id, [path for path, _ in part])
            pairs = [(places[path], place) for path, place in part]
            self._client.each(lambda pair: blobs.put_file(self._service.http, *pair), pairs)

    def copy_out(self, run: Run, path: str, destination: Path) -> Path:
        """Fetch what is at `path` into the destination, under its own path; everything for an empty path."""
        asked = path.strip("/")
        found = list(self.addresses(run.experiment_id, run.id, asked))
        if not found:
            known = [item.path for item in self.entries(run.id, asked.rpartition("/")[0])]
            raise NotFound(f"Run {run.id} has no artifact {path!r}.", name=path, known=known)
        self._fetch_all(found, destination)
        return destination / asked if asked else destination

    def fetch(self, location: str, get_run: Callable[[str], Run]) -> Path:
        """The folder of this machine with a copy of what is at the location; made once, as the service changes nothing that it
        keeps. Raises `NotFound`."""
        kept = paths.cache() / "models" / hashlib.sha256(f"{self._service.path} {location}".encode()).hexdigest()[:32]
        if kept.is_dir():
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=kept.parent))
        try:
            below = self._fetch_to(location, fresh, get_run)
            if not below.is_dir() or not any(below.iterdir()):
                raise NotFound(f"There are no files at {location}.", "Log the model again.")
            try:
                below.rename(kept)
            except OSError:
                if not kept.is_dir():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return kept

    def fetch_file(self, location: str, path: str, destination: Path, get_run: Callable[[str], Run]) -> Path:
        """One file below a location, without the others where the location is among a run's artifacts. Raises `NotFound`."""
        match = _OF_RUN.search(location) or _STORED.search(location)
        if match:
            below = _joined(unquote(match["path"] or ""), path)
            return self.copy_out(get_run(unquote(match["run"])), below, destination)
        return local.copy_out(self.fetch(location, get_run), path, destination)

    def _fetch_to(self, location: str, folder: Path, get_run: Callable[[str], Run]) -> Path:
        if location.startswith("models:/"):
            name, _, version = location.removeprefix("models:/").rpartition("/")
            answer = self._client.call("GET", "model-versions/get-download-uri", {"name": name, "version": version})
            location = str(answer.get("artifact_uri") or "")
        if location.startswith("runs:/"):
            run_id, _, path = location.removeprefix("runs:/").partition("/")
            return self.copy_out(get_run(run_id), path, folder)
        match = _OF_RUN.search(location) or _STORED.search(location)
        if match:
            return self.copy_out(get_run(unquote(match["run"])), unquote(match["path"] or ""), folder)
        datastore, path = datastore_path(location)
        if datastore:
            AzureDatastores(self._service).download(datastore, path, folder, lambda _done, _total: None)
            return folder
        if Path(location).is_absolute() and (Path(location) / "MLmodel").is_file():
            shutil.copytree(location, folder, dirs_exist_ok=True)
            return folder
        raise NotSupported(
            f"The location {location!r} is not reached from here.", "`mlflow artifacts download` may know how to."
        )

    def _fetch_all(self, found: Sequence[tuple[str, str]], destination: Path) -> None:
        pairs = [(address, blobs.contained(destination, path)) for path, address in found]
        self._client.each(lambda pair: blobs.get_file(self._service.http, *pair), pairs)

    def places(self, experiment_id: str, run_id: str, wanted: Sequence[str]) -> dict[str, str]:
        """Where to send files of these paths: the service notes the paths, and gives an address for each."""
        answer = self._history(
            "POST", experiment_id, run_id, "batch/metadata", {"paths": [{"path": path} for path in wanted]}
        )
        given = dict(answer.get("artifactContentInformation") or {})
        for path, error in (answer.get("errors") or {}).items():
            if not self._has_content(experiment_id, run_id, path):
                # Noted by an earlier attempt whose answer was lost.
                given[path] = {"contentUri": self._writable(run_id, path)}
                continue
            reason = (error.get("error") or error).get("message") or "no reason was given"
            raise AmlflowError(f"The artifact {path!r} of run {run_id} cannot be kept: {reason}", "Give another name.")
        places = {path: str((given.get(path) or {}).get("contentUri") or "") for path in wanted}
        missing = next((path for path, address in places.items() if not address), "")
        if missing:
            raise AmlflowError(f"Azure named no place for the artifact {missing!r} of run {run_id}.")
        return places

    def addresses(self, experiment_id: str, run_id: str, path: str) -> Iterator[tuple[str, str]]:
        """The paths of the files at or below `path`, with the address of each."""
        token = ""
        while True:
            query = {"path": path, **({"continuationToken": token} if token else {})}
            answer = self._history("GET", experiment_id, run_id, "prefix/contentinfo", query)
            for item in answer.get("value") or []:
                name = str(item.get("path") or "")
                if not path or name == path or name.startswith(f"{path}/"):
                    yield name, str(item.get("contentUri") or "")
            following = str(answer.get("continuationToken") or "")
            if not following or following == token:
                return
            token = following

    def _has_content(self, experiment_id: str, run_id: str, path: str) -> bool:
        address = next((found for name, found in self.addresses(experiment_id, run_id, path) if name == path), "")
        try:
            return bool(address) and blobs.Container(self._service.http, address).facts("") is not None
        except NotFound:
            return False

    def _writable(self, run_id: str, path: str) -> str:
        try:
            return writable(self._store, run_id, path)
        except Refused as error:
            raise self._client.refused(error) from error
        except Unreachable as error:
            raise unavailable(error) from error

    def _history(
        self, method: str, experiment_id: str, run_id: str, route: str, content: dict[str, Any]
    ) -> dict[str, Any]:
        base = self._service.data_plane("history/v1.0")
        url = f"{base}/experimentids/{arm.segment(experiment_id)}/runs/{arm.segment(run_id)}/artifacts/{route}"
        http = self._service.http
        if method == "GET":
            answer = http.send("GET", url, params=content)
        else:
            answer = http.send(method, url, body=content)
        if not 200 <= answer.status_code < 300:
            credential = http.credential
            raise arm.refusal(answer, f"artifacts of run {run_id}", credential.clock_ahead_s, credential.winner)
        return self._service.arm.content(answer)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
