"""What a running program logs into its run: metrics, params, tags, inputs and outputs; and the history of a metric."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from amlflow.errors import UsageError
from amlflow.workspaces.local import writes
from amlflow.workspaces.local.rest import fields, rows, runs
from amlflow.workspaces.local.rest.call import BatchLimits, Call, Unusual

_MODEL_TAG_FIELDS = ("run_id", "artifact_path", "utc_time_created", "model_uuid")
_LOGGED_MODELS = "mlflow.log-model.history"
# The sizes of mlflow/utils/validation.py.
_DATASET_SIZES = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_INPUT_TAG_KEY, _INPUT_TAG_VALUE = 255, 500


def log_batch(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    body = call.body
    run_id = fields.required(body, "run_id")
    metrics = fields.objects(body, "metrics")
    params, tags = fields.pairs(body, "params"), fields.pairs(body, "tags")
    _check_limits(call.limits, len(metrics), len(params), len(tags))
    points = [_point(metric) for metric in metrics]
    linked = [metric for metric in metrics if metric.get("model_id")]
    if len({key for key, _ in params}) < len(params):
        raise Unusual("A param is given twice.")
    for key, _ in (*params, *tags):
        fields.checked_name(key, "name")
    experiment = rows.active_run(db, run_id)[1]
    _log_params(db, run_id, {key: fields.cut(value, writes.PARAM_LENGTH, "param") for key, value in params})
    log_points(db, run_id, points)
    _log_model_metrics(db, run_id, experiment, linked)
    runs.log_tags(db, run_id, dict(tags))
    return {}


def log_points(db: sqlite3.Connection, run_id: str, points: Iterable[tuple[str, float, int, int]]) -> None:
    """Points (key, value, step, timestamp in ms) into a run that is known to be active."""
    try:
        writes.log_points(db, run_id, points)
    except UsageError as error:
        raise Unusual(error.message) from error


def log_metric(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.run_id(call.body)
    fields.required(call.body, "key")
    point = _point(call.body)
    experiment = rows.active_run(db, run_id)[1]
    if call.body.get("model_id"):
        _log_model_metrics(db, run_id, experiment, [call.body])
    log_points(db, run_id, [point])
    return {}


def log_param(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.run_id(call.body)
    key = fields.checked_name(fields.required(call.body, "key"), "param")
    value = fields.cut(fields.text(call.body, "value"), writes.PARAM_LENGTH, "param")
    rows.active_run(db, run_id)
    known = db.execute("SELECT value FROM params WHERE run_uuid = ? AND key = ?", (run_id, key)).fetchone()
    if known is None:
        db.execute("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", (key, value, run_id))
    elif known[0] != value:
        raise fields.invalid(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{known[0]}' "
            f"for run ID='{run_id}'. Attempted logging new value '{value}'."
        )
    return {}


def log_model(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """The way of MLflow 2: the models of a run are a tag of it."""
    run_id, text = fields.required(call.body, "run_id"), fields.required(call.body, "model_json")
    try:
        model = json.loads(text)
    except ValueError:
        raise Unusual("The model's description is not JSON.") from None
    if not isinstance(model, dict) or not {*_MODEL_TAG_FIELDS, "flavors"} <= model.keys():
        raise Unusual("The model's description is incomplete.")
    rows.active_run(db, run_id)
    known = db.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", (run_id, _LOGGED_MODELS)).fetchone()
    # As MLflow keeps them: without what only the files need.
    kept = {name: model[name] for name in _MODEL_TAG_FIELDS}
    kept["flavors"] = {name: _without_configuration(flavor) for name, flavor in model["flavors"].items()}
    value = json.dumps([*(json.loads(known[0]) if known else []), kept])
    if len(value) > writes.TAG_LENGTH:
        raise Unusual("The run has more models than its tag holds.")
    writes.log_tags(db, run_id, {_LOGGED_MODELS: value})
    return {}


def log_inputs(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.required(call.body, "run_id")
    datasets, models = fields.objects(call.body, "datasets"), fields.objects(call.body, "models")
    experiment = rows.active_run(db, run_id)[1]
    for given in datasets:
        _log_dataset(db, run_id, experiment, _dataset(given), fields.pairs(given, "tags"))
    for model in models:
        _link(db, run_id, "RUN_INPUT", "MODEL_INPUT", fields.text(model, "model_id"), 0)
    return {}


def log_outputs(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id, models = fields.required(call.body, "run_id"), fields.objects(call.body, "models")
    if not models:
        raise Unusual("No models are given.")
    rows.active_run(db, run_id)
    for model in models:
        _link(db, run_id, "RUN_OUTPUT", "MODEL_OUTPUT", fields.text(model, "model_id"), fields.integer(model, "step"))
    return {}


def metric_history(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """All of it, or a page where `max_results` is given."""
    run_id, key = fields.run_id(call.body), fields.required(call.body, "metric_key")
    start = fields.offset(call.body)
    size = fields.page_size(call.body, 1, 1 << 31) if call.body.get("max_results") is not None else None
    found = db.execute(
        "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? AND key = ? "
        "ORDER BY timestamp, step, value LIMIT ? OFFSET ?",
        (run_id, key, -1 if size is None else size + 1, start),
    ).fetchall()
    page, more = (found, {}) if size is None else fields.page(found, size, start)
    return {**rows.given(metrics=[rows.metric(*row) for row in page]), **more}


def _without_configuration(flavor: Any) -> Any:
    return {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor


def _check_limits(limits: BatchLimits, metrics: int, params: int, tags: int) -> None:
    for what, most, count in (
        ("metrics", limits.metrics, metrics),
        ("params", limits.params, params),
        ("tags", limits.tags, tags),
        ("metrics, params, and tags", limits.together, metrics + params + tags),
    ):
        if most is not None and count > most:
            raise fields.invalid(
                f"A batch logging request can contain at most {most} {what}. Got {count} {what}. Please split up {what} "
                "across multiple requests and try again."
            )


def _point(metric: Mapping[str, Any]) -> tuple[str, float, int, int]:
    """(key, value, step, timestamp in ms) of one metric in a request."""
    key, value, step, timestamp = metric.get("key"), metric.get("value"), metric.get("step", 0), metric.get("timestamp")
    if type(key) is str and type(value) is float and type(step) is int and type(timestamp) is int and timestamp >= 0:
        return key, value, step, timestamp
    if not key or value is None or timestamp is None or isinstance(value, bool):
        raise Unusual("A metric lacks its key, value or timestamp.")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Unusual(f"{value!r} is not a number.") from None
    timestamp = fields.integer(metric, "timestamp")
    if timestamp < 0:
        raise Unusual("A metric's timestamp is negative.")
    return fields.text(metric, "key"), number, fields.integer(metric, "step"), timestamp


def _log_params(db: sqlite3.Connection, run_id: str, params: Mapping[str, str]) -> None:
    if not params:
        return
    known = dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
    changed = [
        {"key": key, "old_value": known[key], "new_value": value}
        for key, value in params.items()
        if key in known and known[key] != value
    ]
    if changed:
        raise fields.invalid(
            f"Changing param values is not allowed. Params were already logged='{changed}' for run ID='{run_id}'."
        )
    new = [(key, value, run_id) for key, value in params.items() if key not in known]
    db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", new)


def _log_model_metrics(
    db: sqlite3.Connection, run_id: str, experiment: int, metrics: Iterable[Mapping[str, Any]]
) -> None:
    """Of metrics that are linked to logged models; one that is there already stays."""
    for metric in metrics:
        key, value, step, timestamp = _point(metric)
        values = (
            fields.text(metric, "model_id"),
            key,
            timestamp,
            step,
            writes.encoded(value)[0],
            experiment,
            run_id,
            fields.text(metric, "dataset_name") or None,
            fields.text(metric, "dataset_digest") or None,
        )
        try:
            db.execute(
                "INSERT INTO logged_model_metrics (model_id, metric_name, metric_timestamp_ms, metric_step, metric_value, "
                "experiment_id, run_id, dataset_name, dataset_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                values,
            )
        except sqlite3.IntegrityError as error:
            raise Unusual(f"There is no logged model {values[0]!r}.") from error


def _dataset(given: Mapping[str, Any]) -> dict[str, str]:
    dataset = given.get("dataset")
    if not isinstance(dataset, dict):
        raise Unusual("An input has no dataset.")
    found = {
        name: fields.text(dataset, name) for name in ("name", "digest", "source_type", "source", "schema", "profile")
    }
    if not all(found[name] for name in ("name", "digest", "source_type", "source")):
        raise Unusual("A dataset lacks its name, digest or source.")
    for name, most in _DATASET_SIZES.items():
        fields.checked_length(found[name], most, f"dataset's {name}")
    return found


def _log_dataset(
    db: sqlite3.Connection, run_id: str, experiment: int, dataset: Mapping[str, str], tags: list[tuple[str, str]]
) -> None:
    """One row for a dataset of an experiment, one for its use in the run; tags are those of its first use."""
    for key, value in tags:
        fields.checked_length(key, _INPUT_TAG_KEY, "tag's key")
        fields.checked_length(value, _INPUT_TAG_VALUE, "tag's value")
    db.execute(
        "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source, "
        "dataset_schema, dataset_profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            uuid.uuid4().hex,
            experiment,
            dataset["name"],
            dataset["digest"],
            dataset["source_type"],
            dataset["source"],
            dataset["schema"],
            dataset["profile"],
        ),
    )
    (dataset_id,) = db.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?",
        (experiment, dataset["name"], dataset["digest"]),
    ).fetchone()
    input_id = uuid.uuid4().hex
    new = db.execute(
        "INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id) "
        "VALUES (?, 'DATASET', ?, 'RUN', ?) ON CONFLICT DO NOTHING",
        (input_id, dataset_id, run_id),
    ).rowcount
    if new:
        try:
            db.executemany(
                "INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)",
                [(input_id, key, value) for key, value in tags],
            )
        except sqlite3.IntegrityError as error:
            raise Unusual("A tag of an input is given twice.") from error


def _link(db: sqlite3.Connection, run_id: str, source: str, destination: str, model_id: str, step: int) -> None:
    if not model_id:
        raise Unusual("A model has no id.")
    try:
        db.execute(
            "INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step) "
            "VALUES (?, ?, ?, ?, ?, ?)"
            # As MLflow: an input may be linked again; an output twice is an error there.
            + (" ON CONFLICT DO UPDATE SET input_uuid = excluded.input_uuid" if source == "RUN_INPUT" else ""),
            (uuid.uuid4().hex, source, run_id, destination, model_id, step),
        )
    except sqlite3.IntegrityError as error:
        raise Unusual(f"The model {model_id!r} is linked already.") from error
