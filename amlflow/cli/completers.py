"""What the shell's TAB offers for the names that live in a workspace: asked of its files, fast and quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from amlflow.workspaces.base import Workspace

_MOST = 50


def complete_workspace(incomplete: str) -> list[str]:
    from amlflow import config
    from amlflow.workspaces import resolve

    return _quietly(lambda: resolve.known_names(config.load(config.find())), incomplete)


def complete_experiment(ctx: typer.Context, incomplete: str) -> list[str]:
    return _quietly(lambda: [e.name for e in _workspace(ctx).list_experiments()], incomplete)


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Model names; after `name:` its versions, after `name@` its aliases."""

    def names() -> Iterable[str]:
        workspace = _workspace(ctx)
        name = incomplete.split(":")[0].split("@")[0]
        if ":" in incomplete:
            return [f"{name}:{version.version}" for version in workspace.list_model_versions(name)]
        if "@" in incomplete:
            return [f"{name}@{alias}" for alias in workspace.get_model(name).aliases]
        return [model.name for model in workspace.list_models()]

    return _quietly(names, incomplete)


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids and names of the newest runs."""

    return _quietly(lambda: _names_of_runs(_workspace(ctx)), incomplete)


def complete_run_anywhere(ctx: typer.Context, incomplete: str) -> list[str]:
    """As `complete_run`; after `WORKSPACE::`, the runs of that workspace."""
    from amlflow.services.references import split_workspace

    where, _ = split_workspace(incomplete)
    if not where:
        return complete_run(ctx, incomplete) or [f"{name}::" for name in complete_workspace(incomplete)]

    def names() -> Iterable[str]:
        from amlflow.cli.state import State

        return [f"{where}::{name}" for name in _names_of_runs(State().open(where, "a run on the command line"))]

    return _quietly(names, incomplete)


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    def names() -> Iterable[str]:
        from amlflow.services import job_control

        return ["last", *job_control.names(_workspace(ctx), _MOST)]

    return _quietly(names, incomplete)


def complete_compute(ctx: typer.Context, incomplete: str) -> list[str]:
    def names() -> Iterable[str]:
        from amlflow.workspaces import abilities

        return [compute.name for compute in abilities.computes(_workspace(ctx)).list()]

    return _quietly(names, incomplete)


def complete_datastore(ctx: typer.Context, incomplete: str) -> list[str]:
    def names() -> Iterable[str]:
        from amlflow.workspaces import abilities

        return [datastore.name for datastore in abilities.datastores(_workspace(ctx)).list()]

    return _quietly(names, incomplete)


def complete_endpoint(ctx: typer.Context, incomplete: str) -> list[str]:
    def names() -> Iterable[str]:
        from amlflow.services import deployment

        return [endpoint.name for endpoint in deployment.endpoints(_workspace(ctx))]

    return _quietly(names, incomplete)


def complete_monitor(ctx: typer.Context, incomplete: str) -> list[str]:
    def names() -> Iterable[str]:
        from amlflow.services import monitors
        from amlflow.workspaces.abilities import HasOnlineEndpoints
        from amlflow.workspaces.azure.monitors import AzureMonitors

        workspace = _workspace(ctx)
        if isinstance(workspace, HasOnlineEndpoints):
            return [monitor["name"] for monitor in AzureMonitors(workspace.service).list()]
        return monitors.names(workspace)

    return _quietly(names, incomplete)


def _names_of_runs(workspace: Workspace) -> list[str]:
    from amlflow.workspaces.base import RunQuery

    runs = workspace.search_runs(RunQuery(limit=500, with_data=False))
    return ["last", *(run.id for run in runs), *(run.name for run in runs)]


def _workspace(ctx: typer.Context) -> Workspace:
    from amlflow.cli.state import State

    state = State()
    context: typer.Context | None = ctx
    while context is not None:
        state.workspace_options = state.workspace_options or tuple(context.params.get("workspace_option") or ())
        context = context.parent  # type: ignore[assignment]
    return state.workspace


def _quietly(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    """A shell that asks for names must never see an error: it would land in the middle of the user's line."""
    try:
        return [name for name in names() if name.startswith(incomplete)][:_MOST]
    except Exception:
        return []
