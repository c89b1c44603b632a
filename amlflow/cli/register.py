"""`amlflow register`: a model becomes a version of a registered one."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli.completers import complete_experiment, complete_model, complete_run
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()


@app.command(cls=Command)
def register(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="runs:/ID/NAME, a run or job (its only model), best:METRIC, or a folder with an MLmodel file.",
            autocompletion=complete_run,
        ),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The registered model.", autocompletion=complete_model)],
    experiment: Annotated[
        str,
        typer.Option(
            "--experiment", "-e", help="Where best: and last look, and names first.", autocompletion=complete_experiment
        ),
    ] = "",
    description: Annotated[str, typer.Option("--description", help="What this version is.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag of the version.")] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="An alias that means this version.")] = None,
    await_: Annotated[bool, typer.Option("--await/--no-await", help="Wait until the version is ready to use.")] = True,
) -> None:
    """Register a model from a run, a job or a folder.

    Example: amlflow register best:rmse -e wine --name wine --alias champion
    """
    from amlflow.cli.records import VERSION_COLUMNS, version_record
    from amlflow.services import registry
    from amlflow.services.tracking import pairs

    state = State.of(ctx)
    request = registry.RegisterRequest(source, name, experiment, description, pairs(tag or [], "tag"), alias or [])
    version = registry.register(state.workspace, request, lambda line: state.note(f"Warning: {line}"))
    if await_:
        version = registry.wait_until_ready(state.workspace, version)
    record = version_record(version)
    state.out.one(record, "model", [(column.heading.lower(), column.of(record)) for column in VERSION_COLUMNS])
