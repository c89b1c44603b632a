"""`amlflow job`: runs that were submitted and go on by themselves."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from amlflow.cli.completers import complete_job
from amlflow.cli.framework import Command, noun
from amlflow.cli.output import Column, moment
from amlflow.cli.state import State

app = noun("List, show, follow and cancel detached runs.")

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="An id, a prefix, a name or last.", autocompletion=complete_job)
]

_COLUMNS = (
    Column("JOB", lambda r: r["id"][:8], style="cyan"),
    Column("NAME", "name"),
    Column("STATUS", "status"),
    Column("SUBMITTED", lambda r: moment(r["submitted_ms"])),
    Column("PROJECT", "project"),
)


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    status: Annotated[str, typer.Option("--status", help="Only those: RUNNING, FINISHED, FAILED, KILLED.")] = "",
) -> None:
    """List the jobs, newest first."""
    from amlflow.services import jobs

    state = State.of(ctx)
    found = [asdict(job) for job in jobs.list_jobs(state.workspace) if not status or job.status == status.upper()]
    state.out.many(found, _COLUMNS, "id", "No jobs; `amlflow run-project --detach` makes one.")


@app.command(cls=Command)
def show(ctx: typer.Context, job: JobArgument = "last") -> None:
    """Show one job."""
    from amlflow.services import jobs

    state = State.of(ctx)
    record = asdict(jobs.find_job(state.workspace, job))
    state.out.one(record, "id")


@app.command(cls=Command)
def logs(
    ctx: typer.Context,
    job: JobArgument = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what a job has printed."""
    from amlflow.services import jobs

    for chunk in jobs.logs(State.of(ctx).workspace, job, follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@app.command(cls=Command)
def cancel(ctx: typer.Context, job: JobArgument) -> None:
    """Stop a job and all that it started."""
    from amlflow.services import jobs

    state = State.of(ctx)
    record = asdict(jobs.cancel(state.workspace, job))
    state.out.one(record, "id")
