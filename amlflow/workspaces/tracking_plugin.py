"""MLflow's scheme `amlflow` where amlflow is installed: by the tracking URI alone, a program logs through a workspace's journal.

`amlflow:` is the workspace that a command without `-w` would use; `amlflow://WORKSPACE` names one as `-w` does
(`amlflow://local`, `amlflow://http://host:5000`). MLflow loads these functions while it is half imported itself: nothing else is
imported before one is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amlflow.journal.router import Router


def tracking_store(store_uri: str | None = None, artifact_uri: str | None = None) -> Any:
    from amlflow.journal.store import JournalStore

    return JournalStore(_router(store_uri or ""))


def registry_store(store_uri: str | None = None, tracking_uri: str | None = None) -> Any:
    from amlflow.journal.registry import JournalRegistry

    return JournalRegistry(_router(store_uri or ""))


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    from amlflow.journal import attach, plugin

    key = artifact_uri.partition("://")[2].split("/")[0]
    if not attach.has_key(key):
        _router(tracking_uri or "")
    return plugin.artifact_repository(artifact_uri)


def _router(uri: str) -> Router:
    """The journal that a program was started with, else that of the workspace which the URI names."""
    import os

    from amlflow.journal import attach

    asked = uri.partition(":")[2].removeprefix("//")
    if os.environ.get(attach.JOURNAL) and not asked:
        return attach.attached()
    return attach.known(f"amlflow:{asked}") or attach.register(f"amlflow:{asked}", _opened(asked))


def _opened(asked: str) -> Router:
    import os
    import sys

    from amlflow import config
    from amlflow.journal import attach
    from amlflow.journal.folder import Journal
    from amlflow.journal.router import Router
    from amlflow.workspaces import resolve

    workspace = resolve.open_workspace(resolve.resolve(asked, config.load(config.find())))
    journal = Journal(workspace.state_folder() / "journal")
    journal.begin(workspace.reference)
    command = [sys.executable, "-m", "amlflow.services.syncing", workspace.reference, str(os.getpid())]

    def wake() -> None:
        attach.start_detached(command, {**os.environ, **workspace.login()})

    return Router(journal, workspace.behind(), durability=attach.durability(os.environ), wake=wake)
