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
_ACI = "With --target aci"


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
            "--target",
            "-t",
            help="Where to: local, managed (Azure ML), aci (Azure Container Instances).",
            autocompletion=lambda: ["local", "managed", "aci"],
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
            "--timeout", min=1, help="Local and aci: seconds to wait for its first answer; 120 and 900 by default."
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
            help="Managed and aci: begin the deployment and return; the same command again goes on with it.",
        ),
    ] = False,
    cpu: Annotated[
        float | None, typer.Option("--cpu", min=0.1, help="Cores; 1 by default.", rich_help_panel=_ACI)
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", min=0.1, help="Gigabytes; 2 by default.", rich_help_panel=_ACI)
    ] = None,
    location: Annotated[
        str,
        typer.Option("--location", "--region", help="The region; the workspace's by default.", rich_help_panel=_ACI),
    ] = "",
    dns_label: Annotated[
        str,
        typer.Option(
            "--dns-label",
            help="The first part of its address, taken once in a region; made of the name by default.",
            rich_help_panel=_ACI,
        ),
    ] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME=VALUE", help="A tag of the container group.", rich_help_panel=_ACI),
    ] = None,
    subnet: Annotated[
        str,
        typer.Option(
            "--subnet", help="The ARM id of a subnet: a private address alone, without HTTPS.", rich_help_panel=_ACI
        ),
    ] = "",
    https_image: Annotated[
        str,
        typer.Option(
            "--https-image",
            help="The image with Caddy, which answers for the model over HTTPS; Docker's official one by default.",
            rich_help_panel=_ACI,
        ),
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ask for no key: anybody may use it.", rich_help_panel=_ACI)
    ] = False,
) -> None:
    """Serve a model as a web service.

    Deploying again under the same name replaces what runs there once the new one answers; no request is lost. On Azure ML a
    second deployment is made beside the first, asked at no traffic, and given the traffic; what fails is taken back. On Azure
    Container Instances the model's image is built once, and a container group answers at https with a key.

    Example: amlflow deploy wine@champion --target local
    """
    from amlflow.cli import progress
    from amlflow.cli.endpoint import endpoint_record, plan_record, print_endpoint
    from amlflow.services import deployment
    from amlflow.services.deploy_options import Asked, AskedContainer, options

    state = State.of(ctx)
    asked = Asked(name, env or (), port, env_manager, timeout)
    azure = (instance_type, instance_count, canary, canary_wait, golden, not no_wait)
    container = AskedContainer(cpu, memory, location, dns_label, tag or (), subnet, https_image, insecure)
    request = deployment.DeployRequest(model, target, options(target, asked, *azure, container))
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
