"""What is read of MLflow's tables directly: a few statements for any number of runs, in place of objects mapped one by one."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from amlflow.errors import NotFound
from amlflow.workspaces.base import (
    Experiment,
    LoggedModel,
    MetricPoint,
    ModelVersion,
    RegisteredModel,
    Run,
    RunQuery,
)
from amlflow.workspaces.local import filters

# SQLite stores no infinity that MLflow would read back; MLflow writes the largest finite doubles in their place
# (mlflow/store/tracking/sqlalchemy_store.py, log_metric).
INFINITY = 1.7976931348623157e308
_BOUND_AT_ONCE = 500
_RUN_FIELDS = (
    "r.run_uuid, r.name, r.experiment_id, e.name, r.status, r.start_time, r.end_time, r.lifecycle_stage, r.artifact_uri, "
    "r.user_id"
)
_DELETED_VERSION = "Deleted_Internal"


def decoded(value: float, is_nan: int) -> float:
    """A metric as it was logged."""
    if is_nan:
        return math.nan
    return value if -INFINITY < value < INFINITY else math.copysign(math.inf, value)


def experiments(db: sqlite3.Connection, where: str = "", values: Sequence[object] = ()) -> list[Experiment]:
    rows = db.execute(
        f"SELECT experiment_id, name, artifact_location, lifecycle_stage FROM experiments {where} ORDER BY experiment_id",
        values,
    ).fetchall()
    tags: dict[int, dict[str, str]] = {}
    for experiment_id, key, value in db.execute("SELECT experiment_id, key, value FROM experiment_tags"):
        tags.setdefault(experiment_id, {})[key] = value
    return [Experiment(str(row[0]), row[1], row[2], row[3], tags.get(row[0], {})) for row in rows]


def search_runs(db: sqlite3.Connection, query: RunQuery) -> list[Run]:
    where, values = filters.joined(filters.conditions(query.filter))
    join, order, bound = _ordering(query)
    stages = {"active": ["active"], "deleted": ["deleted"], "all": ["active", "deleted"]}[query.lifecycle]
    clauses = [f"r.lifecycle_stage IN ({places(stages)})"]
    parameters: list[object] = [*bound, *stages]
    if query.experiment_ids:
        clauses.append(f"r.experiment_id IN ({places(query.experiment_ids)})")
        parameters += [int(i) if i.isdigit() else i for i in query.experiment_ids]
    limit = f" LIMIT {int(query.limit)}" if query.limit is not None else ""
    rows = db.execute(
        f"SELECT {_RUN_FIELDS} FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id{join} "
        f"WHERE {' AND '.join(clauses)}{where} ORDER BY {order}{limit}",
        [*parameters, *values],
    ).fetchall()
    return _runs(db, rows, query.with_data)


def get_run(db: sqlite3.Connection, run_id: str) -> Run:
    rows = db.execute(
        f"SELECT {_RUN_FIELDS} FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.run_uuid = ?",
        (run_id,),
    ).fetchall()
    if not rows:
        raise NotFound(f"There is no run {run_id!r}.", "`amlflow run list` shows them.")
    return _runs(db, rows, True)[0]


def find_run_ids(db: sqlite3.Connection, text: str, limit: int, experiment_id: str = "") -> list[str]:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = db.execute(
        "SELECT run_uuid, CASE WHEN name = ? THEN CAST(experiment_id AS TEXT) <> ? ELSE 2 END AS far FROM runs "
        "WHERE lifecycle_stage = 'active' AND (name = ? OR run_uuid LIKE ? ESCAPE '\\') "
        "ORDER BY far, start_time DESC, run_uuid LIMIT ?",
        (text, experiment_id, text, f"{escaped}%", limit),
    ).fetchall()
    return [run_id for run_id, far in rows if far == rows[0][1]]


def metric_histories(
    db: sqlite3.Connection, run_ids: Sequence[str], keys: Sequence[str]
) -> dict[str, dict[str, list[MetricPoint]]]:
    found: dict[str, dict[str, list[MetricPoint]]] = {}
    only = f" AND key IN ({places(keys)})" if keys else ""
    for run_id in run_ids:
        lines: dict[str, list[MetricPoint]] = {}
        rows = db.execute(
            f"SELECT key, value, step, timestamp, is_nan FROM metrics WHERE run_uuid = ?{only} ORDER BY key, step, timestamp",
            (run_id, *keys),
        )
        for key, value, step, timestamp, is_nan in rows:
            point = MetricPoint(decoded(value, is_nan), step, timestamp)
            if key in lines:
                lines[key].append(point)
            else:
                lines[key] = [point]
        found[run_id] = lines
    return found


def logged_models(db: sqlite3.Connection, run_id: str) -> list[LoggedModel]:
    """The MLflow 3 models that the run logged and that are ready (status 2), oldest first; of one name the newest."""
    rows = db.execute(
        "SELECT name, model_id, artifact_location, creation_timestamp_ms FROM logged_models "
        "WHERE source_run_id = ? AND lifecycle_stage = 'active' AND status = 2 ORDER BY creation_timestamp_ms",
        (run_id,),
    )
    return list({row[0]: LoggedModel(row[0], f"models:/{row[1]}", row[2], row[3]) for row in rows}.values())


def logged_model_location(db: sqlite3.Connection, model_id: str) -> str:
    row = db.execute(
        "SELECT artifact_location FROM logged_models WHERE model_id = ? AND lifecycle_stage = 'active'", (model_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no logged model {model_id!r}.")
    return str(row[0])


def registered_models(db: sqlite3.Connection, name: str = "") -> list[RegisteredModel]:
    where, values = (" WHERE name = ?", (name,)) if name else ("", ())
    aliases = _grouped(db.execute(f"SELECT name, alias, version FROM registered_model_aliases{where}", values))
    tags = _grouped(db.execute(f"SELECT name, key, value FROM registered_model_tags{where}", values))
    latest = {
        row[0]: str(row[1])
        for row in db.execute(
            "SELECT name, MAX(version) FROM model_versions WHERE current_stage IS NOT ? GROUP BY name",
            (_DELETED_VERSION,),
        )
    }
    rows = db.execute(
        f"SELECT name, description, creation_time, last_updated_time FROM registered_models{where} ORDER BY name",
        values,
    )
    return [
        RegisteredModel(
            row[0],
            row[1] or "",
            row[2],
            row[3],
            latest.get(row[0], ""),
            {alias: str(version) for alias, version in sorted(aliases.get(row[0], {}).items())},
            tags.get(row[0], {}),
        )
        for row in rows
    ]


def model_versions(db: sqlite3.Connection, name: str, version: str = "") -> list[ModelVersion]:
    """Newest first."""
    where, values = " WHERE name = ? AND current_stage IS NOT ?", [name, _DELETED_VERSION]
    if version:
        where, values = f"{where} AND version = ?", [*values, version]
    aliases: dict[int, list[str]] = {}
    for alias, number in db.execute(
        "SELECT alias, version FROM registered_model_aliases WHERE name = ? ORDER BY alias", (name,)
    ):
        aliases.setdefault(number, []).append(alias)
    tags: dict[int, dict[str, str]] = {}
    for number, key, value in db.execute("SELECT version, key, value FROM model_version_tags WHERE name = ?", (name,)):
        tags.setdefault(number, {})[key] = value
    rows = db.execute(
        "SELECT version, source, storage_location, run_id, description, status, creation_time, last_updated_time "
        f"FROM model_versions{where} ORDER BY version DESC",
        values,
    )
    return [
        ModelVersion(
            name,
            str(row[0]),
            row[1] or "",
            row[2] or row[1] or "",
            row[3] or "",
            row[4] or "",
            row[5] or "READY",
            row[6],
            row[7],
            aliases.get(row[0], []),
            tags.get(row[0], {}),
        )
        for row in rows
    ]


def of_any(
    db: sqlite3.Connection, table: str, fields: str, column: str, values: Sequence[object]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a table whose column has one of these values, however many those are."""
    for start in range(0, len(values), _BOUND_AT_ONCE):
        part = values[start : start + _BOUND_AT_ONCE]
        yield from db.execute(f"SELECT {fields} FROM {table} WHERE {column} IN ({places(part)})", part)


