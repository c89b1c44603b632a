"""A registered model as a managed endpoint of Azure ML, from the command line: the emulator stands for Azure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deployable import ROW, sample
from emulated import Running


def test_blue_and_green(amlflow: Any, wine: str, endpoint: str, work: Path) -> None:
    plan = amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint, "--dry-run", "-o", "json")
    steps = {(step["action"], step["what"]) for step in plan.json["steps"]}
    made = {("create", f"endpoint {endpoint}"), ("create", "deployment blue"), ("change", "traffic")}
    assert made == {step for step in steps if step[1] not in ("scoring script", "environment")}
    assert {step[1] for step in steps} > {"scoring script", "environment"}
    assert amlflow("endpoint", "show", endpoint).code == 3

    first = amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint, "--env", "MODE=one", "-o", "json")
    assert (first.json["traffic"], first.json["state"], first.json["model"]) == ({"blue": 100}, "running", f"{wine}:1")
    assert "answers the input example" in first.err
    assert amlflow.ok("endpoint", "invoke", endpoint, "--example").json == {"predictions": [1.0, 1.0]}
    held = amlflow.ok("endpoint", "conformance", endpoint, "--data", str(sample(work)), "-o", "json").json
    assert (held["target"], held["requests"], held["values"]) == ("managed", 2, 3)
    again = amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint, "--env", "MODE=one")
    assert "blue has all the traffic already" in again.err

    golden = work / "golden.jsonl"
    golden.write_text(json.dumps({"request": {"dataframe_split": ROW}, "predictions": [2.0]}) + "\n")
    options = ("--canary", "10,50,100", "--canary-wait", "0", "--golden", str(golden))
    second = amlflow.ok("deploy", f"{wine}:2", "-t", "managed", "--name", endpoint, *options)
    assert "1 answers differ, by 1 at most" in second.err
    assert second.err.index("green 10 %, blue 90 %") < second.err.index("green 50 %") < second.err.index("green 100 %")
    csv = work / "rows.csv"
    csv.write_text(",".join(ROW["columns"]) + "\n" + ",".join(["0.5"] * 10) + "\n")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(csv)).json == {"predictions": [2.0]}

    assert amlflow.ok("endpoint", "rollback", endpoint, "-o", "json").json["traffic"] == {"blue": 100, "green": 0}
    split = amlflow.ok("endpoint", "traffic", endpoint, "blue=40", "green=60", "-o", "json").json
    assert (split["traffic"], split["model"]) == ({"blue": 40, "green": 60}, f"{wine}:2")
    assert amlflow("endpoint", "traffic", endpoint, "blue=40", "gren=60").code == 3
    assert amlflow("endpoint", "traffic", endpoint, "blue=40", "green=40").code == 2
    key = amlflow.ok("endpoint", "keys", endpoint, "-q").out
    assert amlflow.ok("endpoint", "keys", endpoint, "--rotate", "-q").out not in ("", key)
    assert "The model is loaded" in amlflow.ok("endpoint", "logs", endpoint).out
    listed = amlflow.ok("endpoint", "list", "-o", "json").json
    assert [item["target"] for item in listed if item["name"] == endpoint] == ["managed"]
    taken = amlflow("deploy", f"{wine}:1", "-t", "local", "--name", endpoint)
    assert (taken.code, "of the target managed already" in taken.err) == (2, True)

    options = ("--env", "MODE=one", "--canary", "50,100", "--canary-wait", "120")
    moving = amlflow.start("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint, *options)
    assert any(b"blue 50 %, green 50 %" in line for line in moving.stderr)
    amlflow.ok("endpoint", "keys", endpoint, "--rotate")
    amlflow.ok("endpoint", "delete", endpoint)
    assert b"was deleted meanwhile" in moving.communicate(timeout=120)[1]
    assert endpoint not in amlflow.ok("endpoint", "list", "-q").out


def test_what_fails_is_taken_back(amlflow: Any, azure: Running, wine: str, endpoint: str, work: Path) -> None:
    base = ("-t", "managed", "--name", endpoint)
    new = amlflow("deploy", f"{wine}:3", *base)
    assert new.code == 1
    assert "UnpicklingError" in new.err
    assert "is deleted again" in new.err
    assert amlflow("endpoint", "show", endpoint).code == 3

    # As if the first deploy had been killed once the deployment was asked for.
    begun = amlflow.ok("deploy", f"{wine}:1", *base, "--no-wait", "-o", "json").json
    assert begun["traffic"] == {"blue": 0}
    amlflow.ok("deploy", f"{wine}:1", *base)
    broken = amlflow("deploy", f"{wine}:3", *base)
    assert broken.code == 1
    assert "green is deleted again; the traffic is blue 100 %" in broken.err
    golden = work / "golden.jsonl"
    golden.write_text(json.dumps({"request": {"input_data": ROW}, "predictions": [7]}) + "\n")
    differs = amlflow("deploy", f"{wine}:2", *base, "--golden", str(golden))
    assert (differs.code, "[7] was expected" in differs.err) == (1, True)
    assert amlflow.ok("endpoint", "show", endpoint, "--query", "traffic", "-o", "json").json == {"blue": 100}
    assert amlflow("endpoint", "rollback", endpoint).code == 3
    sent = amlflow("endpoint", "invoke", endpoint, str(sample(work)))
    assert sent.json == {"predictions": [1.0]}
    (work / "wrong.json").write_text('{"dataframe_split": {"columns": ["age"], "data": [[1]]}}')
    wrong = amlflow("endpoint", "invoke", endpoint, "wrong.json")
    assert (wrong.code, "refused the request (400)" in wrong.err) == (1, True)


def test_what_would_fail_later_is_refused_at_once(
    amlflow: Any, azure: Running, wine: str, endpoint: str, deployable: Path
) -> None:
    base = ("deploy", f"{wine}:1", "-t", "managed", "--name", "never-made")
    full = amlflow(*base, "--instance-type", "Standard_NC24s_v3")
    assert full.code == 1
    assert "0 of 24 cores" in full.err
    assert "--instance-type Standard_NC6s_v3" in full.err
    size = amlflow(*base, "--instance-type", "Standard_DS3_v3")
    assert (size.code, "Did you mean 'Standard_DS3_v2'" in size.err) == (3, True)
    elsewhere = f"{azure.workspace_path}-{endpoint}"
    made = azure.request("PUT", elsewhere, {"location": "local", "properties": {}}, api_version="2024-04-01-preview")
    assert made.status_code == 202
    body = {"location": "local", "properties": {"authMode": "Key"}}
    place = f"{elsewhere}/onlineEndpoints/{endpoint}"
    assert azure.request("PUT", place, body, api_version="2022-02-01-preview").status_code == 201
    taken = amlflow(*base[:-1], endpoint)
    assert (taken.code, "already in use" in taken.err, "--name" in taken.err) == (2, True, True)
    assert azure.request("DELETE", elsewhere, api_version="2024-04-01-preview").status_code == 202
    assert amlflow(*base[:-1], "no").code == 2
    assert amlflow(*base, "--canary", "50,10").code == 2
    assert amlflow(*base, "--golden", "none.jsonl").code == 3
    assert amlflow(*base, "--port", "1234").code == 2
    unregistered = amlflow("deploy", str(deployable / "one"), "-t", "managed", "--name", "never-made")
    assert (unregistered.code, "amlflow register" in unregistered.err) == (2, True)
    assert "Did you mean 'managed'" in amlflow("deploy", f"{wine}:1", "-t", "manged").err
    assert amlflow("deploy", f"{wine}:1", "-t", "managed", "-w", "local").code in (1, 3)
    assert amlflow("endpoint", "show", "never-made").code == 3


def test_a_deploy_that_was_killed_goes_on(amlflow: Any, azure: Running, wine: str, endpoint: str, work: Path) -> None:
    base = ("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    azure.run("fault", "* *onlineEndpoints*:503:0.1", "* *onlineEndpoints*:429:0.1")
    try:
        for step in ("Making blue", "Traffic: blue"):
            process = amlflow.start(*base)
            for line in process.stderr:
                if step in line.decode() or b"Error" in line:
                    break
            process.kill()
            process.communicate()
        ended = amlflow.ok(*base, "-o", "json")
    finally:
        azure.run("fault", "--clear")
    assert (ended.json["traffic"], ended.json["state"]) == ({"blue": 100}, "running")
    assert amlflow.ok("endpoint", "list", "-q").out.split().count(endpoint) == 1


@pytest.mark.slow
def test_mlflow_s_own_client_deploys_as_well(amlflow: Any, wine: str, endpoint: str) -> None:
    script = """
import sys
from mlflow.deployments import get_deploy_client
name, wine = sys.argv[1:]
client = get_deploy_client("amlflow")
made = client.create_deployment(name, f"models:/{wine}/1", config={"target": "managed", "env.MODE": "one"})
assert (made["target"], made["model"], made["traffic"]) == ("managed", f"{wine}:1", {"blue": 100}), made
client.update_deployment(name, f"models:/{wine}/2", config={"canary": "50,100", "canary_wait": "0"})
assert client.predict(name, [[0.1] * 10])["predictions"] == [2.0]
assert client.get_deployment(name)["traffic"] == {"blue": 0, "green": 100}
client.delete_deployment(name)
assert name not in [item["name"] for item in client.list_deployments()]
"""
    command = [sys.executable, "-W", "ignore", "-c", script, endpoint, wine]
    done = subprocess.run(command, env=amlflow.env, cwd=amlflow.cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
