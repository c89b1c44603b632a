"""Files of runs and models in a Databricks workspace, by MLflow's own repository for them: it asks the workspace for an address
that is good for one file, and the file goes there."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amlflow import paths
from amlflow.errors import AmlflowError, NotFound
from amlflow.journal.sinks import MlflowSink
from amlflow.workspaces.base import Artifact
from amlflow.workspaces.databricks.access import Access, quiet

_DBFS = re.compile(r"dbfs:/(?!/)(?P<path>.*)")
_HOSTED = "databricks/mlflow-tracking/"


class DatabricksSink(MlflowSink):
    """What the journal sends artifacts to."""

    def __init__(self, root: str, access: Access) -> None:
        super().__init__(root)
        self._access = access

    def _repository(self) -> Any:
        return repository(self._root, self._access)


class Files:
    """Those of one workspace."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def keep(self, root: str, file: Path, folder: str) -> None:
        place = repository(root, self._access)
        with _explained(f"{file} cannot be kept"):
            if file.is_dir():
                place.log_artifacts(str(file), f"{folder.strip('/')}/{file.resolve().name}".lstrip("/"))
            else:
                place.log_artifact(str(file), folder.strip("/") or None)

    def copy_out(self, root: str, path: str, destination: Path, near: list[Artifact]) -> Path:
        """Into the destination, under its own path. `near` is what stands in the folder of `path`."""
        asked = path.strip("/")
        if asked and asked not in {item.path for item in near}:
            raise NotFound(f"The run has no artifact {path!r}.", name=path, known=[item.path for item in near])
        destination.mkdir(parents=True, exist_ok=True)
        with _explained(f"{path or 'The artifacts'} cannot be downloaded"):
            repository(root, self._access).download_artifacts(asked, str(destination))
        return destination / asked if asked else destination

    def fetch(self, location: str, opened: Callable[[], Any] | None = None) -> Path:
        """A copy of this machine, made once: what is kept there does not change. `opened` is MLflow's repository of it, where
        the location does not tell which."""
        name = hashlib.sha256(f"{self._access.host} {location}".encode()).hexdigest()[:32]
        kept = paths.cache() / "models" / name
        if kept.is_dir():
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=kept.parent))
        try:
            with _explained(f"{location} cannot be downloaded"):
                place = opened() if opened is not None else repository(location, self._access)
                place.download_artifacts("", str(fresh))
            if not any(fresh.iterdir()):
                raise NotFound(f"There are no files at {location}.", "Log the model again.")
            with contextlib.suppress(OSError):
                fresh.rename(kept)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return kept


def repository(address: str, access: Access) -> Any:
    """MLflow's repository of an address, which asks the workspace of this access."""
    match = _DBFS.fullmatch(address)
    if match is None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(address)
    quiet()
    owner = f"{access.profile}@databricks" if access.profile else "databricks"
    own = f"dbfs://{owner}/{match['path']}"
    if match["path"].startswith(_HOSTED):
        # The repository that MLflow would choose tries the SDK's default account first, whichever profile is meant.
        from mlflow.store.artifact.databricks_artifact_repo import DatabricksArtifactRepository

        return DatabricksArtifactRepository(own)
    from mlflow.store.artifact.dbfs_artifact_repo import dbfs_artifact_repo_factory

    return dbfs_artifact_repo_factory(own)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AmlflowError(f"{what}: {line.rstrip('.')}.") from error
