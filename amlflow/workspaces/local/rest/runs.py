"""Runs: made, changed, read and searched."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from amlflow.errors import AmlflowError, UsageError
from amlflow.journal.errors import Refused
from amlflow.workspaces.local import filters, reads, writes
from amlflow.workspaces.local.rest import fields, rows
from amlflow.workspaces.local.rest.call import Call, Unusual

_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_NAME_TAG = "mlflow.runName"
_ORDER = re.compile(r"(?P<key>.*\S)\s+(?P<way>asc|desc)\s*", re.IGNORECASE | re.DOTALL)


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """Beyond MLflow, `run_id` asks for an id: a run that was begun where nothing could be asked has one already."""
    body = call.body
    wanted, name, tags = fields.text(body, "run_id"), fields.text(body, "run_name"), dict(fields.pairs(body, "tags"))
    if not fields.text(body, "experiment_id"):
        raise Unusual("The experiment is not named.")
    experiment, _ = rows.active_experiment(db, fields.text(body, "experiment_id"))
    if name and tags.get(_NAME_TAG, name) != name:
        raise Unusual("The run has two names.")
    if wanted and db.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (wanted,)).fetchone():
        raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Run with id={wanted} already exists.")
    if wanted and not writes.is_id(wanted):
        raise fields.invalid(f"{wanted[:60]!r} cannot be an id.")
    try:
        run_id = writes.create_run(
            db,
            str(experiment),
            name,
            tags,
            {},
            run_id=wanted,
            start_time_ms=fields.integer(body, "start_time"),
            user=fields.text(body, "user_id"),
        )
    except AmlflowError as error:
        raise Unusual(error.message) from error
    # As MLflow: only what the request says, not what a tag does.
    db.execute("UPDATE runs SET user_id = ? WHERE run_uuid = ?", (fields.text(body, "user_id"), run_id))
    made = rows.runs(db, [rows.run_row(db, run_id)], model_inputs=False)[0]
    return {"run": {"info": made["info"], "data": made["data"], "inputs": {}}}


def get(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    row = rows.run_row(db, fields.run_id(call.body))
    return {"run": rows.runs(db, [row], model_inputs=True)[0]}


def update(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id, name = fields.run_id(call.body), fields.text(call.body, "run_name")
    status = call.body.get("status")
    status = _STATUSES.get(status) if isinstance(status, int) else status
    if status is not None and status not in _STATUSES.values():
        raise Unusual(f"A run has no status {status!r}.")
    rows.active_run(db, run_id)
    if status is not None:
        db.execute("UPDATE runs SET status = ? WHERE run_uuid = ?", (status, run_id))
    if call.body.get("end_time") is not None:
        ended = fields.integer(call.body, "end_time")
        db.execute("UPDATE runs SET end_time = ? WHERE run_uuid = ?", (ended, run_id))
    if name:
        _named(db, run_id, name)
    return {"run_info": rows.run_info(rows.run_row(db, run_id))}


def delete(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.required(call.body, "run_id")
    rows.run_row(db, run_id)
    set_lifecycle(db, "run_uuid = ?", run_id, deleted=True)
    return {}


def restore(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.required(call.body, "run_id")
    rows.run_row(db, run_id)
    set_lifecycle(db, "run_uuid = ?", run_id, deleted=False)
    return {}


def set_lifecycle(db: sqlite3.Connection, where: str, value: object, *, deleted: bool) -> None:
    """Of the runs that the condition picks. As in MLflow, what a deleted run has assessed goes with it."""
    if deleted:
        for (run_id,) in db.execute(f"SELECT run_uuid FROM runs WHERE {where}", (value,)).fetchall():
            made_by = f'"mlflow.assessment.sourceRunId": "{run_id}"'
            db.execute("DELETE FROM assessments WHERE instr(assessment_metadata, ?) > 0", (made_by,))
    db.execute(
        f"UPDATE runs SET lifecycle_stage = ?, deleted_time = ? WHERE {where}",
        ("deleted" if deleted else "active", writes.now_ms() if deleted else None, value),
    )


def set_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id = fields.run_id(call.body)
    key, value = fields.required(call.body, "key"), fields.text(call.body, "value")
    fields.checked_name(key, "tag")
    rows.active_run(db, run_id)
    log_tags(db, run_id, {key: value})
    return {}


def delete_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    run_id, key = fields.required(call.body, "run_id"), fields.required(call.body, "key")
    rows.active_run(db, run_id)
    if not db.execute("DELETE FROM tags WHERE run_uuid = ? AND key = ?", (run_id, key)).rowcount:
        raise fields.missing(f"No tag with name: {key} in run with id {run_id}")
    return {}


def log_tags(db: sqlite3.Connection, run_id: str, tags: dict[str, str]) -> None:
    """Tags whose keys are checked. A value that is too long is cut, as MLflow does."""
    if tags.get(_NAME_TAG) == "":
        raise Unusual("A run cannot lose its name.")
    if len(tags.get(_NAME_TAG, "")) > writes.KEY_LENGTH:
        raise Unusual("The run's name is too long.")
    writes.log_tags(db, run_id, {key: fields.cut(value, writes.TAG_LENGTH, "tag") for key, value in tags.items()})


def search(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    body = call.body
    size, start = fields.page_size(body, 1000), fields.offset(body)
    stages, numbers = (
        fields.view(body, "run_view_type"),
        [_number(text) for text in fields.texts(body, "experiment_ids")],
    )
    try:
        where, bound = filters.joined(filters.conditions(fields.text(body, "filter")))
        joins, order, keys = _ordering(fields.texts(body, "order_by"))
    except UsageError as error:
        raise Unusual(error.message) from error
    found = db.execute(
        f"SELECT {rows.RUN_FIELDS} FROM runs r{joins} "
        f"WHERE r.experiment_id IN ({reads.places(numbers)}) AND r.lifecycle_stage IN ({reads.places(stages)}){where} "
        f"ORDER BY {order} LIMIT ? OFFSET ?",
        [*keys, *numbers, *stages, *bound, size + 1, start],
    ).fetchall()
    page, more = fields.page(found, size, start)
    return {**rows.given(runs=rows.runs(db, page, model_inputs=False)), **more}


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Unusual(f"{text!r} is not an experiment's id.") from None


def _ordering(wanted: list[str]) -> tuple[str, str, list[object]]:
    """The joins, the ORDER BY and the values bound in the joins. Ties are broken by start time and id."""
    joins, order, bound, seen = "", [], list[object](), set[filters.Key]()
    for index, item in enumerate(wanted):
        match = _ORDER.fullmatch(item)
        key = filters.parse_key(match["key"] if match else item)
        way = "DESC" if match and match["way"].lower() == "desc" else "ASC"
        bare = key.entity == "metrics" and "metric" not in item.split(".", 1)[0]
        if bare or key in seen:
            raise Unusual(f"{item!r} is not what runs are ordered by.")
        seen.add(key)
        if key.entity == "attributes":
            column = filters.ATTRIBUTES[key.name]
            order += [f"{column} IS NULL", f"{column} {way}"]
            continue
        name, table = f"s{index}", "latest_metrics" if key.entity == "metrics" else key.entity
        joins += f" LEFT JOIN {table} {name} ON {name}.run_uuid = r.run_uuid AND {name}.key = ?"
        bound.append(key.name)
        order += [
            f"{name}.value IS NULL",
            *([f"{name}.is_nan = 1"] if key.entity == "metrics" else []),
            f"{name}.value {way}",
        ]
    times = {filters.Key("attributes", name) for name in ("start_time", "created")}
    return joins, ", ".join([*order, *([] if seen & times else ["r.start_time DESC"]), "r.run_uuid"]), bound


def _named(db: sqlite3.Connection, run_id: str, name: str) -> None:
    if len(name) > writes.KEY_LENGTH:
        raise Unusual("The run's name is too long.")
    writes.log_tags(db, run_id, {_NAME_TAG: name})
