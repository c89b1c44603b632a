"""An Azure ML workspace, from the command line: the emulator stands for Azure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

PROJECT = {
    "MLproject": """
name: tiny
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      text: {type: string, default: hi}
      data: path
    command: "python train.py {text} {data}"
  fail:
    command: "python -c 'import sys; print(1); sys.exit(3)'"
""",
    "python_env.yaml": "dependencies: []\n",
    "train.py": """
import pathlib, sys
print("text", sys.argv[1])
print("data", pathlib.Path(sys.argv[2]).read_text())
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/answer.txt").write_text("42")
result = pathlib.Path(sys.argv[4])
result.mkdir(parents=True, exist_ok=True)
(result / "made.txt").write_text("made")
""",
}


@pytest.fixture
def tiny(azure: Any, amlflow: Any, project: Callable[..., Path]) -> Path:
    amlflow.ok("compute", "create", "cpu-cluster", "--max", "2", "-q")
    return project(PROJECT)


def test_a_project_runs_as_a_job(amlflow: Any, tiny: Path) -> None:
    (amlflow.cwd / "d.txt").write_text("some data")
    text = "a 'b' $(id) ${{inputs.data}}"
    done = amlflow.ok(
        *("run-project", "proj", "--compute", "cpu-cluster", "-e", "tiny", "-P", f"text={text}"),
        *("--input", "data=d.txt", "--result", "made=uri_folder"),
    )
    assert f"text {text}\n" in done.out
    assert "data some data\n" in done.out
    (job,) = amlflow.ok("job", "list", "--experiment", "tiny", "--status", "finished", "-o", "json").json
    assert (job["status"], job["compute"]) == ("Completed", "cpu-cluster")
    assert amlflow.ok("job", "logs", job["id"]).out == done.out
    assert amlflow.ok("run", "show", job["id"], "--query", "params.text").out == f"{text}\n"

    amlflow.ok("job", "download", job["id"], "--to", "all")
    assert amlflow.ok("job", "download", job["id"], "-q").out.strip() == job["id"]
    assert (amlflow.cwd / "all" / "outputs" / "answer.txt").read_text() == "42"
    amlflow.ok("job", "download", job["id"], "--result", "made", "--to", "made")
    assert (amlflow.cwd / "made" / "made.txt").read_text() == "made"
    wrong = amlflow("job", "download", job["id"], "--result", "maid")
    assert wrong.code == 3
    assert "Did you mean 'made'" in wrong.err
    assert amlflow("job", "cancel", job["id"]).code == 1


def test_a_job_that_fails_is_the_commands_failure(amlflow: Any, tiny: Path) -> None:
    done = amlflow("run-project", "proj", "--entry-point", "fail", "--compute", "cpu-cluster")
    assert done.code == 1
    assert "1\n" in done.out
    assert "failed" in done.err
    again = amlflow.ok("job", "retry", "last", "-o", "json").json
    assert "-retry-" in again["id"]
    amlflow.ok("job", "logs", again["id"], "-f")
    assert amlflow.ok("job", "show", again["id"], "--query", "status").out == "Failed\n"


def test_what_would_fail_later_is_refused_before_it_is_sent(amlflow: Any, tiny: Path) -> None:
    base = ("run-project", "proj", "-P", "data=proj/train.py", "--result", "made=uri_folder")
    before = amlflow.ok("job", "list", "-q").out
    wrong = amlflow(*base, "--compute", "cpu-clustr", "--detach")
    assert wrong.code == 3
    assert "Did you mean 'cpu-cluster'" in wrong.err
    assert amlflow(*base, "--compute", "cpu-cluster", "--instances", "9").code == 2
    assert amlflow(*base, "--compute", "cpu-cluster", "--distribution", "pytorhc").code == 2
    assert amlflow(*base, "--compute", "cpu-cluster", "--shm-size", "8 gigs").code == 2
    for refused, options in (
        ("--system-metrics and --require-model are", ("--require-model", "--system-metrics", "--dry-run")),
        ("--durability is", ("--durability", "process")),
        ("--dataset-rows is", ("--dataset-rows", "5", "--export", "job.yml")),
        ("--rank-zero-only knows", ("--rank-zero-only", "--distribution", "tensorflow")),
    ):
        done = amlflow(*base, "--compute", "cpu-cluster", *options)
        assert (done.code, done.out) == (2, "")
        assert refused in done.err
    assert amlflow(*base, "--compute", "cpu-cluster", "-w", "local").code == 1
    assert amlflow.ok("job", "list", "-q").out == before
    plan = amlflow.ok(*base, "--compute", "cpu-cluster", "--dry-run", "-o", "json").json
    assert "train.py" in plan["files"]
    assert amlflow.ok("job", "list", "-q").out == before


def test_how_a_job_s_run_is_recorded(amlflow: Any, azure: Any, project: Callable[..., Path]) -> None:
    amlflow.ok("compute", "create", "cpu-cluster", "--max", "2", "-q")
    program = """
