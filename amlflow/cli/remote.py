"""`amlflow run-project --compute`: what a person sees of a project that runs elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amlflow.cli import progress
from amlflow.cli.errors import INTERRUPTED
from amlflow.cli.state import State
from amlflow.errors import AmlflowError
from amlflow.services import submission
from amlflow.services.projects import ProjectRequest
from amlflow.services.submission import RemoteOptions, RemotePlan
from amlflow.workspaces import abilities
from amlflow.workspaces.abilities import Job

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Mode:
    """How far to go. `export` is the file to write instead of sending anything."""

    dry_run: bool = False
    detach: bool = False
    export: Path | None = None
    cancel_on_interrupt: bool = False


def run(state: State, request: ProjectRequest, options: RemoteOptions, mode: Mode) -> int:
    """Returns the exit code: that of the job, unless it is left to itself."""
    if not mode.export:
        # A workspace that runs no jobs is the first thing to say.
        abilities.takes_jobs(state.workspace)
    planned = submission.plan(request, options)
    if mode.export:
        from amlflow.services import job_export

        for warning in planned.warnings:
            state.note(warning)
        job_export.write(planned, mode.export)
        state.note(f"Create it with `az ml job create -f {mode.export}`.")
        state.out.one({"file": str(mode.export)}, "file")
        return 0
    if mode.dry_run:
        record = submission.describe(state.workspace, planned)
        state.out.one(record, "command", _rows(record))
        return 0
    job = _submitted(state, planned)
    if mode.detach:
        record = {"job_id": job.id, "status": job.status, "url": job.url}
        state.out.one(record, "job_id", [("job", job.id), ("status", job.status), ("studio", job.url)])
        state.note(f"Follow it with `amlflow job logs -f {job.id}`.")
        return 0
    state.note(f"Job {job.id} in experiment {job.experiment}{f': {job.url}' if job.url else ''}")
    try:
        return _followed(state, job)
    except KeyboardInterrupt:
        interrupted(state, job, mode.cancel_on_interrupt)
        return INTERRUPTED


def _submitted(state: State, planned: RemotePlan) -> Job:
    with progress.transfer(state, "Sending") as advance:
        return submission.submit(state.workspace, planned, state.note, advance)


def _followed(state: State, job: Job) -> int:
    for chunk in submission.follow(state.workspace, job, state.note):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    found, code = submission.ended(state.workspace, job)
    if code:
        reason = f": {found.problem.rstrip('.')}" if found.problem else ""
        raise AmlflowError(
            f"Job {job.id} {found.outcome}{reason}.", f"`amlflow job logs {job.id}` shows what it printed."
        )
    state.note(f"Job {job.id} finished")
    return code


def interrupted(state: State, job: Job, cancel: bool) -> None:
    """After Ctrl-C: end the job, or say how it is found again."""
    if cancel:
        from amlflow.services import job_control

        job_control.cancel(state.workspace, job.id)
        state.note(f"Job {job.id} is cancelled.")
    else:
        state.note(
            f"Job {job.id} goes on. Follow it with `amlflow job logs -f {job.id}`, end it with `amlflow job cancel {job.id}`."
        )


def _rows(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """For people: the files as a few names and their number."""
    files, left_out = record["files"], record["left_out"]
    rows = [(key, value) for key, value in record.items() if key not in ("files", "left_out", "size_bytes", "warnings")]
    rows += [("sent", name) for name in files[:_SHOWN]]
    more = f", {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    rows.append(("sent in all", f"{len(files)} files, {record['size_bytes'] / 1e6:.1f} MB{more}"))
    rows += [("left out", name) for name in left_out[:_SHOWN]]
    return rows + [("note", warning) for warning in record["warnings"]]
