"""Datastores of an Azure ML workspace, and the files in those that are blob containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from amlflow.errors import AmlflowError, NotAllowed, NotFound, NotSupported
from amlflow.workspaces.abilities import Datastore, Progress, StoredFile
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.blobs import Container, contained, nothing_at
from amlflow.workspaces.azure.service import Service, or_nearest

API = "2024-10-01-preview"
_SAS_HOURS = 8
_KINDS = {
    "azureblob": "blob",
    "azuredatalakegen2": "adls-gen2",
    "azuredatalakegen1": "adls-gen1",
    "azurefile": "file-share",
}


class AzureDatastores:
    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm
        self._containers: dict[str, Container] = {}

    def list(self) -> list[Datastore]:
        found = self._arm.pages(f"{self._service.path}/datastores", API, "list of datastores", count=100)
        return [self._datastore(item) for item in found]

    def get(self, name: str) -> Datastore:
        return self._datastore(self._record(name))

    def files(self, name: str, path: str, recursive: bool = False) -> Iterator[StoredFile]:
        prefix = path.strip("/")
        container = self._container(name)
        found = False
        for blob in container.list(f"{prefix}/" if prefix else "", recursive):
            found = True
            yield StoredFile(blob.name.rstrip("/"), blob.is_folder, *_facts(blob))
        if found or not prefix:
            return
        for blob in container.list(prefix):
            if blob.name == prefix:
                yield StoredFile(blob.name, False, *_facts(blob))
                return
        raise nothing_at(f"datastore {name!r}" if name else "the default datastore", path)

    def upload(self, name: str, source: Path, path: str, progress: Progress) -> int:
        prefix = path.strip("/")
        if source.is_file():
            target = f"{prefix}/{source.name}" if path.endswith("/") or not prefix else prefix
            files = [(target, source)]
        elif source.is_dir():
            files = [
                (f"{prefix}/{item.relative_to(source).as_posix()}".lstrip("/"), item)
                for item in sorted(source.rglob("*"))
                if item.is_file()
            ]
        else:
            raise NotFound(
                f"There is no file or folder {str(source)!r}.", "A relative path begins in the current folder."
            )
        if not files:
            raise AmlflowError(f"The folder {str(source)!r} holds no file to upload.")
        return self._container(name).upload(files, progress)

    def download(self, name: str, path: str, destination: Path, progress: Progress) -> int:
        prefix = path.strip("/")
        container = self._container(name)
        blobs = [blob for blob in container.list(f"{prefix}/" if prefix else "") if not blob.name.endswith("/")]
        pairs = [(blob, contained(destination, blob.name[len(prefix) :].lstrip("/"))) for blob in blobs]
        if not pairs:
            pairs = [
                (blob, contained(destination, prefix.rsplit("/", 1)[-1]))
                for blob in container.list(prefix)
                if blob.name == prefix
            ]
        if not pairs:
            raise nothing_at(f"datastore {name!r}" if name else "the default datastore", path)
        return container.download(pairs, progress)

    def uri(self, name: str, path: str) -> str:
        """How a job's input names a path of a datastore."""
        return f"{self.get(name).uri}{path.strip('/')}"

    def container(self, name: str) -> Container:
        return self._container(name)

    def _record(self, name: str) -> dict[str, Any]:
        if not name:
            query = {"count": 1, "isDefault": True}
            found = next(self._arm.pages(f"{self._service.path}/datastores", API, "default datastore", **query), None)
            if found is None:
                raise NotFound(f"The workspace {self._service.name!r} has no default datastore.", "Name one.")
            return found
        return or_nearest(
            lambda: self._arm.get(self._path(name), API, f"datastore {name!r}"),
            name,
            lambda: (datastore.name for datastore in self.list()),
            "`amlflow datastore list` shows them.",
        )

    def _container(self, name: str) -> Container:
        if name not in self._containers:
            record = self._record(name)
            self._containers[name] = Container(self._service.http, self._container_url(record))
        return self._containers[name]

    def _container_url(self, record: Mapping[str, Any]) -> str:
        """With the right to it as a query where the workspace has one to give; without, for the signed-in account's own."""
        properties = record.get("properties") or {}
        kind = _KINDS.get(str(properties.get("datastoreType", "")).lower(), "")
        name = str(record.get("name"))
        if kind not in ("blob", "adls-gen2"):
            raise NotSupported(
                f"Datastore {name!r} is of the type {properties.get('datastoreType')}, whose files are not reached from here.",
                "Blob containers and Data Lake Gen2 are; use the Azure CLI for this one.",
            )
        url = self._plain_url(properties)
        sign_in = str((properties.get("credentials") or {}).get("credentialsType") or "None")
        if sign_in.lower() not in ("accountkey", "sas"):
            return url
        try:
            answer = self._arm.post(
                f"{self._path(name)}/listSecrets",
                API,
                f"the key of datastore {name!r}",
                {"expirableSecret": True, "expireAfterHours": _SAS_HOURS},
            )
        except NotAllowed:
            # Who may not see the key may still have been given the data.
            return url
        secrets = self._arm.content(answer)
        if token := secrets.get("sasToken"):
            return f"{url}?{str(token).lstrip('?')}"
        if key := secrets.get("key"):
            return f"{url}?{_signed(properties, str(key))}"
        return url

    def _plain_url(self, properties: Mapping[str, Any]) -> str:
        account = str(properties.get("accountName"))
        container = str(properties.get("containerName") or properties.get("filesystem"))
        endpoint = str(properties.get("endpoint") or self._service.http.credential.cloud.storage_suffix)
        protocol = str(properties.get("protocol") or "https")
        address = urlsplit(f"{protocol}://{account}.blob.{endpoint.strip('/')}/{quote(container)}")
        # A storage service that no name leads to hides what stands for the name in the address's user part.
        return urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))

    def _datastore(self, record: Mapping[str, Any]) -> Datastore:
        properties = record.get("properties") or {}
        raw = str(properties.get("datastoreType", ""))
        name = str(record.get("name"))
        known = any(properties.get(key) for key in ("containerName", "filesystem"))
        location = self._plain_url(properties) if known else str(properties.get("fileShareName") or "")
        return Datastore(
            name,
            _KINDS.get(raw.lower(), raw),
            bool(properties.get("isDefault")),
            location,
            f"azureml://datastores/{name}/paths/",
            str((properties.get("credentials") or {}).get("credentialsType") or "None"),
        )

    def _path(self, name: str) -> str:
        return f"{self._service.path}/datastores/{segment(name)}"


def _facts(blob: Any) -> tuple[int | None, int | None]:
    return (None, None) if blob.is_folder else (blob.size_bytes, blob.modified_ms)


def _signed(properties: Mapping[str, Any], key: str) -> str:
    """A right of some hours made of the account's key, which then goes over no wire."""
    from datetime import datetime, timedelta, timezone

    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return str(
        generate_container_sas(
            account_name=str(properties.get("accountName")),
            container_name=str(properties.get("containerName") or properties.get("filesystem")),
            account_key=key,
            permission=ContainerSasPermissions(read=True, write=True, list=True, create=True, add=True),
            expiry=datetime.now(timezone.utc) + timedelta(hours=_SAS_HOURS),
        )
    )
