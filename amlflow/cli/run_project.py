"""`amlflow run-project`: an MLflow Project runs as a tracked run."""

from __future__ import annotations

from typing import Annotated

import typer

from amlflow.cli import recording_options
from amlflow.cli.completers import complete_experiment
from amlflow.cli.framework import Command, verb
from amlflow.cli.recording_options import (
    DurabilityOption,
    FlushTimeoutOption,
    OfflineOption,
    RankZeroOption,
    RequireModelOption,
)
from amlflow.cli.state import State

app = verb()


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
    compute: Annotated[str, typer.Option("--compute", help="An Azure ML compute to run on, instead of here.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; `amlflow job logs -f` follows it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    offline: OfflineOption = False,
    durability: DurabilityOption = "process",
    rank_zero_only: RankZeroOption = False,
    flush_timeout: FlushTimeoutOption = 60.0,
    require_model: RequireModelOption = False,
) -> None:
    """Run an MLflow Project and end with its exit code.

    Example: amlflow run-project ./proj -P alpha=0.1 -e wine
    """
    from amlflow.cli import progress
    from amlflow.errors import NotSupported
    from amlflow.services import jobs, projects
    from amlflow.services.tracking import pairs

    state = State.of(ctx)
    if compute:
        raise NotSupported(
            f"--compute {compute} needs an Azure ML workspace, which this version of amlflow does not yet talk to.",
            "Leave it out to run the project here.",
        )
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
        recording_options.options(offline, durability, rank_zero_only, flush_timeout),
        require_model,
    )
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
