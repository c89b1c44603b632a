"""What every workspace can do, and the values that cross its border.

Times are epoch milliseconds (UTC), as MLflow counts them; sizes are bytes. All value types are frozen: a change goes
through the workspace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from amlflow.journal.batches import Limits
from amlflow.journal.rest import Behind
from amlflow.journal.sinks import Opener

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
Lifecycle = Literal["active", "deleted"]


@dataclass(frozen=True, slots=True)
class Experiment:
    id: str
    name: str
    artifact_location: str
    lifecycle_stage: Lifecycle = "active"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `metrics` holds the last value of each metric: the one of the highest (step, timestamp, value), as
    MLflow orders them. NaN and infinities are the floats of those names."""

    id: str
    name: str
    experiment_id: str
    experiment_name: str
    status: RunStatus
    start_time_ms: int | None
    end_time_ms: int | None
    lifecycle_stage: Lifecycle
    artifact_uri: str
    user: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricPoint:
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One value to log."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to read.

    `filter` is MLflow's filter language (`metrics.rmse < 1 and params.alpha = '0.1'`). `order_by` is one key such as
    `metrics.rmse`, `params.alpha`, `attributes.start_time` or a bare metric name; runs without it come last. Without
    it, newest first. `with_data` False leaves metrics, params and tags empty, which is faster.
    """

    experiment_ids: Sequence[str] = ()
    filter: str = ""
    order_by: str = ""
    descending: bool = False
    limit: int | None = None
    lifecycle: Literal["active", "deleted", "all"] = "active"
    with_data: bool = True


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model. `source` is what was registered (`models:/m-…`, `runs:/…` or a path);
    `location` is the folder or URI that holds its MLmodel file."""

    name: str
    version: str
    source: str
    location: str
    run_id: str
    description: str
    status: str
    created_ms: int
    updated_ms: int
    aliases: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    name: str
    description: str
    created_ms: int
    updated_ms: int
    latest_version: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run logged: with MLflow 3 an entity of its own, before that a folder of the run's artifacts.
    `uri` is what MLflow loads it by; `location` the folder or URI of its MLmodel file."""

    name: str
    uri: str
    location: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Artifact:
    path: str
    is_dir: bool
    size_bytes: int | None


class Workspace(Protocol):
    """Where runs and models live. Every method raises `NotFound` for what does not exist, naming the nearest that
    does, and `NotSupported` for what this kind of workspace cannot do."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Literal["local", "azure", "mlflow", "databricks"]: ...

    @property
    def tracking_uri(self) -> str:
        """What a program sets as MLFLOW_TRACKING_URI to log here."""
        ...

    def state_folder(self) -> Path:
        """A folder of this machine for jobs and endpoints of this workspace; made when first asked for."""
        ...

    @property
    def reference(self) -> str:
        """What `-w` takes for this workspace from any folder; without a password."""
        ...

    def away(self, timeout_s: float) -> str:
        """Why it cannot be reached within that time; empty where it can. What is on this machine always can."""
        ...

    def behind(self) -> Behind:
        """MLflow's REST API of this workspace, for the journal."""
        ...

    def limits(self) -> Limits:
        """How much the journal may send at once."""
        ...

    def sinks(self) -> Mapping[str, Opener]:
        """Where the journal sends artifacts, by the scheme of their address; for the rest it finds the way itself."""
        ...

    def login(self) -> Mapping[str, str]:
        """The variables with which another amlflow signs in here as this one does; none where it needs none."""
        ...

    def serving(self) -> AbstractContextManager[Mapping[str, str]]:
        """The variables (amlflow.journal.attach) by which child processes reach that API, while it is entered."""
        ...

    # experiments
    def list_experiments(self) -> list[Experiment]: ...

    def find_experiment(self, name_or_id: str) -> Experiment: ...

    def ensure_experiment(self, name: str) -> Experiment:
        """The experiment of that name, made if it is new. Safe when many processes ask at once."""
        ...

    # runs
    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Run: ...

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """All or nothing. Raises `UsageError` when a param was logged before with another value."""
        ...

    def finish_run(self, run_id: str, status: RunStatus, end_time_ms: int | None = None) -> None: ...

    def get_run(self, run_id: str) -> Run: ...

    def find_run_ids(self, name_or_prefix: str, limit: int = 10, experiment_id: str = "") -> list[str]:
        """Ids of the active runs that have the name: those of the experiment where it has any, else of all. Where none has it,
        those whose id starts with what was given. Newest first."""
        ...

    def search_runs(self, query: RunQuery) -> list[Run]: ...

    def metric_histories(
        self, run_ids: Sequence[str], keys: Sequence[str] = ()
    ) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        """Run id -> metric -> points by step, then time; every metric when `keys` is empty."""
        ...

    def delete_run(self, run_id: str) -> None: ...

    def restore_run(self, run_id: str) -> None: ...

    # artifacts
    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]: ...

    def log_artifact(self, run_id: str, file: Path, folder: str = "") -> None:
        """Keep a file, or a folder with all it holds, among the run's artifacts below `folder`."""
        ...

    def download_artifacts(self, run_id: str, path: str, destination: Path) -> Path: ...

    def download_files(self, run_id: str, paths: Sequence[str], destination: Path) -> None:
        """Copy files of a run, some at a time, into the destination, each under its own path. Raises `NotFound`."""
        ...

    def fetch(self, location: str) -> Path:
        """The folder that holds what is stored at `location` (a `ModelVersion.location`): the folder itself where it is
        local, else a cached download."""
        ...

    def fetch_file(self, location: str, path: str, destination: Path) -> Path:
        """One file below a location (a `LoggedModel.location`), copied into the destination, where its folder depends on the
        location alone. Raises `NotFound`."""
        ...

    # models
    def logged_models(self, run_id: str) -> list[LoggedModel]: ...

    def list_models(self) -> list[RegisteredModel]: ...

    def get_model(self, name: str) -> RegisteredModel: ...

    def list_model_versions(self, name: str) -> list[ModelVersion]:
        """Newest first."""
        ...

    def get_model_version(self, name: str, version: str) -> ModelVersion: ...

    def create_model_version(
        self, name: str, source: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Register `source` under `name`, making the model when it is new."""
        ...

    def set_alias(self, name: str, alias: str, version: str) -> bool:
        """Whether the registry has aliases of its own: one without keeps them as tags of the model."""
        ...

    def delete_alias(self, name: str, alias: str) -> None: ...

    def delete_model(self, name: str, version: str = "") -> None:
        """Delete one version, or the model with all of them."""
        ...
