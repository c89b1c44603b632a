"""`amlflow deploy`: a model becomes a web service."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli.completers import complete_endpoint, complete_model
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()


@app.command(cls=Command)
def deploy(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="wine:3, wine@champion, wine (the latest), runs:/ID/NAME, a run or a folder.",
            autocompletion=complete_model,
        ),
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", help="Where to: local.", autocompletion=lambda: ["local"])
    ] = "local",
    name: Annotated[
        str,
        typer.Option("--name", help="The endpoint's name; the model's by default.", autocompletion=complete_endpoint),
    ] = "",
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="A free one by default.")] = None,
    env_manager: Annotated[
        str, typer.Option("--env-manager", help="uv: the model's own requirements; local: amlflow's environment.")
    ] = "uv",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for its first answer.")] = 120.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
) -> None:
    """Serve a model as a web service.

    Deploying again under the same name replaces what runs there once the new one answers; no request is lost.

    Example: amlflow deploy wine@champion --target local
    """
    from amlflow.cli import progress
    from amlflow.cli.endpoint import endpoint_record, plan_record, print_endpoint
    from amlflow.services import deployment
    from amlflow.targets.base import DeployOptions

    state = State.of(ctx)
    options = DeployOptions(name=name, port=port, env_manager=env_manager, timeout_s=timeout)
    request = deployment.DeployRequest(model, target, options)
    if dry_run:
        _, _, plan = deployment.plan(state.workspace, request)
        state.out.one(
            plan_record(plan), "endpoint", [(step.action, f"{step.what} {step.detail}".strip()) for step in plan.steps]
        )
        return
    with progress.steps(state) as report:
        endpoint = deployment.deploy(state.workspace, request, report)
    print_endpoint(state, endpoint_record(endpoint))
    state.note(f"Try `amlflow endpoint invoke {endpoint.name} --example`.")
