"""Registered models, their tags and their aliases."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from amlflow.journal.errors import Refused
from amlflow.workspaces.local import writes
from amlflow.workspaces.local.reads import of_any
from amlflow.workspaces.local.rest import fields, rows, versions
from amlflow.workspaces.local.rest.call import Call, Unusual

PROMPT = "mlflow.prompt.is_prompt"
NOT_PROMPTS = (
    "NOT EXISTS (SELECT 1 FROM {tags} p WHERE p.name = m.name AND p.key = 'mlflow.prompt.is_prompt' "
    "AND p.value = 'true')"
)
BY_NAME = re.compile(r"\s*name\s*=\s*'(?P<name>[^'\"`\\]*)'\s*")
_ALIAS = re.compile(r"[\w\-]{1,255}", re.ASCII)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, tags = model_name(call), fields.pairs(call.body, "tags")
    if len(name) > writes.MODEL_LENGTH or any(key == PROMPT for key, _ in tags):
        raise Unusual("It is a prompt, or its name is too long.")
    for key, value in tags:
        check_tag(key, value)
    now = writes.now_ms()
    try:
        db.execute(
            "INSERT INTO registered_models (name, creation_time, last_updated_time, description) VALUES (?, ?, ?, ?)",
            (name, now, now, fields.text(call.body, "description")),
        )
    except sqlite3.IntegrityError:
        if db.execute("SELECT 1 FROM registered_model_tags WHERE name = ? AND key = ?", (name, PROMPT)).fetchone():
            raise Unusual("A prompt has that name.") from None
        raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.") from None
    for key, value in tags:
        _set_tag(db, name, key, value)
    return {"registered_model": _models(db, "WHERE m.name = ?", [name])[0]}


def get(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    return {"registered_model": _one(db, model_name(call))}


def update(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name = model_name(call)
    check(db, name)
    db.execute(
        "UPDATE registered_models SET description = ?, last_updated_time = ? WHERE name = ?",
        (fields.text(call.body, "description"), writes.now_ms(), name),
    )
    return {"registered_model": _one(db, name)}


def delete(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name = model_name(call)
    check(db, name)
    writes.delete_model(db, name, "")
    return {}


def search(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """By name; of all but the prompts, or of one name."""
    body = call.body
    size, start = fields.page_size(body, 100, 1000), fields.offset(body)
    clause, values = named(body)
    found = _models(
        db,
        f"WHERE {NOT_PROMPTS.format(tags='registered_model_tags')}{clause} ORDER BY m.name LIMIT ? OFFSET ?",
        [*values, size + 1, start],
    )
    page, more = fields.page(found, size, start)
    return {**rows.given(registered_models=page), **more}


def set_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, key, value = model_name(call), fields.required(call.body, "key"), fields.text(call.body, "value")
    if key == PROMPT:
        raise Unusual("It is a prompt.")
    check_tag(key, value)
    check(db, name)
    _set_tag(db, name, key, value)
    return {}


def delete_tag(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, key = model_name(call), fields.required(call.body, "key")
    check(db, name)
    db.execute("DELETE FROM registered_model_tags WHERE name = ? AND key = ?", (name, key))
    return {}


def set_alias(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, alias = model_name(call), _alias(call)
    if _RESERVED_ALIAS.fullmatch(alias):
        raise Unusual("The alias is reserved.")
    version = versions.number(call)
    versions.row(db, name, version)
    writes.set_alias(db, name, alias, str(version))
    return {}


def get_alias(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, alias = model_name(call), _alias(call)
    check(db, name)
    if alias.lower() == "latest":
        raise Unusual("The latest version has no alias of its own.")
    found = db.execute(
        "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", (name, alias)
    ).fetchone()
    if found is None:
        raise fields.invalid(f"Registered model alias {alias} not found.")
    return {"model_version": versions.one(db, name, found[0])}


def delete_alias(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    name, alias = model_name(call), _alias(call)
    check(db, name)
    writes.delete_alias(db, name, alias)
    return {}


def latest(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """The latest version of each stage."""
    name, wanted = model_name(call), [versions.stage(text) for text in fields.texts(call.body, "stages")]
    check(db, name)
    found = [row for row in versions.latest(db, [name]).get(name, []) if not wanted or row["current_stage"] in wanted]
    aliases = versions.aliases(db, name)
    listed = [{**row, **rows.given(aliases=aliases.get(int(row["version"]), []))} for row in found]
    return rows.given(model_versions=listed)


def model_name(call: Call) -> str:
    """The request's model. Raises `Refused`, and `Unusual` for what MLflow does not take for a name."""
    name = fields.required(call.body, "name")
    if not name.strip() or {"/", ":"}.intersection(name) or name in (".", ".."):
        raise Unusual(f"Invalid model name '{name}'.")
    return name


def check(db: sqlite3.Connection, name: str) -> None:
    """Raises `Refused` where there is no such model."""
    if not db.execute("SELECT 1 FROM registered_models WHERE name = ?", (name,)).fetchone():
        raise fields.missing(f"Registered Model with name={name} not found")


def check_tag(key: str, value: str) -> None:
    fields.checked_name(key, "tag")
    fields.checked_length(value, writes.MODEL_TAG_LENGTH, "tag's value")


def named(body: Any) -> tuple[str, list[object]]:
    """What a search adds to its WHERE: nothing, or one name. Raises `Unusual` for any other filter or order."""
    if body.get("order_by"):
        raise Unusual("The order is not the usual.")
    text = fields.text(body, "filter")
    if not text:
        return "", []
    match = BY_NAME.fullmatch(text)
    if not match:
        raise Unusual("The filter has more than a name.")
    return " AND m.name = ?", [match["name"]]


def _alias(call: Call) -> str:
    alias = fields.required(call.body, "alias")
    if not _ALIAS.fullmatch(alias):
        raise Unusual(f"Invalid alias name: '{alias}'.")
    return alias


def _one(db: sqlite3.Connection, name: str) -> dict[str, Any]:
    check(db, name)
    return _models(db, "WHERE m.name = ?", [name])[0]


def _models(db: sqlite3.Connection, where: str, values: list[Any]) -> list[dict[str, Any]]:
    found = db.execute(
        f"SELECT m.name, m.creation_time, m.last_updated_time, m.description FROM registered_models m {where}", values
    ).fetchall()
    names = [row[0] for row in found]
    tags: dict[str, list[dict[str, str]]] = {}
    for name, key, value in of_any(db, "registered_model_tags", "name, key, value", "name", names):
        tags.setdefault(name, []).append(rows.pair(key, value))
    aliases: dict[str, list[dict[str, str]]] = {}
    for name, alias, version in of_any(db, "registered_model_aliases", "name, alias, version", "name", names):
        aliases.setdefault(name, []).append({"alias": alias, "version": str(version)})
    latest_of = versions.latest(db, names)
    return [
        rows.given(
            name=row[0],
            creation_timestamp=row[1],
            last_updated_timestamp=row[2] or None,
            description=row[3] or None,
            latest_versions=latest_of.get(row[0], []),
            tags=tags.get(row[0], []),
            aliases=aliases.get(row[0], []),
        )
        for row in found
    ]


def _set_tag(db: sqlite3.Connection, name: str, key: str, value: str) -> None:
    db.execute(
        "INSERT INTO registered_model_tags (name, key, value) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = excluded.value",
        (name, key, value),
    )
