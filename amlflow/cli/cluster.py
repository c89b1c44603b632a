"""`amlflow run-project --compute databricks:CLUSTER`: what a person sees of a project that runs there."""

from __future__ import annotations

import sys

from amlflow.cli import progress
from amlflow.cli.errors import INTERRUPTED
from amlflow.cli.remote import Mode
from amlflow.cli.state import State
from amlflow.errors import UsageError
from amlflow.services import cluster_projects
from amlflow.services.cluster_projects import Submitted
from amlflow.services.projects import ProjectRequest


def run(state: State, request: ProjectRequest, compute: str, timeout: str, mode: Mode) -> int:
    """Returns the exit code: that of the program, unless it is left to itself."""
    if mode.export:
        raise UsageError("--export writes jobs of Azure ML.", "Leave it out with --compute databricks:CLUSTER.")
    planned = cluster_projects.plan(request, compute, timeout)
    if mode.dry_run:
        state.out.one(cluster_projects.describe(planned), "command")
        return 0
    with progress.steps(state) as report:
        submitted = cluster_projects.submit(state.workspace, planned, report)
    job = submitted.job
    if mode.detach:
        record = {"run_id": submitted.run.id, "job_run_id": job.id, "state": job.state, "url": job.url}
        state.out.one(record, "run_id")
        return 0
    state.note(
        f"Run {submitted.run.name} ({submitted.run.id}), on the cluster run {job.id}{f': {job.url}' if job.url else ''}"
    )
    try:
        return _followed(state, submitted)
    except KeyboardInterrupt:
        if mode.cancel_on_interrupt:
            cluster_projects.cancel(state.workspace, submitted)
            state.note(f"Run {job.id} on the cluster is cancelled.")
        else:
            state.note(f"Run {job.id} on the cluster goes on{f': {job.url}' if job.url else ''}.")
        return INTERRUPTED


def _followed(state: State, submitted: Submitted) -> int:
    last = cluster_projects.follow(state.workspace, submitted, state.note)
    text, code = cluster_projects.ended(state.workspace, submitted, last)
    sys.stdout.write(text)
    sys.stdout.flush()
    reason = f" ({last.reason})" if last.outcome != "finished" and last.reason else ""
    state.note(f"Run {submitted.run.name} {last.outcome}{reason}")
    return code
