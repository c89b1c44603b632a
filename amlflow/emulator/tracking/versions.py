"""Registering a model from the service's own addresses, which the open-source server would not take."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from amlflow.journal.errors import Refused
from amlflow.workspaces.local import writes
from amlflow.workspaces.local.rest import Call

_RUN = re.compile(r"azureml:.*/runs/(?P<run>[^/]+)/artifacts(?:/.*)?|runs:/(?P<short>[^/]+)/.*")


def create(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    """A version whose files are where its source says: among a run's artifacts, or in a datastore."""
    from amlflow.workspaces.local.rest import versions

    body = call.body
    name, source = str(body.get("name") or ""), str(body.get("source") or "")
    for key, value in (("name", name), ("source", source)):
        if not value:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Missing value for required parameter '{key}'.")
    if not source.startswith(("azureml:", "runs:/", "https://")):
        text = f"Invalid model source '{source}': it is no address of this workspace."
        raise Refused(400, "INVALID_PARAMETER_VALUE", text)
    if not db.execute("SELECT 1 FROM registered_models WHERE name = ?", (name,)).fetchone():
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found")
    match = _RUN.fullmatch(source)
    run_id = str(body.get("run_id") or (match and (match["run"] or match["short"])) or "")
    tags = {str(tag["key"]): str(tag.get("value", "")) for tag in body.get("tags") or []}
    version = writes.create_model_version(db, name, source, source, run_id, str(body.get("description") or ""), tags)
    return {"model_version": versions.one(db, name, int(version))}
