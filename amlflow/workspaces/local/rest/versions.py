"""Versions of registered models."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amlflow.workspaces.local import artifacts, writes
from amlflow.workspaces.local.reads import of_any
from amlflow.workspaces.local.rest import fields, models, registered, rows
from amlflow.workspaces.local.rest.call import Call, Unusual

_STAGES = {name.lower(): name for name in ("None", "Staging", "Production", "Archived")}
_DELETED = "Deleted_Internal"
_FIELDS = (
    "m.name, m.version, m.creation_time, m.last_updated_time, m.current_stage, m.description, m.user_id, m.source, "
    "m.run_id, m.status, m.status_message, m.run_link"
)
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_BY_RUN = re.compile(r"\s*run_id\s*=\s*'(?P<run>[0-9a-z]*)'\s*")


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """From a logged model, or from a folder of the run's or the model's own artifacts."""
    body, name = call.body, registered.model_name(call)
    tags, source = dict(fields.pairs(body, "tags")), fields.required(body, "source")
    if registered.PROMPT in tags:
        raise Unusual("It is a version of a prompt.")
    for key, value in tags.items():
        registered.check_tag(key, value)
    location, run_id = _origin(db, call, source)
    registered.check(db, name)
    version = int(
        writes.create_model_version(
            db, name, source, location, run_id, "", tags, model_id=fields.text(body, "model_id")
        )
    )
    db.execute(
        "UPDATE model_versions SET run_id = ?, run_link = ?, description = ? WHERE name = ? AND version = ?",
        (run_id, fields.text(body, "run_link"), fields.text(body, "description"), name, version),
    )
    return {"model_version": one(db, name, version)}


def get(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    return {"model_version": one(db, registered.model_name(call), number(call))}


def update(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version = registered.model_name(call), number(call)
    row(db, name, version)
    db.execute(
        "UPDATE model_versions SET description = ?, last_updated_time = ? WHERE name = ? AND version = ?",
        (fields.text(call.body, "description"), writes.now_ms(), name, version),
    )
    return {"model_version": one(db, name, version)}


def delete(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version = registered.model_name(call), number(call)
    row(db, name, version)
    writes.delete_model(db, name, str(version))
    return {}


def search(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """Last changed first; of all but the prompts, of one name, or of one run."""
    body = call.body
    size, start = fields.page_size(body, 200_000, 200_000), fields.offset(body)
    match = _BY_RUN.fullmatch(fields.text(body, "filter"))
    if match and not body.get("order_by"):
        clause, values = " AND m.run_id = ?", list[object]([match["run"]])
    else:
        clause, values = registered.named(body)
    found = _versions(
        db,
        f"WHERE m.current_stage != '{_DELETED}' AND {registered.NOT_PROMPTS.format(tags='model_version_tags')}{clause} "
        "ORDER BY m.last_updated_time DESC, m.name, m.version DESC LIMIT ? OFFSET ?",
        [*values, size + 1, start],
    )
    page, more = fields.page(found, size, start)
    return {**rows.given(model_versions=page), **more}


def transition(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version = registered.model_name(call), number(call)
    wanted, now = stage(fields.required(call.body, "stage")), writes.now_ms()
    row(db, name, version)
    if fields.boolean(call.body, "archive_existing_versions"):
        if wanted not in ("Staging", "Production"):
            raise Unusual("Nothing can be archived from a stage that is not active.")
        db.execute(
            "UPDATE model_versions SET current_stage = 'Archived', last_updated_time = ? "
            "WHERE name = ? AND version != ? AND current_stage = ?",
            (now, name, version, wanted),
        )
    db.execute(
        "UPDATE model_versions SET current_stage = ?, last_updated_time = ? WHERE name = ? AND version = ?",
        (wanted, now, name, version),
    )
    db.execute("UPDATE registered_models SET last_updated_time = ? WHERE name = ?", (now, name))
    return {"model_version": one(db, name, version)}


def download_uri(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version = registered.model_name(call), number(call)
    row(db, name, version)
    (uri,) = db.execute(
        "SELECT COALESCE(NULLIF(storage_location, ''), source) FROM model_versions WHERE name = ? AND version = ?",
        (name, version),
    ).fetchone()
    return {"artifact_uri": uri}


def set_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version = registered.model_name(call), number(call)
    key, value = fields.required(call.body, "key"), fields.text(call.body, "value")
    if key.startswith("mlflow.prompt"):
        raise Unusual("It is a version of a prompt.")
    registered.check_tag(key, value)
    row(db, name, version)
    db.execute(
        "INSERT INTO model_version_tags (key, value, name, version) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = excluded.value",
        (key, value, name, version),
    )
    return {}


def delete_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, version, key = registered.model_name(call), number(call), fields.required(call.body, "key")
    row(db, name, version)
    db.execute("DELETE FROM model_version_tags WHERE name = ? AND version = ? AND key = ?", (name, version, key))
    return {}


def number(call: Call) -> int:
    found = call.body.get("version")
    text = (
        str(found) if isinstance(found, int) and not isinstance(found, bool) else fields.required(call.body, "version")
    )
    try:
        return int(text)
    except ValueError:
        raise fields.invalid(f"Parameter 'version' must be an integer, got '{text}'.") from None


def stage(text: str) -> str:
    found = _STAGES.get(text.lower())
    if found is None:
        raise Unusual(f"There is no stage {text!r}.")
    return found


def row(db: sqlite3.Connection, name: str, version: int) -> None:
    """Raises `Refused` where there is no such version."""
    if not db.execute(
        "SELECT 1 FROM model_versions WHERE name = ? AND version = ? AND current_stage != ?", (name, version, _DELETED)
    ).fetchone():
        raise fields.missing(f"Model Version (name={name}, version={version}) not found")


def one(db: sqlite3.Connection, name: str, version: int) -> dict[str, Any]:
    """A version with its aliases. Raises `Refused`."""
    row(db, name, version)
    found = _versions(db, "WHERE m.name = ? AND m.version = ?", [name, version])[0]
    return {**found, **rows.given(aliases=aliases(db, name).get(version, []))}


def aliases(db: sqlite3.Connection, name: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for alias, version in db.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,)):
        found.setdefault(version, []).append(alias)
    return found


def latest(db: sqlite3.Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Of each model the latest version of each stage, without aliases."""
    best: dict[tuple[str, str], int] = {}
    for name, version, current in of_any(db, "model_versions", "name, version, current_stage", "name", names):
        if current != _DELETED:
            best[name, current] = max(version, best.get((name, current), 0))
    found: dict[str, list[dict[str, Any]]] = {}
    for (name, _), version in best.items():
        found.setdefault(name, []).extend(_versions(db, "WHERE m.name = ? AND m.version = ?", [name, version]))
    return found


