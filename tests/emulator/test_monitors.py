"""`amlflow monitor create|list|show|delete` in an Azure ML workspace: a schedule of the workspace, as the contract has it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import contract
import pytest
import yaml
from emulated import Running

DEPLOYMENTS = "2023-04-01-preview"


@pytest.fixture
def collecting(azure: Running) -> Iterator[str]:
    """An endpoint whose deployment collects; what it serves is beside the point, and so its model may be missing."""
    name = f"ep-{uuid.uuid4().hex[:8]}"
    place = f"{azure.workspace_path}/onlineEndpoints/{name}"
    location = {"location": "local"}
    made = azure.request(
        "PUT", place, {**location, "properties": {"authMode": "Key"}}, api_version="2022-02-01-preview"
    )
    assert made.status_code in (200, 201), made.text
    collections = {}
    for kind in ("model_inputs", "model_outputs"):
        _asset(azure, f"{name}-blue-{kind}", "uri_folder", f"modelDataCollector/{name}/blue/{kind}")
        asset = f"{azure.workspace_path}/data/{name}-blue-{kind}/versions/1"
        collections[kind] = {"dataCollectionMode": "Enabled", "samplingRate": 1.0, "dataId": asset}
    properties = {
        "endpointComputeType": "Managed",
        "instanceType": "Standard_DS3_v2",
        "model": _model(azure),
        "dataCollector": {"collections": collections, "rollingRate": "Hour"},
    }
    body = {**location, "sku": {"name": "Default", "capacity": 1}, "properties": properties}
    put = azure.request("PUT", f"{place}/deployments/blue", body, api_version=DEPLOYMENTS)
    assert put.status_code in (200, 201), put.text
    yield f"{name}/blue"
    azure.request("DELETE", place, api_version="2022-02-01-preview")


def _asset(azure: Running, name: str, kind: str, path: str = "none") -> str:
    properties = {"dataType": kind, "dataUri": f"azureml://datastores/workspaceblobstore/paths/{path}"}
    place = f"{azure.workspace_path}/data/{name}/versions/1"
    put = azure.request("PUT", place, {"properties": properties}, api_version=DEPLOYMENTS)
    assert put.status_code in (200, 201), put.text
    return f"azureml:{name}:1"


def _collect(amlflow: Any, work: Path, place: str, rows: list[dict[str, Any]], at: datetime) -> None:
    """Put the rows where the collector does, a request each."""
    lines = (
        json.dumps({"time": at.isoformat(), "data": [row], "correlationid": f"c{i}"}) for i, row in enumerate(rows)
    )
    hour = work / "collected" / f"{at:%Y/%m/%d/%H}"
    hour.mkdir(parents=True)
    (hour / "a.jsonl").write_text("\n".join(lines))
    amlflow.ok("datastore", "upload", "collected", place)


def _model(azure: Running) -> str:
    uri = "azureml://datastores/workspaceblobstore/paths/none"
    place = f"{azure.workspace_path}/models/monitored/versions/1"
    body = {"properties": {"modelUri": uri, "modelType": "mlflow_model"}}
    azure.request("PUT", place, body, api_version="2023-08-01-preview")
    return place


def test_a_monitor_of_the_workspace(azure: Running, amlflow: Any, ml_client: Any, collecting: str, work: Path) -> None:
    trained, name = _asset(azure, f"train-{uuid.uuid4().hex[:6]}", "mltable"), f"watch-{uuid.uuid4().hex[:6]}"
    base = ("monitor", "create", name, "--endpoint", collecting, "--baseline", trained)
    options = ("--every", "1d", "--threshold", "normalizedWassersteinDistance=0.3", "--prediction", "output=price")
    exported = amlflow.ok(*base, *options, "--email", "a@b.example", "--export", "monitor.yml")
    assert "az ml schedule create" in exported.err
    assert set(yaml.safe_load((work / "monitor.yml").read_text())["create_monitor"]["monitoring_signals"]) == {
        "data_drift",
        "data_quality",
        "prediction_drift",
    }
    assert amlflow("monitor", "show", name).code == 3, "the file alone was written"
    two = amlflow(*base, "--threshold", "jensenShannonDistance=0.3", "--export", "two.yml")
    assert (two.code, (work / "two.yml").exists()) == (2, False), (
        "two metrics of numbers are more than the YAML can say"
    )

    made = amlflow.ok(*base, *options, "--email", "a@b.example", "-o", "json").json
    assert made["when"] == "every 1 day"
    limits = {(item["signal"], item["metric"], item["of"]): item["threshold"] for item in made["thresholds"]}
    assert limits["DataDrift", "JensenShannonDistance", "Categorical"] == 0.1
    assert limits["PredictionDrift", "NormalizedWassersteinDistance", "Numerical"] == 0.3
    assert limits["DataQuality", "NullValueRate", "Categorical"] == 0
    assert name in [item["name"] for item in amlflow.ok("monitor", "list", "-o", "json").json]
    kept = ml_client.schedules.get(name)
    assert kept.create_monitor.alert_notification.emails == ["a@b.example"]
    assert (
        kept.create_monitor.monitoring_signals["data_drift"].production_data.data_window.lookback_window_size == "P1D"
    )

    again = amlflow(*base)
    assert again.code == 1
    assert "--replace" in again.err
    replaced = amlflow.ok(*base, "--cron", "0 6 * * *", "--metric", "nullValueRate", "--replace", "-o", "json").json
    assert (replaced["when"], replaced["kind"], replaced["emails"]) == ("0 6 * * *", "DataQuality", [])
    amlflow.ok("monitor", "delete", name)
    gone = amlflow("monitor", "delete", name)
    assert gone.code == 3


@pytest.fixture(scope="module")
def described() -> contract.Contract:
    root = contract.folder()
    if root is None:
        pytest.skip("the contract folder is not beside the repository (AMLFLOW_CONTRACT names another place)")
    return contract.Contract(root)


def test_a_runs_table_is_the_baseline_and_all_is_as_the_contract_says(
    azure: Running, amlflow: Any, collecting: str, records: list[Path], described: contract.Contract, work: Path
) -> None:
    trained = "age,price\n" + "".join(f"{20 + i % 30},{i}\n" for i in range(300))
    (work / "train.csv").write_text(trained)
    amlflow.ok("track", "-e", "priced", "--run-name", "trained", "--", "true")
    run = amlflow.ok("run", "show", "trained", "-q").out.strip()
    amlflow.ok("log", "artifact", "train.csv", "--run", run)
    name = f"watch-{uuid.uuid4().hex[:6]}"
    base = ("monitor", "create", name, "--endpoint", collecting, "--baseline", run, "--email", "a@b.example")
    amlflow.ok(*base, "--metric", "normalizedWassersteinDistance", "--fail")
    asset = f"{azure.workspace_path}/data/baseline-{run}/versions/1"
    made = azure.request("GET", asset, api_version=DEPLOYMENTS).json()["properties"]
    place = f"ExperimentRun/dcid.{run}/train.csv"
    assert made["dataUri"].endswith(f"/workspaceartifactstore/paths/{place}")
    amlflow.ok("datastore", "download", place, "-n", "workspaceartifactstore", "--to", "fetched")
    assert [file.read_text() for file in (work / "fetched").rglob("train.csv")] == [trained]

    empty = amlflow("monitor", "run", name)
    assert empty.code == 3
    assert "contains no data" in empty.err.splitlines()[-1]
    now = datetime.now(timezone.utc)
    moved = [{"age": 40 + i % 30, "price": i} for i in range(300)]
    _collect(amlflow, work, f"modelDataCollector/{collecting}/model_inputs/", moved, now)
    # An answer that is lost leads to no second run.
    azure.run("fault", f"POST */schedules/{name}/trigger:lost:x1")
    drifted = amlflow("monitor", "run", name, "-o", "json")
    assert (drifted.code, "age" in drifted.err.splitlines()[-1]) == (6, True), drifted.err
    assert "Mail to a@b.example would say that data_drift" in drifted.err
    crossed = [reading for reading in drifted.json["readings"] if reading["crossed"]]
    assert [(item["column"], item["metric"]) for item in crossed] == [("age", "NormalizedWassersteinDistance")]
    shown = amlflow.ok("monitor", "show", name, "-o", "json").json["results"]
    assert [(item["status"], item["crossed"]) for item in shown] == [("Completed", crossed), ("Failed", None)]
    told = amlflow.ok("run", "show", drifted.json["job_id"], "-o", "json").json["tags"]
    assert told["azureml.notification.email.address"] == "a@b.example"
    for option in (["--html", "a.html"], ["--markdown"], ["--no-log"]):
        assert amlflow("monitor", "run", name, *option).code == 2
    amlflow.ok("monitor", "delete", name)
    lines = [line for file in records for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    exchanges = [
        found
        for found in map(json.loads, lines)
        if f"/schedules/{name}" in found["target"] or f"scheduleId={name}" in found["target"]
    ]
    assert {found["method"] for found in exchanges} == {"GET", "POST", "PUT", "DELETE"}
    assert [problem for found in exchanges for problem in described.problems(found) or []] == []


def test_performance_by_its_signal(azure: Running, amlflow: Any, collecting: str, work: Path) -> None:
    some = uuid.uuid4().hex[:6]
    truth, name = _asset(azure, f"truth-{some}", "uri_file", f"truth-{some}/truth.csv"), f"score-{some}"
    base = ("monitor", "create", name, "--endpoint", collecting, "--performance", "--truth", truth, "--join", "id")
    columns = ("--task", "regression", "--prediction", "price", "--target", "paid")
    assert "--threshold" in amlflow(*base, *columns).err
    made = amlflow.ok(*base, *columns, "--threshold", "rmse=5", "-o", "json").json
    assert (made["kind"], made["thresholds"][0]["metric"]) == ("ModelPerformance", "RootMeanSquaredError")
    said, now = [{"id": i, "price": 10 + i} for i in range(50)], datetime.now(timezone.utc)
    _collect(amlflow, work, f"modelDataCollector/{collecting}/model_outputs/", said, now)
    (work / "truth.csv").write_text("id,paid\n" + "".join(f"{i},{18 + i}\n" for i in range(50)))
    amlflow.ok("datastore", "upload", "truth.csv", f"truth-{some}/")
    ran = amlflow.ok("monitor", "run", name, "-o", "json")
    readings = {item["metric"]: (item["value"], item["crossed"]) for item in ran.json["readings"]}
    assert readings["RootMeanSquaredError"] == (8, True), "without --fail it ends well all the same"
    assert readings["MeanAbsoluteError"] == (8, False), "which has no threshold"
    amlflow.ok("monitor", "delete", name)


def test_a_choice_of_columns_is_a_subset_of_features(
    azure: Running, amlflow: Any, ml_client: Any, collecting: str, work: Path
) -> None:
    trained, name = _asset(azure, f"train-{uuid.uuid4().hex[:6]}", "mltable"), f"some-{uuid.uuid4().hex[:6]}"
    base = ("monitor", "create", name, "--endpoint", collecting, "--baseline", trained)
    chosen = ("--column", "age", "--column", "sugar", "--column", "colour")
    amlflow.ok(*base, *chosen, "--ignore", "colour")
    signals = ml_client.schedules.get(name).create_monitor.monitoring_signals
    assert [signals[kind].features for kind in ("data_drift", "data_quality")] == [["age", "sugar"]] * 2
    amlflow.ok("monitor", "delete", name)
    amlflow.ok(*base, *chosen, "--export", "some.yml")
    written = yaml.safe_load((work / "some.yml").read_text())["create_monitor"]["monitoring_signals"]
    assert written["data_drift"]["features"] == ["age", "sugar", "colour"]
    unknown = amlflow(*base, *chosen, "--ignore", "color")
    assert (unknown.code, "'colour'" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--baseline", "azureml:nosuch:1"), 3, "nosuch"),
        (("--baseline", "train.csv"), 2, "azureml:NAME:VERSION"),
        (("--webhook", "https://127.0.0.1/hook"), 2, "--email"),
        (("--fail-if", "columns_drifted > 1"), 2, "--email"),
        (("--email", "nobody"), 2, "nobody"),
        (("--threshold", "age=0.2"), 2, "age=0.2"),
        (("--kind", "at=time"), 2, "at=time"),
        (("--ignore", "age"), 2, "--column"),
        (("--split", "1d"), 2, "--email"),
    ],
)
def test_what_azure_cannot_do_is_said(
    azure: Running, amlflow: Any, collecting: str, options: tuple[str, ...], code: int, said: str
) -> None:
    found = amlflow("monitor", "create", "m", "--endpoint", collecting, *options)
    assert found.code == code, found.err
    assert said in found.err


def test_the_emulator_refuses_half_a_monitor(azure: Running) -> None:
    place = f"{azure.workspace_path}/schedules/half"
    compute = {"computeType": "ServerlessSpark", "runtimeVersion": "3.4", "instanceType": "standard_e4s_v3"}
    trigger = {"triggerType": "Cron", "expression": "0 0 * * *"}
    data = {"inputDataType": "Fixed", "jobInputType": "mltable", "uri": f"{azure.workspace_path}/data/none/versions/1"}
    for definition, said in (
        ({}, "computeConfiguration"),
        ({"computeConfiguration": compute}, "signals"),
        ({"computeConfiguration": compute, "signals": {"a": {"signalType": "Feeling"}}}, "Feeling"),
        ({"computeConfiguration": compute, "signals": {"a": {"signalType": "DataDrift"}}}, "productionData"),
        ({"computeConfiguration": compute, "signals": {"../../a": {"signalType": "DataDrift"}}}, "name a signal"),
        (
            {
                "computeConfiguration": compute,
                "signals": {"a": {"signalType": "DataDrift", "productionData": data, "referenceData": data}},
            },
            "not found",
        ),
    ):
        action = {"actionType": "CreateMonitor", "monitorDefinition": definition}
        answer = azure.request(
            "PUT", place, {"properties": {"action": action, "trigger": trigger}}, api_version="2023-06-01-preview"
        )
        assert answer.status_code == 400
        assert said in answer.text
