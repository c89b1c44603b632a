"""Writing an answer: rows of MLflow's tables as the JSON of its REST API.

As there, a list that is empty and a text that is null are left out, and NaN is the text "NaN"; infinities are the
largest finite doubles, which is how MLflow stores them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amlflow.journal.errors import Refused
from amlflow.workspaces.local.reads import of_any
from amlflow.workspaces.local.rest.call import Call
from amlflow.workspaces.local.rest.fields import experiment_number, invalid, missing

RUN_FIELDS = (
    "r.run_uuid, r.experiment_id, r.name, r.user_id, r.status, r.start_time, r.end_time, r.artifact_uri, "
    "r.lifecycle_stage"
)
MODEL_STATUS = {
    0: "LOGGED_MODEL_STATUS_UNSPECIFIED",
    1: "LOGGED_MODEL_PENDING",
    2: "LOGGED_MODEL_READY",
    3: "LOGGED_MODEL_UPLOAD_FAILED",
}


def given(**fields: Any) -> dict[str, Any]:
    """Those that are neither null nor an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def pair(key: str, value: str | None) -> dict[str, str]:
    return {"key": key, "value": value or ""}


def metric(key: str, value: float, timestamp: int, step: int, is_nan: int, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "value": "NaN" if is_nan else float(value),
        "timestamp": timestamp,
        "step": step,
        **given(**more),
    }


def experiments(db: sqlite3.Connection, call: Call, where: str, values: Sequence[object]) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT experiment_id, name, artifact_location, lifecycle_stage, last_update_time, creation_time "
        f"FROM experiments {where}",
        values,
    ).fetchall()
    tags: dict[int, list[dict[str, str]]] = {}
    for number, key, value in of_any(
        db, "experiment_tags", "experiment_id, key, value", "experiment_id", [r[0] for r in rows]
    ):
        tags.setdefault(number, []).append(pair(key, value))
    return [
        given(
            experiment_id=str(row[0]),
            name=row[1],
            artifact_location=row[2],
            lifecycle_stage=row[3],
            last_update_time=row[4],
            creation_time=row[5],
            tags=tags.get(row[0], []),
            workspace="default" if call.has_workspaces else None,
        )
        for row in rows
    ]


def experiment_row(
    db: sqlite3.Connection, text_id: str, stages: Sequence[str] = ("active", "deleted")
) -> tuple[Any, ...]:
    """Id, artifact location and lifecycle stage. Raises `Refused`."""
    number = experiment_number(text_id or "0")
    row = db.execute(
        "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE experiment_id = ?", (number,)
    ).fetchone()
    if row is None or row[2] not in stages:
        raise missing(f"No Experiment with id={number} exists")
    return tuple(row)


def active_experiment(db: sqlite3.Connection, text_id: str) -> tuple[int, str]:
    """Id and artifact location of an experiment that may be written to. Raises `Refused`."""
    number, location, stage = experiment_row(db, text_id)
    if stage != "active":
        raise invalid(f"The experiment {number} must be in the 'active' state. Current state is {stage}.")
    return number, location


def run_row(db: sqlite3.Connection, run_id: str) -> tuple[Any, ...]:
    """The run's `RUN_FIELDS`. Raises `Refused`."""
    row = db.execute(f"SELECT {RUN_FIELDS} FROM runs r WHERE r.run_uuid = ?", (run_id,)).fetchone()
    if row is None:
        raise missing(f"Run with id={run_id} not found")
    return tuple(row)


def active_run(db: sqlite3.Connection, run_id: str) -> tuple[Any, ...]:
    """The `RUN_FIELDS` of a run that may be written to. Raises `Refused`."""
    row = run_row(db, run_id)
    if row[8] != "active":
        raise inactive(run_id, row[8])
    return row


def inactive(run_id: str, stage: str) -> Refused:
    return invalid(f"The run {run_id} must be in the 'active' state. Current state is {stage}.")


def run_info(row: Sequence[Any]) -> dict[str, Any]:
    return given(
        run_uuid=row[0],
        experiment_id=str(row[1]),
        run_name=row[2],
        user_id=row[3],
        status=row[4],
        start_time=row[5],
        end_time=row[6] or None,
        artifact_uri=row[7],
        lifecycle_stage=row[8],
        run_id=row[0],
    )


