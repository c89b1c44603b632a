"""Logged models, MLflow 3's entity of its own for a model that a run made."""

from __future__ import annotations

import re
import sqlite3
import uuid
from typing import Any

from amlflow.errors import UsageError
from amlflow.journal.errors import Refused
from amlflow.workspaces.local import reads, writes
from amlflow.workspaces.local.rest import fields, rows
from amlflow.workspaces.local.rest.call import Call, Unusual

_FORBIDDEN = ("/", ":", ".", "%", '"', "'")
_PAGE = 50
_COLUMNS = {
    "name": "m.name",
    "model_id": "m.model_id",
    "model_type": "m.model_type",
    "source_run_id": "m.source_run_id",
    "creation_timestamp": "m.creation_timestamp_ms",
    "creation_time": "m.creation_timestamp_ms",
    "creation_timestamp_ms": "m.creation_timestamp_ms",
    "last_updated_timestamp": "m.last_updated_timestamp_ms",
    "last_updated_timestamp_ms": "m.last_updated_timestamp_ms",
}
_EQUALITY = re.compile(
    r"\s*(?:attributes?\.)?(?P<field>name|model_id|model_type|source_run_id)\s*=\s*'(?P<value>[^'\"`\\]*)'\s*"
)


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """Beyond MLflow, `model_id` asks for an id, as `run_id` does for a run."""
    body = call.body
    experiment_id, name = fields.required(body, "experiment_id"), fields.text(body, "name")
    if any(mark in name for mark in _FORBIDDEN):
        raise fields.invalid(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {_FORBIDDEN}"
        )
    experiment, location = rows.active_experiment(db, experiment_id)
    model_id, now = fields.text(body, "model_id") or f"m-{uuid.uuid4().hex}", writes.now_ms()
    _check_id(db, model_id)
    db.execute(
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, "
        "last_updated_timestamp_ms, status, lifecycle_stage, model_type, source_run_id) "
        "VALUES (?, ?, ?, ?, ?, ?, 1, 'active', ?, ?)",
        (
            model_id,
            experiment,
            name or writes.random_name(),
            f"{location.rstrip('/')}/models/{model_id}/artifacts",
            now,
            now,
            fields.text(body, "model_type"),
            fields.text(body, "source_run_id"),
        ),
    )
    _add_params(db, model_id, experiment, fields.pairs(body, "params"))
    for key, value in fields.pairs(body, "tags"):
        _set_tag(db, model_id, experiment, key, value)
    return {"model": _model(db, model_id)}


