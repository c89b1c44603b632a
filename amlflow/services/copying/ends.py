"""The two workspaces of a copy, and what is noted of the copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.folder import read_json, write_json
from amlflow.workspaces.base import Workspace
from amlflow.workspaces.server.client import Client, unavailable

# Tags of a copy: the run that it was made of, and the workspace of that one; the same of a logged model.
RUN_TAG, FROM_TAG, MODEL_TAG = "amlflow.copied_run", "amlflow.copied_from", "amlflow.copied_model"


@dataclass(frozen=True, slots=True)
class End:
    """A workspace, and its REST API for what the workspace's own methods leave out."""

    workspace: Workspace
    client: Client

    @staticmethod
    def of(workspace: Workspace) -> End:
        return End(workspace, Client(workspace.behind(), f"Workspace {workspace.name!r}"))

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as MLflow's REST API shows it: {"info", "data", "inputs", "outputs"}."""
        found: dict[str, Any] = self.client.call("GET", "runs/get", {"run_id": run_id})["run"]
        return found

    def failed(self, error: Refused | Unreachable) -> AmlflowError:
        """What the journal's side raises, as the error of this workspace."""
        return unavailable(error) if isinstance(error, Unreachable) else self.client.refused(error)


class Ledger:
    """Ids of the source and those of their copies, in a file of the target's state folder that is whole at any moment."""

    def __init__(self, file: Path, source: Workspace) -> None:
        kept = read_json(file) or {}
        self._file, self._source = file, source.reference
        self.runs: dict[str, str] = dict(kept.get("runs") or {})
        self.models: dict[str, str] = dict(kept.get("models") or {})

    def note_run(self, source_id: str, copy_id: str) -> None:
        self._note(self.runs, source_id, copy_id)

    def note_model(self, source_id: str, copy_id: str) -> None:
        self._note(self.models, source_id, copy_id)

    def _note(self, known: dict[str, str], source_id: str, copy_id: str) -> None:
        if known.get(source_id) != copy_id:
            known[source_id] = copy_id
            write_json(self._file, {"from": self._source, "runs": self.runs, "models": self.models})