def runs(db: sqlite3.Connection, rows: Sequence[Sequence[Any]], *, model_inputs: bool) -> list[dict[str, Any]]:
    """Whole runs of their `RUN_FIELDS`, in a few statements for all of them."""
    ids = [row[0] for row in rows]
    data: dict[str, dict[str, list[dict[str, Any]]]] = {run_id: {} for run_id in ids}
    for run_id, key, value, timestamp, step, is_nan in of_any(
        db, "latest_metrics", "run_uuid, key, value, timestamp, step, is_nan", "run_uuid", ids
    ):
        data[run_id].setdefault("metrics", []).append(metric(key, value, timestamp, step, is_nan))
    for table in ("params", "tags"):
        for run_id, key, value in of_any(db, table, "run_uuid, key, value", "run_uuid", ids):
            data[run_id].setdefault(table, []).append(pair(key, value))
    datasets = _dataset_inputs(db, ids)
    inputs = _models(db, ids, "RUN_INPUT", "MODEL_INPUT") if model_inputs else {}
    outputs = _models(db, ids, "RUN_OUTPUT", "MODEL_OUTPUT")
    return [
        {
            "info": run_info(row),
            "data": data[row[0]],
            "inputs": given(
                dataset_inputs=datasets.get(row[0], []),
                model_inputs=[{"model_id": model} for model, _ in inputs.get(row[0], [])],
            ),
            "outputs": given(
                model_outputs=[{"model_id": model, "step": step} for model, step in outputs.get(row[0], [])]
            ),
        }
        for row in rows
    ]


def logged_models(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[dict[str, Any]]:
    """`where` is all that follows FROM logged_models m."""
    rows = db.execute(
        "SELECT m.model_id, m.experiment_id, m.name, m.creation_timestamp_ms, m.last_updated_timestamp_ms, "
        f"m.artifact_location, m.status, m.model_type, m.source_run_id FROM logged_models m {where}",
        values,
    ).fetchall()
    ids = [row[0] for row in rows]
    tags = _pairs_of(of_any(db, "logged_model_tags", "model_id, tag_key, tag_value", "model_id", ids))
    params = _pairs_of(of_any(db, "logged_model_params", "model_id, param_key, param_value", "model_id", ids))
    metrics: dict[str, list[dict[str, Any]]] = {}
    fields = (
        "model_id, metric_name, metric_value, metric_timestamp_ms, metric_step, dataset_name, dataset_digest, run_id"
    )
    for model, key, value, timestamp, step, name, digest, run in of_any(
        db, "logged_model_metrics", fields, "model_id", ids
    ):
        linked = metric(
            key, value, timestamp, step, 0, dataset_name=name, dataset_digest=digest, model_id=model, run_id=run
        )
        metrics.setdefault(model, []).append(linked)
    return [
        {
            "info": given(
                model_id=row[0],
                experiment_id=str(row[1]),
                name=row[2],
                creation_timestamp_ms=row[3],
                last_updated_timestamp_ms=row[4],
                artifact_uri=row[5],
                status=MODEL_STATUS.get(row[6], MODEL_STATUS[0]),
                model_type=row[7],
                source_run_id=row[8],
                tags=tags.get(row[0], []),
            ),
            "data": given(params=params.get(row[0], []), metrics=metrics.get(row[0], [])),
        }
        for row in rows
    ]


def _dataset_inputs(db: sqlite3.Connection, ids: Sequence[str]) -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    of_runs = [
        row
        for row in of_any(
            db, "inputs", "destination_id, source_id, input_uuid, source_type, destination_type", "destination_id", ids
        )
        if row[3:] == ("DATASET", "RUN")
    ]
    fields = "dataset_uuid, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile"
    datasets = {
        row[0]: given(
            name=row[1],
            digest=row[2],
            source_type=row[3],
            source=row[4],
            schema=row[5] or None,
            profile=row[6] or None,
        )
        for row in of_any(db, "datasets", fields, "dataset_uuid", sorted({row[1] for row in of_runs}))
    }
    tags = _pairs_of(of_any(db, "input_tags", "input_uuid, name, value", "input_uuid", [row[2] for row in of_runs]))
    for run_id, dataset, input_id, _, _ in of_runs:
        if dataset in datasets:
            found.setdefault(run_id, []).append(given(tags=tags.get(input_id, []), dataset=datasets[dataset]))
    return found


def _models(
    db: sqlite3.Connection, ids: Sequence[str], source: str, destination: str
) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    where = f"destination_type = '{destination}' AND source_type = '{source}' AND source_id"
    for run_id, model, step in of_any(db, "inputs", "source_id, destination_id, step", where, ids):
        found.setdefault(run_id, []).append((model, step))
    return found


def _pairs_of(rows: Iterable[tuple[Any, ...]]) -> dict[Any, list[dict[str, str]]]:
    found: dict[Any, list[dict[str, str]]] = {}
    for owner, key, value in rows:
        found.setdefault(owner, []).append(pair(key, value))
    return found
