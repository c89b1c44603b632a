"""`amlflow workspace`: which one is used, and why; make and choose others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    state.out.one(places.describe(state.resolved), "name")


@app.command("list", cls=Command)
def list_(ctx: typer.Context) -> None:
    """List the local workspaces and the profiles of amlflow.yaml."""
    from amlflow.services import places

    state = State.of(ctx)
    state.out.many(places.listing(state.config, state.resolved), _COLUMNS, "name")


@app.command(cls=Command)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    path: Annotated[
        Path | None,
        typer.Option("--path", help="Its folder; then a profile of that name goes into amlflow.yaml.", file_okay=False),
    ] = None,
) -> None:
    """Make a local workspace."""
    from amlflow.services import places

    state = State.of(ctx)
    made = places.create(state.config, name, path, state.note)
    state.out.one(_plain(made), "name")


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


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
