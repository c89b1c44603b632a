"""`amlflow run-project`: an MLflow Project runs as a tracked run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli import recording_options
from amlflow.cli.completers import complete_compute, complete_experiment
from amlflow.cli.framework import Command, typed, verb
from amlflow.cli.recording_options import (
    DatasetRowsOption,
    DurabilityOption,
    FlushTimeoutOption,
    OfflineOption,
    RankZeroOption,
    RequireModelOption,
)
from amlflow.cli.state import State
from amlflow.errors import UsageError

app = verb()
_ON_COMPUTE = "On a compute"
# What amlflow does beside a program that it runs itself, and what the journal does beside the program anywhere.
_BESIDE = ("system_metrics", "offline", "durability", "flush_timeout", "require_model")
_IN_JOURNAL = ("rank_zero_only", "dataset_rows")


@app.command("run-project", cls=Command)
def run_project(
    ctx: typer.Context,
    project: Annotated[str, typer.Argument(help="A folder, a Git URL, or URL#subdir.")],
    entry_point: Annotated[
        str, typer.Option("--entry-point", help="Its entry point, or a .py or .sh file of the project.")
    ] = "main",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", metavar="NAME=VALUE", help="A parameter of the entry point.")
    ] = None,
    version: Annotated[str, typer.Option("--version", help="A branch, tag or commit of the Git URL.")] = "",
    experiment: Annotated[
        str,
        typer.Option("--experiment", "-e", help="The experiment; made if new.", autocompletion=complete_experiment),
    ] = "",
    run_name: Annotated[str, typer.Option("--run-name", help="The run's name; a random one otherwise.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag of the run.")] = None,
    env_manager: Annotated[
        str,
        typer.Option(
            "--env-manager",
            help="uv, local (the environment at hand) or conda; the project's files decide by default.",
            autocompletion=lambda: ["uv", "local", "conda"],
        ),
    ] = "",
    system_metrics: Annotated[
        bool, typer.Option("--system-metrics", help="Log CPU, memory, disk and network use.")
    ] = False,
    compute: Annotated[
        str,
        typer.Option(
            "--compute",
            help="Run as a job on this compute of an Azure ML workspace, `serverless`, or `databricks:CLUSTER`.",
            autocompletion=complete_compute,
        ),
    ] = "",
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=[TYPE:]PATH",
            help="Data for the job: a path of this machine, which is uploaded, or a URI.",
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = None,
    result: Annotated[
        list[str] | None,
        typer.Option(
            "--result",
            metavar="NAME=TYPE[:URI]",
            help="A named output: a path that the job writes to.",
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = None,
    environment: Annotated[
        str,
        typer.Option(
            "--environment",
            metavar="NAME:VERSION",
            help="One of the workspace's, or image:REF; the project's files decide by default.",
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = "",
    instances: Annotated[int, typer.Option("--instances", min=1, help="Nodes.", rich_help_panel=_ON_COMPUTE)] = 1,
    distribution: Annotated[
        str,
        typer.Option(
            "--distribution",
            help="pytorch, mpi, tensorflow or ray.",
            autocompletion=lambda: ["pytorch", "mpi", "tensorflow", "ray"],
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = "",
    processes: Annotated[
        int, typer.Option("--processes", min=0, help="Processes on each node.", rich_help_panel=_ON_COMPUTE)
    ] = 0,
    size: Annotated[
        str, typer.Option("--size", help="The machine of --compute serverless.", rich_help_panel=_ON_COMPUTE)
    ] = "",
    tier: Annotated[
        str,
        typer.Option(
            "--tier",
            help="dedicated or spot; a job whose spot node is taken away begins again with its outputs/.",
            autocompletion=lambda: ["dedicated", "spot"],
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = "",
    shm_size: Annotated[str, typer.Option("--shm-size", help="Shared memory: 8g.", rich_help_panel=_ON_COMPUTE)] = "",
    docker_args: Annotated[
        str, typer.Option("--docker-args", help="More arguments of the container.", rich_help_panel=_ON_COMPUTE)
    ] = "",
    timeout: Annotated[
        str,
        typer.Option("--timeout", help="End the job after this time: 3600, 90m, 2h.", rich_help_panel=_ON_COMPUTE),
    ] = "",
    identity: Annotated[
        str,
        typer.Option(
            "--identity",
            help="Who the job is to Azure: token, managed or user.",
            autocompletion=lambda: ["token", "managed", "user"],
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = "",
    code_limit: Annotated[
        int,
        typer.Option(
            "--code-limit", min=1, metavar="MB", help="Refuse to send more code.", rich_help_panel=_ON_COMPUTE
        ),
    ] = 300,
    upload_to: Annotated[
        str,
        typer.Option(
            "--upload-to",
            metavar="/Volumes/…",
            help="Send the project to this folder of a volume, with --compute databricks:CLUSTER.",
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = "",
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Write the job as a file for `az ml job create`, and send nothing.",
            rich_help_panel=_ON_COMPUTE,
        ),
    ] = None,
    cancel_on_interrupt: Annotated[
        bool,
        typer.Option("--cancel-on-interrupt", help="Ctrl-C ends the job, too.", rich_help_panel=_ON_COMPUTE),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; `amlflow job logs -f` follows it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    offline: OfflineOption = False,
    durability: DurabilityOption = "process",
    rank_zero_only: RankZeroOption = False,
    flush_timeout: FlushTimeoutOption = 60.0,
    require_model: RequireModelOption = False,
    dataset_rows: DatasetRowsOption = 0,
) -> None:
    """Run an MLflow Project and end with its exit code.

    With --compute amlflow is not beside the program: of the options of its recording, jobs of Azure ML take --dataset-rows
    and --rank-zero-only, and clusters of Databricks none.

    Example: amlflow run-project ./proj -P alpha=0.1 -e wine
    """
    from amlflow.cli import progress
    from amlflow.services import jobs, projects
    from amlflow.services.tracking import pairs

    state = State.of(ctx)
    request = projects.ProjectRequest(
        project,
        entry_point,
        version,
        pairs(param or [], "parameter"),
        env_manager,
        experiment,
        run_name,
        pairs(tag or [], "tag"),
        system_metrics,
        recording_options.options(offline, durability, rank_zero_only, flush_timeout, dataset_rows),
        require_model,
    )
    if compute.startswith("databricks:"):
        from amlflow.cli import cluster, remote
        from amlflow.services.cluster_projects import ClusterOptions

        _refuse_compute_options(ctx, ("upload_to", "timeout", "code_limit", "cancel_on_interrupt", "export"))
        _refuse_recording_options(ctx, (*_BESIDE, *_IN_JOURNAL), "a job on Databricks has no amlflow beside it")
        chosen = ClusterOptions(compute.removeprefix("databricks:"), upload_to, timeout, code_limit)
        mode = remote.Mode(dry_run, detach, export, cancel_on_interrupt)
        raise typer.Exit(cluster.run(state, request, chosen, mode))
    if upload_to:
        raise UsageError("--upload-to is for a cluster of Databricks.", "Leave it out, or name one with --compute.")
    if compute or export:
        from amlflow.cli import remote
        from amlflow.services.submission import RemoteOptions

        _refuse_recording_options(ctx, _BESIDE, "this one is a job of Azure ML")
        if export:
            _refuse_recording_options(ctx, _IN_JOURNAL, "an exported job has no journal of amlflow beside it")
        options = RemoteOptions(
            compute or "serverless",
            input or (),
            result or (),
            environment,
            instances,
            size,
            distribution,
            processes,
            tier,
            shm_size,
            docker_args,
            timeout,
            identity,
            code_limit,
        )
        raise typer.Exit(remote.run(state, request, options, remote.Mode(dry_run, detach, export, cancel_on_interrupt)))
    _refuse_compute_options(ctx)
    if dry_run:
        state.out.one(projects.describe(projects.plan(request)), "command")
        return
    if detach:
        with progress.steps(state) as report:
            job = jobs.submit(state.workspace, request, report)
        state.out.one({"job_id": job.id, "status": job.status}, "job_id", [("job", job.id), ("status", job.status)])
        state.note(f"Follow it with `amlflow job logs -f {job.id[:8]}`.")
        return
    finished = projects.run(
        state.workspace,
        request,
        lambda: progress.steps(state),
        recording_options.watch(state, request.options, require_model),
    )
    recording_options.finish(state, finished)


def _refuse_compute_options(ctx: typer.Context, taken: tuple[str, ...] = ()) -> None:
    """Where they would have no effect, whoever typed them would wait for one."""
    panels = {parameter.name: getattr(parameter, "rich_help_panel", None) for parameter in ctx.command.params}
    given = _typed(ctx, tuple(name for name, panel in panels.items() if panel == _ON_COMPUTE and name not in taken))
    if given:
        where = "a cluster of Databricks has no such thing" if taken else "this run is here"
        raise UsageError(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for a job on a compute of Azure ML, and {where}.",
            "Name the compute with --compute, or leave the option out.",
        )


def _refuse_recording_options(ctx: typer.Context, names: tuple[str, ...], where: str) -> None:
    """The other way round: what amlflow does for a program on this machine, and nobody would do there."""
    given = _typed(ctx, names)
    if given:
        raise UsageError(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for a program that runs here, and {where}.",
            f"Leave {'it' if len(given) == 1 else 'them'} out, or run the project here without --compute.",
        )


def _typed(ctx: typer.Context, names: tuple[str | None, ...]) -> list[str]:
    """Those of the options that the command line itself has, as one writes them."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in names and typed(ctx, str(parameter.name))
    ]
