"""A monitor that this machine could keep, as one that Azure ML runs: its signals, data assets and thresholds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amlflow.errors import AmlflowError, NotFound, UsageError, nearest
from amlflow.monitoring import metrics, thresholds, windows
from amlflow.services import baselines, monitors
from amlflow.services.monitoring import DriftRequest
from amlflow.services.monitors import Monitor
from amlflow.services.performing import PerformanceRequest
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.endpoints import DEPLOYMENTS_API, AzureEndpoints
from amlflow.workspaces.azure.monitors import AzureMonitors, Limit, MonitorData, MonitorSpec, Signal, document
from amlflow.workspaces.azure.service import Service
from amlflow.workspaces.base import Workspace

_DATA_API = "2023-04-01-preview"
_DATA_ID = re.compile(r"(?:azureml:)?/.*/data/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)
_ASSET = re.compile(r"azureml:(?P<name>[\w.-]+):(?P<version>[\w.-]+)")
_TYPES = {"numeric": "numerical", "categorical": "categorical", "boolean": "categorical"}
# What the signal of a model's performance has thresholds for, by our names of the metrics.
_OF_TASKS: Mapping[str, Mapping[str, str]] = {
    "classification": {"accuracy": "accuracy", "precision": "precision", "recall": "recall"},
    "regression": {"mae": "meanAbsoluteError", "mse": "meanSquaredError", "rmse": "rootMeanSquaredError"},
}
_DAY_MS = 86_400_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def of(workspace: Workspace) -> AzureMonitors | None:
    """None for a workspace that runs no monitors by itself."""
    return AzureMonitors(workspace.service) if isinstance(workspace, HasOnlineEndpoints) else None


def plan(workspace: Workspace, monitor: Monitor, emails: Sequence[str], limits: Sequence[str]) -> MonitorSpec:
    """What Azure ML would run; the baseline that a training run has logged becomes a data asset. `limits` are thresholds of a
    monitor of performance. Raises `UsageError` for what Azure's monitors cannot do."""
    assert isinstance(workspace, HasOnlineEndpoints)
    service: Service = workspace.service
    _refuse(monitor)
    for email in emails:
        if not _EMAIL.fullmatch(email):
            raise UsageError(f"--email {email!r} is no address.", "Write NAME@HOST.")
    deployment, collections = _collections(service, monitor.request.data.name)
    window = _window(monitor)
    request = monitor.request
    if isinstance(request, PerformanceRequest):
        signals: list[Signal] = [_performance(service, request, collections, window, limits)]
        task = request.task
    else:
        signals, task = _drift(workspace, service, request, collections, window), "classification"
    return MonitorSpec(monitor.name, monitor.timing, signals, deployment, task, emails, monitor.fail)


def create(workspace: Workspace, spec: MonitorSpec, replacing: bool) -> dict[str, Any]:
    """Raises `AmlflowError` where there is a schedule of that name and it is not to be replaced."""
    assert isinstance(workspace, HasOnlineEndpoints)
    place = AzureMonitors(workspace.service)
    if not replacing and place.exists(spec.name):
        raise AmlflowError(f"There is a schedule {spec.name!r}.", "Add --replace, or choose another name.")
    return place.put(spec)