import os
import mlflow
import pandas
mlflow.log_metric(f"seen-by-{os.environ['RANK']}", 1)
mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": range(9)}), digest="d"), context="training")
"""
    project({"MLproject": "entry_points: {main: {command: python -W ignore train.py}}\n", "train.py": program})
    options = ("--distribution", "pytorch", "--processes", "2", "--rank-zero-only", "--dataset-rows", "4")
    amlflow.ok(
        *("run-project", "proj", "--compute", "cpu-cluster", "-e", "recorded", "--environment", "image:python:3.11"),
        *options,
    )
    (run,) = amlflow.ok("run", "list", "-e", "recorded", "-o", "json").json
    assert run["metrics"] == {"seen-by-0": 1.0}
    amlflow.ok("run", "download", run["run_id"], "amlflow/datasets", "--to", "rows")
    (file,) = (amlflow.cwd / "rows").rglob("*.parquet")
    assert len(pandas.read_parquet(file)) == 4


def test_an_exported_job_is_one_for_azures_own_tools(amlflow: Any, tiny: Path) -> None:
    options = ("--distribution", "mpi", "--processes", "2", "--instances", "2", "--shm-size", "2g", "--timeout", "1h")
    amlflow.ok(
        *("run-project", "proj", "--compute", "cpu-cluster", "-P", "data=proj/train.py", "--result", "made=uri_folder"),
        *options,
        *("--identity", "managed", "--export", "out/job.yml"),
    )
    script = "from azure.ai.ml import load_job; job = load_job('out/job.yml'); print(job.command); print(job.compute)"
    done = subprocess.run([sys.executable, "-c", script], cwd=amlflow.cwd, capture_output=True, text=True, check=True)
    assert "${{inputs.data}}" in done.stdout
    assert "cpu-cluster" in done.stdout


def test_files_go_to_a_datastore_and_back(amlflow: Any, azure: Any) -> None:
    folder = amlflow.cwd / "up" / "deep"
    folder.mkdir(parents=True)
    (folder / "large.bin").write_bytes(bytes(range(256)) * 80_000)
    (folder.parent / "small ä#?.txt").write_text("small")
    assert amlflow.ok("datastore", "upload", "up", "data/x", "-o", "json").json["sent"] == 2
    assert amlflow.ok("datastore", "upload", "up", "data/x", "-o", "json").json["sent"] == 0
    listed = amlflow.ok("datastore", "ls", "data/x", "-r", "-o", "json").json
    assert {item["path"] for item in listed} == {"data/x/deep/large.bin", "data/x/small ä#?.txt"}
    amlflow.ok("datastore", "download", "data/x", "--to", "down")
    assert (amlflow.cwd / "down" / "deep" / "large.bin").read_bytes() == (folder / "large.bin").read_bytes()
    assert (amlflow.cwd / "down" / "small ä#?.txt").read_text() == "small"
    assert amlflow("datastore", "download", "data/nothing").code == 3


def test_computes_are_made_and_stopped(amlflow: Any, azure: Any) -> None:
    made = amlflow.ok("compute", "create", "ci-one", "--kind", "instance", "-o", "json").json
    assert (made["kind"], made["state"]) == ("instance", "Running")
    assert amlflow.ok("compute", "stop", "ci-one", "-o", "json").json["state"] == "Stopped"
    stopped = amlflow(
        "run-project", ".", "--compute", "ci-one", "--environment", "image:python:3.11", "--entry-point", "x.py"
    )
    assert stopped.code == 3
    amlflow.ok("compute", "delete", "ci-one")
    assert amlflow("compute", "show", "ci-one").code == 3


def test_workspaces_are_made_listed_and_deleted(amlflow: Any, azure: Any) -> None:
    subscription = azure.variables["AZURE_SUBSCRIPTION_ID"]
    name = f"{subscription}/emulator/second"
    amlflow.ok("workspace", "create", name, "--location", "westeurope")
    assert amlflow("workspace", "create", name, "--location", "westeurope").code == 1
    listed = amlflow.ok("workspace", "list", "--subscription", subscription, "-q").out.split()
    assert name in listed
    near = amlflow("-w", f"{subscription}/emulator/secnod", "compute", "list")
    assert near.code == 3
    assert "Did you mean 'second'" in near.err
    amlflow.ok("workspace", "delete", name, "--yes")
    assert name not in amlflow.ok("workspace", "list", "--subscription", subscription, "-q").out


def test_the_doctor_names_what_is_wrong(amlflow: Any, azure: Any) -> None:
    found = {item["check"]: item["state"] for item in amlflow.ok("doctor", "-o", "json").json}
    assert {found[check] for check in ("sign-in", "clock", "workspace", "MLflow API", "storage")} == {"ok"}
    sick = amlflow("doctor", "-o", "json", AZURE_CLIENT_SECRET="wrong")
    assert sick.code == 1
    assert "AADSTS7000215" in sick.err
    assert amlflow("compute", "list", AZURE_CLIENT_SECRET="wrong").code == 4


def test_failing_requests_are_repeated_and_double_nothing(amlflow: Any, tiny: Path, azure: Any) -> None:
    before = set(amlflow.ok("job", "list", "-q").out.split())
    azure.run("fault", "* *:503:0.2", "* *:reset:0.1", "PUT */jobs/*:lost:x1")
    try:
        for _ in range(3):
            amlflow.ok("compute", "list")
        amlflow.ok(
            *("run-project", "proj", "--compute", "cpu-cluster", "-P", "data=proj/train.py", "--detach"),
            *("--result", "made=uri_folder"),
        )
    finally:
        azure.run("fault", "--clear")
    after = set(amlflow.ok("job", "list", "-q").out.split())
    assert len(after - before) == 1


def test_a_job_whose_node_was_taken_away_goes_on_from_its_outputs(
    amlflow: Any, azure: Any, project: Callable[..., Path]
) -> None:
    amlflow.ok("compute", "create", "cpu-cluster", "--max", "2", "-q")
    begun = amlflow.cwd / "begun"
    program = f"""
