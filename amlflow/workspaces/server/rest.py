"""A workspace behind MLflow's REST API, whichever service answers it. A kind of workspace says what it is called, where its
artifacts are and what its children need; everything else is the same for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from amlflow.errors import NotFound
from amlflow.journal.errors import Refused, Unreachable
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
from amlflow.workspaces.server.client import API, Client
from amlflow.workspaces.server.experiments import Experiments
from amlflow.workspaces.server.histories import Histories
from amlflow.workspaces.server.models import Models
from amlflow.workspaces.server.runs import Runs

# The folder of a run's artifacts that holds a model which was registered from a folder.
_UPLOADED = "model"


class RestWorkspace:
    """Experiments, runs, histories and models; a subclass adds artifacts and the way in which a model's source is
    registered, and overrides what its service does otherwise."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client = client
        self._experiments = Experiments(client, name)
        self._runs = Runs(client, self._experiments)
        self._histories = Histories(client)
        self._models = Models(client, name)

    def away(self, timeout_s: float) -> str:
        try:
            self._client.behind.request("POST", f"{API}/experiments/search", {"max_results": 1}, timeout_s=timeout_s)
        except Unreachable as error:
            return error.reason
        except Refused:
            # It answers; what it has against the question is said where it matters.
            return ""
        return ""

    def list_experiments(self) -> list[Experiment]:
        return self._experiments.all()

    def find_experiment(self, name_or_id: str) -> Experiment:
        return self._experiments.find(name_or_id)

    def ensure_experiment(self, name: str) -> Experiment:
        return self._experiments.ensure(name)

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Run:
        return self._runs.create(experiment_id, name, tags, params)

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._runs.log_batch(run_id, metrics, params or {}, tags or {})

    def finish_run(self, run_id: str, status: RunStatus, end_time_ms: int | None = None) -> None:
        self._runs.finish(run_id, status, end_time_ms)

    def get_run(self, run_id: str) -> Run:
        return self._runs.get(run_id)

    def find_run_ids(self, name_or_prefix: str, limit: int = 10, experiment_id: str = "") -> list[str]:
        return self._runs.find_ids(name_or_prefix, limit, experiment_id)

    def search_runs(self, query: RunQuery) -> list[Run]:
        return self._runs.search(query)

    def metric_histories(
        self, run_ids: Sequence[str], keys: Sequence[str] = ()
    ) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        return self._histories.read(run_ids, keys)

    def delete_run(self, run_id: str) -> None:
        self._runs.set_deleted(run_id, True)

    def restore_run(self, run_id: str) -> None:
        self._runs.set_deleted(run_id, False)

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        raise NotImplementedError

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        raise NotImplementedError

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path:
        raise NotImplementedError

    def download_files(self, run_id: str, paths: Sequence[str], destination: Path) -> None:
        self._client.each(lambda path: self.download_artifacts(run_id, path, destination), paths)

    def logged_models(self, run_id: str) -> list[LoggedModel]:
        """With MLflow 3 the run's logged models; those of older programs and servers are folders of its artifacts."""
        run = self.get_run(run_id)
        found = self._models.logged(run.experiment_id, run_id)
        names = {model.name for model in found}
        for name in self._model_folders(run_id):
            if name not in names:
                created = run.end_time_ms or run.start_time_ms or 0
                found.append(LoggedModel(name, f"runs:/{run_id}/{name}", f"{run.artifact_uri}/{name}", created))
        return found

    def _stored(self, location: str) -> str:
        """Where the files of what a location names are kept."""
        if location.startswith("models:/m-"):
            return self._models.logged_location(location.removeprefix("models:/"))
        if location.startswith("models:/"):
            name, _, version = location.removeprefix("models:/").rpartition("/")
            return self._models.version_location(name, version)
        if location.startswith("runs:/"):
            owner, _, path = location.removeprefix("runs:/").partition("/")
            return f"{self.get_run(owner).artifact_uri}/{path}"
        return location

    def list_models(self) -> list[RegisteredModel]:
        return self._models.all()

    def get_model(self, name: str) -> RegisteredModel:
        return self._models.get(name)

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        return self._models.versions(name)

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        return self._models.version(name, version)

    def create_model_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        recorded, run_id = self._registrable(name, source, run_id)
        return self._models.create_version(name, recorded, run_id, description, tags)

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        return self._models.set_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        self._models.delete_alias(name, alias)

    def delete_model(self, name: str, version: str = "") -> None:
        self._models.delete(name, version)

    def _registrable(self, name: str, source: str, run_id: str) -> tuple[str, str]:
        """What MLflow's `register_model` would record: the source, and the run that made it. A service takes no folder of
        somebody's machine as a source: its files become the artifacts of a new run."""
        if not source.startswith("runs:/"):
            is_folder = not source.startswith("models:/") and Path(source).is_dir()
            return self._uploaded(name, Path(source)) if is_folder else (source, run_id)
        owner, _, model_name = source.removeprefix("runs:/").partition("/")
        models = {model.name: model for model in self.logged_models(owner)}
        if model_name not in models:
            raise NotFound(f"Run {owner} has no model {model_name!r}.", name=model_name, known=models)
        model = models[model_name]
        return model.uri if model.uri.startswith("models:/") else model.location, owner

    def _uploaded(self, name: str, folder: Path) -> tuple[str, str]:
        run = self.create_run(self.ensure_experiment("Default").id, f"register-{name}", {}, {})
        try:
            for entry in sorted(folder.iterdir()):
                self.log_artifact(run.id, entry, _UPLOADED)
        except BaseException:
            self.finish_run(run.id, "FAILED")
            raise
        self.finish_run(run.id, "FINISHED")
        return f"{run.artifact_uri}/{_UPLOADED}", run.id

    def _model_folders(self, run_id: str) -> list[str]:
        """The folders of a run's artifacts that hold an MLmodel file."""
        found: list[str] = []
        folders = [""]
        while folders:
            levels = self._client.each(lambda folder: self.list_artifacts(run_id, folder), folders)
            items = [item for level in levels for item in level]
            found += [item.path.rpartition("/")[0] for item in items if item.path.endswith("/MLmodel")]
            folders = [item.path for item in items if item.is_dir]
        return sorted(found)
