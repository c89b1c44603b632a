"""`amlflow ui`: the page of a workspace, run or job."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from amlflow.cli.completers import complete_run
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()


@app.command("ui", cls=Command)
def ui(
    ctx: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN|JOB]", help="Its own page.", autocompletion=complete_run, show_default=False)
    ] = "",
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where MLflow's UI answers.")] = 5000,
) -> None:
    """Print the studio page of an Azure ML workspace; for a local workspace, start MLflow's UI.

    Example: amlflow ui last --open
    """
    from amlflow.services import pages

    state = State.of(ctx)
    found = pages.find(state.workspace, run, port)
    if found.command:
        state.note(f"Starting MLflow's UI at {found.url}; Ctrl-C ends it.")
        if open_:
            pages.open_when_up(found)
        raise typer.Exit(pages.serve(found))
    state.out.one({"url": found.url}, "url", [("page", found.url)])
    if open_ and not pages.browse(found.url):
        print("No browser could be opened.", file=sys.stderr)  # noqa: T201
