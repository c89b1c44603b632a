"""One-time runs of a Python file on a cluster of a Databricks workspace, by Jobs 2.2."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from amlflow.errors import NotFound, UsageError
from amlflow.workspaces.databricks.access import Access
from amlflow.workspaces.databricks.sdk import Sdk

Outcome = Literal["running", "finished", "failed", "killed"]
_TASK = "main"
_ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
_KILLED = ("USER_CANCELED", "CANCELED")
# Jobs 2.2: greater than 0 and less than 25.
PAGE = 24
_LIST = "/api/2.2/jobs/runs/list"
_CLUSTER_ID = re.compile(r"\d{4}-\d{6}-\w+")
# What a cluster of this state does not come back from without somebody's help.
_BROKEN = ("ERROR", "UNKNOWN")
_STOPPED = ("TERMINATED", "TERMINATING")


@dataclass(frozen=True, slots=True)
class Cluster:
    id: str
    name: str
    state: str

    @property
    def is_stopped(self) -> bool:
        """Jobs starts it, which takes minutes."""
        return self.state in _STOPPED


@dataclass(frozen=True, slots=True)
class ClusterTask:
    """`file` is a path of the workspace, `arguments` what its `sys.argv` holds besides; `packages` are PyPI requirements that the
    cluster installs first. `token` makes a submission that is sent twice one run; a `timeout_s` of 0 is none."""

    name: str
    cluster_id: str
    file: str
    packages: Sequence[str]
    token: str
    timeout_s: int = 0
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """`state` is the service's own word, `code` and `reason` why it ended as it did; `file` and `arguments` are of its task."""

    id: int
    task_id: int
    name: str
    state: str
    code: str
    outcome: Outcome
    reason: str
    url: str
    cluster_id: str
    file: str
    arguments: Sequence[str]
    submitted_ms: int
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Printed:
    """What a task has printed, the last 5 MB of it at most; `is_cut` where there was more. `error` is the task's, with its
    trace."""

    text: str
    is_cut: bool
    error: str


