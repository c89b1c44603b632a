"""Monitors that Azure ML runs: run now, and what they have found."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from amlflow.errors import AmlflowError, GateFailed, NotFound
from amlflow.workspaces import abilities
from amlflow.workspaces.abilities import HasOnlineEndpoints, Job
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.http import Unanswered
from amlflow.workspaces.azure.monitor_runs import BREACHED, AzureMonitorRuns, MonitorReading, of_tag
from amlflow.workspaces.azure.monitors import AzureMonitors
from amlflow.workspaces.base import RunQuery, Workspace

# How long the service may take to show the job of a monitor that was triggered.
_SHOWN_S, _POLL_S = 120.0, 1.0
_SHOWN_RUNS = 5
# The service's own component and the emulator both put it so.
_NO_DATA = re.compile(r"contains no data", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Started:
    """The job of a monitor that was triggered. `alerts` are the signals that alert, `fail` says that `monitor run` fails of
    them."""

    monitor: str
    job: Job
    alerts: Sequence[str]
    fail: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a job of a monitor has found. `readings` are all of them, or only those that crossed where the job's output is not
    understood; `alarming` are those that crossed in signals that alert."""

    job: Job
    readings: Sequence[MonitorReading]
    alarming: Sequence[MonitorReading]
    by_output: bool

    def record(self) -> dict[str, Any]:
        return {
            "job_id": self.job.id,
            "status": self.job.status,
            "url": self.job.url,
            "readings": [reading.record() for reading in self.readings],
        }


def start(workspace: Workspace, name: str) -> Started:
    """Have Azure ML run the monitor now. Raises `NotFound` for no such monitor."""
    monitor = AzureMonitors(_service_of(workspace)).get(name)
    return Started(name, _triggered(workspace, name), monitor["alerts"], monitor["fail"])


def found(workspace: Workspace, started: Started) -> Found:
    """What the job has found, which has ended. Raises `NotFound` where its window had no data, `AmlflowError` where it failed."""
    name, ended = started.monitor, abilities.jobs(workspace).outcome(started.job.id)
    shows = f"`amlflow job logs {ended.id}` shows what it did."
    if ended.outcome == "failed" and _NO_DATA.search(ended.problem):
        raise NotFound(f"The monitor {name!r} had nothing to look at: {ended.problem}", shows)
    if ended.outcome != "finished":
        reason = f": {ended.problem.rstrip('.')}" if ended.problem else ""
        raise AmlflowError(f"Job {ended.id} of the monitor {name!r} {ended.outcome}{reason}.", shows)
    readings, by_output = _readings(workspace, ended)
    alarming = [item for item in readings if item.crossed and item.signal in started.alerts]
    return Found(ended, readings, alarming, by_output)


def check(started: Started, found: Found) -> None:
    """Raises `GateFailed` where something crossed, and the monitor was created to fail of it."""
    if found.alarming and started.fail:
        names = list(dict.fromkeys(reading.column or reading.metric for reading in found.alarming))
        raise GateFailed(
            f"{len(names)} columns or metrics crossed a threshold: {', '.join(names[:20])}.",
            "See which by how much above.",
        )


def recent(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """The monitor's last jobs, newest first, with what crossed in each; None for one whose results cannot be told (yet)."""
    jobs = _runs(workspace).jobs(name, _SHOWN_RUNS)
    with ThreadPoolExecutor(_SHOWN_RUNS) as pool:
        return list(pool.map(lambda job: _summary(workspace, job), jobs))


def _triggered(workspace: Workspace, name: str) -> Job:
    runs = _runs(workspace)
    before = {job.id for job in runs.jobs(name, _SHOWN_RUNS)}
    try:
        submitted = runs.trigger(name)
    except Unanswered as error:
        if not error.maybe_applied:
            raise
        submitted = ""
    deadline = time.monotonic() + _SHOWN_S
    while time.monotonic() < deadline:
        listed = [job for job in runs.jobs(name, _SHOWN_RUNS) if job.id not in before]
        if found := next((job for job in listed if job.id == submitted), None) or next(iter(listed), None):
            return found
        time.sleep(_POLL_S)
    raise AmlflowError(
        f"Azure ML has taken the monitor {name!r} to run, and shows no job of it after {_SHOWN_S:.0f} s.",
        f"`amlflow monitor show {name}` shows its jobs.",
    )


def _summary(workspace: Workspace, job: Job) -> dict[str, Any]:
    crossed = None
    if job.outcome == "finished":
        crossed = [reading.record() for reading in _readings(workspace, job)[0] if reading.crossed]
    return {"job_id": job.id, "status": job.status, "submitted_ms": job.submitted_ms, "crossed": crossed}


def _readings(workspace: Workspace, job: Job) -> tuple[list[MonitorReading], bool]:
    """By the job's output, else by the tags of its runs; and whether it is by the output."""
    if (read := _runs(workspace).readings(job.id)) is not None:
        return read, True
    experiment = workspace.find_experiment(job.experiment)
    steps = workspace.search_runs(RunQuery([experiment.id], f"tags.mlflow.rootRunId = '{job.id}'"))
    return [reading for run in steps for reading in of_tag(run.tags.get(BREACHED, ""))], False


def _runs(workspace: Workspace) -> AzureMonitorRuns:
    service = _service_of(workspace)
    return AzureMonitorRuns(service, AzureDatastores(service))


def _service_of(workspace: Workspace) -> Any:
    assert isinstance(workspace, HasOnlineEndpoints)
    return workspace.service
