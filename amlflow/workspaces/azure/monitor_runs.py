"""Runs of Azure ML's monitors: triggered, listed, and what they have found.

Documented are the trigger and the filter of jobs by their schedule (api-version 2024-01-01-preview), and for Event Grid the
tag `azureml_modelmonitor_threshold_breached` of runs. What a run writes is in the source of the service's open components
alone (azureml-assets, `model_monitoring`): an output with a `manifest.json` that names a file of metrics for each signal.
The output's name is not, and so the one that has a manifest is taken.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from amlflow.errors import NotFound
from amlflow.monitoring import thresholds
from amlflow.workspaces.abilities import Job
from amlflow.workspaces.azure import job_bodies
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.jobs import DEFAULT_OUTPUT, READ_API
from amlflow.workspaces.azure.service import Service

TRIGGER_API = "2024-01-01-preview"
BREACHED = "azureml_modelmonitor_threshold_breached"
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class MonitorReading:
    """A metric of a signal, by the service's names. `column` is empty for one of the data as a whole, `threshold` None for one
    that has none."""

    signal: str
    metric: str
    column: str
    value: float
    threshold: float | None

    @property
    def crossed(self) -> bool:
        return self.threshold is not None and thresholds.crosses(self.metric, self.value, self.threshold)

    def record(self) -> dict[str, Any]:
        return {
            "signal": self.signal,
            "column": self.column,
            "metric": self.metric,
            "value": self.value,
            "threshold": self.threshold,
            "crossed": self.crossed,
        }


class AzureMonitorRuns:
    def __init__(self, service: Service, datastores: AzureDatastores) -> None:
        self._service, self._arm, self._datastores = service, service.arm, datastores

    def trigger(self, name: str) -> str:
        """Have the monitor run now. The name of the job, as azure-ai-ml understands the answer; empty where it has none."""
        path = f"{self._service.path}/schedules/{segment(name)}/trigger"
        body = {"scheduleTime": datetime.now(timezone.utc).isoformat()}
        # Asked twice it would run twice.
        answer = self._arm.post(path, TRIGGER_API, f"monitor {name!r}", body, repeatable=False)
        return str(self._arm.content(answer).get("submissionId") or "")

    def jobs(self, name: str, limit: int) -> list[Job]:
        """The monitor's last jobs, newest first."""
        query = {"scheduled": True, "scheduleId": name, "listViewType": "ActiveOnly"}
        found = self._arm.pages(f"{self._service.path}/jobs", READ_API, f"list of jobs of monitor {name!r}", **query)
        return [job_bodies.job(record) for record in islice(found, limit)]

    def readings(self, job: str) -> list[MonitorReading] | None:
        """What the job has written of its signals; None where it has written nothing that is understood."""
        path = f"{self._service.path}/jobs/{segment(job)}"
        record = self._arm.get(path, READ_API, f"job {job!r}")
        outputs = (record.get("properties") or {}).get("outputs") or {}
        for output in outputs:
            place = job_bodies.datastore_path(job_bodies.output_uri(record, output))
            if output != DEFAULT_OUTPUT and place[0] and (found := self._read(*place)) is not None:
                return found
        return None

    def _read(self, datastore: str, path: str) -> list[MonitorReading] | None:
        root = path.strip("/")
        with tempfile.TemporaryDirectory(prefix="amlflow-monitor-") as folder:
            scratch = Path(folder)
            try:
                manifest = self._fetched(datastore, f"{root}/{_MANIFEST}", scratch)
                files = [str(file) for file in manifest["metricsFiles"].values()]
                signals = [
                    self._fetched(datastore, f"{root}/{file}", scratch / str(index)) for index, file in enumerate(files)
                ]
                found = [reading for signal in signals for reading in _of_signal(signal)]
            except (NotFound, ValueError, KeyError, TypeError, AttributeError):
                return None
        # Every signal has at least its counts of rows.
        return found or None

    def _fetched(self, datastore: str, path: str, folder: Path) -> dict[str, Any]:
        self._datastores.download(datastore, path, folder, lambda done, total: None)
        content: dict[str, Any] = json.loads((folder / path.rpartition("/")[2]).read_text(encoding="utf-8"))
        return content


def of_tag(message: str) -> Iterator[MonitorReading]:
    """What crossed, by the text of the tag: `The signal 'NAME' has failed …` and a list of JSON objects, as far as they
    parse: a tag has a thousand characters."""
    for part in message.split("The signal '")[1:]:
        signal, _, rest = part.partition("'")
        decoder, place = json.JSONDecoder(), rest.find("{")
        while place >= 0:
            try:
                row, end = decoder.raw_decode(rest, place)
                yield MonitorReading(
                    signal,
                    str(row["metric_name"]),
                    str(row.get("group") or ""),
                    float(row["metric_value"]),
                    float(row["threshold_value"]),
                )
            except (ValueError, KeyError, TypeError):
                end = place + 1
            place = rest.find("{", end)


def _of_signal(signal: Mapping[str, Any]) -> Iterator[MonitorReading]:
    name = str(signal.get("signalName") or "")
    for metric, content in (signal.get("metrics") or {}).items():
        yield from _of_group(name, str(metric), content, ())


def _of_group(signal: str, metric: str, content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[MonitorReading]:
    if content.get("value") is not None:
        limit = content.get("threshold")
        value, threshold = float(content["value"]), float(limit) if limit is not None else None
        yield MonitorReading(signal, metric, "/".join(path), value, threshold)
    for group, inner in (content.get("groups") or {}).items():
        yield from _of_group(signal, metric, inner, (*path, str(group)))