class ClusterRuns:
    def __init__(self, access: Access) -> None:
        self._sdk = Sdk(access)
        self._access = access

    def cluster(self, asked: str) -> Cluster:
        """A cluster by its id or name. Raises `NotFound`, naming the nearest, and `UsageError` for one that runs nothing."""
        known = self._clusters()
        named = [item for item in known if item.id == asked] or [item for item in known if item.name == asked]
        if len(named) > 1:
            ids = ", ".join(item.id for item in named)
            raise UsageError(f"{len(named)} clusters have the name {asked!r}.", f"Give an id: {ids}.")
        if not named and _CLUSTER_ID.fullmatch(asked):
            named = self._of_a_job(asked)
        if not named:
            raise NotFound(
                f"There is no cluster {asked!r} in Databricks at {self._access.host}.",
                "Make one there; amlflow makes none.",
                name=asked,
                known=[name for item in known for name in (item.id, item.name)],
            )
        if named[0].state in _BROKEN:
            raise UsageError(
                f"The cluster {asked!r} is in the state {named[0].state}.", "Start it in Databricks, or name another."
            )
        return named[0]

    def submit(self, task: ClusterTask) -> int:
        """The run's id: that of the first submission with this token."""
        from databricks.sdk.service.compute import Library, PythonPyPiLibrary
        from databricks.sdk.service.jobs import Source, SparkPythonTask, SubmitTask

        submitted = SubmitTask(
            task_key=_TASK,
            existing_cluster_id=task.cluster_id,
            spark_python_task=SparkPythonTask(
                python_file=task.file, source=Source.WORKSPACE, parameters=list(task.arguments) or None
            ),
            libraries=[Library(pypi=PythonPyPiLibrary(package)) for package in task.packages] or None,
        )
        with self._sdk.explained(f"the run {task.name}"):
            made = self._sdk.ask(
                lambda: self._sdk.client.jobs.submit(
                    run_name=task.name,
                    tasks=[submitted],
                    idempotency_token=task.token,
                    timeout_seconds=task.timeout_s or None,
                )
            )
        return int(made.run_id)

    def newest(self) -> Iterator[ClusterRun]:
        """One-time runs, newest first, as far back as Databricks keeps them: 60 days."""
        from databricks.sdk.service.jobs import BaseRun

        query: dict[str, Any] = {"run_type": "SUBMIT_RUN", "expand_tasks": "true", "limit": PAGE}
        while True:
            # The SDK's own iterator ends at the first page that a busy service refuses.
            with self._sdk.explained("the runs"):
                page = self._sdk.ask(functools.partial(self._sdk.client.api_client.do, "GET", _LIST, query=query))
            for item in page.get("runs") or []:
                yield _run(BaseRun.from_dict(item))
            if not page.get("next_page_token"):
                return
            query["page_token"] = page["next_page_token"]

    def get(self, run_id: int, *, patient: bool = False) -> ClusterRun:
        """Raises `NotFound`. Who is `patient` has minutes for a service that is away, or has too much to do."""
        with self._sdk.explained(f"run {run_id}", missing=True):
            return _run(self._sdk.ask(lambda: self._sdk.client.jobs.get_run(run_id), patient=patient))

    def printed(self, task_id: int, *, patient: bool = False) -> Printed:
        with self._sdk.explained(f"the output of run {task_id}", missing=True):
            found = self._sdk.ask(lambda: self._sdk.client.jobs.get_run_output(task_id), patient=patient)
        error = "\n".join(part for part in (found.error or "", found.error_trace or "") if part)
        return Printed(str(found.logs or ""), bool(found.logs_truncated), error)

    def cancel(self, run_id: int) -> None:
        with self._sdk.explained(f"run {run_id}", missing=True):
            self._sdk.ask(lambda: self._sdk.client.jobs.cancel_run(run_id))

    def _clusters(self) -> list[Cluster]:
        """Those that people made: each job that has a cluster of its own leaves one in the list, too."""
        from databricks.sdk.service.compute import ClusterSource, ListClustersFilterBy

        people = ListClustersFilterBy(cluster_sources=[ClusterSource.API, ClusterSource.UI])
        with self._sdk.explained("the clusters"):
            found = self._sdk.ask(lambda: list(self._sdk.client.clusters.list(filter_by=people)))
        return [_cluster(item) for item in found]

    def _of_a_job(self, cluster_id: str) -> list[Cluster]:
        try:
            with self._sdk.explained(f"the cluster {cluster_id}", missing=True):
                return [_cluster(self._sdk.client.clusters.get(cluster_id))]
        except NotFound:
            return []


def _cluster(item: Any) -> Cluster:
    return Cluster(str(item.cluster_id), str(item.cluster_name), _word(item.state))


def _run(found: Any) -> ClusterRun:
    """Of the SDK's `Run` or `BaseRun`."""
    status = found.status
    state = _word(status.state) if status else _word(getattr(found.state, "life_cycle_state", None))
    details = status.termination_details if status else None
    code = _word(details.code) if details else ""
    outcome: Outcome = "running"
    if state in _ENDED:
        outcome = "finished" if code == "SUCCESS" else "killed" if code in _KILLED else "failed"
    task = found.tasks[0] if found.tasks else None
    python = task.spark_python_task if task else None
    return ClusterRun(
        int(found.run_id),
        int(task.run_id) if task and task.run_id else int(found.run_id),
        str(found.run_name or ""),
        state,
        code,
        outcome,
        str(details.message or "") if details else "",
        str(found.run_page_url or ""),
        str((task.existing_cluster_id or "") if task else ""),
        str(python.python_file) if python else "",
        tuple(python.parameters or ()) if python else (),
        int(found.start_time or 0),
        int(found.end_time) if found.end_time else None,
    )


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
