"""What a batch endpoint is asked for, as the service carries it out: a pipeline job with one step, `batchscoring`, which runs a
scoring script in the model's environment on the nodes of a cluster."""

from __future__ import annotations

import hashlib
import shlex
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from amlflow.emulator.arm.datastores import ARTIFACTS, DEFAULT, Datastores
from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.running.data import Data, run_path
from amlflow.emulator.running.scheduler import Scheduler
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.running.state import Jobs
from amlflow.emulator.store import Document
from amlflow.emulator.web import iso_now
from amlflow.environments import spec

STEP = "batchscoring"
OUTPUT = "score"
_SCRIPT = Path(__file__).with_name("batch_script.py")


@dataclass(frozen=True, slots=True)
class Asked:
    """One invocation, checked. `settings` are the deployment's properties with what the invocation says otherwise; `input_kind`
    is uri_file or uri_folder; `output` a job's output."""

    name: str
    endpoint: Document
    deployment: Document
    settings: Mapping[str, Any]
    input_kind: str
    input_uri: str
    output: Mapping[str, Any]
    experiment: str


class BatchRuns:
    def __init__(
        self, arm: Arm, jobs: Jobs, data: Data, datastores: Datastores, servers: Servers, scheduler: Scheduler
    ) -> None:
        self._arm, self._jobs, self._data = arm, jobs, data
        self._datastores, self._servers, self._scheduler = datastores, servers, scheduler

    def submit(self, workspace: Document, asked: Asked, by: str) -> Document:
        """Make the job and its step, and begin with it. Raises the service's refusals, `BadAddress` and `AmlflowError` for a
        model that cannot be had."""
        model = str(asked.settings["model"]["assetId"])
        folder = self._servers.model_folder(workspace, model)
        step_name = str(uuid.uuid4())
        step = {
            "properties": self._step(workspace, asked, folder, model, by),
            "compute": asked.settings["compute"],
            "status": "Starting",
            "submitted": time.time(),
            "parent": asked.name,
        }
        tags = {
            "azureml.batchrun": "true",
            "azureml.jobtype": "azureml.pipelinejob",
            "azureml.deploymentname": asked.deployment.name,
        }
        given = {"jobInputType": asked.input_kind, "uri": asked.input_uri, "mode": "ReadOnlyMount"}
        whole = {
            "properties": {
                "jobType": "Pipeline",
                "displayName": asked.name,
                "experimentName": asked.experiment,
                "description": "",
                "tags": tags,
                "properties": {"azureml.batchendpoint": asked.endpoint.name},
                "isArchived": False,
                "inputs": {"data": given},
                "outputs": {OUTPUT: dict(asked.output)},
                "jobs": {},
                "settings": {},
            },
            "compute": asked.settings["compute"],
            "status": "Starting",
            "submitted": time.time(),
            "children": [step_name],
        }
        # The step is there before the job, so that nobody sees the job without it.
        child, _ = self._arm.store.put(f"{workspace.id}/jobs/{step_name}", step, by)
        made, _ = self._arm.store.put(f"{workspace.id}/jobs/{asked.name}", whole, by)
        self._begin_run(workspace, made, tags)
        self._begin_run(workspace, child, {"mlflow.parentRunId": asked.name}, asked.name)
        self._log(workspace, asked.name, f"Submitting 1 runs, first five are: {STEP}:{step_name}")
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
        container = self._datastores.container(workspace, ARTIFACTS)
        blob = run_path(name, "logs/azureml/executionlogs.txt")
        self._data.blobs.begin_log(container, blob)
        self._data.blobs.append_log(container, blob, f"[{iso_now()}] {line}\n".encode())

    def _step(self, workspace: Document, asked: Asked, folder: Path, model: str, by: str) -> dict[str, Any]:
        settings = asked.settings
        retries = settings["retrySettings"]
        options = {
            "--mini-batch-size": settings["miniBatchSize"],
            "--error-threshold": settings["errorThreshold"],
            "--max-retries": retries["maxRetries"],
            "--timeout": retries["timeout"],
            "--output-action": settings["outputAction"],
            "--output-file": settings["outputFileName"],
        }
        written = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in options.items())
        paths = '--model "${{inputs.model}}" --data "${{inputs.data}}" --score "${{outputs.score}}"'
        output = dict(asked.output)
        return {
            "jobType": "Command",
            "displayName": STEP,
            "experimentName": asked.experiment,
            "description": "",
            "tags": {},
            "properties": {"azureml.batchendpoint": asked.endpoint.name},
            "isArchived": False,
            "command": f"python {_SCRIPT.name} {paths} {written}",
            "codeId": self._code(workspace, by),
            "environmentId": self._environment(workspace, folder, by),
            "environmentVariables": settings["environmentVariables"],
            "resources": {"instanceCount": settings["resources"]["instanceCount"], "properties": {}},
            "distribution": {
                "distributionType": "Mpi",
                "processCountPerInstance": settings["maxConcurrencyPerInstance"],
            },
            "inputs": {
                "model": {"jobInputType": "uri_folder", "uri": self._servers.model_source(workspace, model)},
                "data": {"jobInputType": asked.input_kind, "uri": asked.input_uri, "mode": "ReadOnlyMount"},
            },
            "outputs": {OUTPUT: output},
        }

    def _code(self, workspace: Document, by: str) -> str:
        """The code version with the scoring script, the same for the same script."""
        content = _SCRIPT.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:32]
        id = f"{workspace.id}/codes/{STEP}/versions/{digest}"
        if self._arm.store.get(id) is None:
            container = self._datastores.container(workspace, ARTIFACTS)
            self._data.blobs.put(container, f"{STEP}/{digest}/{_SCRIPT.name}", content)
            uri = f"{self._data.blobs.container_url(container)}/{STEP}/{digest}"
            self._kept(f"{workspace.id}/codes/{STEP}", digest, {"codeUri": uri, "isAnonymous": True}, by)
        return id

    def _environment(self, workspace: Document, folder: Path, by: str) -> str:
        """The environment version with what the model asks for, and MLflow."""
        conda = _conda(folder)
        digest = hashlib.sha256(conda.encode()).hexdigest()[:32]
        if self._arm.store.get(f"{workspace.id}/environments/{STEP}/versions/{digest}") is None:
            content = {"condaFile": conda, "isAnonymous": True}
            self._kept(f"{workspace.id}/environments/{STEP}", digest, content, by)
        return f"{workspace.id}/environments/{STEP}/versions/{digest}"

    def _kept(self, container: str, version: str, content: dict[str, Any], by: str) -> None:
        with self._arm.store.undisturbed():
            if self._arm.store.get(container) is None:
                shown = {"description": "", "tags": {}, "properties": {}, "isArchived": False}
                self._arm.store.put(container, shown, by)
            self._arm.store.put(f"{container}/versions/{version}", content, by)


def default_output(name: str) -> dict[str, Any]:
    """Where results go that the invocation names no place for."""
    uri = f"azureml://datastores/{DEFAULT}/paths/azureml/{name}/{OUTPUT}/"
    return {"jobOutputType": "uri_folder", "uri": uri, "mode": "ReadWriteMount"}


def _conda(folder: Path) -> str:
    """What the model asks for, and MLflow, as a conda file. Raises `AmlflowError` for a model that does not say."""
    version = (yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")) or {}).get("mlflow_version")
    wanted = spec.of_model(folder).with_mlflow(str(version or ""))
    if wanted.conda_file is not None:
        return wanted.conda_file.read_text(encoding="utf-8")
    python = [f"python={wanted.python}"] if wanted.python else []
    content = {"dependencies": [*python, "pip", {"pip": list(wanted.requirements)}]}
    return yaml.safe_dump(content, sort_keys=False)
