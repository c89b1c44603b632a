"""The embedded workspace: a folder with MLflow's own SQLite database, artifacts, jobs and endpoints.

`mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db` and every program with that tracking URI work on it too.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from amlflow import paths
from amlflow.errors import NotFound
from amlflow.journal.batches import LOCAL, Limits
from amlflow.journal.rest import Behind
from amlflow.journal.sinks import Opener
from amlflow.workspaces.base import (
    Artifact,
    Experiment,
    LoggedModel,
    Metric,
    MetricPoint,
    ModelVersion,
    RegisteredModel,
    Run,
    RunQuery,
    RunStatus,
)
from amlflow.workspaces.local import artifacts, database
from amlflow.workspaces.local.direct import DirectStore
from amlflow.workspaces.local.fallback import ClientStore

if TYPE_CHECKING:
    from amlflow.workspaces.local.machine import LocalComputes, LocalDatastores

DEFAULT_EXPERIMENT = Experiment("0", "Default", "")


class LocalWorkspace:
    """Nothing is made before the first write; until then the workspace is empty."""

    kind: Literal["local"] = "local"

    def __init__(self, root: Path, name: str = "local", report: Callable[[str], None] = lambda line: None) -> None:
        self.root, self.name, self._report = root, name, report
        self._file = root / database.FILE_NAME
        self._artifact_root = root / "artifacts"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self._file}"

    @property
    def file(self) -> Path:
        """The SQLite database; it may not be there yet."""
        return self._file

    @property
    def artifact_root(self) -> Path:
        """The folder below which experiments that are made without a place of their own keep their artifacts."""
        return self._artifact_root

    def create(self) -> None:
        """Make the folder and its database, if they are not there. The first time for a version of MLflow takes seconds,
        of which `report` is told."""
        database.create(self._file, self._artifact_root, self._report)

    def state_folder(self) -> Path:
        return self.root

    @property
    def reference(self) -> str:
        return f"local:{self.root}"

    def away(self, timeout_s: float) -> str:
        return ""

    def behind(self) -> Behind:
        from amlflow.workspaces.local.rest import NO_LIMITS, LocalRest

        return LocalRest(self, limits=NO_LIMITS)

    def limits(self) -> Limits:
        return LOCAL

    def sinks(self) -> Mapping[str, Opener]:
        return {}

    def login(self) -> Mapping[str, str]:
        return {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Mapping[str, str]]:
        """A server on 127.0.0.1, for those who know its token: a child's MLflow may be another than the one that made the
        database, and would refuse to open it."""
        from amlflow.journal import attach
        from amlflow.workspaces.local.bridge import Bridge
        from amlflow.workspaces.local.rest import LocalRest

        token, rest = secrets.token_urlsafe(24), LocalRest(self)
        bridge = Bridge(rest, token)
        try:
            yield {attach.BEHIND: bridge.start(), attach.TOKEN: token}
        finally:
            bridge.stop()
            rest.close()

    @functools.cached_property
    def computes(self) -> LocalComputes:
        from amlflow.workspaces.local.machine import LocalComputes

        return LocalComputes()

    @functools.cached_property
    def datastores(self) -> LocalDatastores:
        from amlflow.workspaces.local.machine import LocalDatastores

        return LocalDatastores(self._artifact_root)

    def list_experiments(self) -> list[Experiment]:
        return self._store.experiments() if self._exists else []

    def find_experiment(self, name_or_id: str) -> Experiment:
        known = self.list_experiments()
        for field in ("name", "id"):
            for experiment in known:
                if getattr(experiment, field) == name_or_id:
                    return experiment
        raise NotFound(
            f"There is no experiment {name_or_id!r} in workspace {self.name!r}.",
            f"It has: {', '.join(e.name for e in known[:20])}." if known else "It has none yet.",
            name=name_or_id,
            known=[experiment.name for experiment in known],
        )

    def ensure_experiment(self, name: str) -> Experiment:
        return self._made.ensure_experiment(name)

    def create_run(
        self,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        *,
        run_id: str = "",
        start_time_ms: int | None = None,
    ) -> Run:
        """With `run_id` the run gets that id; in a database whose schema is not known here, MLflow's own, and the tag
        `amlflow.runId` keeps the one asked for. Raises `UsageError` for an id that is taken."""
        return self._made.create_run(experiment_id, name, tags, params, run_id, start_time_ms)

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._made.log_batch(run_id, metrics, params or {}, tags or {})

    def finish_run(self, run_id: str, status: RunStatus, end_time_ms: int | None = None) -> None:
        self._made.finish_run(run_id, status, end_time_ms)

    def get_run(self, run_id: str) -> Run:
        if not self._exists:
            raise NotFound(f"There is no run {run_id!r}: the workspace {self.name!r} is empty.")
        return self._store.get_run(run_id)

    def find_run_ids(self, name_or_prefix: str, limit: int = 10, experiment_id: str = "") -> list[str]:
        return self._store.find_run_ids(name_or_prefix, limit, experiment_id) if self._exists else []

    def search_runs(self, query: RunQuery) -> list[Run]:
        if not self._exists:
            from amlflow.workspaces.local import filters

            filters.conditions(query.filter)
            return []
        return self._store.search_runs(query)

    def metric_histories(
        self, run_ids: Sequence[str], keys: Sequence[str] = ()
    ) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        return self._store.metric_histories(run_ids, keys) if self._exists else {}

    def delete_run(self, run_id: str) -> None:
        self._made.set_deleted(run_id, True)

    def restore_run(self, run_id: str) -> None:
        self._made.set_deleted(run_id, False)

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        uri = self.get_run(run_id).artifact_uri
        folder = artifacts.local_folder(uri)
        if folder is not None:
            return artifacts.list_folder(folder, path)
        from mlflow.artifacts import list_artifacts

        found = list_artifacts(artifact_uri=f"{uri}/{path}".rstrip("/"))
        return [Artifact(item.path, item.is_dir, item.file_size) for item in found]

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        uri = self.get_run(run_id).artifact_uri
        root = artifacts.local_folder(uri)
        if root is not None:
            artifacts.keep(root, file, folder)
        else:
            artifacts.upload(f"{uri}/{folder}".rstrip("/"), file)

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        uri = self.get_run(run_id).artifact_uri
        root = artifacts.local_folder(uri)
        if root is not None:
            return artifacts.copy_out(root, path, destination)
        # MLflow puts a file under its name alone.
        folder = (destination / path).parent if path else destination
        return artifacts.download(f"{uri}/{path}".rstrip("/"), folder)

    def download_files(self, run_id: str, paths: Sequence[str], destination: Path) -> None:
        for path in paths:
            self.download_artifacts(run_id, path, destination)

    def fetch(self, location: str) -> Path:
        if location.startswith("models:/m-"):
            location = self._store.logged_model_location(location.removeprefix("models:/"))
        folder = artifacts.local_folder(location)
        if folder is None:
            import hashlib

            name = hashlib.sha256(location.encode()).hexdigest()[:32]
            return artifacts.download(location, paths.cache() / "models" / name)
        if not folder.is_dir():
            raise NotFound(
                f"The model's folder {folder} is gone.", "Register the model again, or restore the folder from a copy."
            )
        return folder

    def fetch_file(self, location: str, path: str, destination: Path) -> Path:
        folder = artifacts.local_folder(location)
        if folder is not None:
            return artifacts.copy_out(folder, path, destination)
        return artifacts.download(f"{location.rstrip('/')}/{path}", destination)

    def logged_models(self, run_id: str) -> list[LoggedModel]:
        """With MLflow 3 the run's logged models; those of older programs are folders of its artifacts."""
        found = self._store.logged_models(run_id)
        names = {model.name for model in found}
        root = artifacts.local_folder(self.get_run(run_id).artifact_uri)
        if root is None or not root.is_dir():
            return found
        for mlmodel in sorted(root.glob("**/MLmodel")):
            name = mlmodel.parent.relative_to(root).as_posix()
            if name not in names:
                created = int(mlmodel.stat().st_mtime * 1000)
                found.append(LoggedModel(name, f"runs:/{run_id}/{name}", str(mlmodel.parent), created))
        return found

    def list_models(self) -> list[RegisteredModel]:
        return self._store.registered_models() if self._exists else []

    def get_model(self, name: str) -> RegisteredModel:
        found = self._store.registered_models(name) if self._exists else []
        if found:
            return found[0]
        raise NotFound(
            f"There is no registered model {name!r} in workspace {self.name!r}.",
            "`amlflow model list` shows them; `amlflow register` makes one.",
            name=name,
            known=[model.name for model in self.list_models()],
        )

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        return self._store.model_versions(name) if self._exists else []

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        found = self._store.model_versions(name, version) if self._exists and version.isdigit() else []
        if not found:
            raise NotFound(f"The model {name!r} has no version {version!r}.")
        return found[0]

    def create_model_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        recorded, location, run_id = self._registrable(source, run_id)
        version = self._made.create_model_version(name, recorded, location, run_id, description, tags)
        return self.get_model_version(name, version)

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        self._made.set_alias(name, alias, version)
        return True

    def delete_alias(self, name: str, alias: str) -> None:
        self._made.delete_alias(name, alias)

    def delete_model(self, name: str, version: str = "") -> None:
        self._made.delete_model(name, version)

    def _registrable(self, source: str, run_id: str) -> tuple[str, str, str]:
        """What MLflow's `register_model` would record: the source, where its files are, and the run that made it."""
        if source.startswith("runs:/"):
            owner, _, name = source.removeprefix("runs:/").partition("/")
            model = next(item for item in self.logged_models(owner) if item.name == name)
            recorded = model.uri if model.uri.startswith("models:/") else model.location
            return recorded, model.location, owner
        if source.startswith("models:/m-"):
            return source, self._store.logged_model_location(source.removeprefix("models:/")), run_id
        if source.startswith("models:/"):
            name, version = source.removeprefix("models:/").rsplit("/", 1)
            return source, self.get_model_version(name, version).location, run_id
        return source, source, run_id

    @property
    def _exists(self) -> bool:
        return self._file.exists()

    @property
    def _made(self) -> DirectStore | ClientStore:
        self.create()
        return self._store

    @functools.cached_property
    def _store(self) -> DirectStore | ClientStore:
        if not self._file.exists():
            raise NotFound(f"The workspace {self.name!r} ({self.root}) is empty: nothing was logged into it yet.")
        if database.schema(self._file) in database.KNOWN_SCHEMAS:
            return DirectStore(self._file, self._artifact_root)
        return ClientStore(self.tracking_uri, str(self._artifact_root))