def _origin(db: sqlite3.Connection, call: Call, source: str) -> tuple[str, str]:
    """Where the files of the new version are, and the run that made it. A folder is taken only from the artifacts of the
    run or the logged model that the request names; what else MLflow takes is `Unusual`."""
    run_id, model_id = fields.text(call.body, "run_id"), fields.text(call.body, "model_id")
    logged = _LOGGED_MODEL.fullmatch(source)
    if logged:
        return models.location(db, logged[1]), run_id or _source_run(db, logged[1])
    if not Path(source).is_absolute() or not (run_id or model_id):
        raise Unusual("The source is neither a logged model nor a folder of a run.")
    owner = models.location(db, model_id) if model_id else rows.run_row(db, run_id)[7]
    folder = artifacts.local_folder(owner)
    if folder is None or not Path(source).resolve().is_relative_to(folder.resolve()):
        raise Unusual("The folder is not one of its owner's artifacts.")
    return source, run_id or _source_run(db, model_id)


def _source_run(db: sqlite3.Connection, model_id: str) -> str:
    return db.execute("SELECT source_run_id FROM logged_models WHERE model_id = ?", (model_id,)).fetchone()[0] or ""


def _versions(db: sqlite3.Connection, where: str, values: list[Any]) -> list[dict[str, Any]]:
    found = db.execute(f"SELECT {_FIELDS} FROM model_versions m {where}", values).fetchall()
    names = sorted({row[0] for row in found})
    tags: dict[tuple[str, int], list[dict[str, str]]] = {}
    for name, version, key, value in of_any(db, "model_version_tags", "name, version, key, value", "name", names):
        tags.setdefault((name, version), []).append(rows.pair(key, value))
    return [
        rows.given(
            name=item[0],
            version=str(item[1]),
            creation_timestamp=item[2],
            last_updated_timestamp=item[3],
            current_stage=item[4],
            description=item[5],
            user_id=item[6],
            source=item[7],
            run_id=item[8],
            status=item[9],
            status_message=item[10] or None,
            run_link=item[11],
            tags=tags.get((item[0], item[1]), []),
        )
        for item in found
    ]
