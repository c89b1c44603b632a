"""Jobs of both kinds through one door: those that run in the background here, and those on a workspace's computes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound, NotSupported
from amlflow.services import jobs as background
from amlflow.workspaces import abilities
from amlflow.workspaces.abilities import HasJobs, JobQuery, Progress
from amlflow.workspaces.base import Workspace

HERE = "local"
_OUTCOMES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}


def listing(workspace: Workspace, query: JobQuery) -> list[dict[str, Any]]:
    """The records of the jobs that fit, newest first."""
    found = [_here(workspace, job) for job in background.list_jobs(workspace)]
    records = [record for record in found if _fits(record, query)]
    if isinstance(workspace, HasJobs) and query.compute != HERE:
        records += [_remote(job) for job in workspace.jobs.list(query)]
    records.sort(key=lambda record: -record["submitted_ms"])
    return records if query.limit is None else records[: query.limit]


def show(workspace: Workspace, asked: str) -> dict[str, Any]:
    """One job, by id, prefix, name or `last`."""
    kind, name = _find(workspace, asked)
    if kind == HERE:
        return _here(workspace, background.find_job(workspace, name))
    return _remote(abilities.jobs(workspace).outcome(name))


def logs(workspace: Workspace, asked: str, follow: bool, report: Callable[[str], None]) -> Iterator[bytes]:
    """What the job has printed; with `follow` until it ends."""
    kind, name = _find(workspace, asked)
    if kind == HERE:
        return background.logs(workspace, name, follow)
    return abilities.jobs(workspace).logs(name, follow, report if follow else lambda line: None)


def cancel(workspace: Workspace, asked: str) -> dict[str, Any]:
    kind, name = _find(workspace, asked)
    if kind == HERE:
        return _here(workspace, background.cancel(workspace, name))
    return _remote(abilities.jobs(workspace).cancel(name))


def download(
    workspace: Workspace, asked: str, destination: Path | None, output: str, progress: Progress
) -> dict[str, Any]:
    """The files that a job has left, or one named output of it, into a folder: by default one in the current folder, named like
    the job. Raises `NotFound` for none."""
    kind, name = _find(workspace, asked)
    destination = Path(Path(name).name) if destination is None else destination
    if kind == HERE:
        if output:
            raise NotSupported(f"Job {name} ran here and has no named outputs.", "Leave out --result.")
        files = workspace.list_artifacts(name)
        if not files:
            raise NotFound(f"Job {name} has left no files.", f"`amlflow job logs {name}` shows what it did.")
        for item in files:
            workspace.download_artifacts(name, item.path, destination)
        return {"job_id": name, "path": str(destination), "files": _count(destination)}
    count = abilities.jobs(workspace).download(name, destination, output, progress)
    return {"job_id": name, "path": str(destination), "files": count}


def retry(workspace: Workspace, asked: str) -> dict[str, Any]:
    """Submit the same job once more, under a new name."""
    kind, name = _find(workspace, asked)
    if kind == HERE:
        raise NotSupported(f"Job {name} ran here, from files that may have changed.", "Run the project again.")
    base = name.rsplit("-retry-", 1)[0][:80]
    return _remote(abilities.jobs(workspace).again(name, f"{base}-retry-{secrets.token_hex(3)}"))


def names(workspace: Workspace, limit: int) -> list[str]:
    """Of the newest jobs, for completion."""
    return [record["id"] for record in listing(workspace, JobQuery(limit=limit))]


def _find(workspace: Workspace, asked: str) -> tuple[str, str]:
    """Where the job runs, and its id."""
    if not isinstance(workspace, HasJobs):
        return HERE, background.find_job(workspace, asked).id
    here = background.list_jobs(workspace)
    if asked in ("", "last"):
        newest = next(iter(workspace.jobs.list(JobQuery(limit=1))), None)
        first = here[0] if here else None
        if first is not None and (newest is None or first.submitted_ms > newest.submitted_ms):
            return HERE, first.id
        return ("remote", newest.id) if newest else ("remote", workspace.jobs.find("last").id)
    try:
        return HERE, background.find_job(workspace, asked).id
    except NotFound:
        return "remote", workspace.jobs.find(asked).id


def _here(workspace: Workspace, job: background.Job) -> dict[str, Any]:
    run = workspace.get_run(job.id)
    return {
        "id": job.id,
        "name": job.name,
        "experiment": run.experiment_name,
        "status": job.status,
        "compute": HERE,
        "submitted_ms": job.submitted_ms,
        "ended_ms": run.end_time_ms,
        "url": "",
        "problem": "",
        "tags": dict(run.tags),
        "project": job.project,
        "pid": job.pid,
        "folder": job.folder,
    }


def _remote(job: abilities.Job) -> dict[str, Any]:
    record = asdict(job)
    return {**record, "project": str(job.tags.get("mlflow.source.name", "")), "pid": 0, "folder": ""}


def _fits(record: dict[str, Any], query: JobQuery) -> bool:
    status = str(record["status"])
    wanted = query.status.lower()
    return (
        (not wanted or wanted in (status.lower(), _OUTCOMES.get(status, "running")))
        and query.compute in ("", HERE)
        and (not query.experiment or record["experiment"] == query.experiment)
    )


def _count(folder: Path) -> int:
    return sum(1 for item in folder.rglob("*") if item.is_file())
