"""The local workspaces behind the emulated ones: where their runs, models and jobs really are."""

from __future__ import annotations

import threading
from pathlib import Path

from amlflow.emulator.settings import CLOUD_NAME
from amlflow.emulator.store import Document
from amlflow.workspaces.local import database, writes
from amlflow.workspaces.local.workspace import LocalWorkspace


class Places:
    """One `LocalWorkspace` a workspace, opened once."""

    def __init__(self, place: Path) -> None:
        self._root = place / "workspaces"
        self._lock = threading.Lock()
        self._open: dict[str, LocalWorkspace] = {}

    def of(self, workspace: Document) -> LocalWorkspace:
        """The local workspace of the emulated one, made if it is new."""
        key = str(workspace.body["workspaceId"])
        with self._lock:
            if key not in self._open:
                self._root.mkdir(mode=0o700, exist_ok=True)
                made = LocalWorkspace(self._root / key, f"{CLOUD_NAME}-{workspace.name}")
                made.create()
                self._open[key] = made
            return self._open[key]

    def job_folder(self, workspace: Document, name: str) -> Path:
        """The folder that a job works in; made if it is new."""
        folder = self._root / str(workspace.body["workspaceId"]) / "jobs" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def create_run(self, workspace: Document, run_id: str, experiment: str, name: str, tags: dict[str, str]) -> None:
        """A run whose id is its job's name, as in the service."""
        local = self.of(workspace)
        found = local.ensure_experiment(experiment)
        with database.writing(local.root / database.FILE_NAME) as db:
            writes.create_run(db, found.id, name, tags, {}, run_id=run_id)

    def set_status(self, workspace: Document, run_id: str, status: str, ended_ms: int | None = None) -> None:
        """Set the run's status, and its end where it has ended. A run that is gone is no reason to fail."""
        local = self.of(workspace)
        with database.writing(local.root / database.FILE_NAME) as db:
            db.execute("UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", (status, ended_ms, run_id))
