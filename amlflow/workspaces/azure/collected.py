"""What Azure ML's data collector has kept of the requests to an endpoint, in the workspace's own datastore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.blobs import contained
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.service import Service

DATASTORE = "workspaceblobstore"
# Where the service's own clients have the collected data of a deployment kept: DEPLOYMENT/COLLECTION/YYYY/MM/DD/HH/*.jsonl below.
FOLDER = "modelDataCollector"


def place(endpoint: str, deployment: str, collection: str) -> str:
    return f"azureml://datastores/{DATASTORE}/paths/{FOLDER}/{segment(endpoint)}/{segment(deployment)}/{collection}"


def download(service: Service, endpoint: str, keep: Callable[[str], bool], destination: Path) -> int:
    """Fetch the files of all the endpoint's deployments whose path, from the deployment on, `keep` takes; one that has grown
    since is fetched again. Returns how many there are."""
    container, prefix = AzureDatastores(service).container(DATASTORE), f"{FOLDER}/{endpoint}/"
    wanted = []
    for blob in container.list(prefix):
        relative = blob.name[len(prefix) :]
        if relative.endswith(".jsonl") and keep(relative):
            wanted.append((blob, contained(destination, relative)))
    for blob, target in wanted:
        if target.is_file() and target.stat().st_size != blob.size_bytes:
            target.unlink()
    return container.download(wanted, lambda done, total: None)
