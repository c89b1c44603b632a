"""`amlflow run-project --compute databricks:CLUSTER`: what a person sees of a project that runs there."""

from __future__ import annotations

import sys

from amlflow.cli import progress
from amlflow.cli.errors import INTERRUPTED
from amlflow.cli.remote import Mode, interrupted
from amlflow.cli.state import State
from amlflow.errors import UsageError
from amlflow.services import cluster_projects
from amlflow.services.cluster_projects import ClusterOptions, Submitted
from amlflow.services.projects import ProjectRequest
from amlflow.workspaces.databricks.cluster_jobs import NUMBER_TAG


def run(state: State, request: ProjectRequest, options: ClusterOptions, mode: Mode) -> int:
    """Returns the exit code: that of the program, unless it is left to itself."""
    if mode.export:
        raise UsageError("--export writes jobs of Azure ML.", "Leave it out with --compute databricks:CLUSTER.")
    planned = cluster_projects.plan(request, options)
    if mode.dry_run:
        state.out.one(cluster_projects.describe(planned), "command")
        return 0
    with progress.steps(state) as report:
        submitted = cluster_projects.submit(state.workspace, planned, report)
    job = submitted.job
    if submitted.is_taken_up:
        state.note(
            f"Job {job.id} was begun by this command before, which did not see its end: it is taken up, and not begun again."
        )
    if mode.detach:
        number = job.tags[NUMBER_TAG]
        record = {"job_id": job.id, "job_run_id": int(number), "status": job.status, "url": job.url}
        rows = [("job", job.id), ("run on the cluster", number), ("status", job.status), ("page", job.url)]
        state.out.one(record, "job_id", rows)
        submitted.pending.drop()
        state.note(f"Follow it with `amlflow job logs -f {job.id}`.")
        return 0
    state.note(f"Job {job.id} ({job.name}){f': {job.url}' if job.url else ''}")
    try:
        return _followed(state, submitted)
    except KeyboardInterrupt:
        interrupted(state, job, mode.cancel_on_interrupt)
        submitted.pending.drop()
        return INTERRUPTED


def _followed(state: State, submitted: Submitted) -> int:
    for chunk in cluster_projects.follow(state.workspace, submitted, state.note):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    found = cluster_projects.ended(state.workspace, submitted)
    reason = f": {found.job.problem.rstrip('.')}" if found.job.problem else ""
    state.note(f"Job {found.job.id} {found.job.outcome}{reason}")
    return found.exit_code
