"""A registered model as a batch endpoint of Azure ML, from the command line: the emulator stands for Azure."""

from __future__ import annotations

import csv
import io
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployable import ROW, put, sample
from emulated import Running

# Each job imports MLflow, and a crowded machine takes its time for that.
pytestmark = pytest.mark.timeout(900)
CLUSTER = "batch-cluster"
# Each strikes what the ones before it have left; «lost» breaks the connection after the work was done.
FAULTS = ("* *:throttle=0.2:0.1", "* *:503:0.1", "POST /batch/*:lost:0.5")


@pytest.fixture
def wine(azure: Running, amlflow: Any, deployable: Path) -> str:
    """A model of the workspace with three versions, which say 1, say 2 and cannot be loaded."""
    amlflow.ok("compute", "create", CLUSTER, "--max", "2", "-q")
    name = f"wine-{uuid.uuid4().hex[:6]}"
    for version, folder in enumerate(("one", "two", "broken"), 1):
        put(azure, name, deployable / folder, version)
    return name


@pytest.fixture
def endpoint(azure: Running) -> Iterator[str]:
    name = f"bat-{uuid.uuid4().hex[:8]}"
    yield name
    azure.run("fault", "--clear")
    azure.request("DELETE", f"{azure.workspace_path}/batchEndpoints/{name}", api_version="2023-10-01")


@pytest.fixture
def rows(work: Path) -> Path:
    """A folder with two files of two rows each."""
    folder = work / "rows"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        lines = [",".join(ROW["columns"]), *([",".join(["0.5"] * 10)] * 2)]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def deploy(model: str, endpoint: str, *options: str) -> tuple[str, ...]:
    return ("deploy", model, "-t", "batch", "--name", endpoint, "--compute", CLUSTER, *options)


