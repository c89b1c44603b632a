"""Moves every job along: environment, queue, nodes, execution, end."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from amlflow.emulator.arm.assets import ENVIRONMENT, Assets
from amlflow.emulator.arm.datastores import ARTIFACTS
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.identity import Identity
from amlflow.emulator.pools import Pools, PoolSize
from amlflow.emulator.running.data import run_path
from amlflow.emulator.running.environment import BuildFailed, prepare
from amlflow.emulator.running.execution import Execution, Scene
from amlflow.emulator.running.logs import LogShipper
from amlflow.emulator.running.state import TERMINAL, JobError
from amlflow.emulator.running.variables import TOKEN_LIFETIME_S
from amlflow.emulator.store import Document
from amlflow.emulator.web import ServiceError

SERVERLESS_NODES = 8
_POLL_S = 0.1
_CLOSE_S = 20.0
_BUILD_LOG = "azureml-logs/20_image_build_log.txt"


class Scheduler:
    """One thread a job. `close` ends what runs; jobs that have not begun go on after the next start."""

    def __init__(self, arm: Arm, pools: Pools, scene: Scene, identity: Identity) -> None:
        self._arm, self._pools, self._scene, self._identity = arm, pools, scene, identity
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._executions: dict[str, Execution] = {}
        self._closing = False

    def submit(self, job: Document) -> None:
        """Begin with a job whose record is there."""
        thread = threading.Thread(target=self._drive, args=(job,), name=f"job {job.name}", daemon=True)
        with self._lock:
            if job.id in self._threads or self._closing:
                return
            self._threads[job.id] = thread
        thread.start()

    def cancel(self, job: Document) -> None:
        """Ask for the end of a job that has not ended."""
        self._scene.jobs.set_status(job, "CancelRequested")
        with self._lock:
            execution = self._executions.get(job.id)
        if execution is not None:
            execution.stop("cancelled")

    def preempt(self, job: Document) -> bool:
        """Take the job's nodes away, as happens to Spot nodes: it is queued again. False where it does not run."""
        with self._lock:
            execution = self._executions.get(job.id)
        if execution is None:
            return False
        execution.stop("preempted")
        return True

    def resume(self, jobs: list[Document]) -> None:
        """After a start: jobs that ran when the emulator ended have lost their nodes; the others go on."""
        for job in jobs:
            if job.body["status"] in TERMINAL or job.body.get("children"):
                continue
            if job.body["status"] == "CancelRequested":
                self._scene.jobs.set_status(job, "Canceled")
            elif job.body["status"] in ("Running", "Finalizing"):
                error = JobError("The emulator was stopped while the job ran.", "SystemError")
                self._scene.jobs.set_status(job, "Failed", error)
            else:
                self.submit(job)

    def close(self) -> None:
        with self._lock:
            self._closing = True
            executions, threads = list(self._executions.values()), list(self._threads.values())
        for execution in executions:
            execution.stop("closing")
        self._scene.jobs.notify()
        deadline = time.monotonic() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _drive(self, job: Document) -> None:
        try:
            self._go(job)
        except Exception as error:
            traceback.print_exc()
            self._scene.jobs.set_status(job, "Failed", JobError(f"The emulator failed: {error!r}.", "SystemError"))
        finally:
            with self._lock:
                self._threads.pop(job.id, None)
                self._executions.pop(job.id, None)
            self._scene.jobs.notify()

    def _go(self, job: Document) -> None:
        workspace = self._scene.jobs.workspace_of(job)
        folder = self._scene.jobs.places.job_folder(workspace, job.name)
        self._scene.jobs.set_status(job, "Preparing")
        try:
            activation = self._environment(workspace, job, folder)
        except BuildFailed as error:
            text = f"Image build failed. For more details, check log file {_BUILD_LOG}. {error}"
            self._scene.jobs.set_status(job, "Failed", JobError(text))
            return
        while True:
            nodes = self._nodes(job)
            if nodes is None:
                return
            if not self._attempt(workspace, job, activation, nodes):
                return

    def _environment(self, workspace: Document, job: Document, folder: Path) -> dict[str, str]:
        environment = self._environment_of(workspace, job.body["properties"]["environmentId"])
        logs = folder / "build"
        shutil.rmtree(logs, ignore_errors=True)
        container = self._scene.datastores.container(workspace, ARTIFACTS)
        with LogShipper(self._scene.data.blobs, container, run_path(job.name), logs):
            return prepare(environment, logs / _BUILD_LOG, folder / "environment")

    def _environment_of(self, workspace: Document, environment_id: str) -> Document:
        parts = environment_id.split("/")
        if environment_id.startswith("azureml://registries/"):
            # A registry's environment is an image, and images are not pulled.
            now = time.time()
            return Document(environment_id, parts[-1], {"image": environment_id}, "", now, now)
        try:
            return Assets(self._arm, ENVIRONMENT).find_version(workspace, parts[-3], parts[-1])
        except (ServiceError, IndexError) as error:
            raise BuildFailed(f"There is no environment {environment_id}.") from error

    def _nodes(self, job: Document) -> list[str] | None:
        """The nodes for the job, waited for; None where it is cancelled, or the emulator ends."""
        jobs, compute = self._scene.jobs, job.body["compute"]
        count = int((job.body["properties"].get("resources") or {}).get("instanceCount") or 1)
        if compute.endswith("/serverless"):
            self._pools.define(compute, PoolSize(0, SERVERLESS_NODES, 0.0))
        jobs.set_status(job, "Queued")
        while True:
            if self._closing:
                self._pools.release(compute, job.name)
                return None
            if jobs.status(job) in ("CancelRequested", *TERMINAL):
                self._pools.release(compute, job.name)
                jobs.set_status(job, "Canceled")
                return None
            if nodes := self._pools.take(compute, job.name, count):
                return nodes
            jobs.wait(lambda: self._closing or jobs.status(job) != "Queued", _POLL_S)

    def _attempt(self, workspace: Document, job: Document, activation: dict[str, str], nodes: list[str]) -> bool:
        """Run the job once. True where it must run again, because its nodes were taken away."""
        jobs, principal = self._scene.jobs, self._identity.settings.principals[0]
        local = jobs.places.of(workspace)
        experiment = local.ensure_experiment(job.body["properties"]["experimentName"])
        token = self._identity.issue(principal, TOKEN_LIFETIME_S)
        job = jobs.get(job.id) or job
        execution = Execution(self._scene, workspace, job, experiment.id, token)
        with self._lock:
            self._executions[job.id] = execution
        try:
            jobs.edit(job, {"nodes": nodes})
            if not jobs.set_status(job, "Running"):
                execution.stop("cancelled")
            status, error = execution.run(activation, nodes)
        finally:
            with self._lock:
                self._executions.pop(job.id, None)
            self._pools.release(job.body["compute"], job.name)
        if execution.reason == "closing":
            status, error = "Failed", JobError("The emulator was stopped while the job ran.", "SystemError")
        if execution.reason == "preempted" and jobs.status(job) not in ("CancelRequested", *TERMINAL):
            attempt: dict[str, Any] = {"attempt": job.body.get("attempt", 1) + 1}
            jobs.edit(job, attempt)
            return True
        jobs.set_status(job, status, error)
        return False
