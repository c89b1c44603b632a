"""Schedules that fire by themselves, and the monitors that they run, with the unmodified azure-ai-ml."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from azure.ai.ml import Input
from azure.ai.ml.entities import (
    BaselineDataRange,
    CategoricalDriftMetrics,
    CronTrigger,
    Data,
    DataDriftMetricThreshold,
    DataDriftSignal,
    MonitorDefinition,
    MonitorSchedule,
    NumericalDriftMetrics,
    ProductionData,
    RecurrenceTrigger,
    ReferenceData,
    ServerlessSparkCompute,
)
from emulated import Running

_ENDED = ("Completed", "Failed", "Canceled")


def asset(client: Any, name: str, kind: str, place: Path) -> str:
    client.data.create_or_update(Data(name=name, version="1", type=kind, path=str(place)))
    return f"azureml:{name}:1"


def collected(folder: Path, shift: float) -> Path:
    """A day's records in the collector's layout."""
    draw, now = random.Random(7), datetime.now(timezone.utc)
    hour = folder / f"{now:%Y/%m/%d/%H}"
    hour.mkdir(parents=True)
    rows = [{"age": 40 + shift + draw.gauss(0, 5), "color": draw.choice("bc" if shift else "ab")} for _ in range(300)]
    lines = (
        json.dumps({"time": now.isoformat(), "data": [row], "correlationid": str(i)}) for i, row in enumerate(rows)
    )
    (hour / "a.jsonl").write_text("\n".join(lines))
    return folder


def monitor(name: str, data: str, trained: str, trigger: Any) -> MonitorSchedule:
    signal = DataDriftSignal(
        production_data=ProductionData(
            input_data=Input(type="uri_folder", path=data),
            data_context="model_inputs",
            data_window=BaselineDataRange(lookback_window_size="P1D", lookback_window_offset="P0D"),
        ),
        reference_data=ReferenceData(input_data=Input(type="uri_file", path=trained), data_context="training"),
        metric_thresholds=DataDriftMetricThreshold(
            numerical=NumericalDriftMetrics(normalized_wasserstein_distance=0.2),
            categorical=CategoricalDriftMetrics(jensen_shannon_distance=0.2),
        ),
        features="all_features",
        alert_enabled=True,
    )
    compute = ServerlessSparkCompute(instance_type="standard_e4s_v3", runtime_version="3.4")
    definition = MonitorDefinition(compute=compute, monitoring_signals={"drift": signal})
    return MonitorSchedule(name=name, trigger=trigger, create_monitor=definition)


def job_of(client: Any, schedule: str) -> Any:
    """The one job that the schedule has made, when it has ended."""
    deadline = time.monotonic() + 180
    while True:
        jobs = list(client.jobs.list(scheduled_job_name=schedule))
        assert len(jobs) < 2, [job.name for job in jobs]
        if jobs and jobs[0].status in _ENDED:
            return jobs[0]
        assert time.monotonic() < deadline, [job.status for job in jobs]
        time.sleep(0.3)


def test_a_monitor_runs_at_its_time_and_when_triggered(
    azure: Running, ml_client: Any, amlflow: Any, tmp_path: Path
) -> None:
    some = uuid.uuid4().hex[:6]
    draw, table = random.Random(8), tmp_path / "train.csv"
    table.write_text("age,color\n" + "\n".join(f"{40 + draw.gauss(0, 5)},{draw.choice('ab')}" for _ in range(500)))
    trained = asset(ml_client, f"train-{some}", "uri_file", table)
    folders = {name: collected(tmp_path / name, shift) for name, shift in (("moved", 20.0), ("still", 0.0))}
    moved, still = (asset(ml_client, f"{name}-{some}", "uri_folder", folder) for name, folder in folders.items())
    due = datetime.now(timezone.utc).replace(tzinfo=None, microsecond=0) + timedelta(seconds=12)
    soon = RecurrenceTrigger(frequency="hour", interval=1, start_time=due)
    ml_client.schedules.begin_create_or_update(monitor(f"moved-{some}", moved, trained, soon)).result()
    asleep = CronTrigger(expression="0 0 29 2 0", end_time="2020-01-01T00:00:00")
    ml_client.schedules.begin_create_or_update(monitor(f"still-{some}", still, trained, asleep)).result()
    assert {f"moved-{some}", f"still-{some}"} <= {item.name for item in ml_client.schedules.list()}
    triggered = ml_client.schedules.trigger(f"still-{some}")
    assert triggered.schedule_action_type == "CreateMonitor"

    quiet, alarmed = job_of(ml_client, f"still-{some}"), job_of(ml_client, f"moved-{some}")
    assert (quiet.status, alarmed.status) == ("Completed", "Completed")
    assert (quiet.name, quiet.type) == (triggered.job_name, "pipeline")
    assert alarmed.display_name == f"moved-{some}-{due:%Y%m%dT%H%M%SZ}", "a job is named after the time that was due"
    assert re.fullmatch(rf"still-{some}-\d{{8}}T\d{{6}}Z", quiet.display_name)
    known = {item.name for item in ml_client.jobs.list(schedule_defined=True)}
    assert {quiet.name, alarmed.name} <= known

    found = amlflow.ok("monitor", "show", f"moved-{some}", "-o", "json").json["results"][0]
    assert {item["column"] for item in found["crossed"]} == {"age", "color"}
    assert amlflow.ok("monitor", "show", f"still-{some}", "-o", "json").json["results"][0]["crossed"] == []
    # What Event Grid is filtered by, on the run of the step.
    tags = amlflow.ok("run", "list", "-e", f"moved-{some}", "-o", "json").json
    step = next(run for run in tags if run["name"] == "model_monitor")["tags"]
    phrase = "has failed due to one or more features violating metric thresholds"
    assert phrase in step["azureml_modelmonitor_threshold_breached"]
    assert not any(
        "breached" in json.dumps(run) for run in amlflow.ok("run", "list", "-e", f"still-{some}", "-o", "json").json
    )
    ml_client.jobs.download(alarmed.name, download_path=tmp_path / "left", output_name="model_monitor_metrics_output")
    manifest = next((tmp_path / "left").rglob("manifest.json"))
    assert json.loads(manifest.read_text())["metricsFiles"] == {"drift": "signals/drift.json"}
    # Where the output is not understood, the tag says what crossed.
    (tmp_path / "manifest.json").write_text('{"metricsFiles": {}}')
    place = f"azureml/{alarmed.name}/model_monitor_metrics_output/"
    amlflow.ok("datastore", "upload", str(tmp_path / "manifest.json"), place)
    told = amlflow.ok("monitor", "show", f"moved-{some}", "-o", "json").json["results"][0]
    assert told == found
    for schedule in (f"moved-{some}", f"still-{some}"):
        ml_client.schedules.begin_disable(schedule).result()
        ml_client.schedules.begin_delete(schedule).result()
    assert not {f"moved-{some}", f"still-{some}"} & {item.name for item in ml_client.schedules.list()}


def test_a_schedule_of_a_job_fires_by_itself(emulator: Running) -> None:
    environment = f"{emulator.workspace_path}/environments/fired/versions/1"
    emulator.request("PUT", environment, {"properties": {"image": "python:3.11"}})
    name = f"Fired-{uuid.uuid4().hex[:6]}"
    place, list_api = f"{emulator.workspace_path}/schedules/{name}", "2024-01-01-preview"
    job = {"jobType": "Command", "command": "true", "environmentId": environment}
    content = {
        "action": {"actionType": "CreateJob", "jobDefinition": job},
        "trigger": {"triggerType": "Recurrence", "frequency": "Hour", "interval": 1},
    }
    assert emulator.request("PUT", place, {"properties": content}).status_code == 201
    deadline = time.monotonic() + 30
    while True:
        path = f"{emulator.workspace_path}/jobs"
        jobs = emulator.request("GET", path, api_version=list_api, scheduleId=name).json()["value"]
        if jobs or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert [item["properties"]["displayName"][: len(name) + 3] for item in jobs] == [f"{name}-20"]
    wrong = {**content, "trigger": {**content["trigger"], "timeZone": "Middle Earth Standard Time"}}
    refused = emulator.request("PUT", place, {"properties": wrong})
    assert (refused.status_code, "Middle Earth" in refused.text) == (400, True)
    emulator.request("PUT", place, {"properties": {**content, "isEnabled": False}})
    assert emulator.request("DELETE", place).status_code == 202
