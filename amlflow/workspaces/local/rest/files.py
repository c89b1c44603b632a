"""Listings of artifacts in folders of this machine, of runs and of logged models."""

from __future__ import annotations

import sqlite3
from typing import Any

from amlflow.errors import UsageError
from amlflow.workspaces.local import artifacts
from amlflow.workspaces.local.rest import fields, models, rows
from amlflow.workspaces.local.rest.call import Call, Unusual


def of_run(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    return _listing(rows.run_row(db, fields.run_id(call.body))[7], fields.text(call.body, "path"))


def of_model(db: sqlite3.Connection, call: Call) -> dict[str, Any]:
    return _listing(models.location(db, call.place["model_id"]), fields.text(call.body, "artifact_directory_path"))


def _listing(uri: str, path: str) -> dict[str, Any]:
    folder = artifacts.local_folder(uri)
    if folder is None or "%" in path:
        raise Unusual("The artifacts are not in a folder here, or the path is encoded.")
    try:
        found = artifacts.list_folder(folder, path)
    except UsageError:
        raise fields.invalid("Invalid path") from None
    return {
        "root_uri": uri,
        **rows.given(
            files=[rows.given(path=item.path, is_dir=item.is_dir, file_size=item.size_bytes) for item in found]
        ),
    }
