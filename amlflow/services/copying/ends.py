"""The two workspaces of a copy, and what is noted of the copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from amlflow.errors import AmlflowError
from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.folder import read_json, write_json
from amlflow.workspaces.base import Workspace
from amlflow.workspaces.local import artifacts
from amlflow.workspaces.server.client import Client, unavailable

# Tags of a copy: the run that it was made of, and the workspace of that one; the same of a logged model.
RUN_TAG, FROM_TAG, MODEL_TAG = "amlflow.copied_run", "amlflow.copied_from", "amlflow.copied_model"

# The times at which a file of this machine was written, and its entry in the file system changed, in epoch nanoseconds.
Stamp = tuple[int, int]


class Sent(NamedTuple):
    """A file that was handed over for a copy: the SHA-256 of what it held, and the stamps of the file here and of the one there
    that hold just that; None where they say nothing."""

    digest: str
    here: Stamp | None
    there: Stamp | None


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

    def folder(self, uri: str) -> Path | None:
        """The folder that an artifact root is, in a workspace of this machine."""
        return artifacts.local_folder(uri) if self.workspace.kind == "local" else None

    def failed(self, error: Refused | Unreachable) -> AmlflowError:
        """What the journal's side raises, as the error of this workspace."""
        return unavailable(error) if isinstance(error, Unreachable) else self.client.refused(error)


class Ledger:
    """Ids of the source and those of their copies, in a file of the target's state folder that is whole at any moment; beside it,
    in one for each copy, what was sent there."""

    def __init__(self, file: Path, source: Workspace) -> None:
        kept = read_json(file) or {}
        self._file, self._source = file, source.reference
        self.runs: dict[str, str] = dict(kept.get("runs") or {})
        self.models: dict[str, str] = dict(kept.get("models") or {})

    def note_run(self, source_id: str, copy_id: str) -> None:
        self._note(self.runs, source_id, copy_id)

    def note_model(self, source_id: str, copy_id: str) -> None:
        self._note(self.models, source_id, copy_id)

    def sent(self, copy_id: str) -> dict[str, Sent]:
        """Path -> what was handed over last for the copy of a run or a model; empty where another machine made it."""
        kept = read_json(self._sent_file(copy_id)) or {}
        return {path: Sent(digest, _stamp(here), _stamp(there)) for path, (digest, here, there) in kept.items()}

    def note_sent(self, copy_id: str, sent: Mapping[str, Sent]) -> None:
        if sent != self.sent(copy_id):
            file = self._sent_file(copy_id)
            file.parent.mkdir(exist_ok=True, mode=0o700)
            write_json(file, dict(sent))

    def _sent_file(self, copy_id: str) -> Path:
        return self._file.with_suffix("") / f"{copy_id}.json"

    def _note(self, known: dict[str, str], source_id: str, copy_id: str) -> None:
        if known.get(source_id) != copy_id:
            known[source_id] = copy_id
            write_json(self._file, {"from": self._source, "runs": self.runs, "models": self.models})


def _stamp(kept: list[int] | None) -> Stamp | None:
    return (kept[0], kept[1]) if kept else None
