"""One-time runs of a Python file on a cluster of a Databricks workspace, by Jobs 2.2 and the workspace's files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from amlflow.errors import AmlflowError, NotAllowed, NotFound, Unavailable, UsageError
from amlflow.workspaces.databricks.access import Access

_TASK = "main"
_ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


@dataclass(frozen=True, slots=True)
class ClusterTask:
    """`file` is a path of the workspace; `packages` are PyPI requirements that the cluster installs first. `token` makes a
    submission that is sent twice one run; a `timeout_s` of 0 is none."""

    name: str
    cluster_id: str
    file: str
    packages: Sequence[str]
    token: str
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """`state` is the service's own word, `reason` why it ended as it did."""

    id: int
    task_id: int
    state: str
    outcome: Literal["running", "finished", "failed", "killed"]
    reason: str = ""
    url: str = ""


class ClusterRuns:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._made: Any = None

    def cluster(self, asked: str) -> str:
        """The id of a cluster by its id or name. Raises `NotFound`, naming the nearest."""
        with self._explained("The clusters"):
            known = {str(item.cluster_id): str(item.cluster_name) for item in self._client.clusters.list()}
        if asked in known:
            return asked
        named = [cluster_id for cluster_id, name in known.items() if name == asked]
        if len(named) > 1:
            raise UsageError(f"{len(named)} clusters have the name {asked!r}.", f"Give an id: {', '.join(named)}.")
        if not named:
            raise NotFound(
                f"There is no cluster {asked!r} in Databricks at {self._access.host}.",
                "Make one there; amlflow makes none.",
                name=asked,
                known=[*known, *known.values()],
            )
        return named[0]

    def upload(self, folder: str, name: str, content: bytes) -> str:
        """The path of a new file of the workspace. `folder` is made below the user's own."""
        from databricks.sdk.service.workspace import ImportFormat

        with self._explained(f"The file {name}"):
            place = f"/Users/{self._client.current_user.me().user_name}/{folder}"
            self._client.workspace.mkdirs(place)
            path = f"{place}/{name}"
            self._client.workspace.upload(path, io.BytesIO(content), format=ImportFormat.AUTO, overwrite=True)
        return path

    def remove(self, path: str) -> None:
        with self._explained(f"The file {path}"):
            self._client.workspace.delete(path)

    def submit(self, task: ClusterTask) -> int:
        from databricks.sdk.service.compute import Library, PythonPyPiLibrary
        from databricks.sdk.service.jobs import Source, SparkPythonTask, SubmitTask

        submitted = SubmitTask(
            task_key=_TASK,
            existing_cluster_id=task.cluster_id,
            spark_python_task=SparkPythonTask(python_file=task.file, source=Source.WORKSPACE),
            libraries=[Library(pypi=PythonPyPiLibrary(package)) for package in task.packages] or None,
        )
        with self._explained(f"The run {task.name}"):
            made = self._client.jobs.submit(
                run_name=task.name,
                tasks=[submitted],
                idempotency_token=task.token,
                timeout_seconds=task.timeout_s or None,
            )
        return int(made.run_id)

    def get(self, run_id: int) -> ClusterRun:
        with self._explained(f"Run {run_id}"):
            found = self._client.jobs.get_run(run_id)
        state = str(getattr(found.status.state, "value", "")) if found.status else ""
        task_id = int(found.tasks[0].run_id) if found.tasks else run_id
        details = found.status.termination_details if found.status else None
        code = str(getattr(details.code, "value", "")) if details else ""
        outcome: Literal["running", "finished", "failed", "killed"] = "running"
        if state in _ENDED:
            outcome = (
                "finished" if code == "SUCCESS" else "killed" if code in ("USER_CANCELED", "CANCELED") else "failed"
            )
        reason = " ".join(part for part in (code, str(details.message or "") if details else "") if part)
        return ClusterRun(run_id, task_id, state, outcome, reason, str(found.run_page_url or ""))

    def printed(self, task_id: int) -> tuple[str, str]:
        """What the task has printed, as far as it is kept (the last 5 MB), and its error."""
        with self._explained(f"The output of run {task_id}"):
            found = self._client.jobs.get_run_output(task_id)
        return str(found.logs or ""), str(found.error or "")

    def cancel(self, run_id: int) -> None:
        with self._explained(f"Run {run_id}"):
            self._client.jobs.cancel_run(run_id)

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = self._access.client()
        return self._made

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        import requests
        from databricks.sdk import errors
        from databricks.sdk.errors.base import DatabricksError

        try:
            yield
        except (errors.PermissionDenied, errors.Unauthenticated) as error:
            raise NotAllowed(f"{what} is not for this account of Databricks: {_line(error)}.") from error
        except errors.NotFound as error:
            raise NotFound(f"{what} is not there: {_line(error)}.") from error
        except (errors.TemporarilyUnavailable, errors.InternalError, TimeoutError, requests.RequestException) as error:
            raise Unavailable(f"Databricks at {self._access.host} did not answer: {_line(error)}.") from error
        except DatabricksError as error:
            raise AmlflowError(f"{what} was refused by Databricks: {_line(error)}.") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:500] or type(error).__name__
