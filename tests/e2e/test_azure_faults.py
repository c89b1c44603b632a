"""Commands against a service that fails every fifth request: they succeed all the same, and nothing is there twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_workspaces import send_all

# Each strikes what the ones before it have left: a fifth in all. «lost» breaks the connection after the work was done.
FAULTS = ("* *:throttle=0.2:0.05", "* *:503:0.05", "* *:reset:0.05", "* *:lost:0.05")
MLPROJECT = "entry_points: {main: {command: echo done}}\n"


@pytest.fixture
def failing(azure: Any, amlflow: Any, project: Callable[..., Path]) -> Iterator[Any]:
    project(MLproject=MLPROJECT)
    (amlflow.cwd / "model").mkdir()
    (amlflow.cwd / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}\n")
    (amlflow.cwd / "note.txt").write_text("a note")
    amlflow.ok("compute", "create", "cpu-cluster", "--max", "2", "-q")
    azure.run("fault", *FAULTS)
    yield azure
    azure.run("fault", "--clear")


def _round(amlflow: Any, name: str, number: int) -> str:
    """Ten commands; the run that they have made."""
    amlflow.ok("compute", "create", f"{name}-{number}", "--max", "1", "-q")
    assert f"{name}-{number}" in amlflow.ok("compute", "list", "-q").out.split()
    image = ("--environment", "image:python:3.11")
    job = amlflow.ok(
        "run-project", "proj", "--compute", "cpu-cluster", "-e", name, *image, "--detach", "-q"
    ).out.strip()
    assert amlflow.ok("job", "show", job, "--query", "experiment").out.strip() == name
    run = amlflow.ok("track", "-e", name, "--run-name", f"r{number}", "--", "sh", "-c", "echo $AMLFLOW_RUN").out.strip()
    amlflow.ok("log", "metric", f"acc={number}", "--step", "1", "--run", run)
    amlflow.ok("log", "artifact", "note.txt", "--run", run)
    amlflow.ok("register", "model", "--name", name, "--tag", f"n={number}", "--alias", "newest", "-q")
    amlflow.ok("datastore", "upload", "model", f"{name}/{number}", "-q")
    assert str(number) in amlflow.ok("model", "show", f"{name}@newest", "--query", "tags.n").out
    return str(run)


def _drive(amlflow: Any, azure: Any, rounds: int) -> None:
    name = f"f{uuid.uuid4().hex[:6]}"
    tracked = [_round(amlflow, name, number) for number in range(rounds)]
    azure.run("fault", "--clear")
    send_all(amlflow)
    numbers = [str(number) for number in range(rounds)]
    computes = [item for item in amlflow.ok("compute", "list", "-q").out.split() if item.startswith(f"{name}-")]
    assert sorted(computes) == sorted(f"{name}-{number}" for number in numbers)
    jobs = amlflow.ok("job", "list", "--experiment", name, "-q").out.split()
    assert len(jobs) == rounds
    runs = amlflow.ok("run", "list", "-e", name, "-o", "json").json
    named = sorted(run["name"] for run in runs if run["run_id"] not in jobs)
    assert named == sorted(f"r{number}" for number in numbers)
    versions = amlflow.ok("model", "list", name, "-o", "json").json
    assert sorted(item["tags"]["n"] for item in versions) == sorted(numbers)
    uploads = amlflow.ok("run", "list", "-e", "Default", "-o", "json").json
    assert sum(run["name"] == f"register-{name}" for run in uploads) == rounds
    api = f"/mlflow/v2.0{azure.workspace_path}/api/2.0/mlflow"
    for number, run in zip(numbers, tracked, strict=True):
        real = amlflow.ok("run", "show", run, "--query", "run_id").out.strip()
        points = azure.request("GET", f"{api}/metrics/get-history", run_id=real, metric_key="acc").json()["metrics"]
        assert [(point["value"], int(point["step"])) for point in points] == [(float(number), 1)]
        amlflow.ok("run", "download", real, "note.txt", "--to", f"down-{number}")


def test_ten_commands_outlast_a_failing_service(amlflow: Any, failing: Any) -> None:
    _drive(amlflow, failing, 1)


@pytest.mark.slow
def test_a_hundred_commands_outlast_a_failing_service(amlflow: Any, failing: Any) -> None:
    _drive(amlflow, failing, 10)


def test_an_artifact_whose_place_was_noted_without_an_answer_arrives(amlflow: Any, azure: Any) -> None:
    (amlflow.cwd / "note.txt").write_text("a note")
    (amlflow.cwd / "model").mkdir()
    (amlflow.cwd / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}\n")
    name = f"f{uuid.uuid4().hex[:6]}"
    run = amlflow.ok("track", "-e", name, "--", "sh", "-c", "echo $AMLFLOW_RUN").out.strip()
    send_all(amlflow)
    for arguments in (["log", "artifact", "note.txt", "--run", run], ["register", "model", "--name", name]):
        azure.run("fault", "POST */artifacts/batch/metadata:lost:x1")
        try:
            amlflow.ok(*arguments)
        finally:
            azure.run("fault", "--clear")
    amlflow.ok("run", "download", run, "note.txt", "--to", "down")
    assert (amlflow.cwd / "down" / "note.txt").read_text() == "a note"
    amlflow.ok("model", "download", name, "--to", "got")
    # What is there stays: the service overwrites nothing.
    (amlflow.cwd / "note.txt").write_text("another note")
    assert "already exists" in amlflow("log", "artifact", "note.txt", "--run", run).err


def test_what_was_made_without_an_answer_is_not_made_again(amlflow: Any, azure: Any) -> None:
    (amlflow.cwd / "model").mkdir()
    (amlflow.cwd / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}\n")
    name = f"f{uuid.uuid4().hex[:6]}"
    azure.run("fault", "POST */runs/create:lost:x1", "POST */model-versions/create:lost:x1")
    try:
        for number in ("1", "2"):
            assert amlflow.ok("register", "model", "--name", name, "-q").out == f"{name}:{number}\n"
    finally:
        azure.run("fault", "--clear")
    assert len(amlflow.ok("model", "list", name, "-q").out.split()) == 2
    runs = amlflow.ok("run", "list", "-e", "Default", "-o", "json").json
    assert sum(run["name"] == f"register-{name}" for run in runs) == 2
