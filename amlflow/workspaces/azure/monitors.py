"""Monitors that Azure ML runs: schedules of the workspace whose action creates a monitor.

The shapes are those of Microsoft.MachineLearningServices/workspaces/schedules, api-version 2023-06-01-preview, which azure-ai-ml
speaks too: later ones have no signal of a model's performance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from amlflow.errors import NotFound
from amlflow.monitoring.timing import Timing
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.service import Service, epoch_ms, or_nearest

SCHEDULES_API = "2023-06-01-preview"
SignalKind = Literal["data_drift", "prediction_drift", "data_quality", "model_performance"]
# Of the versions of Spark and sizes that the service's monitors run on (`ServerlessSparkCompute` of azure-ai-ml).
_SPARK, _SIZE = "3.4", "standard_e4s_v3"
_ACTION = "CreateMonitor"
# What the service has no property for is a tag of the schedule.
_FAIL = "amlflow.monitor.fail"


@dataclass(frozen=True, slots=True)
class MonitorData:
    """`path` is azureml:NAME:VERSION of a data asset, or a URI; `window` an ISO 8601 duration that ends when the monitor runs,
    empty for data taken whole; `columns` says which column is what."""

    path: str
    kind: str
    context: str
    window: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """`metric` as the API writes it, but with a small first letter; `of` is numerical or categorical, classification or
    regression."""

    metric: str
    of: str
    value: float


@dataclass(frozen=True, slots=True)
class Signal:
    """`types` maps columns to numerical or categorical; `features` are the columns that are looked at, all when empty. Only one
    with `alert` sends mail."""

    kind: SignalKind
    production: MonitorData
    reference: MonitorData
    limits: Sequence[Limit]
    alert: bool = True
    types: Mapping[str, str] = field(default_factory=dict)
    features: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """`deployment` is the ARM id of what is watched, empty for none; `fail` is what `amlflow monitor run` does where something
    crossed."""

    name: str
    timing: Timing
    signals: Sequence[Signal]
    deployment: str = ""
    task: str = "classification"
    emails: Sequence[str] = ()
    fail: bool = False


class AzureMonitors:
    """Every method that takes a name raises `NotFound`, naming the nearest."""

    def __init__(self, service: Service) -> None:
        self._service, self._arm = service, service.arm

    def list(self) -> list[dict[str, Any]]:
        """As the records of `get`."""
        path = f"{self._service.path}/schedules"
        found = self._arm.pages(path, SCHEDULES_API, "list of monitors", listViewType="All")
        return [_record(item) for item in found if _is_monitor(item)]

    def get(self, name: str) -> dict[str, Any]:
        return _record(self._find(name))

    def exists(self, name: str) -> bool:
        """Whether a schedule of any kind has the name."""
        try:
            self._arm.get(self._path(name), SCHEDULES_API, f"monitor {name!r}")
        except NotFound as error:
            if error.mend:
                raise
            return False
        return True

    def put(self, spec: MonitorSpec) -> dict[str, Any]:
        what = f"monitor {spec.name!r}"
        answer = self._arm.put(self._path(spec.name), SCHEDULES_API, what, body(spec, self._service.path))
        self._arm.finished(answer, what)
        return self.get(spec.name)

    def delete(self, name: str) -> None:
        """A schedule that is enabled is not deleted by the service, and so it is disabled first."""
        found, what = self._find(name), f"monitor {name!r}"
        properties = {key: value for key, value in found["properties"].items() if key != "provisioningState"}
        if properties.get("isEnabled", True):
            disabled = {"properties": {**properties, "isEnabled": False}}
            self._arm.finished(self._arm.put(self._path(name), SCHEDULES_API, what, disabled), what)
        self._arm.finished(self._arm.delete(self._path(name), SCHEDULES_API, what), what)

    def _find(self, name: str) -> dict[str, Any]:
        def fetch() -> dict[str, Any]:
            found = self._arm.get(self._path(name), SCHEDULES_API, f"monitor {name!r}")
            if not _is_monitor(found):
                raise NotFound(f"{name!r} is a schedule of jobs, and no monitor.")
            return found

        mend = "`amlflow monitor list` shows those that there are."
        return or_nearest(fetch, name, lambda: [item["name"] for item in self.list()], mend)

    def _path(self, name: str) -> str:
        return f"{self._service.path}/schedules/{segment(name)}"


def body(spec: MonitorSpec, workspace: str) -> dict[str, Any]:
    """The schedule as the API takes it; `workspace` is the ARM id that data assets without one of their own are of."""
    definition: dict[str, Any] = {
        "computeConfiguration": {
            "computeType": "ServerlessSpark",
            "runtimeVersion": _SPARK,
            "instanceType": _SIZE,
            "computeIdentity": {"computeIdentityType": "AmlToken"},
        },
        "signals": {signal.kind: _signal(signal, spec.task, workspace) for signal in spec.signals},
    }
    if spec.deployment:
        definition["monitoringTarget"] = {"taskType": _capital(spec.task), "deploymentId": spec.deployment}
    if spec.emails:
        definition["alertNotificationSetting"] = {
            "alertNotificationType": "Email",
            "emailNotificationSetting": {"emails": list(spec.emails), "emailOn": ["JobFailed", "JobCompleted"]},
        }
    return {
        "properties": {
            "displayName": spec.name,
            "isEnabled": True,
            **_tags(spec),
            "action": {"actionType": _ACTION, "monitorDefinition": definition},
            "trigger": _trigger(spec.timing),
        }
    }


def document(spec: MonitorSpec) -> dict[str, Any]:
    """The same monitor as the YAML of `az ml schedule create --file`."""
    monitor: dict[str, Any] = {"compute": {"instance_type": _SIZE, "runtime_version": _SPARK}}
    if spec.deployment:
        monitor["monitoring_target"] = {
            "ml_task": spec.task,
            "endpoint_deployment_id": f"azureml:{spec.deployment}",
        }
    monitor["monitoring_signals"] = {signal.kind: _signal_document(signal) for signal in spec.signals}
    if spec.emails:
        monitor["alert_notification"] = {"emails": list(spec.emails)}
    return {
        "$schema": "https://azuremlschemas.azureedge.net/latest/monitorSchedule.schema.json",
        "name": spec.name,
        "display_name": spec.name,
        **_tags(spec),
        "trigger": _trigger_document(spec.timing),
        "create_monitor": monitor,
    }


def _tags(spec: MonitorSpec) -> dict[str, Any]:
    return {"tags": {_FAIL: "true"}} if spec.fail else {}


def _signal(signal: Signal, task: str, workspace: str) -> dict[str, Any]:
    production, reference = _data(signal.production, workspace), _data(signal.reference, workspace)
    made: dict[str, Any] = {
        "signalType": _pascal(signal.kind),
        "mode": "Enabled" if signal.alert else "Disabled",
        "productionData": production,
        "referenceData": reference,
    }
    if signal.kind == "model_performance":
        every = [
            {"modelType": limit.of, "metric": _capital(limit.metric), "threshold": {"value": limit.value}}
            for limit in signal.limits
        ]
        # The signal takes one threshold; the service's own client hands over all of them in this property.
        made["metricThreshold"] = {**every[0], "modelType": _capital(signal.limits[0].of)}
        made["properties"] = {
            "azureml.modelmonitor.model_performance_thresholds": json.dumps(every, separators=(",", ":"))
        }
        return {**made, "productionData": [production]}
    made["metricThresholds"] = [
        {"dataType": _capital(limit.of), "metric": _capital(limit.metric), "threshold": {"value": limit.value}}
        for limit in signal.limits
    ]
    if signal.kind == "prediction_drift":
        return {**made, "modelType": _capital(task)}
    made["features"] = (
        {"filterType": "FeatureSubset", "features": list(signal.features)}
        if signal.features
        else {"filterType": "AllFeatures"}
    )
    if signal.types:
        made["featureDataTypeOverride"] = {column: _capital(kind) for column, kind in signal.types.items()}
    return made


def _signal_document(signal: Signal) -> dict[str, Any]:
    by_kind: dict[str, dict[str, float]] = {}
    for limit in signal.limits:
        by_kind.setdefault(limit.of, {})[_snake(limit.metric)] = limit.value
    made: dict[str, Any] = {
        "type": signal.kind,
        "production_data": _data_document(signal.production),
        "reference_data": _data_document(signal.reference),
        "alert_enabled": signal.alert,
        "metric_thresholds": by_kind,
    }
    if signal.kind in ("data_drift", "data_quality"):
        made["features"] = list(signal.features) or "all_features"
        if signal.types:
            made["feature_type_override"] = dict(signal.types)
    return made


def _data(data: MonitorData, workspace: str) -> dict[str, Any]:
    uri = data.path
    if uri.startswith("azureml:") and "://" not in uri:
        name, _, version = uri.removeprefix("azureml:").rpartition(":")
        uri = f"{workspace}/data/{segment(name)}/versions/{segment(version)}"
    made: dict[str, Any] = {
        "inputDataType": "Trailing" if data.window else "Fixed",
        "jobInputType": data.kind,
        "uri": uri,
        "dataContext": data.context,
    }
    if data.columns:
        made["columns"] = dict(data.columns)
    return {**made, "windowSize": data.window, "windowOffset": "P0D"} if data.window else made


def _data_document(data: MonitorData) -> dict[str, Any]:
    made: dict[str, Any] = {"input_data": {"path": data.path, "type": data.kind}, "data_context": data.context}
    if data.window:
        made["data_window"] = {"lookback_window_size": data.window, "lookback_window_offset": "P0D"}
    return {**made, "data_column_names": dict(data.columns)} if data.columns else made


def _trigger(timing: Timing) -> dict[str, Any]:
    if timing.cron:
        return {"triggerType": "Cron", "expression": timing.cron, "timeZone": "UTC"}
    unit, count = timing.recurrence
    made: dict[str, Any] = {
        "triggerType": "Recurrence",
        "frequency": _capital(unit),
        "interval": count,
        "timeZone": "UTC",
    }
    return {**made, "schedule": _at_midnight(unit, "hours", "minutes", "weekDays")} if unit in ("day", "week") else made


def _trigger_document(timing: Timing) -> dict[str, Any]:
    if timing.cron:
        return {"type": "cron", "expression": timing.cron, "time_zone": "UTC"}
    unit, count = timing.recurrence
    made: dict[str, Any] = {"type": "recurrence", "frequency": unit, "interval": count, "time_zone": "UTC"}
    return (
        {**made, "schedule": _at_midnight(unit, "hours", "minutes", "week_days")} if unit in ("day", "week") else made
    )


def _at_midnight(unit: str, hours: str, minutes: str, days: str) -> dict[str, Any]:
    """The same times at which cron runs a monitor."""
    return {
        hours: [0],
        minutes: [0],
        **({days: ["Sunday" if days == "weekDays" else "sunday"]} if unit == "week" else {}),
    }


def _is_monitor(item: Mapping[str, Any]) -> bool:
    return ((item.get("properties") or {}).get("action") or {}).get("actionType") == _ACTION


def _record(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a schedule; what is missing in it is left empty, because others make schedules too."""
    properties = item.get("properties") or {}
    definition = (properties.get("action") or {}).get("monitorDefinition") or {}
    trigger, signals = properties.get("trigger") or {}, definition.get("signals") or {}
    target = str((definition.get("monitoringTarget") or {}).get("deploymentId") or "").split("/")
    mail = (definition.get("alertNotificationSetting") or {}).get("emailNotificationSetting") or {}
    every = f"every {trigger.get('interval')} {str(trigger.get('frequency', '')).lower()}"
    return {
        "name": str(item.get("name") or ""),
        "kind": ", ".join(str(signal.get("signalType", "")) for signal in signals.values() if isinstance(signal, dict)),
        "data": f"{target[-3]}/{target[-1]}" if len(target) > 2 else "",
        "when": str(trigger.get("expression") or every),
        "emails": list(mail.get("emails") or []),
        "enabled": bool(properties.get("isEnabled")),
        "fail": (properties.get("tags") or {}).get(_FAIL) == "true",
        "alerts": [name for name, signal in signals.items() if signal.get("mode") != "Disabled"],
        "created_ms": epoch_ms(str((item.get("systemData") or {}).get("createdAt") or "")),
        "thresholds": [
            {
                "signal": signal.get("signalType"),
                "metric": limit.get("metric"),
                "of": limit.get("dataType") or limit.get("modelType"),
                "threshold": (limit.get("threshold") or {}).get("value"),
            }
            for signal in signals.values()
            for limit in (signal.get("metricThresholds") or [signal.get("metricThreshold") or {}])
        ],
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pascal(text: str) -> str:
    return "".join(_capital(part) for part in text.split("_"))


def _snake(text: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in text)
