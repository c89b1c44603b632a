"""Detached runs: a project goes on in the background, and is followed and cancelled from any shell.

A job is a run, and a folder of the workspace's state that holds `job.json` and the output so far. What the job needs is in
that file, so the process that runs it (`python -m amlflow.services.jobs FOLDER`) shares nothing with the shell that
submitted it but its environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amlflow import processes
from amlflow.errors import AmlflowError, NotFound
from amlflow.services import execution, projects, recording
from amlflow.workspaces.base import Run, Workspace

JOB_FILE = "job.json"
OUTPUT_FILE = "runner.out"
_ENDED_FILE = "ended"
_POLL_S = 0.2
_END_S = 10.0
_ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True)
class Job:
    """A detached run. `status` is the run's own, but RUNNING for a program that has closed its run and goes on, and KILLED for
    one whose process is gone while its run was open."""

    id: str
    name: str
    project: str
    status: str
    pid: int
    submitted_ms: int
    folder: str


def submit(workspace: Workspace, request: projects.ProjectRequest, report: Callable[[str], None]) -> Job:
    """Make the run and its environment here, where errors are seen, then run it in the background."""
    root = workspace.state_folder() / "jobs"
    for folder in (root.parent, root):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # What `path` parameters that are URIs are downloaded to; it stays for as long as the job needs it.
    storage = Path(tempfile.mkdtemp(prefix="inputs-", dir=root))
    try:
        planned = projects.plan(request, storage)
        program = projects.prepare(workspace, planned, report)
    except BaseException:
        shutil.rmtree(storage, ignore_errors=True)
        raise
    if not any(storage.iterdir()):
        storage.rmdir()
    job: Job | None = None
    try:
        with processes.uninterrupted():
            job = _start(workspace, root, planned, program, report)
    except KeyboardInterrupt:
        if job is not None:
            cancel(workspace, job.id)
        raise
    return job


def list_jobs(workspace: Workspace) -> list[Job]:
    """Newest first."""
    root = workspace.state_folder() / "jobs"
    found = []
    for folder in root.iterdir() if root.is_dir() else []:
        try:
            content = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
            found.append(_job(workspace, folder, content))
        except (OSError, ValueError, NotFound):
            continue
    return sorted(found, key=lambda job: -job.submitted_ms)


def find_job(workspace: Workspace, asked: str) -> Job:
    """By id, unique prefix, the run's name or `last`. Raises `NotFound`."""
    jobs = list_jobs(workspace)
    if asked in ("", "last") and jobs:
        return jobs[0]
    hits = [job for job in jobs if asked and (job.id.startswith(asked) or job.name == asked)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise AmlflowError(f"{asked!r} fits {len(hits)} jobs.", "Give more of the id.")
    raise NotFound(
        f"There is no job {asked or 'last'!r} in workspace {workspace.name!r}.",
        "`amlflow job list` shows them; `amlflow run-project --detach` makes one.",
        name=asked,
        known=[name for job in jobs for name in (job.id[:8], job.name)],
    )


def logs(workspace: Workspace, asked: str, follow: bool) -> Iterator[bytes]:
    """What the job has printed, stdout and stderr in the order of writing; with `follow` until it ends."""
    job = find_job(workspace, asked)
    file = Path(job.folder) / "output.log"
    position = 0
    while True:
        ended = find_job(workspace, job.id).status in _ENDED
        if file.exists():
            with file.open("rb") as source:
                source.seek(position)
                while chunk := source.read(1 << 16):
                    position += len(chunk)
                    yield chunk
        if ended or not follow:
            break
        time.sleep(_POLL_S)
    runner = Path(job.folder) / OUTPUT_FILE
    if position == 0 and runner.exists():
        yield runner.read_bytes()


def cancel(workspace: Workspace, asked: str, timeout_s: float = 15.0) -> Job:
    """Stop the job and all that it started. Raises `AmlflowError` when it has ended already."""
    job = find_job(workspace, asked)
    if job.status in _ENDED:
        raise AmlflowError(f"Job {job.id} has ended already: it is {job.status}.")
    os.kill(job.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = find_job(workspace, job.id)
        if job.status in _ENDED:
            return job
        time.sleep(_POLL_S)
    raise AmlflowError(f"Job {job.id} (process {job.pid}) has not stopped after {timeout_s:.0f} s.")


def run_submitted(folder: Path) -> int:
    """What the background process does: run the job of that folder to its end."""
    from amlflow import config
    from amlflow.workspaces import resolve

    content = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    workspace = resolve.open_workspace(resolve.resolve(content["workspace"], config.Config()))
    program = execution.Program(
        content["command"],
        cwd=Path(content["cwd"]),
        env=content["env"],
        system_metrics=content["system_metrics"],
        one_log=True,
    )
    options, ended = recording.Options(**content["options"]), (folder / _ENDED_FILE).touch
    watch = execution.Watch(options, content["require_model"], show=False, ended=ended)

    def begin(recorder: recording.Recorder) -> Run:
        return recording.current(workspace, recorder.journal, content["run_id"])

    finished = execution.execute(workspace, program, begin, watch)
    return finished.ended.exit_code or int(finished.no_model)


def _start(
    workspace: Workspace,
    root: Path,
    planned: projects.ProjectPlan,
    program: execution.Program,
    report: Callable[[str], None],
) -> Job:
    with recording.Recorder(workspace, planned.request.options, report) as recorder:
        run = projects.begin(workspace, recorder, planned)
        offline = recorder.offline
    folder = root / run.id
    folder.mkdir(exist_ok=True, mode=0o700)
    content = {
        "run_id": run.id,
        "project": planned.source.uri,
        "workspace": workspace.reference,
        "command": list(program.command),
        "cwd": str(program.cwd),
        "env": dict(program.env),
        "system_metrics": program.system_metrics,
        "submitted_ms": execution.now_ms(),
        "options": {**asdict(planned.request.options), "offline": offline},
        "require_model": planned.request.require_model,
    }
    file = folder / JOB_FILE
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        pid = processes.start_detached(
            [sys.executable, "-m", "amlflow.services.jobs", str(folder)],
            cwd=Path.cwd(),
            env={**os.environ, **workspace.login()},
            log=folder / OUTPUT_FILE,
        )
    except BaseException:
        _end(workspace, run.id)
        raise
    (folder / "pid").write_text(f"{pid} {processes.started(pid)}", encoding="ascii")
    return _job(workspace, folder, content)


def _job(workspace: Workspace, folder: Path, content: Mapping[str, Any]) -> Job:
    run = recording.current(workspace, recording.journal_of(workspace), content["run_id"])
    pid, started = _pid(folder)
    status: str = run.status
    if status in _ENDED:
        if not (folder / _ENDED_FILE).exists() and _is_alive(pid, started):
            status = "RUNNING"
    elif pid and not _is_alive(pid, started):
        _end(workspace, run.id)
        status = "KILLED"
    return Job(run.id, run.name, content["project"], status, pid, content["submitted_ms"], str(folder))


def _end(workspace: Workspace, run_id: str) -> None:
    """Close a run whose process is gone."""
    with recording.Recorder(workspace) as recorder:
        if not recorder.journal.run(run_id).exists():
            workspace.finish_run(run_id, "KILLED")
            return
        recorder.end(run_id, "KILLED", execution.now_ms())
        recorder.flush(timeout_s=_END_S, runs=[run_id])


def _is_alive(pid: int, started: float) -> bool:
    return bool(pid) and processes.started(pid) == started


def _pid(folder: Path) -> tuple[int, float]:
    try:
        pid, started = (folder / "pid").read_text(encoding="ascii").split()
        return int(pid), float(started)
    except (OSError, ValueError):
        return 0, 0.0


if __name__ == "__main__":
    sys.exit(run_submitted(Path(sys.argv[1])))
