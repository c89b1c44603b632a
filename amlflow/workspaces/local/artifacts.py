"""Artifacts of runs in folders of this machine, contained in them; anything farther away goes through MLflow."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.base import Artifact


def local_folder(uri: str) -> Path | None:
    """The folder that a path or `file:` URI names; None for what is elsewhere."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if len(parsed.scheme) <= 1 else None


def list_folder(root: Path, path: str) -> list[Artifact]:
    """The entries of one folder of a run, by name; empty when it is not there."""
    folder = contained(root, path)
    if not folder.is_dir():
        return []
    found = []
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        name = f"{path.strip('/')}/{entry.name}".lstrip("/")
        is_dir = entry.is_dir()
        found.append(Artifact(name, is_dir, None if is_dir else entry.stat().st_size))
    return found


def keep(root: Path, file: Path, folder: str) -> None:
    """Copy a file, or a folder with all it holds. A file is whole or not there: it is written aside and renamed."""
    target = contained(root, folder)
    with _explained(target):
        target.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            shutil.copytree(file, target / file.name, dirs_exist_ok=True)
            return
        handle, name = tempfile.mkstemp(prefix=".part-", dir=target)
        os.close(handle)
        try:
            shutil.copyfile(file, name)
            shutil.copymode(file, name)
            Path(name).replace(target / file.name)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def copy_out(root: Path, path: str, destination: Path) -> Path:
    """Copy what stands at `path` into the destination, under its own path; everything for an empty path. Raises
    `NotFound`."""
    source = contained(root, path)
    if not source.exists():
        near = [entry.name for entry in root.iterdir()] if root.is_dir() else []
        raise NotFound(f"The run has no artifact {path!r}.", name=path, known=near)
    target = destination / path if path else destination
    with _explained(target):
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return target


def contained(root: Path, path: str) -> Path:
    """The place below the root. Raises `UsageError` for a path that leads out of it, by dots or by a link."""
    # Elsewhere than on Windows a backslash is a sign of a name like any other.
    parts = PurePosixPath(path.replace("\\", "/") if os.name == "nt" else path)
    if parts.is_absolute() or ".." in parts.parts:
        raise UsageError(f"The artifact path {path!r} leads out of the run's artifacts.", "Give a path below them.")
    place = root / parts
    if not place.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"The artifact path {path!r} is a link out of the run's artifacts.")
    return place


def download(uri: str, destination: Path) -> Path:
    """Whatever MLflow can fetch, into a folder."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    destination.mkdir(parents=True, exist_ok=True)
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(destination)))
    except (MlflowException, OSError) as error:
        raise AmlflowError(f"{uri} cannot be downloaded: {str(error).splitlines()[0]}.") from error


def upload(uri: str, file: Path) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(uri)
    try:
        if file.is_dir():
            repository.log_artifacts(str(file), file.name)
        else:
            repository.log_artifact(str(file))
    except (MlflowException, OSError) as error:
        raise AmlflowError(f"{file} cannot be kept at {uri}: {str(error).splitlines()[0]}.") from error


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (shutil.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AmlflowError(
            f"{target} cannot be written: {reason}.", "Check that its folder may be written to and the disk has space."
        ) from error