def _ordering(query: RunQuery) -> tuple[str, str, list[object]]:
    tie = "r.start_time DESC, r.run_uuid"
    if not query.order_by:
        return "", tie, []
    key, way = filters.parse_key(query.order_by), "DESC" if query.descending else "ASC"
    if key.entity == "attributes":
        column = filters.ATTRIBUTES[key.name]
        return "", f"{column} IS NULL, {column} {way}, {tie}", []
    table = "latest_metrics" if key.entity == "metrics" else key.entity
    join = f" LEFT JOIN {table} s ON s.run_uuid = r.run_uuid AND s.key = ?"
    nan = "s.is_nan = 1, " if key.entity == "metrics" else ""
    return join, f"s.value IS NULL, {nan}s.value {way}, {tie}", [key.name]


def _runs(db: sqlite3.Connection, rows: Sequence[tuple[object, ...]], with_data: bool) -> list[Run]:
    ids = [str(row[0]) for row in rows]
    metrics: dict[str, dict[str, float]] = {run_id: {} for run_id in ids}
    params: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
    tags: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
    if with_data and ids:
        for run_id, key, value, is_nan in of_any(db, "latest_metrics", "run_uuid, key, value, is_nan", "run_uuid", ids):
            if is_nan or not -INFINITY < value < INFINITY:
                value = decoded(value, is_nan)
            metrics[run_id][key] = value
        for table, into in (("params", params), ("tags", tags)):
            for run_id, key, text in of_any(db, table, "run_uuid, key, value", "run_uuid", ids):
                into[run_id][key] = text
    return [
        Run(
            str(row[0]),
            str(row[1] or ""),
            str(row[2]),
            str(row[3]),
            row[4],  # type: ignore[arg-type]
            row[5],  # type: ignore[arg-type]
            row[6],  # type: ignore[arg-type]
            row[7],  # type: ignore[arg-type]
            str(row[8] or ""),
            str(row[9] or ""),
            metrics[ids[index]],
            params[ids[index]],
            tags[ids[index]],
        )
        for index, row in enumerate(rows)
    ]


def _grouped(rows: Iterable[tuple[str, str, str]]) -> Mapping[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, key, value in rows:
        found.setdefault(name, {})[key] = value
    return found


def places(values: Sequence[object]) -> str:
    """Question marks for as many values."""
    return ", ".join("?" * len(values))
