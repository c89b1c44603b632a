"""`amlflow deploy`: a model becomes a web service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_compute, complete_endpoint, complete_model
from amlflow.cli.framework import Command, verb
from amlflow.cli.state import State

app = verb()
_LOCAL = "With --target local"
_MANAGED = "With --target managed"
_CLUSTER = "With --target aks"
_TARGETS = ("local", "managed", "aks", "aci", "batch")
_BATCH = "With --target batch"
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
            help="Where to: local; managed, aks (a cluster), batch (files) of Azure ML; aci (Azure Container Instances).",
            autocompletion=lambda: list(_TARGETS),
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
    collect: Annotated[
        bool, typer.Option("--collect", help="Keep what it is asked and answers, for `amlflow monitor`.")
    ] = False,
    sampling: Annotated[
        float | None,
        typer.Option("--sampling", min=0.01, max=100, help="Of the requests collect so many percent; all by default."),
    ] = None,
    collect_drop: Annotated[
        list[str] | None, typer.Option("--collect-drop", metavar="COLUMN", help="Leave this column out.")
    ] = None,
    collect_hash: Annotated[
        list[str] | None, typer.Option("--collect-hash", metavar="COLUMN", help="Keep a keyed hash of this column.")
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
            "--timeout",
            min=1,
            help="Local and aci: seconds to wait for its first answer, 120 and 900 by default; batch: for a mini-batch, 30.",
        ),
    ] = None,
    instance_type: Annotated[
        str,
        typer.Option(
            "--instance-type", help="The size of its machines; Standard_DS3_v2 by default.", rich_help_panel=_MANAGED
        ),
    ] = "",
    instance_count: Annotated[
        int | None,
        typer.Option(
            "--instance-count", min=1, help="So many machines or nodes; 1 by default.", rich_help_panel=_MANAGED
        ),
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
    mirror: Annotated[
        int | None,
        typer.Option(
            "--mirror",
            min=1,
            max=50,
            metavar="PERCENT",
            help="Send it so many of the live requests as well, and compare how both fare, before it gets traffic.",
            rich_help_panel=_MANAGED,
        ),
    ] = None,
    scoring: Annotated[
        str,
        typer.Option(
            "--scoring",
            help="Whose scoring script: azure, own (amlflow's), auto (the default): Azure's unless the model would end it.",
            autocompletion=lambda: ["auto", "azure", "own"],
            rich_help_panel=_MANAGED,
        ),
    ] = "",
    auth_mode: Annotated[
        str,
        typer.Option(
            "--auth-mode",
            help="What opens it: key (the default), aad (tokens of Microsoft Entra).",
            autocompletion=lambda: ["key", "aad"],
            rich_help_panel=_MANAGED,
        ),
    ] = "",
    request_timeout: Annotated[
        int | None,
        typer.Option(
            "--request-timeout", min=1, help="Seconds that a request may take; 5 by default.", rich_help_panel=_MANAGED
        ),
    ] = None,
    autoscale: Annotated[
        str,
        typer.Option(
            "--autoscale",
            metavar="MIN:MAX[:CPU%]",
            help="As many instances as keep the CPU there.",
            rich_help_panel=_MANAGED,
        ),
    ] = "",
    private: Annotated[
        bool,
        typer.Option("--private", help="Let no request in from public networks.", rich_help_panel=_MANAGED),
    ] = False,
    no_egress: Annotated[
        bool,
        typer.Option("--no-egress", help="Let the model reach no public network.", rich_help_panel=_MANAGED),
    ] = False,
    compute: Annotated[
        str,
        typer.Option(
            "--compute",
            help="The attached cluster; for the first deploy. It takes most options of managed, too.",
            autocompletion=complete_compute,
            rich_help_panel=_CLUSTER,
        ),
    ] = "",
    cpu: Annotated[
        float | None,
        typer.Option(
            "--cpu", min=0.001, help="Cores of the container; with aci 1 by default.", rich_help_panel=_CLUSTER
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", min=0.05, help="GB of the container; with aci 2 by default.", rich_help_panel=_CLUSTER
        ),
    ] = None,
    mini_batch_size: Annotated[
        int | None,
        typer.Option("--mini-batch-size", min=1, help="Files scored at once; 10 by default.", rich_help_panel=_BATCH),
    ] = None,
    output_action: Annotated[
        str,
        typer.Option(
            "--output-action",
            help="append (the default): a file of predictions; summary: none.",
            rich_help_panel=_BATCH,
            autocompletion=lambda: ["append", "summary"],
        ),
    ] = "",
    max_concurrency: Annotated[
        int | None,
        typer.Option("--max-concurrency", min=1, help="Processes on each node; 1 by default.", rich_help_panel=_BATCH),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option("--retries", min=0, help="For a mini-batch that fails; 3 by default.", rich_help_panel=_BATCH),
    ] = None,
    no_smoke: Annotated[
        bool,
        typer.Option("--no-smoke", help="Take over without scoring the input example first.", rich_help_panel=_BATCH),
    ] = False,
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
    second deployment is made beside the first, asked at no traffic, and given the traffic; what fails is taken back. A batch
    endpoint scores files by jobs, and costs only while it does. On Azure Container Instances the model's image is built
    once, and a container group answers at https with a key.

    Example: amlflow deploy wine@champion --target local
    """
    from amlflow.cli import deploy_check, progress
    from amlflow.cli.endpoint import endpoint_record, plan_record, print_endpoint
    from amlflow.services import deployment
    from amlflow.services.deploy_options import (
        Asked,
        AskedBatch,
        AskedContainer,
        AskedMachines,
        AskedOnline,
        AskedRollout,
        collecting,
        options,
    )

    state = State.of(ctx)
    kept = collecting(collect, sampling, collect_drop or (), collect_hash or ())
    asked = Asked(name, env or (), port, env_manager, timeout, kept)
    rollout = AskedRollout(canary, canary_wait, golden, no_wait, mirror)
    machines = AskedMachines(instance_type, instance_count, autoscale, compute, cpu, memory)
    online = AskedOnline(rollout, machines, scoring, auth_mode, request_timeout, private, no_egress)
    batch = AskedBatch(mini_batch_size, output_action, max_concurrency, retries, not no_smoke)
    container = AskedContainer(location, dns_label, tag or (), subnet, https_image, insecure)
    request = deployment.DeployRequest(model, target, options(target, asked, online, batch, container))
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
    if target != "local":
        state.stays = (
            f"What the workspace has begun goes on there; `amlflow endpoint show {plan.endpoint}` tells how far it is."
        )
    with progress.steps(state) as report:
        endpoint = found.apply(plan, report)
    print_endpoint(state, endpoint_record(endpoint))
    if any(endpoint.traffic.values()):
        state.note(f"Try `amlflow endpoint invoke {endpoint.name} --example`.")
