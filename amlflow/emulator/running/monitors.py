"""A monitor's run: a pipeline job whose one step, `model_monitor`, reads the data and computes the signals.

Documented: a job that a schedule makes is shown as `NAME-YYYYMMDDThhmmssZ` («Schedule machine learning pipeline jobs»), and
monitors run as pipelines on serverless compute. The output `model_monitor_metrics_output` is the one of the open-source
component `model_monitor_create_manifest` (azureml-assets, `model_monitoring`). The emulator's own choice: the experiment
has the monitor's name; there is one step, a process of the emulator's Python, where Azure has several of Spark; and data
are fetched whole before the step takes its window of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from amlflow.emulator.monitoring.recording import OUTPUT
from amlflow.emulator.running.data import BadAddress
from amlflow.emulator.running.pipelines import Pipelines, default_output
from amlflow.emulator.store import Document

STEP = "model_monitor"
_ENVIRONMENT = "azureml://registries/azureml/environments/model-monitoring/versions/1"


class MonitorRuns:
    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    def submit(self, workspace: Document, schedule: Document, job: str, due: float, by: str) -> Document:
        """Begin with the run that was due at that time, in epoch seconds."""
        definition = schedule.body["action"]["monitorDefinition"]
        inputs: dict[str, dict[str, Any]] = {}
        signals = {name: self._signal(workspace, signal, inputs) for name, signal in definition["signals"].items()}
        mail = (definition.get("alertNotificationSetting") or {}).get("emailNotificationSetting") or {}
        content = {
            "monitor": schedule.name,
            "time": due,
            "signals": signals,
            "emails": [str(address) for address in mail.get("emails") or []],
        }
        output = default_output(job, OUTPUT)
        common = {"experimentName": schedule.name, "description": "", "tags": {}, "properties": {}}
        whole = {
            **common,
            "jobType": "Pipeline",
            "displayName": shown_name(schedule.name, due),
            "inputs": {},
            "outputs": {OUTPUT: output},
        }
        definition_input = {"jobInputType": "literal", "value": json.dumps(content, separators=(",", ":"))}
        step = {
            **common,
            "jobType": "Command",
            "displayName": STEP,
            "command": "python -m amlflow.emulator.monitoring.step",
            "environmentId": _ENVIRONMENT,
            "inputs": {"definition": definition_input, **inputs},
            "outputs": {OUTPUT: dict(output)},
        }
        compute = f"{workspace.id}/computes/serverless"
        return self._pipelines.submit(workspace, job, whole, step, compute, by, schedule.name)

    def _signal(
        self, workspace: Document, signal: Mapping[str, Any], inputs: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """The signal, each of its data with the name of the job's input that it is."""
        production = signal.get("productionData") or []
        given = production if isinstance(production, list) else [production]
        return {
            **signal,
            "productionData": [self._with_input(workspace, data, inputs) for data in given],
            "referenceData": self._with_input(workspace, signal.get("referenceData") or {}, inputs),
        }

    def _with_input(
        self, workspace: Document, data: Mapping[str, Any], inputs: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """`input` is empty where nothing is at the address: that is for the step to say, because of collected data there may be
        none yet."""
        kind, uri = str(data.get("jobInputType") or "uri_folder"), str(data.get("uri") or "")
        wanted = {"jobInputType": kind, "uri": uri, "mode": "ReadOnlyMount"}
        for name, known in inputs.items():
            if known == wanted:
                return {**data, "input": name}
        if not self._is_there(workspace, uri):
            return {**data, "input": ""}
        name = f"data_{len(inputs)}"
        inputs[name] = wanted
        return {**data, "input": name}

    def _is_there(self, workspace: Document, uri: str) -> bool:
        try:
            blob = self._pipelines.data.locate(workspace, uri)
        except BadAddress:
            return False
        return next(self._pipelines.data.blobs.entries(blob.container, blob.path), None) is not None


def shown_name(schedule: str, due: float) -> str:
    return f"{schedule}-{datetime.fromtimestamp(due, timezone.utc):%Y%m%dT%H%M%SZ}"
