"""What Azure ML's data collector has kept of the requests to an endpoint, in the workspace's own datastore."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from amlflow import paths
from amlflow.errors import NotFound
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.blobs import contained
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.service import Service

DATASTORE = "workspaceblobstore"
# Where the service's own clients have the collected data of a deployment kept: DEPLOYMENT/COLLECTION/YYYY/MM/DD/HH/*.jsonl below.
FOLDER = "modelDataCollector"


@dataclass(frozen=True, slots=True)
class Storage:
    """The blob container of the datastore: its address, its ARM id, and the resource that tokens for it are of."""

    url: str
    id: str
    resource: str


def storage(service: Service) -> Storage:
    """Raises `NotFound` where Azure names no storage account for the workspace."""
    account = str((service.read().get("properties") or {}).get("storageAccount") or "")
    if not account:
        raise NotFound(f"The workspace {service.name!r} has no storage account.")
    url = AzureDatastores(service).get(DATASTORE).location
    container = unquote(url.rpartition("/")[2])
    resource = service.http.credential.cloud.storage_scope.removesuffix(".default")
    return Storage(url, f"{account}/blobServices/default/containers/{container}", resource)


def place(endpoint: str, deployment: str, collection: str) -> str:
    return f"azureml://datastores/{DATASTORE}/paths/{prefix(endpoint, deployment)}/{collection}"


def prefix(endpoint: str, deployment: str) -> str:
    """What the names of the blobs of a deployment begin with."""
    return f"{FOLDER}/{segment(endpoint)}/{segment(deployment)}"


def cached(service: Service, endpoint: str, keep: Callable[[str], bool]) -> Path:
    """A folder of this machine with what the endpoint has collected. Files are fetched whose path, from the deployment on,
    `keep` takes; what was fetched before stays there."""
    mark = hashlib.sha256(f"{service.path}/{endpoint}".lower().encode()).hexdigest()[:16]
    folder = paths.cache() / "collected" / mark
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _download(service, endpoint, keep, folder)
    return folder


def _download(service: Service, endpoint: str, keep: Callable[[str], bool], destination: Path) -> None:
    """One that has grown since is fetched again."""
    container, start = AzureDatastores(service).container(DATASTORE), f"{FOLDER}/{endpoint}/"
    wanted = []
    for blob in container.list(start):
        relative = blob.name[len(start) :]
        if relative.endswith(".jsonl") and keep(relative):
            wanted.append((blob, contained(destination, relative)))
    for blob, target in wanted:
        if target.is_file() and target.stat().st_size != blob.size_bytes:
            target.unlink()
    container.download(wanted, lambda done, total: None)
