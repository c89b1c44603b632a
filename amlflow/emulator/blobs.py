"""The storage account: containers, signed addresses, and files going in and out."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from amlflow.emulator import certificates
from amlflow.emulator.settings import STORAGE_ACCOUNT, Settings
from amlflow.emulator.web import arm_error

READ, WRITE, ALL = "rl", "rcwl", "racwdl"
_SAS_LIFETIME_S = 86_400


class Blobs:
    """`running` is False where the emulator was started without blobs: every call is refused then."""

    def __init__(self, settings: Settings, place: Path, running: bool) -> None:
        self._settings, self._authority, self.running = settings, place / certificates.AUTHORITY, running

    def container_url(self, container: str) -> str:
        return f"{self._settings.storage_url}/{container}"

    def container_sas(self, container: str, permission: str = ALL, lifetime_s: int = _SAS_LIFETIME_S) -> str:
        """A signature that lets who has it at one container, without the question mark."""
        from azure.storage.blob import generate_container_sas

        self._check()
        now = datetime.now(timezone.utc)
        made: str = generate_container_sas(
            STORAGE_ACCOUNT,
            container,
            account_key=self._settings.storage_key,
            permission=permission,
            start=now - timedelta(minutes=10),
            expiry=now + timedelta(seconds=lifetime_s),
        )
        return made

    def signed_url(self, container: str, name: str, permission: str = "r", lifetime_s: int = _SAS_LIFETIME_S) -> str:
        """An address that lets who has it at one blob, in the form of the cloud: `https://ACCOUNT.blob.SUFFIX/…`, by which
        clients tell the service's own storage from foreign addresses."""
        from azure.storage.blob import generate_blob_sas

        self._check()
        now = datetime.now(timezone.utc)
        sas = generate_blob_sas(
            STORAGE_ACCOUNT,
            container,
            name,
            account_key=self._settings.storage_key,
            permission=permission,
            start=now - timedelta(minutes=10),
            expiry=now + timedelta(seconds=lifetime_s),
        )
        return f"https://{STORAGE_ACCOUNT}.blob.{self._settings.storage_suffix}/{container}/{quote(name)}?{sas}"

    def ensure_container(self, container: str) -> None:
        from azure.core.exceptions import ResourceExistsError

        self._check()
        try:
            self._service.create_container(container)
        except ResourceExistsError:
            return

    def put(self, container: str, name: str, content: bytes) -> None:
        self._client(container).upload_blob(name, content, overwrite=True)

    def upload(self, container: str, prefix: str, folder: Path) -> None:
        """All files below the folder, under the prefix."""
        client = self._client(container)
        for file in sorted(item for item in folder.rglob("*") if item.is_file() and not item.is_symlink()):
            name = str(PurePosixPath(prefix) / file.relative_to(folder).as_posix())
            with file.open("rb") as source:
                client.upload_blob(name, source, overwrite=True)

    def upload_file(self, container: str, name: str, file: Path) -> None:
        with file.open("rb") as source:
            self._client(container).upload_blob(name, source, overwrite=True)

    def begin_log(self, container: str, name: str) -> None:
        """An empty blob that is appended to."""
        self._client(container).get_blob_client(name).create_append_blob()

    def append_log(self, container: str, name: str, chunk: bytes) -> None:
        self._client(container).get_blob_client(name).append_block(chunk)

    def get(self, container: str, name: str) -> bytes | None:
        """The blob's content; None where there is none."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return bytes(self._client(container).download_blob(name).readall())
        except ResourceNotFoundError:
            return None

    def entries(self, container: str, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Names and sizes below the prefix."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            for item in self._client(container).list_blobs(name_starts_with=prefix):
                yield item.name, item.size
        except ResourceNotFoundError:
            return

    def download(self, container: str, prefix: str, folder: Path) -> int:
        """What is below the prefix into the folder, contained in it; the number of files. A blob of just that name counts as a
        file of its last part."""
        client, count = self._client(container), 0
        stem = prefix.strip("/")
        for name, _ in list(self.entries(container, stem)):
            if name != stem and stem and not name.startswith(f"{stem}/"):
                continue
            relative = PurePosixPath(name).name if name == stem else name[len(stem) :].lstrip("/")
            target = folder / relative
            if not target.resolve().is_relative_to(folder.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                client.download_blob(name).readinto(sink)
            count += 1
        return count

    def _check(self) -> None:
        if not self.running:
            raise arm_error(
                503,
                "StorageUnavailable",
                "The emulator was started with --no-blobs: it has no storage. Start it without.",
            )

    def _client(self, container: str) -> Any:
        self._check()
        return self._service.get_container_client(container)

    @functools.cached_property
    def _service(self) -> Any:
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(
            self._settings.storage_url,
            credential={"account_name": STORAGE_ACCOUNT, "account_key": self._settings.storage_key},
            connection_verify=str(self._authority),
        )
