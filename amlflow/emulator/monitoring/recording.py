"""What a monitor's run leaves behind.

As the open-source components write it (azureml-assets, `model_monitoring`): the output with `manifest.json` and
`signals/NAME.json` (`create_manifest`, `metric_outputter`), a run a metric and column below «NAME - Metrics» with the
metrics `value` and `threshold` over the times of the monitor's runs, and, where something crossed, the tag
`azureml_modelmonitor_threshold_breached` on the step's run (which is also documented, for Event Grid) and
`azureml.modelmonitor.threshold.breached.SIGNAL` on the job's. The emulator's own choice: histograms and samples are not
there; a signal's tag is set on the job's run whether or not somebody is to be told; and of what is too long for a tag the
last columns are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow.emulator.monitoring.signals import Row
from amlflow.workspaces.base import Metric, RunQuery, Workspace

OUTPUT = "model_monitor_metrics_output"
BREACHED = "azureml_modelmonitor_threshold_breached"
BREACHED_SIGNAL = "azureml.modelmonitor.threshold.breached."
ADDRESSES = "azureml.notification.email.address"
_VERSION = "1.0.0"
_PARENT = "azureml.metrics"
# What a tag of Azure ML holds (resource-limits-capacity).
_TAG_CHARS = 1000


class Recorder:
    """Of one run of the monitor, at `time_s` in epoch seconds; `run_id` is the step's, `root_id` the job's."""

    def __init__(self, workspace: Workspace, monitor: str, time_s: float, run_id: str, root_id: str) -> None:
        self._workspace, self._monitor, self._time_s = workspace, monitor, time_s
        self._run_id, self._root_id = run_id, root_id
        self._experiment = workspace.ensure_experiment(workspace.get_run(run_id).experiment_name).id
        self._metric_runs: dict[tuple[str, str, str], str] | None = None
        self._parent = ""

    def signal(self, name: str, kind: str, rows: Sequence[Row], folder: Path) -> None:
        """Write the signal's file below the output's folder, and log its metrics."""
        metrics: dict[str, Any] = {}
        for row in rows:
            shown: dict[str, Any] = {"value": row.value}
            if row.threshold is not None:
                shown["threshold"] = row.threshold
            run_id = self._log(name, row)
            series = {"runId": run_id, "metricNames": {"value": "value", "threshold": "threshold"}}
            place = metrics.setdefault(row.metric, {})
            place = place.setdefault("groups", {}).setdefault(row.group, {}) if row.group else place
            place.update({**shown, "timeseries": series})
        content = {"signalName": name, "signalType": kind, "version": _VERSION, "metrics": metrics}
        file = folder / "signals" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=4), encoding="utf-8")

    def breach(self, breached: Mapping[str, Sequence[Row]], emails: Sequence[str]) -> None:
        """Tag the runs with what crossed, by signal."""
        messages = {name: _message(name, rows) for name, rows in breached.items()}
        tags = {f"{BREACHED_SIGNAL}{name}": text for name, text in messages.items()}
        if emails:
            tags[ADDRESSES] = ",".join(emails)
        self._workspace.log_batch(self._root_id, tags=tags)
        self._workspace.log_batch(self._run_id, tags={BREACHED: "".join(messages.values())[:_TAG_CHARS]})

    def _log(self, signal: str, row: Row) -> str:
        """Log the value as the next of its metric's run, which is returned."""
        run_id = self._metric_run(signal, row)
        at_ms = round(self._time_s * 1000)
        points = [Metric("value", row.value, int(self._time_s), at_ms)]
        if row.threshold is not None:
            points.append(Metric("threshold", row.threshold, int(self._time_s), at_ms))
        self._workspace.log_batch(run_id, points)
        return run_id

    def _metric_run(self, signal: str, row: Row) -> str:
        key = (signal, row.metric, row.group)
        if self._metric_runs is None:
            self._metric_runs = self._known()
        if key not in self._metric_runs:
            tags = {"azureml.signal_name": signal, "azureml.metric_name": row.metric}
            if row.group:
                tags["azureml.group_0"] = row.group
            name = " ".join(filter(None, (signal, row.group, row.metric)))
            self._metric_runs[key] = self._made(name, {**tags, "mlflow.parentRunId": self._parent_run()})
        return self._metric_runs[key]

    def _known(self) -> dict[tuple[str, str, str], str]:
        query = RunQuery([self._experiment], f"tags.azureml.monitor_name = '{self._monitor}'")
        found = {}
        for run in self._workspace.search_runs(query):
            metric = run.tags.get("azureml.metric_name", "")
            if metric == _PARENT:
                self._parent = run.id
            found[run.tags.get("azureml.signal_name", ""), metric, run.tags.get("azureml.group_0", "")] = run.id
        return found

    def _parent_run(self) -> str:
        if not self._parent:
            self._parent = self._made(f"{self._monitor} - Metrics", {"azureml.metric_name": _PARENT})
        return self._parent

    def _made(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._workspace.create_run(self._experiment, name, {"azureml.monitor_name": self._monitor, **tags}, {})
        self._workspace.finish_run(run.id, "FINISHED")
        return run.id


def write_manifest(signals: Sequence[str], folder: Path) -> None:
    content = {"version": _VERSION, "metricsFiles": {name: f"signals/{name}.json" for name in signals}}
    (folder / "manifest.json").write_text(json.dumps(content, indent=4), encoding="utf-8")


def _message(signal: str, rows: Sequence[Row]) -> str:
    """In the words by which the service's documentation has Event Grid filter, with as many columns as a tag has room for."""
    head = f"The signal '{signal}' has failed due to one or more features violating metric thresholds.\n"
    shown: list[str] = []
    for row in rows:
        item = json.dumps(
            {
                "group": row.group,
                "metric_value": row.value,
                "metric_name": row.metric,
                "threshold_value": row.threshold,
            }
        )
        if len(head) + len(str([*shown, item])) + 1 > _TAG_CHARS:
            break
        shown.append(item)
    return f"{head}{shown}\n"
