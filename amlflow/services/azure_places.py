"""Azure ML workspaces themselves: those of a subscription, new ones, deleted ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amlflow.config import Config
from amlflow.errors import AmlflowError, NotSupported, UsageError
from amlflow.workspaces import resolve
from amlflow.workspaces.azure.workspace import AzureWorkspace
from amlflow.workspaces.resolve import AzureSpec, LocalSpec, Resolved


def describe(resolved: Resolved, auth: str, report: Callable[[str], None]) -> dict[str, Any]:
    """What the service says of the workspace and who asks; where it says nothing, why."""
    try:
        workspace = _opened(resolved, auth, report)
        return {"answers": True, **workspace.describe(), "problem": ""}
    except AmlflowError as error:
        return {"answers": False, "problem": error.paragraph()}


def listing(subscription: str, group: str, auth: str, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """The workspaces of a subscription, or of one of its resource groups, as the records of `workspace list`."""
    from amlflow.workspaces.azure import creation

    workspace = AzureWorkspace(subscription, group or "-", "-", auth=auth, say=report)
    return [
        {"name": found.name, "kind": "azure", "where": found.asked, "source": found.location, "current": False}
        for found in creation.workspaces(workspace.service.arm, subscription, group)
    ]


def create(config: Config, asked: str, location: str, auth: str, report: Callable[[str], None]) -> dict[str, Any]:
    """Make the Azure ML workspace SUBSCRIPTION/GROUP/NAME."""
    from amlflow.workspaces.azure import creation

    spec = resolve.parse(asked, config)
    if not isinstance(spec, AzureSpec):
        raise UsageError(
            f"--location is for Azure ML workspaces, and {asked!r} is none.", "Write SUBSCRIPTION/GROUP/NAME."
        )
    workspace = AzureWorkspace(spec.subscription, spec.group, spec.name, auth=auth, say=report)
    creation.create(workspace.service, location, report)
    return {"name": spec.name, "kind": "azure", "where": f"{spec.subscription}/{spec.group}/{spec.name}"}


def delete(config: Config, asked: str, auth: str, report: Callable[[str], None]) -> str:
    """Delete an Azure ML workspace or a local one; returns where it was."""
    spec = resolve.parse(asked, config)
    if isinstance(spec, LocalSpec):
        from amlflow.services import places

        return str(places.delete_local(spec))
    if not isinstance(spec, AzureSpec):
        raise NotSupported(f"{asked!r} is a tracking server, which amlflow has not made.", "Delete it where it runs.")
    from amlflow.workspaces.azure import creation

    workspace = AzureWorkspace(spec.subscription, spec.group, spec.name, auth=auth, say=report)
    creation.delete(workspace.service, report)
    return f"{spec.subscription}/{spec.group}/{spec.name}"


def _opened(resolved: Resolved, auth: str, report: Callable[[str], None]) -> AzureWorkspace:
    opened = resolve.open_workspace(resolved, report, auth)
    assert isinstance(opened, AzureWorkspace)
    return opened
