"""Workspaces themselves: which there are, which is used, new ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amlflow.config import FILE_NAME, Config
from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces import resolve
from amlflow.workspaces.resolve import AzureSpec, DatabricksSpec, LocalSpec, Resolved, Spec


def describe(resolved: Resolved, auth: str = "", report: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """The workspace as a record: what it is, where, and the source that won; of one elsewhere, also what it says."""
    spec = resolved.spec
    record: dict[str, Any] = {"name": _name(spec), "kind": _kind(spec), "where": _where(spec)}
    if isinstance(spec, LocalSpec):
        record["exists"] = (spec.path / "mlflow.db").is_file()
        record["mlflow"] = version("mlflow-skinny")
        record["tracking_uri"] = f"sqlite:///{spec.path / 'mlflow.db'}"
    elif isinstance(spec, AzureSpec):
        from amlflow.services import azure_places

        record.update(subscription=spec.subscription, resource_group=spec.group, workspace_name=spec.name)
        record.update(azure_places.describe(resolved, auth, report))
    elif isinstance(spec, DatabricksSpec):
        from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

        databricks = DatabricksWorkspace(spec.profile)
        record.update(databricks.describe(), tracking_uri=databricks.tracking_uri)
    else:
        from amlflow.workspaces.server.workspace import ServerWorkspace

        server = ServerWorkspace(spec.url)
        record.update(server.describe(), tracking_uri=server.tracking_uri)
    record.update(asked_as=resolved.asked, source=resolved.source)
    return record


def listing(config: Config, current: Resolved) -> list[dict[str, Any]]:
    """Every local workspace and profile, and the one in use even if it is neither."""
    found: list[tuple[str, Spec, str]] = []
    for name in dict.fromkeys([resolve.DEFAULT_NAME, *resolve.local_names()]):
        found.append((name, resolve.local_spec(name), "local"))
    for name in config.profiles:
        found.append((name, resolve.parse(name, config), f"profile in {config.path}"))
    if all(spec != current.spec for _, spec, _ in found):
        found.append((current.asked, current.spec, current.source))
    records = []
    marked = False
    for name, spec, source in sorted(found, key=lambda item: item[0] != current.asked):
        here = spec == current.spec and not marked
        marked = marked or here
        records.append({"name": name, "kind": _kind(spec), "where": _where(spec), "source": source, "current": here})
    return sorted(records, key=lambda record: str(record["name"]))


def create(config: Config, name: str, path: Path | None, report: Callable[[str], None]) -> dict[str, Any]:
    """Make a local workspace, in the user's data folder or at `path`; then a profile of that name goes into
    `amlflow.yaml`. Raises `AmlflowError` when there is one of that name."""
    spec = resolve.local_spec(name)
    if path is not None:
        spec = LocalSpec(name, path.expanduser().absolute())
    taken = name in config.profiles or (path is None and (spec.path / "mlflow.db").exists())
    if taken or name in (resolve.DEFAULT_NAME, resolve.DATABRICKS):
        raise AmlflowError(
            f"There is a workspace {name!r} already.", f"Use it with `-w {name}` or `amlflow workspace use {name}`."
        )
    from amlflow.workspaces.local.workspace import LocalWorkspace

    LocalWorkspace(spec.path, name, report).create()
    if path is not None:
        file = config.path or Path.cwd() / FILE_NAME
        shown = os.path.relpath(spec.path, file.parent)
        short = shown if not shown.startswith("..") else str(spec.path)
        edit(file, lambda content: content.setdefault("profiles", {}).update({name: {"workspace": f"local:{short}"}}))
    return {"name": name, "kind": "local", "where": str(spec.path)}


def create_profile(config: Config, name: str, workspace: str) -> dict[str, Any]:
    """Put a profile into the nearest `amlflow.yaml`, or a new one here. Raises for what is no workspace and for a name that is
    taken."""
    resolve.local_spec(name)
    if name in resolve.known_names(config):
        raise AmlflowError(f"There is a workspace {name!r} already.", "Choose another name.")
    spec = resolve.parse(workspace, config)
    file = config.path or Path.cwd() / FILE_NAME
    edit(file, lambda content: content.setdefault("profiles", {}).update({name: {"workspace": workspace}}))
    return {"name": name, "kind": _kind(spec), "where": _where(spec)}


def delete_local(spec: LocalSpec) -> Path:
    """Delete a local workspace with all that it holds. Raises `NotFound` for none there, `AmlflowError` for one whose jobs
    or endpoints still run."""
    from amlflow.services import jobs
    from amlflow.workspaces.local.workspace import LocalWorkspace

    if not (spec.path / "mlflow.db").is_file():
        raise NotFound(
            f"There is no local workspace at {spec.path}.", "`amlflow workspace list` shows those that there are."
        )
    workspace = LocalWorkspace(spec.path, spec.name)
    if any(job.status in ("RUNNING", "SCHEDULED") for job in jobs.list_jobs(workspace)):
        raise AmlflowError(f"Jobs of the workspace {spec.name!r} still run.", "`amlflow job cancel` ends them.")
    endpoints = spec.path / "endpoints"
    if endpoints.is_dir() and any(item.is_dir() and not item.name.startswith(".") for item in endpoints.iterdir()):
        raise AmlflowError(
            f"The workspace {spec.name!r} has endpoints.", f"`amlflow -w {spec.name} endpoint delete` removes them."
        )
    shutil.rmtree(spec.path)
    return spec.path


def use(config: Config, name: str) -> Path:
    """Write `workspace: NAME` into the nearest `amlflow.yaml`, or a new one here. Raises `NotFound` for what is no
    workspace. Returns the file."""
    resolve.parse(name, config)
    file = config.path or Path.cwd() / FILE_NAME
    if name.startswith("local:"):
        name = f"local:{Path(name.removeprefix('local:')).expanduser().resolve()}"
    edit(file, lambda content: content.update({"workspace": name}))
    return file


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change a YAML file in place, its comments and order kept; a crash leaves the old file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    yaml = YAML()
    yaml.preserve_quotes = True
    content = (yaml.load(file.read_text(encoding="utf-8")) if file.exists() else None) or CommentedMap()
    change(content)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as temporary:
        yaml.dump(content, temporary)
    if file.exists():
        Path(temporary.name).chmod(file.stat().st_mode)
    else:
        Path(temporary.name).chmod(0o644)
    Path(temporary.name).replace(file)


def _kind(spec: Spec) -> str:
    if isinstance(spec, DatabricksSpec):
        return "databricks"
    return "local" if isinstance(spec, LocalSpec) else "azure" if isinstance(spec, AzureSpec) else "mlflow"


def _name(spec: Spec) -> str:
    return spec.name if isinstance(spec, (LocalSpec, AzureSpec)) else _where(spec)


def _where(spec: Spec) -> str:
    if isinstance(spec, LocalSpec):
        return str(spec.path)
    if isinstance(spec, AzureSpec):
        return f"{spec.subscription}/{spec.group}/{spec.name}"
    if isinstance(spec, DatabricksSpec):
        return f"{resolve.DATABRICKS}://{spec.profile}" if spec.profile else resolve.DATABRICKS
    return resolve.without_login(spec.url)