def export(spec: MonitorSpec, file: Path) -> None:
    """Write the YAML that `az ml schedule create --file` takes. Raises `UsageError` where it cannot say the same."""
    import yaml

    for signal in spec.signals:
        of_kinds = [limit.of for limit in signal.limits]
        if signal.kind in ("data_drift", "prediction_drift") and len(set(of_kinds)) < len(of_kinds):
            raise UsageError(
                "The YAML takes one metric for numbers and one for categories, and there are more.",
                "Name one of each with --metric, or leave out --export.",
            )
    try:
        file.write_text(yaml.safe_dump(document(spec), sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise AmlflowError(
            f"--export {str(file)!r} cannot be written: {error.strerror}.", "Name another place."
        ) from error


def _refuse(monitor: Monitor) -> None:
    data, request = monitor.request.data, monitor.request
    given = {
        "--webhook": monitor.webhook,
        "--fail-if": monitor.fail_if,
        "--experiment": monitor.experiment,
        "--data": data.files,
        "--time": data.time,
        "--split": data.every,
        "--against": request.against if isinstance(request, PerformanceRequest) else (),
        "--score": request.scores if isinstance(request, PerformanceRequest) else (),
        "--average": request.average if isinstance(request, PerformanceRequest) else "",
        "--positive": request.positive if isinstance(request, PerformanceRequest) else "",
    }
    for option, value in given.items():
        if value:
            raise UsageError(
                f"A monitor that Azure ML runs has no {option}.",
                "Leave it out, and have mail sent with --email; or keep the monitor in a local workspace: -w local:FOLDER.",
            )
    monitors.check_name(monitor.name)
    if not data.name:
        raise UsageError("There are no data to look at.", "Name an endpoint that collects data with --endpoint E.")


def _collections(service: Service, asked: str) -> tuple[str, dict[str, str]]:
    """The id of the endpoint's deployment (ENDPOINT/DEPLOYMENT, else the one with the most traffic), and the data assets of what
    it collects. Raises `NotFound` where it collects nothing."""
    endpoint, _, deployment = asked.partition("/")
    traffic = AzureEndpoints(service).get(endpoint).traffic
    deployment = deployment or max(traffic, key=lambda name: traffic[name], default="")
    if not deployment:
        raise NotFound(
            f"Endpoint {endpoint!r} has no deployment with traffic.", f"Name one: --endpoint {endpoint}/NAME."
        )
    path = f"{service.path}/onlineEndpoints/{segment(endpoint)}/deployments/{segment(deployment)}"
    record = service.arm.get(path, DEPLOYMENTS_API, f"deployment {deployment!r} of endpoint {endpoint!r}")
    collector = (record.get("properties") or {}).get("dataCollector") or {}
    found = {
        str(name): _named(str(item.get("dataId") or ""))
        for name, item in (collector.get("collections") or {}).items()
        if str(item.get("dataCollectionMode") or "").lower() == "enabled" and item.get("dataId")
    }
    if not found:
        raise NotFound(
            f"The deployment {deployment!r} of endpoint {endpoint!r} collects no data.",
            f"Deploy it with `amlflow deploy MODEL --target managed --name {endpoint} --collect`.",
        )
    return str(record.get("id") or path), found


def _drift(
    workspace: Workspace, service: Service, request: DriftRequest, collections: Mapping[str, str], window: str
) -> list[Signal]:
    known = thresholds.parse(request.metrics, request.thresholds, [])
    types = _types(request.kinds)
    features = _features(workspace, request)
    reference = _baseline(workspace, service, request)
    asked = MonitorData(_collected(collections, "model_inputs"), "uri_folder", "model_inputs", window)
    kinds: tuple[tuple[str, metrics.MetricKind, Sequence[str]], ...] = (
        ("numerical", "numbers", metrics.OF_NUMBERS),
        ("categorical", "categories", metrics.OF_CATEGORIES),
    )
    drifting = [
        Limit(metric, of, limit.value)
        for of, kind, every in kinds
        for metric in every
        if known.wants("", metric) and (limit := known.of("", metric, kind)) is not None
    ]
    found = [Signal("data_drift", asked, reference, drifting, True, types, features)] if drifting else []
    rates = {
        m: limit for m in metrics.OF_QUALITY if known.wants("", m) and (limit := known.of("", m, "quality")) is not None
    }
    if rates:
        quality = [Limit(metric, of, limit.value) for of, _, _ in kinds for metric, limit in rates.items()]
        alert = any(limit.enforced for limit in rates.values())
        found.append(Signal("data_quality", asked, reference, quality, alert, types, features))
    if len(request.predictions) > 1:
        raise UsageError("A monitor of Azure ML takes one --prediction.", "Leave out the others.")
    for column, target in request.predictions.items():
        answers = MonitorData(
            _collected(collections, "model_outputs"), "uri_folder", "model_outputs", window, {"target_column": column}
        )
        trained = MonitorData(reference.path, reference.kind, "training", "", {"target_column": target or column})
        if drifting:
            found.append(Signal("prediction_drift", answers, trained, drifting))
    return found


def _performance(
    service: Service, request: PerformanceRequest, collections: Mapping[str, str], window: str, limits: Sequence[str]
) -> Signal:
    if not request.task:
        raise UsageError(
            "Azure ML must be told what the model does.", "Add --task classification or --task regression."
        )
    known = _OF_TASKS[request.task]
    found = []
    for item in limits:
        name, _, text = item.partition("=")
        if name not in known or not re.fullmatch(r"\d+(\.\d+)?", text):
            raise UsageError(
                f"--threshold {item!r} is none of a {request.task}.",
                f"Write METRIC=VALUE with one of {', '.join(known)}.",
            )
        found.append(Limit(known[name], request.task, float(text)))
    if not found:
        first = next(iter(known))
        raise UsageError("Nothing says how much is too little.", f"Add a threshold: --threshold {first}=0.9.")
    if not request.prediction or not request.target:
        raise UsageError(
            "Azure ML must be told which columns are meant.", "Add --prediction COLUMN and --target COLUMN."
        )
    own, truth = request.join.partition("=")[0], request.join.partition("=")[2] or request.join
    answers = MonitorData(
        _collected(collections, "model_outputs"),
        "uri_folder",
        "model_outputs",
        window,
        {"prediction": request.prediction, "correlation_id": own},
    )
    columns = {"target": request.target, "correlation_id": truth}
    return Signal(
        "model_performance", answers, _asset(service, request.truth, "--truth", "ground_truth", window, columns), found
    )


def _features(workspace: Workspace, request: DriftRequest) -> list[str]:
    """The columns to compare, none for all. The API takes those that are wanted: what is left after --ignore is told from the
    signature of the endpoint's model. Raises `UsageError` where there is none, and for a column that it has not."""
    if not request.ignore:
        return list(request.columns)
    every = list(request.columns)
    if not every:
        with contextlib.suppress(NotFound):
            every = list(baselines.find_trained(workspace, "", request.data.name.partition("/")[0]).inputs)
    if not every:
        raise UsageError(
            "Nothing says which columns are left after --ignore: the model's signature is not known.",
            "Name those that are to be compared with --column.",
        )
    for column in request.ignore:
        if column not in every:
            near = nearest(column, every)
            raise UsageError(
                f"--ignore: the model has no input {column!r}.{f' Did you mean {near}?' if near else ''}",
                f"Inputs: {', '.join(every[:20])}.",
            )
    left = [column for column in every if column not in request.ignore]
    if not left:
        raise UsageError("--ignore leaves no column to compare.", "Leave out one of them.")
    return left


def _baseline(workspace: Workspace, service: Service, request: DriftRequest) -> MonitorData:
    """A data asset that is named, else one made of the table that the training run has logged."""
    if request.baseline.startswith("azureml:") or Path(request.baseline or "-").suffix:
        return _asset(service, request.baseline, "--baseline", "training", "", {})
    trained = baselines.find_trained(workspace, request.baseline, request.data.name.partition("/")[0])
    artifact = baselines.training_table(workspace, trained.run)
    uri = f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{trained.run.id}/{artifact}"
    path = f"{service.path}/data/{segment(f'baseline-{trained.run.id}')}/versions/1"
    what = f"data asset 'baseline-{trained.run.id}'"
    try:
        service.arm.get(path, _DATA_API, what)
    except NotFound as error:
        if error.mend:
            raise
        properties = {"dataType": "uri_file", "dataUri": uri, "description": f"{artifact} of run {trained.run.name}"}
        service.arm.put(path, _DATA_API, what, {"properties": properties})
    return MonitorData(f"azureml:baseline-{trained.run.id}:1", "uri_file", "training")


def _asset(
    service: Service, asked: str, option: str, context: str, window: str, columns: Mapping[str, str]
) -> MonitorData:
    """Raises `UsageError` for what is no data asset, `NotFound` for one that is not there."""
    match = _ASSET.fullmatch(asked)
    if match is None:
        raise UsageError(
            f"{option} {asked!r} is no data asset, which is all that Azure ML's monitors read.",
            f"Write {option} azureml:NAME:VERSION.",
        )
    path = f"{service.path}/data/{segment(match['name'])}/versions/{segment(match['version'])}"
    record = service.arm.get(path, _DATA_API, f"data asset {asked.removeprefix('azureml:')!r}")
    kind = str((record.get("properties") or {}).get("dataType") or "mltable")
    return MonitorData(asked, kind, context, window, columns)


def _collected(collections: Mapping[str, str], name: str) -> str:
    if name not in collections:
        raise NotFound(
            f"The deployment does not collect its {name.replace('_', ' ')}.",
            "Deploy it with `amlflow deploy --collect`.",
        )
    return collections[name]


def _named(data_id: str) -> str:
    match = _DATA_ID.fullmatch(data_id)
    return f"azureml:{match['name']}:{match['version']}" if match else data_id


def _types(kinds: Mapping[str, str]) -> dict[str, str]:
    for column, kind in kinds.items():
        if kind not in _TYPES:
            raise UsageError(
                f"--kind {column}={kind}: Azure ML's monitors know numbers and categories.",
                "Write numeric or categorical.",
            )
    return {column: _TYPES[kind] for column, kind in kinds.items()}


def _window(monitor: Monitor) -> str:
    """The data since the last time, a day's at least, as the service's own client has it; a week's where cron says when."""
    asked = monitor.request.data.window
    if asked:
        span = windows.duration_ms(asked, "--window")
    else:
        span = (
            max(windows.duration_ms(monitor.timing.every, "--every"), _DAY_MS) if monitor.timing.every else 7 * _DAY_MS
        )
    return f"P{span // _DAY_MS}D" if span % _DAY_MS == 0 else f"PT{max(1, span // 60_000)}M"
