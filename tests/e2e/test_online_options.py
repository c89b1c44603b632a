"""What a managed endpoint can be told: whose scoring script, who may ask, what is mirrored, scaled, collected and closed."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests
from deployable import ROW, monitored, put, sample
from emulated import Running

DEPLOYMENTS = "2023-04-01-preview"
INSIGHTS = "2022-10-01"


def deployment(azure: Running, endpoint: str, name: str) -> dict[str, Any]:
    place = f"{azure.workspace_path}/onlineEndpoints/{endpoint}/deployments/{name}"
    answer = azure.request("GET", place, api_version=DEPLOYMENTS)
    assert answer.status_code == 200, answer.text
    return answer.json()["properties"]


def rules(azure: Running) -> list[str]:
    place = f"{azure.workspace_path.split('/providers/')[0]}/providers/Microsoft.Insights/autoscaleSettings"
    return [item["name"] for item in azure.request("GET", place, api_version=INSIGHTS).json()["value"]]


def test_a_model_that_azure_s_scorer_would_end_gets_a_script_of_its_own(
    amlflow: Any, azure: Running, wine: str, endpoint: str, work: Path, deployable: Path, tmp_path: Path
) -> None:
    base = ("-t", "managed", "--name", endpoint)
    lost = amlflow("deploy", f"{wine}:1", *base, "--scoring", "azure")
    assert (lost.code, "No module named 'azureml.ai'" in lost.err, "Liveness probe" in lost.err) == (1, True, True)
    assert amlflow("endpoint", "show", endpoint).code == 3

    amlflow.ok("deploy", f"{wine}:1", *base)
    first = deployment(azure, endpoint, "blue")
    assert first["codeConfiguration"]["scoringScript"] == "score.py"
    key = amlflow.ok("endpoint", "keys", endpoint, "-q").out.strip()
    url = amlflow.ok("endpoint", "show", endpoint, "--query", "scoring_url", "-o", "tsv").out.strip()

    def asked(body: str, kind: str = "application/json") -> requests.Response:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        return requests.post(url, data=body, headers=headers, verify=azure.env["SSL_CERT_FILE"], timeout=60)

    csv = ",".join(ROW["columns"]) + "\n" + ",".join(["0.5"] * 10) + "\n"
    for body in (json.dumps({"input_data": ROW}), json.dumps({"dataframe_split": ROW})):
        assert asked(body).json() == [1.0]
    assert asked(csv, "text/csv").json() == [1.0]
    wrong = asked('{"dataframe_split": {"columns": ["age"], "data": [[1]]}}')
    assert (wrong.status_code, wrong.headers["ms-azureml-model-error-statuscode"]) == (424, "400")
    assert "lacks the columns" in wrong.json()["error"]["message"]

    plan = amlflow.ok("deploy", f"{wine}:1", *base, "--env", "MODE=other", "--dry-run", "-o", "json").json
    kept = {step["what"] for step in plan["steps"] if step["action"] == "keep"}
    assert {"scoring script", "environment"} <= kept
    mark = azure.record.stat().st_size
    amlflow.ok("deploy", f"{wine}:1", *base, "--env", "MODE=other")
    with azure.record.open() as record:
        record.seek(mark)
        puts = [line for line in map(json.loads, record) if line["method"] == "PUT"]
    assert not [line["target"] for line in puts if "/codes/" in line["target"] or "/environments/" in line["target"]]
    second = deployment(azure, endpoint, "green")
    assert all(second[key] == first[key] for key in ("codeConfiguration", "environmentId"))

    name = f"seen-{uuid.uuid4().hex[:6]}"
    put(azure, name, monitored(deployable / "two", tmp_path / "monitored"), 1)
    amlflow.ok("deploy", f"{name}:1", *base, "--scoring", "azure")
    assert "codeConfiguration" not in deployment(azure, endpoint, "blue")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json == {"predictions": [2.0]}
    assert amlflow("deploy", f"{wine}:1", *base, "--scoring", "mine").code == 2


@pytest.mark.slow
def test_tokens_of_entra_open_an_endpoint(amlflow: Any, azure: Running, wine: str, endpoint: str, work: Path) -> None:
    base = ("-t", "managed", "--name", endpoint)
    amlflow.ok("deploy", f"{wine}:1", *base, "--auth-mode", "aad")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json == {"predictions": [1.0]}
    none = amlflow("endpoint", "keys", endpoint)
    assert (none.code, "has no keys" in none.err, "--resource https://ml.azure.com" in none.err) == (1, True, True)
    other = amlflow("deploy", f"{wine}:2", *base, "--auth-mode", "key")
    assert (other.code, "Leave out --auth-mode" in other.err) == (2, True)
    amlflow.ok("deploy", f"{wine}:2", *base)
    url = amlflow.ok("endpoint", "show", endpoint, "--query", "scoring_url", "-o", "tsv").out.strip()

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        verify = azure.env["SSL_CERT_FILE"]
        return requests.post(url, json={"input_data": ROW}, headers=headers, verify=verify, timeout=60).status_code

    for_ml = "https://ml.azure.com/.default"
    assert [status(azure.token(for_ml)), status(azure.token(for_ml, role=1)), status(azure.token())] == [200, 403, 401]
    assert status("none") == 401


@pytest.mark.slow
def test_live_requests_are_mirrored_before_the_traffic_moves(
    amlflow: Any, azure: Running, wine: str, endpoint: str
) -> None:
    base = ("-t", "managed", "--name", endpoint)
    first = amlflow.ok("deploy", f"{wine}:1", *base, "--mirror", "20")
    assert "Nothing is mirrored to blue" in first.err
    key = amlflow.ok("endpoint", "keys", endpoint, "-q").out.strip()
    url = amlflow.ok("endpoint", "show", endpoint, "--query", "scoring_url", "-o", "tsv").out.strip()
    ended, answers = threading.Event(), []

    def ask() -> None:
        while not ended.is_set():
            answer = requests.post(
                url,
                json={"input_data": ROW},
                headers={"Authorization": f"Bearer {key}"},
                verify=azure.env["SSL_CERT_FILE"],
                timeout=60,
            )
            answers.append((answer.status_code, answer.json()))
            time.sleep(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        second = amlflow.ok("deploy", f"{wine}:2", *base, "--mirror", "50", "--canary-wait", "6")
    finally:
        ended.set()
        thread.join()
    assert "Mirroring 50 % of the requests of blue to green" in second.err
    assert "green failed 0 of " in second.err
    assert "No request came to be mirrored" not in second.err
    assert {status for status, _ in answers} == {200}
    place = f"{azure.workspace_path}/onlineEndpoints/{endpoint}"
    shown = azure.request("GET", place, api_version="2022-02-01-preview").json()["properties"]
    assert (shown["traffic"], shown["mirrorTraffic"]) == ({"green": 100}, {})
    assert amlflow("deploy", f"{wine}:1", *base, "--mirror", "60").code == 2


@pytest.mark.slow
def test_scaled_timed_and_closed(amlflow: Any, azure: Running, wine: str, endpoint: str) -> None:
    base = ("-t", "managed", "--name", endpoint)
    options = ("--autoscale", "1:3:60%", "--request-timeout", "30", "--private", "--no-egress")
    for wrong in (("--autoscale", "3:1"), ("--request-timeout", "500"), ("--sampling", "10"), ("--compute", "c")):
        assert amlflow("deploy", f"{wine}:1", *base, *wrong).code == 2
    full = amlflow("deploy", f"{wine}:1", *base, "--autoscale", "1:40")
    assert (full.code, "The quota does not allow 40" in full.err) == (1, True)
    plan = amlflow.ok("deploy", f"{wine}:1", *base, *options, "--dry-run", "-o", "json").json
    assert {"create autoscale rule 1:3:60%"} <= {f"{s['action']} {s['what']} {s['detail']}" for s in plan["steps"]}
    amlflow.ok("deploy", f"{wine}:1", *base, *options)
    found = deployment(azure, endpoint, "blue")
    assert (found["requestSettings"]["requestTimeout"], found["egressPublicNetworkAccess"]) == ("PT30S", "Disabled")
    assert [name for name in rules(azure) if endpoint in name] == [f"{azure.scope[2]}-{endpoint}-blue"]
    again = amlflow.ok("deploy", f"{wine}:1", *base, *options)
    assert "blue has all the traffic already" in again.err
    failed = amlflow("deploy", f"{wine}:3", *base, *options)
    assert (failed.code, "green is deleted again" in failed.err) == (1, True)
    assert [name for name in rules(azure) if endpoint in name] == [f"{azure.scope[2]}-{endpoint}-blue"]
    amlflow.ok("endpoint", "delete", endpoint)
    assert not [name for name in rules(azure) if endpoint in name]


@pytest.mark.parametrize("scoring", ["own", "azure"])
def test_data_is_collected(
    amlflow: Any, azure: Running, endpoint: str, work: Path, deployable: Path, tmp_path: Path, scoring: str
) -> None:
    name = f"seen-{uuid.uuid4().hex[:6]}"
    put(azure, name, monitored(deployable / "one", tmp_path / "monitored"), 1)
    amlflow.ok("deploy", f"{name}:1", "-t", "managed", "--name", endpoint, "--collect", "--scoring", scoring)
    for _ in range(3):
        amlflow.ok("endpoint", "invoke", endpoint, str(sample(work)))
    folder = f"modelDataCollector/{endpoint}/blue"
    deadline = time.monotonic() + 60
    while True:
        amlflow("datastore", "download", folder, "--to", "collected")
        found = {kind: lines_of(work / "collected", kind) for kind in ("model_inputs", "model_outputs")}
        if all(len(lines) >= 3 for lines in found.values()):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    one, other = found["model_inputs"][-1], found["model_outputs"][-1]
    assert one["data"] == [dict(zip(ROW["columns"], ROW["data"][0], strict=True))]
    assert one["type"] == "azureml.inference.model_inputs"
    assert one["correlationid"] in {line["correlationid"] for line in found["model_outputs"]}
    assert other["data"] == ([{"output": 1.0}] if scoring == "own" else [1.0])
    asked = amlflow.ok("endpoint", "data", endpoint, "--to", "fetched", "-o", "json").json
    assert asked["requests"] >= 3
    rows = [line["data"][0] for line in lines_of(work / "fetched", "model_inputs")]
    (work / "before.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    amlflow.ok("monitor", "drift", endpoint, "--baseline", "before.jsonl", "--no-log")
    asset = f"{azure.workspace_path}/data/{endpoint}-blue-model_inputs/versions/1"
    assert azure.request("GET", asset, api_version=DEPLOYMENTS).status_code == 200


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*.jsonl") if kind in file.parts)
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_the_log_follows_whichever_answers(amlflow: Any, wine: str, endpoint: str) -> None:
    amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    followed = amlflow.start("endpoint", "logs", endpoint, "-f")
    amlflow.ok("deploy", f"{wine}:2", "-t", "managed", "--name", endpoint)
    seen = b""
    try:
        for line in followed.stdout:
            seen += line
            if line.startswith(b"==> green <=="):
                break
    finally:
        followed.kill()
        followed.communicate()
    assert b"The model is loaded" in seen.partition(b"==> green <==")[0]
    assert "The model is loaded" in amlflow.ok("endpoint", "logs", endpoint, "--deployment", "blue").out
    wrong = amlflow("endpoint", "logs", endpoint, "--deployment", "gren")
    assert (wrong.code, "Did you mean 'green'" in wrong.err) == (3, True)
