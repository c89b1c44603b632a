"""`amlflow deploy`: a model becomes a web service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_endpoint, complete_model
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()
_LOCAL = "With --target local"
_MANAGED = "With --target managed"


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
        str,
        typer.Option(
            "--target", "-t", help="Where to: local, managed (Azure ML).", autocompletion=lambda: ["local", "managed"]
        ),
    ] = "local",
    name: Annotated[
        str,
        typer.Option("--name", help="The endpoint's name; the model's by default.", autocompletion=complete_endpoint),
    ] = "",
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME[=VALUE]",
            help="An environment variable of the process that answers; without a value, the one that it has here.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Deploy nothing: say what would go wrong with the model, its packages, quota, network and rights; ends with 1 "
            "where something is an error.",
        ),
    ] = False,
    mend: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Deploy nothing: register a repaired copy of the model as its next version. With --dry-run, say what would be "
            "repaired.",
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="A free one by default.", rich_help_panel=_LOCAL),
    ] = None,
    env_manager: Annotated[
        str,
        typer.Option(
            "--env-manager",
            help="uv (the default): the model's own requirements; local: amlflow's environment.",
            rich_help_panel=_LOCAL,
        ),
    ] = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=1, help="Seconds to wait for its first answer; 120 by default.", rich_help_panel=_LOCAL
        ),
    ] = None,
    instance_type: Annotated[
        str,
        typer.Option(
            "--instance-type", help="The size of its machines; Standard_DS3_v2 by default.", rich_help_panel=_MANAGED
        ),
    ] = "",
    instance_count: Annotated[
        int | None, typer.Option("--instance-count", min=1, help="So many; 1 by default.", rich_help_panel=_MANAGED)
    ] = None,
    canary: Annotated[
        str,
        typer.Option(
            "--canary", metavar="10,50,100", help="Move the traffic in these steps.", rich_help_panel=_MANAGED
        ),
    ] = "",
    canary_wait: Annotated[
        float | None,
        typer.Option(
            "--canary-wait", min=0, help="Seconds to watch each step; 30 by default.", rich_help_panel=_MANAGED
        ),
    ] = None,
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden",
            help="Requests to replay before it gets traffic: .jsonl (a request a line, or {request, predictions}), .json, .csv.",
            rich_help_panel=_MANAGED,
        ),
    ] = None,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait",
            help="Begin the deployment and return; the same command again goes on with it.",
            rich_help_panel=_MANAGED,
        ),
    ] = False,
) -> None:
    """Serve a model as a web service.

    Deploying again under the same name replaces what runs there once the new one answers; no request is lost. On Azure ML a
    second deployment is made beside the first, asked at no traffic, and given the traffic; what fails is taken back.

    Example: amlflow deploy wine@champion --target local
    """
    from amlflow.cli import deploy_check, progress
    from amlflow.cli.endpoint import endpoint_record, plan_record, print_endpoint
    from amlflow.services import deployment
    from amlflow.services.deploy_options import Asked, options

    state = State.of(ctx)
    asked = Asked(name, env or (), port, env_manager, timeout)
    azure = (instance_type, instance_count, canary, canary_wait, golden, not no_wait)
    request = deployment.DeployRequest(model, target, options(target, asked, *azure))
    if mend:
        deploy_check.mend(state, request, dry_run)
        return
    if check:
        deploy_check.check(state, request)
        return
    found, plan = deployment.plan(state.workspace, request)
    for line in plan.warnings:
        state.warn(line)
    if dry_run:
        steps = [(step.action, f"{step.what} {step.detail}".strip()) for step in plan.steps]
        state.out.one(plan_record(plan), "endpoint", steps)
        return
    with progress.steps(state) as report:
        endpoint = found.apply(plan, report)
    print_endpoint(state, endpoint_record(endpoint))
    if any(endpoint.traffic.values()):
        state.note(f"Try `amlflow endpoint invoke {endpoint.name} --example`.")
