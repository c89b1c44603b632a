"""`amlflow compute`: where jobs run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from amlflow.cli.completers import complete_compute
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column, Record
from amlflow.cli.state import State

app = noun("List, show, create, attach, start, stop and delete computes.")

ComputeArgument = Annotated[str, typer.Argument(metavar="COMPUTE", help="Its name.", autocompletion=complete_compute)]


def _goes_on(compute: str) -> str:
    return f"What the workspace has begun goes on there; `amlflow compute show {compute}` tells how far it is."


def _nodes(record: Record) -> str:
    if record["kind"] == "kubernetes":
        # How many a cluster has, the workspace does not know.
        return ""
    return f"{record['nodes']} of {record['min_nodes']}-{record['max_nodes']}"


_COLUMNS = (
    Column("COMPUTE", "name", style="cyan"),
    Column("KIND", "kind"),
    Column("STATE", "state"),
    Column("SIZE", "size"),
    Column("NODES", _nodes),
    Column("TIER", "tier"),
)


@app.command("list", cls=Command)
def list_(ctx: typer.Context) -> None:
    """List the computes of the workspace."""
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    found = [asdict(compute) for compute in abilities.computes(state.workspace).list()]
    state.out.many(found, _COLUMNS, "name", "No computes; `amlflow compute create` makes one.")


@app.command(cls=Command)
def show(ctx: typer.Context, compute: ComputeArgument) -> None:
    """Show one compute."""
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.out.one(asdict(abilities.computes(state.workspace).get(compute)), "name")


@app.command(cls=Command)
def create(
    ctx: typer.Context,
    compute: ComputeArgument,
    kind: Annotated[
        str, typer.Option("--kind", help="cluster or instance.", autocompletion=lambda: ["cluster", "instance"])
    ] = "cluster",
    size: Annotated[str, typer.Option("--size", help="The machine's size.")] = "Standard_DS3_v2",
    least: Annotated[int, typer.Option("--min", min=0, help="Nodes that stay up without jobs.")] = 0,
    most: Annotated[int, typer.Option("--max", min=1, help="Nodes at most.")] = 1,
    tier: Annotated[
        str,
        typer.Option(
            "--tier",
            help="dedicated, or spot: cheaper, and taken away at any time.",
            autocompletion=lambda: ["dedicated", "spot"],
        ),
    ] = "dedicated",
    idle_time: Annotated[
        int,
        typer.Option("--idle-time", min=0, metavar="SECONDS", help="Let idle nodes go after this time; 0: default."),
    ] = 0,
) -> None:
    """Make a cluster or an instance, or change the one of that name, and wait for it."""
    from amlflow.cli import progress
    from amlflow.services import computing
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    spec = computing.spec(compute, kind, size, least, most, tier, idle_time)
    state.stays = _goes_on(compute)
    with progress.steps(state) as report:
        made = abilities.computes(state.workspace).create(spec, lambda step: report(f"Compute {compute}: {step}"))
    state.out.one(asdict(made), "name")


@app.command(cls=Command)
def attach(
    ctx: typer.Context,
    compute: ComputeArgument,
    cluster: Annotated[
        str,
        typer.Argument(
            metavar="CLUSTER-ID", help="The cluster's id in Azure; `az aks show --query id -o tsv` prints it."
        ),
    ],
    namespace: Annotated[str, typer.Option("--namespace", help="Where in the cluster.")] = "default",
) -> None:
    """Attach a Kubernetes cluster (AKS, or one connected by Azure Arc) and wait for it.

    The cluster must have the extension Microsoft.AzureML.Kubernetes. `amlflow compute delete` detaches it, and leaves it as it
    is."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.stays = _goes_on(compute)
    with progress.steps(state) as report:
        made = abilities.computes(state.workspace).attach(
            compute, cluster, namespace, lambda step: report(f"Compute {compute}: {step}")
        )
    state.out.one(asdict(made), "name")


@app.command(cls=Command)
def start(ctx: typer.Context, compute: ComputeArgument) -> None:
    """Start a compute instance and wait for it."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.stays = _goes_on(compute)
    with progress.steps(state) as report:
        found = abilities.computes(state.workspace).start(compute, lambda step: report(f"Compute {compute}: {step}"))
    state.out.one(asdict(found), "name")


@app.command(cls=Command)
def stop(ctx: typer.Context, compute: ComputeArgument) -> None:
    """Stop a compute instance and wait for it."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.stays = _goes_on(compute)
    with progress.steps(state) as report:
        found = abilities.computes(state.workspace).stop(compute, lambda step: report(f"Compute {compute}: {step}"))
    state.out.one(asdict(found), "name")


@app.command(cls=Command)
def delete(ctx: typer.Context, compute: ComputeArgument) -> None:
    """Delete a compute and wait until it is gone; an attached cluster is detached alone."""
    from amlflow.cli import progress
    from amlflow.workspaces import abilities

    state = State.of(ctx)
    state.stays = _goes_on(compute)
    with progress.steps(state) as report:
        abilities.computes(state.workspace).delete(compute, lambda step: report(f"Compute {compute}: {step}"))
    state.note(f"Deleted the compute {compute}.")
