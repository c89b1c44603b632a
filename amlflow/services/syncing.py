"""What the journals of this machine still hold, and its sending.

`python -m amlflow.services.syncing WORKSPACE PID` sends the journal of a workspace for as long as that process lives, and what
it has left then: for programs that log by the tracking URI `amlflow:` with nobody around them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from amlflow import paths, processes
from amlflow.config import Config
from amlflow.errors import AmlflowError
from amlflow.journal.drainer import Drainer
from amlflow.journal.folder import Journal
from amlflow.journal.pending import pending
from amlflow.locks import locked
from amlflow.services import recording
from amlflow.services.references import JOURNAL_FOLDER
from amlflow.workspaces import resolve
from amlflow.workspaces.base import Workspace

_WATCH_S = 1.0
_LINGER_S = 60.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run whose journal holds something that its workspace has not: how many bytes, since when and why. `refused`
    counts the writes that the workspace refused for good."""

    run_id: str
    name: str
    workspace: str
    size_bytes: int
    since_ms: int
    reason: str
    refused: int


@dataclass(frozen=True, slots=True)
class Synced:
    """One journal after it was sent. `ids` are those of runs that were made offline, with those that the workspace gave them."""

    workspace: str
    runs: int
    left: recording.Left
    ids: dict[str, str]


def status(workspace: Workspace, everywhere: bool) -> list[Waiting]:
    """Oldest first."""
    found = []
    for journal in _journals(workspace, everywhere):
        found += [
            Waiting(
                item.run_id,
                item.name,
                journal.workspace(),
                item.size_bytes,
                item.since_ms,
                item.reason
                or ("not sent yet" if item.size_bytes else "refused by the workspace, and kept with the run"),
                item.refused,
            )
            for item in pending(journal)
        ]
    return sorted(found, key=lambda item: item.since_ms)


def sync(
    workspace: Workspace, config: Config, everywhere: bool, timeout_s: float, report: Callable[[str], None]
) -> list[Synced]:
    """Send every run that waits; those of other workspaces too with `everywhere`. A workspace that cannot be reached does not
    keep the others from theirs: what stands in the way is in `Synced.left`."""
    done = []
    for journal in _journals(workspace, everywhere):
        waiting = [run.id for run in journal.runs() if run.pending_bytes()]
        if not waiting:
            continue
        report(f"Sending {len(waiting)} run{'s' * (len(waiting) != 1)} to {journal.workspace()}…")
        before = journal.mapped_ids()
        try:
            target = _opened(workspace, journal, config)
            with recording.Recorder(target) as recorder:
                left = recorder.flush(timeout_s)
        except AmlflowError as error:
            size = sum(run.pending_bytes() for run in journal.runs())
            left = recording.Left(size, error.message)
        made = {key: value for key, value in journal.mapped_ids().items() if key not in before}
        done.append(Synced(journal.workspace(), len(waiting), left, made))
    return done


def watch(workspace: Workspace, report: Callable[[str], None]) -> None:
    """Send whatever is written from now on, until interrupted."""
    journal = recording.journal_of(workspace)
    journal.begin(workspace.reference)
    with _draining(journal, workspace):
        said: dict[str, str] = {}
        while True:
            for item in pending(journal):
                if item.reason and said.get(item.run_id) != item.reason:
                    said[item.run_id] = item.reason
                    report(f"{item.name or item.run_id}: {item.reason}")
            time.sleep(_WATCH_S)


def serve(reference: str, pid: int) -> None:
    """Send the journal of a workspace while the process lives, and for a while after it."""
    workspace = resolve.open_workspace(resolve.resolve(reference, Config()))
    journal = recording.journal_of(workspace)
    began = processes.started(pid)
    # Of the processes of a program one sends, and the next one when that has ended.
    with locked(journal.root / "sending.lock"), _draining(journal, workspace) as drainer:
        while processes.started(pid) == began and began:
            time.sleep(_WATCH_S)
        drainer.flush(None, _LINGER_S)


@contextlib.contextmanager
def _draining(journal: Journal, workspace: Workspace) -> Iterator[Drainer]:
    drainer = Drainer(journal, workspace.behind(), workspace.limits(), openers=workspace.sinks())
    drainer.start()
    try:
        yield drainer
    finally:
        drainer.stop(timeout_s=5.0)


def _journals(workspace: Workspace, everywhere: bool) -> list[Journal]:
    own = recording.journal_of(workspace)
    found = {own.root: own}
    if everywhere:
        for file in sorted(paths.home().glob(f"*/*/{JOURNAL_FOLDER}/workspace.json")):
            found.setdefault(file.parent, Journal(file.parent))
    return list(found.values())


def _opened(workspace: Workspace, journal: Journal, config: Config) -> Workspace:
    if journal.root == recording.journal_of(workspace).root:
        return workspace
    return resolve.open_workspace(resolve.resolve(journal.workspace(), config))


if __name__ == "__main__":
    threading.current_thread().name = "amlflow-sync"
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else os.getppid())