def parsed(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_two_deployments_take_turns(amlflow: Any, wine: str, endpoint: str, rows: Path, work: Path) -> None:
    plan = amlflow.ok(*deploy(f"{wine}:1", endpoint, "--dry-run", "-o", "json")).json
    steps = [(step["action"], step["what"]) for step in plan["steps"]]
    assert steps == [
        ("create", f"endpoint {endpoint}"),
        ("create", "deployment blue"),
        ("create", "job"),
        ("change", "default"),
    ]
    assert amlflow("endpoint", "show", endpoint).code == 3
    first = amlflow.ok(*deploy(f"{wine}:1", endpoint, "--mini-batch-size", "1", "--max-concurrency", "2", "-o", "json"))
    assert (first.json["target"], first.json["state"], first.json["model"]) == ("batch", "running", f"{wine}:1")
    assert first.json["traffic"] == {"blue": 100}
    assert "has scored the input example" in first.err
    again = amlflow.ok(*deploy(f"{wine}:1", endpoint, "--mini-batch-size", "1", "--max-concurrency", "2"))
    assert "is asked by default already" in again.err

    scored = amlflow.ok("endpoint", "invoke", endpoint, str(rows))
    wanted = [[str(row), "1.0", name] for name in ("a.csv", "b.csv") for row in range(2)]
    assert parsed(scored.out) == wanted
    assert "2 files in 2 mini-batches" in scored.err
    last = amlflow.ok("endpoint", "logs", endpoint).out
    assert "Processed mini-batches: 2 of 2; failed files: 0" in last
    assert "Processed mini-batches" in amlflow.ok("endpoint", "logs", endpoint, "-f").out

    second = amlflow.ok(*deploy(f"{wine}:2", endpoint, "-o", "json"))
    assert second.json["traffic"] == {"blue": 0, "green": 100}
    amlflow.ok("datastore", "upload", str(rows), f"{endpoint}/rows", "-q")
    stored = f"azureml://datastores/workspaceblobstore/paths/{endpoint}/rows"
    kept = amlflow.ok("endpoint", "invoke", endpoint, stored, "--to", "out", "-o", "json").json
    assert (kept["status"], kept["deployment"]) == ("Completed", "green")
    assert {row[1] for row in parsed((work / "out" / "predictions.csv").read_text())} == {"2.0"}
    assert kept["output"].endswith("/predictions.csv")
    assert kept["job_id"] in amlflow.ok("job", "list", "-q").out.split()
    held = amlflow.ok("endpoint", "conformance", endpoint, "--data", str(sample(work)), "-o", "json").json
    assert (held["target"], held["requests"], held["values"]) == ("batch", 2, 3)

    assert amlflow.ok("endpoint", "rollback", endpoint, "-o", "json").json["traffic"] == {"blue": 100, "green": 0}
    one = parsed(amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).out)
    assert one == [["0", "1.0", "data.csv"]]
    keys = amlflow("endpoint", "keys", endpoint)
    assert (keys.code, "takes Entra tokens of https://ml.azure.com" in keys.err) == (1, True)
    traffic = amlflow("endpoint", "traffic", endpoint, "blue=50", "green=50")
    assert (traffic.code, f"amlflow endpoint rollback {endpoint}" in traffic.err) == (1, True)
    listed = amlflow.ok("endpoint", "list", "-o", "json").json
    assert [item["target"] for item in listed if item["name"] == endpoint] == ["batch"]
    taken = amlflow("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    assert (taken.code, "of the target batch already" in taken.err) == (2, True)
    amlflow.ok("endpoint", "delete", endpoint)
    assert amlflow("endpoint", "show", endpoint).code == 3


@pytest.mark.slow
def test_what_fails_is_taken_back(
    amlflow: Any, azure: Running, wine: str, endpoint: str, rows: Path, work: Path
) -> None:
    new = amlflow(*deploy(f"{wine}:3", endpoint))
    assert (new.code, "UnpicklingError" in new.err) == (1, True)
    assert f"The endpoint {endpoint} is deleted again" in new.err
    assert amlflow("endpoint", "show", endpoint).code == 3

    cut = amlflow.start(*deploy(f"{wine}:3", endpoint))
    assert any(b"Making blue" in line for line in cut.stderr)
    cut.kill()
    cut.communicate()
    assert amlflow.ok("endpoint", "show", endpoint, "-o", "json").json["traffic"] in ({}, {"blue": 0})
    again = amlflow(*deploy(f"{wine}:3", endpoint))
    assert (again.code, f"The endpoint {endpoint} is deleted again" in again.err) == (1, True)
    assert amlflow("endpoint", "show", endpoint).code == 3

    begun = amlflow.ok(*deploy(f"{wine}:1", endpoint, "--no-wait", "-o", "json")).json
    assert begun["traffic"] == {"blue": 0}
    nobody = amlflow("endpoint", "invoke", endpoint, str(rows))
    assert (nobody.code, "has no deployment that it asks" in nobody.err) == (3, True)
    unasked = amlflow.ok(*deploy(f"{wine}:1", endpoint, "--no-smoke", "-o", "json"))
    assert (unasked.json["traffic"], "scores the input example" in unasked.err) == ({"blue": 100}, False)
    broken = amlflow(*deploy(f"{wine}:3", endpoint))
    assert broken.code == 1
    assert "green is deleted again; blue is asked as before" in broken.err
    shown = amlflow.ok("endpoint", "show", endpoint, "-o", "json").json
    assert (shown["traffic"], shown["model"]) == ({"blue": 100}, f"{wine}:1")
    assert amlflow("endpoint", "rollback", endpoint).code == 3

    (rows / "b.csv").write_text("age,sex\nyoung,1\n")
    failed = amlflow("endpoint", "invoke", endpoint, str(rows))
    assert failed.code == 1
    assert "The end of its log:" in failed.err
    assert "could not convert string to float: 'young'" in failed.err.partition("The end of its log:")[2]
    detached = amlflow.ok("endpoint", "invoke", endpoint, str(rows / "a.csv"), "--detach", "-q").out.strip()
    assert detached.startswith("batchjob-")
    amlflow.ok("job", "logs", detached, "-f")
    amlflow.ok("job", "download", detached, "--result", "score", "--to", "kept")
    assert [row[1] for row in parsed((work / "kept" / "predictions.csv").read_text())] == ["1.0", "1.0"]

    moving = amlflow.start(*deploy(f"{wine}:2", endpoint))
    assert any(b"scores the input example" in line for line in moving.stderr)
    amlflow.ok("endpoint", "delete", endpoint)
    assert b"was deleted meanwhile" in moving.communicate(timeout=200)[1]
    assert endpoint not in amlflow.ok("endpoint", "list", "-q").out


def test_what_would_fail_later_is_refused_at_once(
    amlflow: Any, azure: Running, wine: str, endpoint: str, deployable: Path, rows: Path, work: Path
) -> None:
    base = ("deploy", f"{wine}:1", "-t", "batch", "--name", endpoint)
    near = amlflow(*base, "--compute", "batch-clustr")
    assert (near.code, f"Did you mean '{CLUSTER}'" in near.err) == (3, True)
    assert amlflow(*base).code == 2
    assert amlflow(*base, "--compute", CLUSTER, "--instance-count", "9").code == 2
    assert amlflow(*base, "--compute", CLUSTER, "--output-action", "both").code == 2
    assert amlflow(*base, "--compute", CLUSTER, "--canary", "10,100").code == 2
    assert amlflow("deploy", f"{wine}:1", "-t", "managed", "--retries", "0").code == 2
    assert amlflow("deploy", f"{wine}:1", "--compute", CLUSTER).code == 2
    assert amlflow(*base[:-1], "no", "--compute", CLUSTER).code == 2
    unregistered = amlflow("deploy", str(deployable / "one"), "-t", "batch", "--compute", CLUSTER)
    assert (unregistered.code, "amlflow register" in unregistered.err) == (2, True)
    assert amlflow("endpoint", "show", endpoint).code == 3

    plain = work / "plain"
    shutil.copytree(deployable / "one", plain)
    text = (plain / "MLmodel").read_text()
    (plain / "MLmodel").write_text("\n".join(_without_signature(text.splitlines())) + "\n")
    put(azure, wine, plain, 4)
    unsigned = amlflow.ok(*deploy(f"{wine}:4", endpoint, "--dry-run"))
    assert f"{wine}:4 has no signature" in unsigned.err

    amlflow.ok(*deploy(f"{wine}:1", endpoint, "--no-smoke", "--output-action", "summary"))
    for source, code in (
        ("none.csv", 3),
        ("none:1", 3),
        ("azureml://datastores/workspaceblobstore/paths/nowhere", 3),
        ("azureml://datastores/nostore/paths/nowhere", 3),
        (str(plain), 2),
    ):
        assert amlflow("endpoint", "invoke", endpoint, source).code == code, source
    (rows / "inner").mkdir()
    nested = amlflow("endpoint", "invoke", endpoint, str(rows))
    assert (nested.code, "holds the folder 'inner'" in nested.err) == (2, True)
    assert amlflow("endpoint", "logs", endpoint).code == 3
    summed = amlflow.ok("endpoint", "invoke", endpoint, str(rows / "a.csv"), "-o", "json").json
    assert (summed["status"], summed["output"]) == ("Completed", "")
    assert amlflow("endpoint", "conformance", endpoint).code == 1


def _without_signature(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = line.startswith("signature:") or (inside and line.startswith(" "))
        if not inside:
            yield line


@pytest.mark.slow
def test_a_deploy_that_was_killed_goes_on(amlflow: Any, azure: Running, wine: str, endpoint: str, rows: Path) -> None:
    azure.run("fault", *FAULTS)
    for step in ("Making blue", "scores the input example"):
        process = amlflow.start(*deploy(f"{wine}:1", endpoint))
        for line in process.stderr:
            if step in line.decode() or b"Error" in line:
                break
        process.kill()
        process.communicate()
    ended = amlflow.ok(*deploy(f"{wine}:1", endpoint, "-o", "json"))
    assert (ended.json["traffic"], ended.json["state"]) == ({"blue": 100}, "running")
    before = amlflow.ok("job", "list", "-q", "--limit", "500").out.split()
    scored = parsed(amlflow.ok("endpoint", "invoke", endpoint, str(rows)).out)
    assert [row[1] for row in scored] == ["1.0"] * 4
    after = amlflow.ok("job", "list", "-q", "--limit", "500").out.split()
    assert len(set(after) - set(before)) == 1
    azure.run("fault", "--clear")
    place = f"{azure.workspace_path}/batchEndpoints/{endpoint}/deployments"
    found = json.loads(azure.request("GET", place, api_version="2024-01-01-preview").text)["value"]
    assert [item["name"] for item in found] == ["blue"]
    tags = azure.request("GET", place.rpartition("/")[0], api_version="2023-10-01").json()["tags"]
    assert "amlflow.unfinished" not in tags
