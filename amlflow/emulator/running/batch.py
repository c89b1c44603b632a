"""What a batch endpoint is asked for, as the service carries it out: a pipeline job with one step, `batchscoring`, which runs a
scoring script in the model's environment on the nodes of a cluster."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from amlflow.emulator.arm.datastores import ARTIFACTS
from amlflow.emulator.running.pipelines import Pipelines
from amlflow.emulator.running.serving import Servers
from amlflow.emulator.store import Document
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
    def __init__(self, pipelines: Pipelines, servers: Servers) -> None:
        self._pipelines, self._servers = pipelines, servers
        self._arm, self._data, self._datastores = pipelines.arm, pipelines.data, pipelines.datastores

    def submit(self, workspace: Document, asked: Asked, by: str) -> Document:
        """Make the job and its step, and begin with it. Raises the service's refusals, `BadAddress` and `AmlflowError` for a
        model that cannot be had."""
        model = str(asked.settings["model"]["assetId"])
        folder = self._servers.model_folder(workspace, model)
        tags = {
            "azureml.batchrun": "true",
            "azureml.jobtype": "azureml.pipelinejob",
            "azureml.deploymentname": asked.deployment.name,
        }
        given = {"jobInputType": asked.input_kind, "uri": asked.input_uri, "mode": "ReadOnlyMount"}
        whole = {
            "jobType": "Pipeline",
            "displayName": asked.name,
            "experimentName": asked.experiment,
            "description": "",
            "tags": tags,
            "properties": {"azureml.batchendpoint": asked.endpoint.name},
            "inputs": {"data": given},
            "outputs": {OUTPUT: dict(asked.output)},
        }
        step = self._step(workspace, asked, folder, model, by)
        return self._pipelines.submit(workspace, asked.name, whole, step, asked.settings["compute"], by)

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


def _conda(folder: Path) -> str:
    """What the model asks for, and MLflow, as a conda file. Raises `AmlflowError` for a model that does not say."""
    version = (yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")) or {}).get("mlflow_version")
    wanted = spec.of_model(folder).with_mlflow(str(version or ""))
    if wanted.conda_file is not None:
        return wanted.conda_file.read_text(encoding="utf-8")
    python = [f"python={wanted.python}"] if wanted.python else []
    content = {"dependencies": [*python, "pip", {"pip": list(wanted.requirements)}]}
    return yaml.safe_dump(content, sort_keys=False)
