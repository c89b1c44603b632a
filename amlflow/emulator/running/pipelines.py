"""Pipeline jobs of one step, which is how the service carries out what is no job of the user's own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from amlflow.emulator.arm.datastores import ARTIFACTS, DEFAULT, Datastores
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.running.data import Data, run_path
from amlflow.emulator.running.scheduler import Scheduler
from amlflow.emulator.running.state import Jobs
from amlflow.emulator.store import Document
from amlflow.emulator.web import iso_now


class Pipelines:
    def __init__(self, arm: Arm, jobs: Jobs, data: Data, datastores: Datastores, scheduler: Scheduler) -> None:
        self.arm, self.data, self.datastores = arm, data, datastores
        self._jobs, self._scheduler = jobs, scheduler

    def submit(
        self,
        workspace: Document,
        name: str,
        whole: Mapping[str, Any],
        step: Mapping[str, Any],
        compute: str,
        by: str,
        schedule: str = "",
    ) -> Document:
        """Make the job and its step, of which both properties are given, and begin with it. `schedule` is the name of the
        one that it comes from."""
        step_name = str(uuid.uuid4())
        content = {
            "properties": {**whole, "isArchived": False, "jobs": {}, "settings": {}},
            "compute": compute,
            "status": "Starting",
            "submitted": time.time(),
            "children": [step_name],
            **({"schedule": schedule} if schedule else {}),
        }
        of_step = {
            "properties": {**step, "isArchived": False},
            "compute": compute,
            "status": "Starting",
            "submitted": time.time(),
            "parent": name,
        }
        # The step is there before the job, so that nobody sees the job without it.
        child, _ = self.arm.store.put(f"{workspace.id}/jobs/{step_name}", of_step, by)
        made, _ = self.arm.store.put(f"{workspace.id}/jobs/{name}", content, by)
        self._begin_run(workspace, made, whole["tags"])
        self._begin_run(workspace, child, {"mlflow.parentRunId": name}, name)
        self._log(workspace, name, f"Submitting 1 runs, first five are: {step['displayName']}:{step_name}")
        self._scheduler.submit(child)
        return made

    def _begin_run(self, workspace: Document, job: Document, tags: Mapping[str, str], root: str = "") -> None:
        properties = job.body["properties"]
        whole = {
            **tags,
            "mlflow.rootRunId": root or job.name,
            "mlflow.runName": properties["displayName"],
            "mlflow.user": "emulator",
            "mlflow.source.type": "JOB",
        }
        places = self._jobs.places
        places.create_run(workspace, job.name, properties["experimentName"], properties["displayName"], whole)
        places.set_status(workspace, job.name, "SCHEDULED")

    def _log(self, workspace: Document, name: str, line: str) -> None:
        """A pipeline's own log tells of its steps alone."""
        container = self.datastores.container(workspace, ARTIFACTS)
        blob = run_path(name, "logs/azureml/executionlogs.txt")
        self.data.blobs.begin_log(container, blob)
        self.data.blobs.append_log(container, blob, f"[{iso_now()}] {line}\n".encode())


def default_output(job: str, output: str) -> dict[str, Any]:
    """Where the output of a job goes that nobody has named a place for."""
    uri = f"azureml://datastores/{DEFAULT}/paths/azureml/{job}/{output}/"
    return {"jobOutputType": "uri_folder", "uri": uri, "mode": "ReadWriteMount"}
