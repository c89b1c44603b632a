"""The store through MLflow's own client: for databases whose schema is not known here. Slower by the import of MLflow,
and with the same answers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from amlflow.errors import AmlflowError, NotFound
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
from amlflow.workspaces.local import filters
from amlflow.workspaces.local.writes import now_ms, random_name

_PAGE = 1000
_Item = TypeVar("_Item")


class ClientStore:
    """Every call goes through `MlflowClient`; what it refuses becomes an `AmlflowError` of one paragraph."""

    def __init__(self, tracking_uri: str, artifact_root: str) -> None:
        self._uri, self._artifact_root = tracking_uri, artifact_root

    @functools.cached_property
    def _client(self) -> Any:
        import logging

        from mlflow import MlflowClient

        # Its notes on migrations and emoji are not for the reader of our output.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with _translated():
            return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def experiments(self) -> list[Experiment]:
        with _translated():
            return [
                Experiment(e.experiment_id, e.name, e.artifact_location, e.lifecycle_stage, dict(e.tags))
                for e in sorted(self._all(self._client.search_experiments), key=lambda e: int(e.experiment_id))
            ]

    def ensure_experiment(self, name: str) -> Experiment:
        with _translated():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                numbers = [int(e.experiment_id) for e in self._all(self._client.search_experiments, view_type=3)]
                location = f"{self._artifact_root}/{max(numbers, default=0) + 1}"
                self._client.create_experiment(name, artifact_location=location)
        return next(experiment for experiment in self.experiments() if experiment.name == name)

    def create_run(
        self,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        run_id: str = "",
        start_time_ms: int | None = None,
    ) -> Run:
        """MLflow gives a run its id; one that is asked for is kept in the tag `amlflow.runId`."""
        if run_id:
            tags = {**tags, "amlflow.runId": run_id}
        with _translated():
            run = self._client.create_run(
                experiment_id, start_time=start_time_ms, tags=dict(tags), run_name=name or random_name()
            )
            self.log_batch(run.info.run_id, (), params, {})
        return self.get_run(run.info.run_id)

    def log_batch(
        self, run_id: str, metrics: Iterable[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import Param, RunTag

        points = [MlflowMetric(m.key, m.value, m.timestamp_ms, m.step) for m in metrics]
        with _translated():
            self._client.log_batch(
                run_id, points, [Param(k, str(v)) for k, v in params.items()], [RunTag(k, v) for k, v in tags.items()]
            )

    def finish_run(self, run_id: str, status: RunStatus, end_time_ms: int | None) -> None:
        with _translated():
            if status == "FINISHED" and self.get_run(run_id).status in ("FAILED", "KILLED"):
                status = self.get_run(run_id).status
            self._client.set_terminated(run_id, status, end_time_ms or now_ms())

    def get_run(self, run_id: str) -> Run:
        with _translated():
            return self._run(self._client.get_run(run_id), self._names())

    def find_run_ids(self, text: str, limit: int, experiment_id: str = "") -> list[str]:
        runs = self.search_runs(RunQuery(with_data=False))
        named = [run for run in runs if run.name == text]
        near = [run for run in named if run.experiment_id == experiment_id]
        return [run.id for run in near or named or runs if run.name == text or run.id.startswith(text)][:limit]

    def search_runs(self, query: RunQuery) -> list[Run]:
        names = self._names()
        found: list[Any] = []
        order = [f"{_order(query.order_by)} {'DESC' if query.descending else 'ASC'}"] if query.order_by else None
        token, view = None, {"active": 1, "deleted": 2, "all": 3}[query.lifecycle]
        with _translated():
            while True:
                most = _PAGE if query.limit is None else min(_PAGE, query.limit - len(found))
                page = self._client.search_runs(
                    list(query.experiment_ids) or list(names), query.filter, view, most, order, token
                )
                found += page
                token = page.token
                if not token or (query.limit is not None and len(found) >= query.limit):
                    return [self._run(run, names) for run in found]

    def metric_histories(
        self, run_ids: Sequence[str], keys: Sequence[str]
    ) -> Mapping[str, Mapping[str, list[MetricPoint]]]:
        found: dict[str, dict[str, list[MetricPoint]]] = {}
        with _translated():
            for run_id in run_ids:
                known = list(self._client.get_run(run_id).data.metrics)
                lines = {}
                for key in sorted(set(known) & set(keys) if keys else known):
                    points = [
                        MetricPoint(_infinite(p.value), p.step, p.timestamp)
                        for p in self._client.get_metric_history(run_id, key)
                    ]
                    lines[key] = sorted(points, key=lambda point: (point.step, point.timestamp_ms))
                found[run_id] = lines
        return found

    def set_deleted(self, run_id: str, deleted: bool) -> None:
        with _translated():
            (self._client.delete_run if deleted else self._client.restore_run)(run_id)

    def logged_models(self, run_id: str) -> list[LoggedModel]:
        with _translated():
            experiment = self._client.get_run(run_id).info.experiment_id
            models = self._client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        ready = sorted((m for m in models if str(m.status) == "READY"), key=lambda m: m.creation_timestamp)
        return list(
            {
                m.name: LoggedModel(m.name, f"models:/{m.model_id}", m.artifact_location, m.creation_timestamp)
                for m in ready
            }.values()
        )

    def logged_model_location(self, model_id: str) -> str:
        with _translated():
            return str(self._client.get_logged_model(model_id).artifact_location)

    def registered_models(self, name: str = "") -> list[RegisteredModel]:
        with _translated():
            models = self._all(self._client.search_registered_models)
            return [self._registered(m) for m in sorted(models, key=lambda m: m.name) if not name or m.name == name]

    def model_versions(self, name: str, version: str = "") -> list[ModelVersion]:
        with _translated():
            found = self._all(self._client.search_model_versions, filter_string=f"name = '{_quoted(name)}'")
            chosen = [v for v in found if not version or str(v.version) == version]
            # A search leaves the aliases out.
            whole = [self._client.get_model_version(name, v.version) for v in chosen]
            places = [self._client.get_model_version_download_uri(name, v.version) for v in chosen]
        versions = [
            ModelVersion(
                v.name,
                str(v.version),
                v.source or "",
                place or v.source or "",
                v.run_id or "",
                v.description or "",
                v.status,
                v.creation_timestamp,
                v.last_updated_timestamp,
                sorted(v.aliases),
                dict(v.tags),
            )
            for v, place in zip(whole, places, strict=True)
        ]
        return sorted(versions, key=lambda item: -int(item.version))

    def create_model_version(
        self, name: str, source: str, location: str, run_id: str, description: str, tags: Mapping[str, str]
    ) -> str:
        with _translated():
            if not self.registered_models(name):
                self._client.create_registered_model(name)
            made = self._client.create_model_version(
                name, source, run_id or None, dict(tags), description=description or None
            )
        return str(made.version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        with _translated():
            self._client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        with _translated():
            self._client.delete_registered_model_alias(name, alias)

    def delete_model(self, name: str, version: str) -> None:
        with _translated():
            if version:
                self._client.delete_model_version(name, version)
            else:
                self._client.delete_registered_model(name)

    def _names(self) -> dict[str, str]:
        with _translated():
            return {e.experiment_id: e.name for e in self._all(self._client.search_experiments, view_type=3)}

    def _run(self, run: Any, names: Mapping[str, str]) -> Run:
        info, data = run.info, run.data
        return Run(
            info.run_id,
            info.run_name or "",
            info.experiment_id,
            names.get(info.experiment_id, ""),
            info.status,
            info.start_time,
            info.end_time,
            info.lifecycle_stage,
            info.artifact_uri,
            info.user_id or "",
            {key: _infinite(value) for key, value in data.metrics.items()},
            dict(data.params),
            dict(data.tags),
        )

    def _registered(self, model: Any) -> RegisteredModel:
        versions = [int(v.version) for v in self.model_versions(model.name)]
        return RegisteredModel(
            model.name,
            model.description or "",
            model.creation_timestamp,
            model.last_updated_timestamp,
            str(max(versions)) if versions else "",
            {alias: str(version) for alias, version in sorted(model.aliases.items())},
            dict(model.tags),
        )

    @staticmethod
    def _all(search: Callable[..., Any], **options: Any) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = search(max_results=_PAGE, page_token=token, **options)
            found += page
            token = page.token
            if not token:
                return found


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What MLflow raises, as errors of amlflow."""
    try:
        yield
    except AmlflowError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(text if text.endswith(".") else f"{text}.") from error
        if "out-of-date database schema" in text:
            raise AmlflowError(
                "The workspace's database was made by an older MLflow than the one installed.",
                "Upgrade it with `mlflow db upgrade URI`; `amlflow workspace show` prints the URI. Make a copy first.",
            ) from error
        raise AmlflowError(f"MLflow refused: {text}") from error


def _order(key: str) -> str:
    parsed = filters.parse_key(key)
    return f"{parsed.entity}.`{parsed.name}`"


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _infinite(value: float) -> float:
    from amlflow.workspaces.local.reads import decoded

    return decoded(value, 0) if value == value else value
