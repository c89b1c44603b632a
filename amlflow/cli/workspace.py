"""`amlflow workspace`: which one is used, and why; make and choose others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_workspace
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column
from amlflow.cli.state import State

app = noun("Which workspace is used, and why; make and choose others.")

_COLUMNS = (
    Column("", lambda r: "*" if r["current"] else ""),
    Column("NAME", "name", style="cyan"),
    Column("KIND", "kind"),
    Column("WHERE", "where"),
    Column("FROM", "source"),
)


@app.command(cls=Command)
def show(ctx: typer.Context) -> None:
    """Show the workspace that commands use here, and what made it so."""
    from amlflow.services import places

    state = State.of(ctx)
    state.out.one(places.describe(state.resolved, state.auth, state.note), "name")


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    subscription: Annotated[
        str, typer.Option("--subscription", metavar="ID", help="The Azure ML workspaces of this subscription instead.")
    ] = "",
    group: Annotated[str, typer.Option("--resource-group", help="Only those of this resource group.")] = "",
) -> None:
    """List the local workspaces and the profiles of amlflow.yaml, or those of an Azure subscription."""
    state = State.of(ctx)
    if subscription:
        from amlflow.services import azure_places

        found = azure_places.listing(subscription, group, state.auth, state.note)
        state.out.many(found, _COLUMNS, "where", "No Azure ML workspaces.")
        return
    from amlflow.services import places

    state.out.many(places.listing(state.config, state.resolved), _COLUMNS, "name")


@app.command(cls=Command)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name; SUBSCRIPTION/GROUP/NAME for one in Azure.")],
    path: Annotated[
        Path | None,
        typer.Option("--path", help="Its folder; then a profile of that name goes into amlflow.yaml.", file_okay=False),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="WORKSPACE", help="Make a profile for this workspace instead: SUBSCRIPTION/GROUP/NAME, …"
        ),
    ] = "",
    location: Annotated[str, typer.Option("--location", help="The region of one in Azure, such as westeurope.")] = "",
) -> None:
    """Make a workspace, local or in Azure, or a profile for one that exists elsewhere."""
    from amlflow.errors import UsageError
    from amlflow.services import places

    state = State.of(ctx)
    if to and path:
        raise UsageError(
            "--path and --to exclude each other.", "Give --path for a local workspace, --to for a profile."
        )
    if to:
        state.out.one(places.create_profile(state.config, name, to), "name")
        return
    if location or name.count("/") == 2:
        from amlflow.cli import progress
        from amlflow.services import azure_places

        with progress.steps(state) as report:
            made = azure_places.create(state.config, name, location, state.auth, report)
        state.out.one(made, "where")
        return
    state.out.one(places.create(state.config, name, path, state.note), "name")


@app.command(cls=Command)
def delete(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Whatever -w takes.", autocompletion=complete_workspace, metavar="WORKSPACE")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a workspace with all that it holds; of one in Azure, the storage account stays."""
    from amlflow.cli import progress
    from amlflow.services import azure_places

    state = State.of(ctx)
    if not yes:
        typer.confirm(f"Delete the workspace {name} with its runs and models?", abort=True, err=True)
    with progress.steps(state) as report:
        where = azure_places.delete(state.config, name, state.auth, report)
    state.note(f"Deleted {where}.")


@app.command(cls=Command)
def use(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Whatever -w takes.", autocompletion=complete_workspace, metavar="WORKSPACE")
    ],
) -> None:
    """Use a workspace in this folder and below: writes it into the nearest amlflow.yaml."""
    from amlflow.services import places

    state = State.of(ctx)
    file = places.use(state.config, name)
    state.note(f"{file} now says 'workspace: {name}'.")
    state.out.one({"workspace": name, "file": str(file)}, "workspace")


@app.command(cls=Command)
def env(
    ctx: typer.Context,
    place: Annotated[
        str,
        typer.Option(
            "--for",
            help="Where the program runs: databricks (a cluster), or databricks-notebook (serverless, too).",
            autocompletion=lambda: ["databricks", "databricks-notebook"],
        ),
    ],
    scope: Annotated[
        str, typer.Option("--scope", help="The Databricks secret scope that holds the service principal.")
    ] = "amlflow",
) -> None:
    """Print what a cluster or notebook elsewhere needs to log into the Azure ML workspace; no secret is printed.

    With -o json, `libraries` and `spark_env_vars` are as a cluster's definition takes them.

    Example: amlflow workspace env --for databricks -w SUBSCRIPTION/GROUP/NAME
    """
    from amlflow.errors import UsageError
    from amlflow.services import databricks_login

    state = State.of(ctx)
    if place not in ("databricks", "databricks-notebook"):
        raise UsageError(f"Nothing is known of {place!r}.", "It is `--for databricks` or `--for databricks-notebook`.")
    found = databricks_login.login(state.workspace, scope)
    state.note(
        "Where MLflow 3 runs there, Azure ML refuses `log_model`: use `save_model` and `log_artifacts`, or mlflow<3."
    )
    if place == "databricks-notebook" and not state.out.wants_document():
        print(found.notebook, end="")  # noqa: T201
        return
    record = {
        "package": found.package,
        "libraries": [{"pypi": {"package": found.package}}],
        "spark_env_vars": found.variables,
        "notebook": found.notebook,
        "secrets": [{"scope": scope, "key": secret.key, "holds": secret.holds} for secret in found.secrets],
    }
    rows = [("library (PyPI)", found.package), *found.variables.items()]
    rows += [(f"databricks secrets create-scope {scope}", "once")]
    rows += [(f"databricks secrets put-secret {scope} {secret.key}", secret.holds) for secret in found.secrets]
    state.out.one(record, "package", rows)
