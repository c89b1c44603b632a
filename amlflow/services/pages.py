"""The pages for people: the studio's, a tracking server's, or those of MLflow's UI on a local workspace."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass

from amlflow.errors import NotFound
from amlflow.services import references
from amlflow.workspaces import abilities
from amlflow.workspaces.abilities import Diagnosed, HasJobs
from amlflow.workspaces.base import Workspace

_UP_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Page:
    """`command` is what must run for the page to answer; empty where a service does."""

    url: str
    command: Sequence[str] = ()


def find(workspace: Workspace, asked: str, port: int) -> Page:
    """The page of the workspace, or of one of its runs or jobs. Raises `NotFound`."""
    from amlflow.workspaces.local.workspace import LocalWorkspace

    if isinstance(workspace, Diagnosed):
        return Page(workspace.page(_remote_id(workspace, asked) if asked else ""))
    path = ""
    if asked:
        run = references.find_run(workspace, asked)
        path = f"/#/experiments/{run.experiment_id}/runs/{run.id}"
    if workspace.tracking_uri.startswith("http"):
        return Page(f"{workspace.tracking_uri}{path}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", workspace.tracking_uri]
    if isinstance(workspace, LocalWorkspace):
        # Left to itself MLflow's UI makes the database, with places for artifacts that only its own server can reach.
        workspace.create()
        command += ["--default-artifact-root", str(workspace.artifact_root)]
    return Page(f"http://127.0.0.1:{port}{path}", [*command, "--host", "127.0.0.1", "--port", str(port)])


def serve(page: Page) -> int:
    """Run what makes the page answer until it ends."""
    try:
        return subprocess.run(page.command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def browse(url: str) -> bool:
    """Open it in a browser; False where there is none."""
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


def open_when_up(page: Page) -> None:
    """Open the page in a browser as soon as it answers, beside whatever else is done."""
    threading.Thread(target=_open_when_up, args=(page.url,), daemon=True).start()


def _open_when_up(url: str) -> None:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    deadline = time.monotonic() + _UP_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80), timeout=1):
                browse(url)
                return
        except OSError:
            time.sleep(0.3)


def _remote_id(workspace: Workspace, asked: str) -> str:
    """Of a job, which has the id of its run, or of a run."""
    if isinstance(workspace, HasJobs):
        try:
            return abilities.jobs(workspace).find(asked).id
        except NotFound:
            pass
    return references.find_run(workspace, asked).id
