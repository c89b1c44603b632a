"""`mlflow run -b amlflow`: an MLflow Project as a job of amlflow, on this machine or on a compute of an Azure ML workspace.

`MLFLOW_TRACKING_URI=amlflow:` (or `amlflow://WORKSPACE`) says where; `-c '{"compute": "cpu-cluster"}'` what it runs on.
MLflow's command returns once the job is begun; `mlflow.run(…, backend="amlflow")` waits for its end and prints what it prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from mlflow.entities import RunStatus
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun

from amlflow.errors import NotFound, UsageError, nearest
from amlflow.services import job_control, jobs, submission
from amlflow.services.plugins.opening import say, told, workspace_of
from amlflow.services.projects import ProjectRequest
from amlflow.services.submission import RemoteOptions
from amlflow.workspaces import abilities
from amlflow.workspaces.base import Workspace

KEYS = tuple(field.name for field in fields(RemoteOptions))
_MLFLOW_DEFAULT = "0"
# What MLflow itself puts into every backend's configuration, and what amlflow calls its environment managers.
_OWN = ("ENV_MANAGER", "SYNCHRONOUS", "STORAGE_DIR")
_CONTAINERS = ("DOCKER_ARGS", "build_image", "docker_auth")
_MANAGERS = {None: "", "": "", "uv": "uv", "virtualenv": "uv", "local": "local", "conda": "conda"}
_ENDED = ("FINISHED", "FAILED", "KILLED")


def backend() -> AmlflowBackend:
    return AmlflowBackend()


class AmlflowBackend(AbstractBackend):  # type: ignore[misc]
    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, Any],
        version: str | None,
        backend_config: Mapping[str, Any],
        tracking_uri: str,
        experiment_id: str | None,
    ) -> AmlflowRun:
        """Begin with it and return. `backend_config` has what `amlflow run-project` has as options of a compute."""
        with told():
            if tracking_uri.partition(":")[0] != "amlflow":
                raise UsageError(
                    "The backend amlflow runs projects in amlflow's workspaces, and MLflow's tracking URI is another.",
                    "Set MLFLOW_TRACKING_URI=amlflow: or amlflow://WORKSPACE.",
                )
            options = _options(backend_config)
            workspace = workspace_of(tracking_uri)
            request = ProjectRequest(
                project_uri,
                entry_point,
                version or "",
                {name: str(value) for name, value in (params or {}).items()},
                _manager(backend_config.get("ENV_MANAGER")),
                _experiment(workspace, experiment_id),
            )
            if options is None:
                begun = AmlflowRun(workspace, jobs.submit(workspace, request, say).id, remote=None)
                return _noted(begun, backend_config)
            abilities.takes_jobs(workspace)
            planned = submission.plan(request, options)
            job = submission.submit(workspace, planned, say, lambda done, total: None)
            return _noted(AmlflowRun(workspace, job.id, remote=job), backend_config)


class AmlflowRun(SubmittedRun):  # type: ignore[misc]
    """A job that was begun. Its run has the same id."""

    def __init__(self, workspace: Workspace, run_id: str, remote: abilities.Job | None) -> None:
        super().__init__()
        self._workspace, self._id, self._remote = workspace, run_id, remote

    @property
    def run_id(self) -> str:
        return self._id

    def wait(self) -> bool:
        """Print what the job prints until it has ended; True where it did its work."""
        with told():
            for chunk in self._printed():
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            if self._remote is not None:
                return submission.ended(self._workspace, self._remote)[1] == 0
            return jobs.find_job(self._workspace, self._id).status == "FINISHED"

    def get_status(self) -> int:
        with told():
            status = self._workspace.get_run(self._id).status
            if self._remote is None:
                status = jobs.find_job(self._workspace, self._id).status  # type: ignore[assignment]
            return int(RunStatus.from_string(status))

    def cancel(self) -> None:
        with told():
            if self._remote is None and jobs.find_job(self._workspace, self._id).status in _ENDED:
                return
            job_control.cancel(self._workspace, self._id)

    def _printed(self) -> Iterator[bytes]:
        if self._remote is not None:
            return submission.follow(self._workspace, self._remote, say)
        return jobs.logs(self._workspace, self._id, follow=True)


def _noted(begun: AmlflowRun, given: Mapping[str, Any]) -> AmlflowRun:
    """MLflow's command waits for no backend but its own: what goes on is named."""
    if not given.get("SYNCHRONOUS"):
        say(f"Job {begun.run_id} goes on. Follow it with `amlflow job logs -f {begun.run_id}`.")
    return begun


def _options(given: Mapping[str, Any]) -> RemoteOptions | None:
    """None for a project that runs on this machine."""
    for key in _CONTAINERS:
        if given.get(key):
            raise UsageError(
                "MLflow's options of containers mean nothing to the backend amlflow.",
                'Leave them out; -c \'{"docker_args": "…"}\' is for the container of a job on a compute.',
            )
    own = {key: value for key, value in given.items() if key not in (*_OWN, *_CONTAINERS)}
    for key in own:
        if key not in KEYS:
            near = nearest(key, KEYS)
            raise UsageError(
                f"The backend amlflow has no option {key!r}.{f' Did you mean {near}?' if near else ''}",
                f"It takes {', '.join(KEYS)}.",
            )
    if own and not own.get("compute"):
        raise UsageError(f"{next(iter(own))!r} means nothing without a compute.", 'Add "compute": "NAME".')
    return RemoteOptions(**own) if own else None


def _manager(asked: str | None) -> str:
    if asked not in _MANAGERS:
        raise UsageError(f"There is no environment manager {asked!r}.", "It is uv, virtualenv, local or conda.")
    return _MANAGERS[asked]


def _experiment(workspace: Workspace, id: str | None) -> str:
    try:
        return workspace.find_experiment(id).name if id else ""
    except NotFound:
        # MLflow's id of the default experiment, which not every workspace has.
        if id == _MLFLOW_DEFAULT:
            return ""
        raise
