"""`amlflow job`: what was submitted and goes on by itself, here or on a compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from amlflow.cli.completers import complete_compute, complete_experiment, complete_job
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column, duration, moment
from amlflow.cli.state import State

app = noun("List, show, follow, cancel, download and retry jobs.")

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="An id, a prefix, a name or last.", autocompletion=complete_job)
]

_COLUMNS = (
    Column("JOB", lambda r: r["id"] if r["compute"] != "local" else r["id"][:8], style="cyan"),
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("SUBMITTED", lambda r: moment(r["submitted_ms"])),
    Column("PROJECT", "project"),
    Column("COMPUTE", "compute"),
    Column("EXPERIMENT", "experiment"),
    Column("TOOK", lambda r: duration(r["submitted_ms"], r["ended_ms"]), right=True),
)


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    status: Annotated[
        str,
        typer.Option("--status", help="Only those: running, finished, failed, killed, or the service's own word."),
    ] = "",
    compute: Annotated[str, typer.Option("--compute", help="Only those on it.", autocompletion=complete_compute)] = "",
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Only those in it.", autocompletion=complete_experiment)
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List the jobs, newest first."""
    from amlflow.services import job_control
    from amlflow.workspaces.abilities import JobQuery

    state = State.of(ctx)
    found = job_control.listing(state.workspace, JobQuery(status, compute, experiment, limit))
    state.out.many(found, _COLUMNS, "id", "No jobs; `amlflow run-project --detach` makes one.")


@app.command(cls=Command)
def show(ctx: typer.Context, job: JobArgument = "last") -> None:
    """Show one job."""
    from amlflow.services import job_control

    state = State.of(ctx)
    state.out.one(job_control.show(state.workspace, job), "id")


@app.command(cls=Command)
def logs(
    ctx: typer.Context,
    job: JobArgument = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what a job has printed."""
    from amlflow.services import job_control

    state = State.of(ctx)
    for chunk in job_control.logs(state.workspace, job, follow, state.note):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@app.command(cls=Command)
def cancel(ctx: typer.Context, job: JobArgument) -> None:
    """Stop a job and all that it started."""
    from amlflow.services import job_control

    state = State.of(ctx)
    state.out.one(job_control.cancel(state.workspace, job), "id")


@app.command(cls=Command)
def download(
    ctx: typer.Context,
    job: JobArgument = "last",
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to put the files into; by default one named like the job.")
    ] = None,
    result: Annotated[str, typer.Option("--result", help="This named output, instead of outputs and logs.")] = "",
) -> None:
    """Download what a job has left: its outputs and logs. Nothing there is an error."""
    from amlflow.cli import progress
    from amlflow.services import job_control

    state = State.of(ctx)
    with progress.transfer(state, "Downloading") as advance:
        record = job_control.download(state.workspace, job, to, result, advance)
    state.out.one(record, "path")


@app.command(cls=Command)
def retry(ctx: typer.Context, job: JobArgument = "last") -> None:
    """Submit the same job once more, under a new name."""
    from amlflow.services import job_control

    state = State.of(ctx)
    record = job_control.retry(state.workspace, job)
    state.out.one(record, "id")
    state.note(f"Follow it with `amlflow job logs -f {record['id']}`.")
