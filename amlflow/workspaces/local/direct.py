"""The store as SQL: for databases whose schema is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from amlflow.workspaces.base import (
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
from amlflow.workspaces.local import database, reads, writes


class DirectStore:
    """One connection and one transaction a call."""

    def __init__(self, file: Path, artifact_root: Path) -> None:
        self._file, self._artifact_root = file, artifact_root

    def experiments(self) -> list[Experiment]:
        with database.reading(self._file) as db:
            return reads.experiments(db, "WHERE lifecycle_stage = 'active'")

    def ensure_experiment(self, name: str) -> Experiment:
        with database.reading(self._file) as db:
            found = reads.experiments(db, "WHERE name = ? AND lifecycle_stage = 'active'", (name,))
        if found:
            return found[0]
        with database.writing(self._file) as db:
            made = writes.ensure_experiment(db, name, str(self._artifact_root))
            return reads.experiments(db, "WHERE experiment_id = ?", (int(made),))[0]

    def create_run(
        self,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        run_id: str = "",
        start_time_ms: int | None = None,
    ) -> Run:
        with database.writing(self._file) as db:
            made = writes.create_run(db, experiment_id, name, tags, params, run_id=run_id, start_time_ms=start_time_ms)
            return reads.get_run(db, made)

    def log_batch(
        self, run_id: str, metrics: Iterable[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        with database.writing(self._file) as db:
            writes.check_active(db, run_id)
            writes.log_metrics(db, run_id, metrics)
            writes.log_params(db, run_id, params)
            writes.log_tags(db, run_id, tags)

    def finish_run(self, run_id: str, status: RunStatus, end_time_ms: int | None) -> None:
        with database.writing(self._file) as db:
            writes.finish_run(db, run_id, status, end_time_ms)

    def get_run(self, run_id: str) -> Run:
        with database.reading(self._file) as db:
            return reads.get_run(db, run_id)

    def find_run_ids(self, text: str, limit: int, experiment_id: str = "") -> list[str]:
        with database.reading(self._file) as db:
            return reads.find_run_ids(db, text, limit, experiment_id)

    def search_runs(self, query: RunQuery) -> list[Run]:
        with database.reading(self._file) as db:
            return reads.search_runs(db, query)

    def metric_histories(
        self, run_ids: Sequence[str], keys: Sequence[str]
    ) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        with database.reading(self._file) as db:
            return reads.metric_histories(db, run_ids, keys)

    def set_deleted(self, run_id: str, deleted: bool) -> None:
        with database.writing(self._file) as db:
            writes.set_lifecycle(db, run_id, deleted)

    def logged_models(self, run_id: str) -> list[LoggedModel]:
        with database.reading(self._file) as db:
            return reads.logged_models(db, run_id)

    def logged_model_location(self, model_id: str) -> str:
        with database.reading(self._file) as db:
            return reads.logged_model_location(db, model_id)

    def registered_models(self, name: str = "") -> list[RegisteredModel]:
        with database.reading(self._file) as db:
            return reads.registered_models(db, name)

    def model_versions(self, name: str, version: str = "") -> list[ModelVersion]:
        with database.reading(self._file) as db:
            return reads.model_versions(db, name, version)

    def create_model_version(
        self, name: str, source: str, location: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> str:
        with database.writing(self._file) as db:
            return writes.create_model_version(db, name, source, location, run_id, description, tags)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        with database.writing(self._file) as db:
            writes.set_alias(db, name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        with database.writing(self._file) as db:
            writes.delete_alias(db, name, alias)

    def delete_model(self, name: str, version: str) -> None:
        with database.writing(self._file) as db:
            writes.delete_model(db, name, version)
