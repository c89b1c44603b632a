"""Experiments: made, changed, read and searched."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.journal.errors import Refused
from amlflow.workspaces.local import reads, writes
from amlflow.workspaces.local.rest import fields, rows, runs
from amlflow.workspaces.local.rest.call import Call, Unusual

_TAG_VALUE_LENGTH = 5000
_BY_NAME = re.compile(r"\s*(?:attributes?\.|attr\.)?name\s*=\s*'(?P<name>[^'\"`\\]*)'\s*")


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, tags = fields.required(call.body, "name"), fields.pairs(call.body, "tags")
    if fields.text(call.body, "artifact_location"):
        raise Unusual("An artifact location is given.")
    for key, value in tags:
        _check_tag(key, value)
    if db.execute("SELECT 1 FROM experiments WHERE name = ?", (name,)).fetchone():
        raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists.")
    try:
        made = writes.ensure_experiment(db, name, call.artifact_root)
    except AmlflowError as error:
        raise Unusual(error.message) from error
    for key, value in tags:
        _set_tag(db, int(made), key, value)
    return {"experiment_id": made}


def get(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    number = rows.experiment_row(db, fields.required(call.body, "experiment_id"))[0]
    return {"experiment": rows.experiments(db, call, "WHERE experiment_id = ?", (number,))[0]}


def get_by_name(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name = fields.required(call.body, "experiment_name")
    found = rows.experiments(db, call, "WHERE name = ?", (name,))
    if not found:
        raise fields.missing(f"Could not find experiment with name '{name}'")
    return {"experiment": found[0]}


def search(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """Newest first; with no filter, or with the name alone."""
    body = call.body
    if "max_results" not in body or body.get("order_by"):
        raise Unusual("The order or the number of the results is not the usual.")
    size, start, stages = fields.page_size(body, 1), fields.offset(body), fields.view(body, "view_type")
    clause, values = "", list[object]()
    if fields.text(body, "filter"):
        match = _BY_NAME.fullmatch(body["filter"])
        if not match:
            raise Unusual("The filter has more than a name.")
        clause, values = " AND name = ?", [match["name"]]
    found = rows.experiments(
        db,
        call,
        f"WHERE lifecycle_stage IN ({reads.places(stages)}){clause} "
        "ORDER BY creation_time DESC, experiment_id ASC LIMIT ? OFFSET ?",
        [*stages, *values, size + 1, start],
    )
    page, more = fields.page(found, size, start)
    return {**rows.given(experiments=page), **more}


def update(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    number = rows.experiment_row(db, fields.required(call.body, "experiment_id"))
    name = fields.checked_length(fields.required(call.body, "new_name"), writes.EXPERIMENT_LENGTH, "experiment's name")
    if number[2] != "active":
        raise Refused(500, "INVALID_STATE", "Cannot rename a non-active experiment.")
    try:
        db.execute(
            "UPDATE experiments SET name = ?, last_update_time = ? WHERE experiment_id = ?",
            (name, writes.now_ms(), number[0]),
        )
    except sqlite3.IntegrityError:
        raise Refused(400, "BAD_REQUEST", f"Experiment(name={name}) already exists.") from None
    return {}


def delete(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """With its runs."""
    number = rows.experiment_row(db, fields.required(call.body, "experiment_id"), ["active"])[0]
    _set_lifecycle(db, number, deleted=True)
    return {}


def restore(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    number = rows.experiment_row(db, fields.required(call.body, "experiment_id"), ["deleted"])[0]
    _set_lifecycle(db, number, deleted=False)
    return {}


def set_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    text_id, key = fields.required(call.body, "experiment_id"), fields.required(call.body, "key")
    value = fields.text(call.body, "value")
    _check_tag(key, value)
    number, _ = rows.active_experiment(db, text_id)
    _set_tag(db, number, key, value)
    return {}


def delete_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    text_id, key = fields.required(call.body, "experiment_id"), fields.required(call.body, "key")
    number, _ = rows.active_experiment(db, text_id)
    if not db.execute("DELETE FROM experiment_tags WHERE experiment_id = ? AND key = ?", (number, key)).rowcount:
        raise fields.missing(f"No tag with name: {key} in experiment with id {text_id}")
    return {}


def _check_tag(key: str, value: str) -> None:
    if key.startswith("mlflow.trace"):
        raise Unusual("A tag about traces has a form of its own.")
    fields.checked_name(key, "tag")
    fields.checked_length(value, _TAG_VALUE_LENGTH, "tag's value")


def _set_tag(db: sqlite3.Connection, number: int, key: str, value: str) -> None:
    db.execute(
        "INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?) "
        "ON CONFLICT (key, experiment_id) DO UPDATE SET value = excluded.value",
        (number, key, value),
    )


def _set_lifecycle(db: sqlite3.Connection, number: int, *, deleted: bool) -> None:
    db.execute(
        "UPDATE experiments SET lifecycle_stage = ?, last_update_time = ? WHERE experiment_id = ?",
        ("deleted" if deleted else "active", writes.now_ms(), number),
    )
    runs.set_lifecycle(db, "experiment_id = ?", number, deleted=deleted)
