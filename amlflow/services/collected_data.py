"""What endpoints were asked and have answered, where they were deployed to collect it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from amlflow.errors import AmlflowError, NotFound
from amlflow.monitoring import collection, windows
from amlflow.monitoring.collection import Collected
from amlflow.monitoring.windows import Window
from amlflow.services import deployment
from amlflow.targets.local import LocalTarget
from amlflow.workspaces.base import Workspace


@dataclass(frozen=True, slots=True)
class Downloaded:
    """`requests` are the lines of inputs and of outputs, whichever are more."""

    folder: Path
    files: int
    requests: int


def find(workspace: Workspace, name: str, since_ms: int | None, until_ms: int | None) -> Collected:
    """The files that the endpoint has collected in that time, also those of a local endpoint that is deleted. Raises `NotFound`
    for none, or for no such endpoint."""
    local = LocalTarget(workspace.state_folder())
    try:
        target, _ = deployment.find_endpoint(workspace, name)
        root = target.collected(name, since_ms, until_ms)
    except NotFound:
        root = local.collected(name, since_ms, until_ms)
        if not root.is_dir():
            raise
    if not root.is_dir() or not any(root.rglob("*.jsonl")):
        raise NotFound(
            f"Endpoint {name!r} has collected no data.",
            f"Deploy it with `amlflow deploy MODEL --name {name} --collect`, or name data with --data FILE.",
        )
    found = collection.files(root, since_ms, until_ms)
    if not found.inputs and not found.outputs:
        raise NotFound(
            f"Endpoint {name!r} has collected nothing {Window(since_ms, until_ms).label}.", "Take a longer --window."
        )
    return found


def download(workspace: Workspace, name: str, window: str, destination: Path) -> Downloaded:
    """Copy the files of the last `window` (such as 7d), whole hours, into a folder that is new or empty."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise AmlflowError(f"{str(destination)!r} exists and is not empty.", "Choose another folder with --to.")
    until_ms = time.time_ns() // 1_000_000
    found = find(workspace, name, until_ms - windows.duration_ms(window, "--window"), until_ms)
    counts = {}
    for kind, files in ((collection.INPUTS, found.inputs), (collection.OUTPUTS, found.outputs)):
        counts[kind] = 0
        for file in files:
            parts = file.parts[len(file.parts) - file.parts[::-1].index(kind) :]
            target = destination.joinpath(kind, *parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Two deployments of one endpoint may name their files alike.
            while target.exists():
                target = target.with_name(f"_{target.name}")
            shutil.copyfile(file, target)
            with target.open("rb") as lines:
                counts[kind] += sum(1 for _ in lines)
    return Downloaded(destination, len(found.inputs) + len(found.outputs), max(counts.values()))
