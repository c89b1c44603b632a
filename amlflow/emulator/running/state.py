"""A job's record: what it was asked to do, and how far it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.places import Places
from amlflow.emulator.store import Document

TERMINAL = ("Completed", "Failed", "Canceled")
# What MLflow calls each status of a job.
MLFLOW_STATUS = {
    "NotStarted": "SCHEDULED",
    "Starting": "SCHEDULED",
    "Preparing": "SCHEDULED",
    "Provisioning": "SCHEDULED",
    "Queued": "SCHEDULED",
    "Running": "RUNNING",
    "Finalizing": "RUNNING",
    "CancelRequested": "RUNNING",
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
}


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, as the service says it. `code` is «UserError» or «SystemError»."""

    message: str
    code: str = "UserError"

    def record(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message}


class Jobs:
    """The jobs' documents, and whoever waits for them to change."""

    def __init__(self, arm: Arm, places: Places) -> None:
        self._arm, self.places = arm, places
        self.changed = threading.Condition()

    def get(self, id: str) -> Document | None:
        return self._arm.store.get(id)

    def workspace_of(self, job: Document) -> Document:
        found = self._arm.store.get(job.id.rsplit("/", 2)[0])
        assert found is not None
        return found

    def set_status(self, job: Document, status: str, error: JobError | None = None) -> bool:
        """Move the job on, and its run. False where it had ended, or is being cancelled and would merely go on."""
        moved = False

        def edit(body: dict[str, Any]) -> None:
            nonlocal moved
            now = body["status"]
            if now in TERMINAL or (now == "CancelRequested" and status not in TERMINAL):
                return
            moved = True
            body["status"] = status
            if status == "Running":
                body["started"] = time.time()
            if status in TERMINAL:
                body["ended"] = time.time()
            if error is not None:
                body["error"] = error.record()

        self._arm.store.change(job.id, edit)
        if moved:
            ended = int(time.time() * 1000) if status in TERMINAL else None
            self.places.set_status(self.workspace_of(job), job.name, MLFLOW_STATUS[status], ended)
            if whole := self.whole_of(job):
                self.set_status(whole, status, error)
        self.notify()
        return moved

    def whole_of(self, job: Document) -> Document | None:
        """The pipeline that the job is the step of, which goes as its one step goes; None where it is none."""
        name = job.body.get("parent")
        return self._arm.store.get(f"{job.id.rpartition('/')[0]}/{name}") if name else None

    def steps_of(self, job: Document) -> list[Document]:
        """The steps of a pipeline; none of any other job."""
        found = [self._arm.store.get(f"{job.id.rpartition('/')[0]}/{name}") for name in job.body.get("children", [])]
        return [step for step in found if step is not None]

    def edit(self, job: Document, change: Mapping[str, Any]) -> None:
        self._arm.store.change(job.id, lambda body: body.update(change))

    def status(self, job: Document) -> str:
        found = self._arm.store.get(job.id)
        return "Canceled" if found is None else str(found.body["status"])

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds that a change may bring about."""
        with self.changed:
            return self.changed.wait_for(ready, timeout_s)
