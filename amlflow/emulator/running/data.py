"""Addresses of data, and what is behind them: folders for a job's inputs, blobs for its outputs."""

from __future__ import annotations

import re
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from amlflow.emulator.arm.assets import DATA, Assets
from amlflow.emulator.arm.datastores import ARTIFACTS, Datastores
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.blobs import Blobs
from amlflow.emulator.settings import HOST, STORAGE_ACCOUNT
from amlflow.emulator.store import Document
from amlflow.emulator.web import ServiceError

# The emulator's own storage, whatever port it had when the address was written.
_OWN = re.compile(rf"https://(?:[^/@]*@)?{HOST}:\d+/{STORAGE_ACCOUNT}/(?P<container>[^/?]+)(?:/(?P<path>[^?]*))?")
_DATASTORE = re.compile(
    r"azureml:(?://)?(?:.*/)?datastores/(?P<datastore>[^/]+)/(?:paths/)?(?P<path>.*)", re.IGNORECASE
)
_JOB_OUTPUT = re.compile(r"azureml://jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths)?/?(?P<path>.*)")
_RUN = re.compile(r"(?:runs:/|azureml:.*/runs/)(?P<run>[^/]+)/(?:artifacts/)?(?P<path>.*)")
_ASSET = re.compile(
    r"(?:azureml:)?(?:/?.*/)?(?P<kind>data|models)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE
)
_SHORT_ASSET = re.compile(r"azureml:(?P<name>[^:/@]+)(?::(?P<version>[^:/]+)|@latest)")


class BadAddress(Exception):
    """The address leads nowhere."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A place in the storage account: one blob, or all below it."""

    container: str
    path: str


def run_path(run_id: str, path: str = "") -> str:
    """Where a run's artifact is in the workspace's artifact store."""
    return f"ExperimentRun/dcid.{run_id}/{path}".rstrip("/")


class Data:
    def __init__(self, arm: Arm, blobs: Blobs, datastores: Datastores) -> None:
        self._arm, self.blobs, self._datastores = arm, blobs, datastores
        self._assets = Assets(arm, DATA)

    def resource(self, id: str) -> Document | None:
        return self._arm.store.get(id)

    def asset(self, workspace: Document, id: str) -> Document | None:
        """A version of code or of an environment by its id, which begins with the workspace's; None where it is not there."""
        plain = id.removeprefix("azureml:")
        return self._arm.store.get(plain) if plain.lower().startswith(f"{workspace.id}/".lower()) else None

    def locate(self, workspace: Document, uri: str) -> Blob:
        """The blob behind an address of the workspace. Raises `BadAddress`."""
        if match := _OWN.match(uri):
            return Blob(match["container"], unquote(match["path"] or "").strip("/"))
        if match := _JOB_OUTPUT.fullmatch(uri):
            return self._output(workspace, match["job"], match["output"], match["path"])
        if match := _DATASTORE.fullmatch(uri):
            try:
                return Blob(self._datastores.container(workspace, match["datastore"]), match["path"].strip("/"))
            except (ServiceError, KeyError) as error:
                raise BadAddress(f"There is no datastore '{match['datastore']}' with blobs ({uri}).") from error
        if match := _RUN.fullmatch(uri):
            return Blob(self._datastores.container(workspace, ARTIFACTS), run_path(match["run"], match["path"]))
        if match := _ASSET.fullmatch(uri) or _SHORT_ASSET.fullmatch(uri):
            return self.locate(workspace, self._asset_uri(workspace, match.groupdict()))
        raise BadAddress(f"The address '{uri}' is none that the emulator can reach.")

    def fetch(self, workspace: Document, uri: str, folder: Path, is_file: bool) -> Path:
        """What is at the address, as a folder, or as a file in it. Raises `BadAddress`."""
        folder.mkdir(parents=True, exist_ok=True)
        if uri.startswith(("http://", "https://")) and not _OWN.match(uri):
            return self._download(uri, folder)
        blob = self.locate(workspace, uri)
        if not self.blobs.download(blob.container, blob.path, folder):
            raise BadAddress(f"There is nothing at '{uri}'.")
        return folder / PurePosixPath(blob.path).name if is_file else folder

    def keep(self, workspace: Document, uri: str, source: Path) -> None:
        """Put a folder's content, or a file, where the address says."""
        blob = self.locate(workspace, uri)
        if source.is_file():
            self.blobs.upload_file(blob.container, blob.path, source)
        elif source.is_dir():
            self.blobs.upload(blob.container, blob.path, source)

    def _output(self, workspace: Document, job: str, output: str, path: str) -> Blob:
        if output in ("artifacts", "default"):
            return Blob(self._datastores.container(workspace, ARTIFACTS), run_path(job, path))
        found = self._arm.store.get(f"{workspace.id}/jobs/{job}")
        uri = ((found.body["properties"].get("outputs") or {}).get(output) or {}).get("uri") if found else None
        if not uri:
            raise BadAddress(f"The job '{job}' has no output '{output}'.")
        blob = self.locate(workspace, uri)
        return Blob(blob.container, f"{blob.path}/{path}".strip("/"))

    def _asset_uri(self, workspace: Document, named: dict[str, Any]) -> str:
        try:
            found = self._assets.find_version(workspace, named["name"], named.get("version") or "latest")
        except ServiceError as error:
            raise BadAddress(f"There is no data asset '{named['name']}:{named.get('version') or 'latest'}'.") from error
        return str(found.body["dataUri"])

    def _download(self, uri: str, folder: Path) -> Path:
        target = folder / (PurePosixPath(urlsplit(uri).path).name or "download")
        try:
            with urllib.request.urlopen(uri, timeout=60) as source, target.open("wb") as sink:  # noqa: S310
                shutil.copyfileobj(source, sink)
        except (OSError, ValueError) as error:
            raise BadAddress(f"'{uri}' cannot be fetched: {error}.") from error
        return target
