"""What is wrong with the way to an Azure ML workspace, step by step: the first step that fails explains those after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from amlflow.errors import AmlflowError, NotAllowed
from amlflow.workspaces.abilities import Finding
from amlflow.workspaces.azure.auth import clock_sentence

if TYPE_CHECKING:
    from amlflow.workspaces.azure.workspace import AzureWorkspace


def of(workspace: AzureWorkspace) -> Iterator[Finding]:
    """Sign-in, clock, the resource manager, MLflow's API, the storage."""
    credential = workspace.credential
    cloud = credential.cloud
    yield Finding("cloud", "ok", f"{cloud.name}: {cloud.arm}, signing in at {cloud.authority}")
    try:
        credential.token()
    except NotAllowed as error:
        yield from _attempts(workspace)
        yield Finding("sign-in", "wrong", "no way leads in", error.mend)
        return
    except AmlflowError as error:
        yield Finding("sign-in", "wrong", error.message, error.mend)
        return
    yield from _attempts(workspace)
    account = credential.account()
    who = account["name"] or account["id"]
    yield Finding("sign-in", "ok", f"{credential.winner}, tenant {account['tenant']}, account {who}")
    try:
        record = workspace.service.read()
    except AmlflowError as error:
        yield from _clock(workspace)
        yield Finding("workspace", "wrong", error.message, error.mend)
        return
    yield from _clock(workspace)
    state = str((record.get("properties") or {}).get("provisioningState") or "")
    yield Finding("workspace", "ok", f"{workspace.name} in {record.get('location')}, {state.lower()}")
    yield _mlflow(workspace)
    yield _storage(workspace)


def _attempts(workspace: AzureWorkspace) -> Iterator[Finding]:
    for attempt in workspace.credential.attempts:
        state: Literal["note", "wrong"] = "wrong" if attempt.refused else "note"
        yield Finding(f"sign-in by {attempt.way.name}", state, attempt.reason, attempt.way.mend)


def _clock(workspace: AzureWorkspace) -> Iterator[Finding]:
    said = clock_sentence(workspace.credential.clock_ahead_s)
    if said:
        yield Finding("clock", "wrong", said, "Set this machine's clock right.")
    else:
        yield Finding("clock", "ok", "agrees with Azure's")


def _mlflow(workspace: AzureWorkspace) -> Finding:
    try:
        workspace.find_experiment("Default")
    except AmlflowError as error:
        if error.exit_code != 3:
            return Finding("MLflow API", "wrong", error.message, error.mend)
    return Finding("MLflow API", "ok", f"answers at {workspace.service.host}")


def _storage(workspace: AzureWorkspace) -> Finding:
    try:
        next(iter(workspace.datastores.files("", "")), None)
    except AmlflowError as error:
        return Finding(
            "storage",
            "wrong",
            error.message,
            error.mend or "Ask for the role «Storage Blob Data Contributor» on the workspace's storage account.",
        )
    return Finding("storage", "ok", "the default datastore can be read")