def get(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id = call.place["model_id"]
    found = rows.logged_models(db, "WHERE m.model_id = ?", (model_id,))
    if not fields.boolean(call.body, "allow_deleted"):
        _row(db, model_id, alive=True)
    return {"model": found[0]} if found else _refuse(model_id)


def finalize(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id, status = fields.required(call.body, "model_id"), call.body.get("status")
    number = next((number for number, name in rows.MODEL_STATUS.items() if status in (number, name)), 0)
    if not number:
        raise Unusual(f"A logged model has no status {status!r}.")
    _row(db, model_id)
    db.execute("UPDATE logged_models SET status = ? WHERE model_id = ?", (number, model_id))
    _touch(db, model_id)
    return {"model": _model(db, model_id)}


def delete(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id = call.place["model_id"]
    _row(db, model_id)
    db.execute("UPDATE logged_models SET lifecycle_stage = 'deleted' WHERE model_id = ?", (model_id,))
    _touch(db, model_id)
    return {}


def log_params(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id = call.place["model_id"]
    fields.required(call.body, "model_id")
    _add_params(db, model_id, _row(db, model_id)[0], fields.pairs(call.body, "params"))
    return {}


def set_tags(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id = call.place["model_id"]
    experiment = _row(db, model_id)[0]
    for key, value in fields.pairs(call.body, "tags"):
        _set_tag(db, model_id, experiment, key, value)
    return {}


def delete_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    model_id, key = call.place["model_id"], call.place["tag_key"]
    _row(db, model_id)
    if not db.execute("DELETE FROM logged_model_tags WHERE model_id = ? AND tag_key = ?", (model_id, key)).rowcount:
        raise fields.missing(f"No tag with key {key!r} found for model with ID {model_id!r}.")
    return {}


def search(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """With no filter, or with equalities of the model's own fields, in the order of one of them."""
    body = call.body
    experiments = fields.texts(body, "experiment_ids")
    if not experiments or body.get("datasets") or fields.text(body, "page_token"):
        raise Unusual("The search is not the usual one.")
    try:
        numbers = [int(text) for text in experiments]
    except ValueError:
        raise Unusual("An experiment's id is not a number.") from None
    clauses, values = "", list[object]()
    for clause in re.split(r"\band\b", fields.text(body, "filter"), flags=re.IGNORECASE) if body.get("filter") else []:
        match = _EQUALITY.fullmatch(clause)
        if not match:
            raise Unusual("The filter has more than equalities.")
        clauses += f" AND {_COLUMNS[match['field']]} = ?"
        values.append(match["value"])
    order = _order(body)
    size = fields.integer(body, "max_results") or _PAGE
    found = rows.logged_models(
        db,
        f"WHERE m.lifecycle_stage != 'deleted' AND m.experiment_id IN ({reads.places(numbers)}){clauses} "
        f"ORDER BY {order} LIMIT ?",
        [*numbers, *values, size + 1],
    )
    more = {}
    if len(found) > size:
        more["next_page_token"] = fields.token(
            size, experiment_ids=experiments, filter_string=body.get("filter") or None, order_by=_order_token(body)
        )
    return {**rows.given(models=found[:size]), **more}


def _order(body: Any) -> str:
    order, by_time = [], False
    for item in fields.objects(body, "order_by"):
        column = _COLUMNS.get(fields.text(item, "field_name"))
        if column is None or item.get("dataset_name"):
            raise Unusual("The order is not one of the model's own fields.")
        by_time = by_time or column == "m.creation_timestamp_ms"
        ascending = fields.boolean(item, "ascending") if "ascending" in item else True
        order += [f"{column} IS NULL", f"{column} {'ASC' if ascending else 'DESC'}"]
    return ", ".join([*order, *([] if by_time else ["m.creation_timestamp_ms DESC"])])


def _order_token(body: Any) -> list[dict[str, Any]] | None:
    """The order as MLflow's own page token holds it, for MLflow answers the next page."""
    return [
        {
            "field_name": item["field_name"],
            "ascending": fields.boolean(item, "ascending") if "ascending" in item else True,
            "dataset_name": None,
            "dataset_digest": None,
        }
        for item in fields.objects(body, "order_by")
    ] or None


def _row(db: sqlite3.Connection, model_id: str, *, alive: bool = False) -> tuple[int, str]:
    """The experiment and the artifact location. Raises `Refused`; with `alive` also for a deleted model."""
    row = db.execute(
        "SELECT experiment_id, artifact_location, lifecycle_stage FROM logged_models WHERE model_id = ?", (model_id,)
    ).fetchone()
    if row is None or (alive and row[2] == "deleted"):
        _refuse(model_id)
    return row[0], row[1]


def location(db: sqlite3.Connection, model_id: str) -> str:
    """Where the files of a model that is not deleted are. Raises `Refused`."""
    return _row(db, model_id, alive=True)[1]


def _refuse(model_id: str) -> Any:
    raise fields.missing(f"Logged model with ID '{model_id}' not found.")


def _model(db: sqlite3.Connection, model_id: str) -> dict[str, Any]:
    return rows.logged_models(db, "WHERE m.model_id = ?", (model_id,))[0]


def _touch(db: sqlite3.Connection, model_id: str) -> None:
    now = writes.now_ms()
    db.execute("UPDATE logged_models SET last_updated_timestamp_ms = ? WHERE model_id = ?", (now, model_id))


def _check_id(db: sqlite3.Connection, model_id: str) -> None:
    if db.execute("SELECT 1 FROM logged_models WHERE model_id = ?", (model_id,)).fetchone():
        raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Logged model with ID '{model_id}' already exists.")
    try:
        writes.check_id(db, model_id, "logged_models", "model_id")
    except UsageError as error:
        raise fields.invalid(error.message) from error


def _add_params(db: sqlite3.Connection, model_id: str, experiment: int, params: list[tuple[str, str]]) -> None:
    try:
        db.executemany(
            "INSERT INTO logged_model_params (model_id, experiment_id, param_key, param_value) VALUES (?, ?, ?, ?)",
            [(model_id, experiment, key, value) for key, value in params],
        )
    except sqlite3.IntegrityError as error:
        raise Unusual("A param of the logged model is there already.") from error


def _set_tag(db: sqlite3.Connection, model_id: str, experiment: int, key: str, value: str) -> None:
    db.execute(
        "INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (model_id, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
        (model_id, experiment, key, value),
    )
