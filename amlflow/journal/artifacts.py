"""Artifacts of programs whose workspace is elsewhere: written to the journal's spool, read from it or from where they have gone.

MLflow finds this repository by the scheme of the addresses that `locations` gives out.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path

from . import azure, spool
from .errors import Refused, Unreachable
from .folder import GENERAL
from .locations import Place, is_local
from .router import Router

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class SpoolRepository(ArtifactRepository):  # type: ignore[misc]
    """One place of a workspace. Files that were written here and have not gone yet are listed and read too."""

    def __init__(self, artifact_uri: str, router: Router, place: Place) -> None:
        super().__init__(artifact_uri)
        self._router, self._place = router, place

    def log_artifact(self, local_file: str, artifact_path: Optional[str] = None) -> None:
        self._keep(Path(local_file), artifact_path or "")

    def log_artifacts(self, local_dir: str, artifact_path: Optional[str] = None) -> None:
        root = Path(local_dir)
        for folder, _, names in os.walk(root):
            below = Path(folder).relative_to(root).as_posix()
            for name in sorted(names):
                self._keep(Path(folder) / name, posixpath.normpath(posixpath.join(artifact_path or "", below)))

    def list_artifacts(self, path: Optional[str] = None) -> List[FileInfo]:
        folder = path or ""
        found = {item.path: item for item in self._behind(folder)}
        prefix = f"{self._path(folder)}/".lstrip("/")
        for name, (_, size) in self._spooled().items():
            if not name.startswith(prefix) or name == prefix.rstrip("/"):
                continue
            first, _, deeper = name[len(prefix) :].partition("/")
            shown = posixpath.join(folder, first)
            found[shown] = FileInfo(shown, bool(deeper), None if deeper else size)
        return [found[name] for name in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        name = self._path(remote_file_path)
        spooled = self._spooled().get(name)
        if spooled is not None:
            # It may have been sent and removed since it was listed.
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self._run_folder().spool / spooled[0], local_path)
                return
        self._fetch(name, local_path)

    def _keep(self, file: Path, folder: str) -> None:
        path = self._path(posixpath.join("" if folder == "." else folder, file.name))
        if any(part in ("..", "") for part in path.split("/")):
            raise MlflowException(
                f"The artifact path {path!r} leads out of the run's artifacts.", error_code=INVALID_PARAMETER_VALUE
            )
        run = self._router.general(self._place.run_id)
        try:
            spool.keep(run.folder, run.append, file, path, "" if self._place.of_run else self._place.real)
        except OSError as error:
            raise MlflowException(f"The artifact {path!r} cannot be kept: {error.strerror or error}.") from error

    def _run_folder(self) -> Any:
        return self._router.general(self._place.run_id).folder

    def _spooled(self) -> Dict[str, Tuple[str, int]]:
        folder = self._router.journal.run(self._place.run_id or GENERAL)
        if not folder.exists():
            return {}
        run = self._router.open(folder.id).view()
        return run.files if self._place.of_run else run.placed.get(self._place.real, {})

    def _path(self, path: str) -> str:
        return posixpath.join(self._place.path, path).strip("/") if path else self._place.path

    def _real(self) -> str:
        """Where the place is in the workspace; empty for a run that is not there yet."""
        place = self._router.locations.place(self.artifact_uri)
        return place.real if place else ""

    def _behind(self, path: str) -> Iterator[FileInfo]:
        real = self._real()
        if not real or self._router.offline:
            return
        name = self._path(path)
        proxied = proxy_path(real)
        if proxied is None:
            on_azure = self._on_azure(real, path, name)
            yield from _foreign(real).list_artifacts(name or None) if on_azure is None else on_azure
            return
        try:
            answer = self._router.ask("GET", PROXY, {"path": posixpath.join(proxied, name) if name else proxied})
        except Refused as error:
            if error.status != 404:
                raise
            return
        except Unreachable:
            if not self._spooled():
                raise
            return
        for item in answer.get("files", []):
            shown = posixpath.join(path, posixpath.basename(item["path"]))
            size = None if item.get("is_dir") else int(item.get("file_size", 0))
            yield FileInfo(shown, bool(item.get("is_dir")), size)

    def _on_azure(self, real: str, path: str, name: str) -> Optional[List[FileInfo]]:
        """The entries of a folder of a run in Azure ML; None where it is none."""
        found = azure.reader(real, self._router.behind) if self._router.behind is not None else None
        if found is None:
            return None
        sink, root = found
        asked = posixpath.join(root, name).strip("/")
        body = {"run_id": sink.run_id, **({"path": asked} if asked else {})}
        answer = self._router.ask("GET", "/api/2.0/mlflow/artifacts/list", body)
        return [
            FileInfo(
                posixpath.join(path, posixpath.basename(item["path"].rstrip("/"))),
                bool(item.get("is_dir")),
                None if item.get("is_dir") else int(item.get("file_size") or 0),
            )
            for item in answer.get("files") or []
            if item["path"].rstrip("/") != asked
        ]

    @staticmethod
    def _fetch_azure(sink: azure.AzureMlSink, path: str, local_path: str) -> None:
        try:
            address = next((address for name, address in sink.addresses(path) if name == path), "")
            if address:
                sink.fetch(address, Path(local_path))
        except (Refused, Unreachable) as error:
            raise MlflowException(f"The artifact {path!r} cannot be fetched: {error}") from error
        if not address:
            raise MlflowException(f"There is no artifact {path!r}.", error_code=RESOURCE_DOES_NOT_EXIST)

    def _fetch(self, name: str, local_path: str) -> None:
        real = self._real()
        if not real or self._router.behind is None:
            raise MlflowException(f"There is no artifact {name!r}.", error_code=RESOURCE_DOES_NOT_EXIST)
        proxied = proxy_path(real)
        on_azure = azure.reader(real, self._router.behind)
        if on_azure is not None:
            sink, root = on_azure
            self._fetch_azure(sink, posixpath.join(root, name).strip("/"), local_path)
            return
        if proxied is None:
            got = _foreign(real).download_artifacts(name, str(Path(local_path).parent))
            if os.path.abspath(got) != os.path.abspath(local_path):
                shutil.move(got, local_path)
            return
        download = getattr(self._router.behind, "download", None)
        if download is None:
            raise MlflowException(f"There is no artifact {name!r}.", error_code=RESOURCE_DOES_NOT_EXIST)
        try:
            download(f"{PROXY}/{posixpath.join(proxied, name)}", Path(local_path))
        except (Refused, Unreachable) as error:
            raise MlflowException(f"The artifact {name!r} cannot be fetched: {error}") from error


def repository(artifact_uri: str, router: Router) -> ArtifactRepository:
    """The repository of an address of this journal. Raises `MlflowException` for any other."""
    place = router.locations.place(artifact_uri)
    if place is None:
        raise MlflowException(f"{artifact_uri!r} is of another journal.", error_code=INVALID_PARAMETER_VALUE)
    if place.real and is_local(place.real):
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        return LocalArtifactRepository(posixpath.join(place.real, place.path) if place.path else place.real)
    return SpoolRepository(artifact_uri, router, place)


def names(router: Router, address: str) -> List[str]:
    """What stands in one folder. Raises `OSError` where it cannot be asked for."""
    try:
        return [posixpath.basename(item.path) for item in repository(address, router).list_artifacts()]
    except (MlflowException, Refused, Unreachable) as error:
        raise OSError(str(error)) from error


def read_file(router: Router, address: str) -> str:
    """The text of one artifact. Raises `OSError` where it cannot be had."""
    folder, _, name = address.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="amlflow-") as temporary:
        target = Path(temporary) / name
        try:
            repository(folder, router)._download_file(name, str(target))
            return target.read_text(encoding="utf-8")
        except (MlflowException, Refused, Unreachable) as error:
            raise OSError(str(error)) from error


def proxy_path(real: str) -> Optional[str]:
    """The path on the server's artifact proxy for an `mlflow-artifacts:` address; None for any other."""
    scheme, separator, rest = real.partition(":")
    if scheme != "mlflow-artifacts" or not separator:
        return None
    if rest.startswith("//"):
        rest = rest[2:].partition("/")[2]
    return rest.strip("/")


def _foreign(real: str) -> ArtifactRepository:
    """MLflow's own repository for storage that is reached without the workspace."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(local_file_uri_to_path(real) if is_local(real) else real)