import pathlib, time
kept = pathlib.Path("outputs/deep/epoch")
if kept.exists():
    print("from epoch", kept.read_text(), sorted(str(path) for path in pathlib.Path("outputs").rglob("*") if path.is_file()))
    raise SystemExit
kept.parent.mkdir(parents=True)
kept.write_text("7")
pathlib.Path("outputs/empty").touch()
pathlib.Path({str(begun)!r}).touch()
time.sleep(300)
"""
    project({"MLproject": "entry_points: {main: {command: python train.py}}\n", "train.py": program})
    started = amlflow.start(
        "run-project", "proj", "--compute", "cpu-cluster", "-e", "spot", "--environment", "image:python:3.11"
    )
    try:
        deadline = time.monotonic() + 120
        while not begun.exists():
            assert time.monotonic() < deadline
            assert started.poll() is None, started.communicate()
            time.sleep(0.2)
        (job,) = amlflow.ok("job", "list", "--experiment", "spot", "--status", "running", "-q").out.split()
        azure.run("preempt", job)
        out, err = started.communicate(timeout=180)
    finally:
        started.kill()
    assert started.returncode == 0, err
    assert "from epoch 7 ['outputs/deep/epoch', 'outputs/empty']\n" in out.decode()
    assert "2 files of an earlier try of this job restored to outputs/." in amlflow.ok("job", "logs", job).out
