"""What is wrong with a set-up, and the mend of each thing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from amlflow import config
from amlflow.errors import AmlflowError
from amlflow.workspaces.abilities import Diagnosed, Finding
from amlflow.workspaces.base import Workspace
from amlflow.workspaces.resolve import DatabricksSpec, LocalSpec, Resolved, ServerSpec

_NEWEST_MLFLOW = (3, 15)


def checks(
    load_config: Callable[[], config.Config], resolve: Callable[[], Resolved], open_it: Callable[[], Workspace]
) -> Iterator[Finding]:
    """One finding after the other, as they are made; nothing is changed."""
    yield from _versions()
    yield from _tools()
    try:
        loaded = load_config()
        resolved = resolve()
    except AmlflowError as error:
        yield Finding("configuration", "wrong", error.message, error.mend)
        return
    where = f"read from {loaded.path}" if loaded.path else "no amlflow.yaml here or above"
    yield Finding("configuration", "ok", where)
    yield Finding("workspace in use", "ok", f"{resolved.asked}, by {resolved.source}")
    try:
        yield from _of_workspace(resolved, open_it())
    except AmlflowError as error:
        yield Finding("workspace", "wrong", error.message, error.mend)


def _of_workspace(resolved: Resolved, workspace: Workspace) -> Iterator[Finding]:
    if isinstance(workspace, Diagnosed):
        yield from workspace.diagnose()
    elif isinstance(resolved.spec, LocalSpec):
        runs = len(workspace.list_experiments())
        there = (resolved.spec.path / "mlflow.db").is_file()
        detail = (
            f"{resolved.spec.path}, {runs} experiments" if there else f"{resolved.spec.path}, made by the first run"
        )
        yield Finding("workspace", "ok", detail)
        yield _disk(resolved.spec)
    elif isinstance(resolved.spec, ServerSpec):
        workspace.list_experiments()
        yield Finding("workspace", "ok", "the tracking server answers")
    elif isinstance(resolved.spec, DatabricksSpec):
        workspace.list_experiments()
        yield Finding("workspace", "ok", f"{workspace.reference} answers")


def _versions() -> Iterator[Finding]:
    from amlflow import __version__

    yield Finding("amlflow", "ok", f"{__version__} on Python {sys.version.split()[0]}")
    for name, mend in (
        ("mlflow-skinny", "pip install 'mlflow>=3.5,<=3.15.0'"),
        ("azureml-mlflow", "pip install azureml-mlflow"),
        ("azure-identity", "pip install azure-identity"),
    ):
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "wrong", "is not installed", f"Run `{mend}`.")
            continue
        numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
        if name == "mlflow-skinny" and numbers > _NEWEST_MLFLOW:
            yield Finding(
                name, "wrong", f"{found} does not fit beside azureml-mlflow, which goes up to 3.15", f"Run `{mend}`."
            )
        else:
            yield Finding(name, "ok", found)


def _tools() -> Iterator[Finding]:
    for name, why in (("git", "projects by Git URL, and the commit of a run"), ("az", "signing in by `az login`")):
        place = shutil.which(name)
        yield Finding(name, "ok", place) if place else Finding(name, "note", f"is not here; it is for {why}")


def _disk(spec: LocalSpec) -> Finding:
    place = next(folder for folder in (spec.path, *spec.path.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < 500_000_000:
        return Finding("disk", "wrong", f"{free / 1e6:.0f} MB free", "Free some, or set AMLFLOW_HOME to another disk.")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free")
