"""Databricks-hosted tracking as a workspace, and what its clusters need for Azure ML. `databricks_host` stands for Databricks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest
from azure_workspaces import send_all
from databricks_host import TOKEN, USER, Fault, Host
from servers import free_port

from amlflow.workspaces.databricks.parcels import PART_BYTES

PY = sys.executable
LOG = """
import mlflow
for step in range(40):
    mlflow.log_metric("loss", step, step=step)
mlflow.log_param("alpha", 0.1)
mlflow.log_text("hello", "notes/a b.txt")
mlflow.log_text("", "empty.txt")
class Adding(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input + 1
import numpy
signature = mlflow.models.infer_signature(numpy.array([1.0]), numpy.array([2.0]))
mlflow.pyfunc.log_model(name="model", python_model=Adding(), pip_requirements=["numpy"], signature=signature)
"""


def tracked(amlflow: Any, where: str, experiment: str, script: str = LOG, *more: str, **env: str) -> str:
    (amlflow.cwd / "program.py").write_text(script)
    line = f'echo "$AMLFLOW_RUN"; "{PY}" -W ignore program.py'
    done = amlflow.ok("track", "-w", where, "-e", experiment, *more, "--", "sh", "-c", line, **env)
    send_all(amlflow, "-w", where, **env)
    return str(done.out.split()[0])


def test_a_program_is_tracked_there(amlflow: Any, databricks: Host) -> None:
    experiment = f"wine {uuid.uuid4().hex[:8]}"
    run = tracked(amlflow, "databricks", experiment)
    shown = amlflow.ok("-w", "databricks", "run", "show", run, "--history", "loss", "-o", "json").json
    assert (shown["status"], shown["params"]) == ("FINISHED", {"alpha": "0.1"})
    assert shown["experiment"] == f"/Users/{USER}/{experiment}"
    assert shown["artifact_uri"].startswith("dbfs:/databricks/mlflow-tracking/")
    assert [point["value"] for point in shown["histories"]["loss"]] == list(range(40))
    assert {"notes/a b.txt", "empty.txt", "logs/stdout.log"} <= {item["path"] for item in shown["artifacts"]}
    amlflow.ok("-w", "databricks", "run", "download", run, "--to", "got")
    assert (amlflow.cwd / "got" / "notes" / "a b.txt").read_text() == "hello"
    amlflow.ok("-w", "databricks", "run", "download", run, "notes/a b.txt", "--to", "one")
    assert (amlflow.cwd / "one" / "notes" / "a b.txt").read_text() == "hello"
    second = tracked(amlflow, "databricks", experiment, "import mlflow; mlflow.log_metric('loss', 5)")
    compared = amlflow.ok("-w", "databricks", "compare", "-e", experiment, "--sort", "loss", "-o", "json").out
    assert compared.index(second) < compared.index(run)
    assert ("PUT", "/api/2.0/mlflow-artifacts/artifacts") not in databricks.paths
    assert any(path.startswith("/signed/") for _, path in databricks.paths)


def test_models_live_there(amlflow: Any, databricks: Host) -> None:
    name, there = f"adding-{uuid.uuid4().hex[:8]}", f"main.default.adding_{uuid.uuid4().hex[:8]}"
    script = LOG.replace("signature=signature)", f"signature=signature, registered_model_name='{there}')")
    run = tracked(amlflow, "databricks", f"m {uuid.uuid4().hex[:8]}", script)
    assert databricks.catalog.versions[there, "1"]["run_id"] == run
    amlflow.ok("-w", "databricks", "register", run, "--name", name, "--alias", "champion")
    assert amlflow.ok("-w", "databricks", "model", "show", f"{name}@champion", "-o", "json").json["run_id"] == run
    amlflow.ok("-w", "databricks", "model", "download", f"{name}:1", "--to", "model")
    assert "python_function" in (amlflow.cwd / "model" / "MLmodel").read_text()
    amlflow.ok("-w", "databricks", "register", run, "--name", there, "--alias", "champion")
    shown = amlflow.ok("-w", "databricks", "model", "show", f"{there}@champion", "-o", "json").json
    assert (shown["version"], shown["run_id"], shown["location"]) == ("2", run, f"models:/{there}/2")
    assert databricks.catalog.versions[there, "2"]["model_id"].startswith("m-")
    back = f"local:{amlflow.cwd / 'x'}"
    amlflow.ok("-w", "databricks", "model", "promote", f"{there}@champion", "--to", back, "--name", "back")
    assert amlflow.ok("-w", back, "model", "show", "back:1", "-o", "json").json["status"] == "READY"


def test_a_profile_and_an_offline_run(amlflow: Any, databricks: Host) -> None:
    """The variables lead nowhere: it is the profile that counts."""
    wrong = {"DATABRICKS_HOST": "", "DATABRICKS_TOKEN": ""}
    experiment = f"profile {uuid.uuid4().hex[:8]}"
    tracked(amlflow, "databricks://work", experiment, LOG, "--offline", **wrong)
    (run,) = amlflow.ok("-w", "databricks://work", "run", "list", "-e", experiment, "-o", "json", **wrong).json
    assert (run["status"], run["metrics"]["loss"], run["params"]) == ("FINISHED", 39.0, {"alpha": "0.1"})
    shown = amlflow.ok("-w", "databricks://work", "workspace", "show", "-o", "json", **wrong).json
    assert (shown["kind"], shown["answers"], shown["account"]) == ("databricks", True, USER)
    assert TOKEN not in json.dumps(shown)


@pytest.mark.slow
def test_runs_are_copied_there_and_back(amlflow: Any, databricks: Host) -> None:
    run = tracked(amlflow, "local", f"copied {uuid.uuid4().hex[:8]}")
    copy = ("run", "copy", "-o", "json")
    (there,) = amlflow.ok(*copy, run, "--from", "local", "--to", "databricks").json
    (back,) = amlflow.ok(*copy, there["run_id"], "--from", "databricks", "--to", f"local:{amlflow.cwd / 'x'}").json
    assert (there["state"], there["models"], back["state"], back["models"]) == ("copied", 1, "copied", 1)
    for item in (there, back):
        assert (item["points"], item["refused"]) == (40, [])
    (again,) = amlflow.ok(*copy, run, "--from", "local", "--to", "databricks").json
    assert (again["state"], again["run_id"]) == ("unchanged", there["run_id"])
    amlflow.ok("-w", f"local:{amlflow.cwd / 'x'}", "run", "download", back["run_id"], "--to", "got")
    assert (amlflow.cwd / "got" / "notes" / "a b.txt").read_text() == "hello"


def test_who_is_not_let_in_is_told_why(amlflow: Any, databricks: Host) -> None:
    for code, said, where, env in (
        (4, "does not know who asks", "databricks", {"DATABRICKS_TOKEN": "dapi-wrong"}),
        (2, "is not the address of a Databricks workspace", "databricks", {"DATABRICKS_HOST": "not a host"}),
        (4, "No Databricks host", "databricks", {"DATABRICKS_HOST": ""}),
        (4, "sign in to Databricks", "databricks", {"DATABRICKS_TOKEN": ""}),
        (3, "Did you mean 'work'?", "databricks://wrok", {}),
        (2, "DATABRICKS_TOKEN is set", "databricks://work", {"DATABRICKS_TOKEN": "dapi-of-another"}),
        (2, "names no Databricks workspace", "databricks://a:b", {}),
        (2, "names no Databricks workspace", "databricks:x", {}),
        (5, "accepts no connection", "databricks", {"DATABRICKS_HOST": f"http://127.0.0.1:{free_port()}"}),
    ):
        done = amlflow("-w", where, "run", "list", **env)
        assert (done.code, done.out) == (code, ""), (where, done.err)
        assert said in done.err
        assert "dapi" not in done.err


@pytest.mark.usefixtures("azure")
def test_what_a_cluster_needs_to_log_into_azure_ml(amlflow: Any) -> None:
    found = amlflow.ok("workspace", "env", "--for", "databricks", "--scope", "team", "-o", "json").json
    (library,) = found["libraries"]
    assert library["pypi"]["package"].startswith("azureml-mlflow==")
    variables = found["spark_env_vars"]
    assert variables["MLFLOW_TRACKING_URI"].startswith("azureml://")
    assert variables["AZURE_CLIENT_SECRET"] == "{{secrets/team/azure-client-secret}}"
    assert {secret["key"] for secret in found["secrets"]} == {
        "azure-tenant-id",
        "azure-client-id",
        "azure-client-secret",
    }
    text = amlflow.ok("workspace", "env", "--for", "databricks").out
    secret = amlflow.env.get("AZURE_CLIENT_SECRET", "")
    assert secret
    assert secret not in text + json.dumps(found)
    assert "databricks secrets put-secret amlflow azure-client-secret" in text
    cell = amlflow.ok("workspace", "env", "--for", "databricks-notebook", "--scope", "team").out
    magic, code = cell.split("\n\n", 1)
    assert magic.startswith(f"%pip install {library['pypi']['package']}\n")
    assert secret not in cell
    # The cell in a plain Python: pip's line left out, and the scope a dictionary.
    kept = {key: amlflow.env[key.upper().replace("-", "_")] for key in {item["key"] for item in found["secrets"]}}
    scope = "import json, os, types\nkept = json.loads(os.environ['KEPT'])\nget = lambda scope, key: kept[key]\n"
    scope += "dbutils = types.SimpleNamespace(secrets=types.SimpleNamespace(get=get))\n"
    program = scope + code + "with mlflow.start_run():\n    mlflow.log_metric('seen', 5)\n"
    bare = {key: value for key, value in amlflow.env.items() if key not in variables}
    subprocess.run([PY, "-W", "ignore", "-c", program], env={**bare, "KEPT": json.dumps(kept)}, check=True)
    (run,) = amlflow.ok("run", "list", "-e", "databricks", "-o", "json").json
    assert run["metrics"] == {"seen": 5.0}
    assert amlflow("workspace", "env", "--for", "databrix").code == 2
    assert amlflow("workspace", "env", "--for", "databricks", "--scope", "a/b").code == 2
    assert amlflow("-w", "local", "workspace", "env", "--for", "databricks").code == 1


PROJECT = {
    "MLproject": """
name: tiny
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      text: {type: string, default: hi}
      data: {type: path, default: data.txt}
      code: {type: float, default: 0}
    command: "python train.py {text} {data} {code}"
  sleep:
    command: "sleep 300"
""",
    "python_env.yaml": "dependencies:\n  - six==1.17.0\n",
    "data.txt": "some data",
    "train.py": """
import pathlib, sys, mlflow
print("text", sys.argv[1])
print("data", pathlib.Path(sys.argv[2]).read_text())
mlflow.log_metric("score", 0.5)
sys.exit(int(float(sys.argv[3])))
""",
}
RUN = ("-w", "databricks", "run-project", "proj", "--compute")
BESIDE = ("--dataset-rows", "100", "--require-model", "--durability", "write", "--system-metrics", "--rank-zero-only")


def test_a_project_runs_on_a_cluster(amlflow: Any, databricks: Host, project: Any) -> None:
    os.utime(project(PROJECT) / "train.py", (0, 0))
    experiment, text = f"cluster {uuid.uuid4().hex[:8]}", "a 'b' $(id) \"c\""
    done = amlflow.ok(*RUN, "databricks:small cluster", "-e", experiment, "-P", f"text={text}", "--timeout", "1h")
    assert done.out.startswith(f"text {text}\ndata some data\n")
    assert "exit-code" not in done.out
    (run,) = amlflow.ok("-w", "databricks", "run", "list", "-e", experiment, "-o", "json").json
    assert (run["status"], run["metrics"], run["params"]["text"]) == ("FINISHED", {"score": 0.5}, text)
    (sent,) = databricks.jobs.submitted
    assert sent["timeout_seconds"] == 3600
    assert sent["tasks"][0]["libraries"] == [{"pypi": {"package": "six==1.17.0"}}]
    # What was sent is not left there.
    assert databricks.jobs.files() == []


@pytest.mark.slow
def test_a_large_project_goes_in_parts_or_to_a_volume(amlflow: Any, databricks: Host, project: Any) -> None:
    program = "import hashlib, pathlib; print(hashlib.sha256(pathlib.Path('data.txt').read_bytes()).hexdigest())"
    project({**PROJECT, "train.py": program})
    content = os.urandom(PART_BYTES + 1_000_000)
    (amlflow.cwd / "proj" / "data.txt").write_bytes(content)
    expected = f"{hashlib.sha256(content).hexdigest()}\n"
    parts = amlflow.ok(*RUN, "databricks:small cluster")
    assert parts.out.startswith(expected)
    assert databricks.paths.count(("POST", "/api/2.0/workspace/import")) == 3
    stage = "/Volumes/main/default/stage"
    assert databricks.files.sent == []
    volume = amlflow.ok(*RUN, "databricks:small cluster", "--upload-to", f"{stage}/a folder")
    assert volume.out.startswith(expected)
    ((path, _),) = databricks.files.sent
    assert path.startswith(f"{stage}/a folder/.amlflow/")
    assert [path for path in (databricks.files.folder / stage.lstrip("/")).rglob("*") if path.is_file()] == []
    assert databricks.jobs.files() == []
    away = amlflow(*RUN, "databricks:small cluster", "--upload-to", "/Volumes/main/default/nowhere")
    assert (away.code, away.out) == (3, "")
    assert "/Volumes/main/default/nowhere" in away.err


def test_the_exit_code_on_a_cluster_is_the_commands(amlflow: Any, databricks: Host, project: Any) -> None:
    project(PROJECT)
    experiment = f"cluster {uuid.uuid4().hex[:8]}"
    failed = amlflow(*RUN, "databricks:1127-181818-abc123", "-e", experiment, "-P", "code=7")
    assert failed.code == 7, failed.err
    assert "text hi\n" in failed.out
    (run,) = amlflow.ok("-w", "databricks", "run", "list", "-e", experiment, "-o", "json").json
    assert run["status"] == "FAILED"


def test_a_detached_run_on_a_cluster_is_a_job(amlflow: Any, databricks: Host, project: Any) -> None:
    """It ends by itself, and is found from any shell, by the id of its run and by Databricks' own number of it."""
    project(PROJECT)
    experiment = f"cluster {uuid.uuid4().hex[:8]}"
    begun = amlflow.ok(*RUN, "databricks:small cluster", "-e", experiment, "--detach", "-o", "json").json
    assert databricks.jobs.runs[begun["job_run_id"]].process.wait(timeout=120) == 0
    run = amlflow.ok("-w", "databricks", "run", "show", begun["job_id"], "-o", "json").json
    assert (run["status"], run["metrics"]) == ("FINISHED", {"score": 0.5})
    (job,) = amlflow.ok("-w", "databricks", "job", "list", "-e", experiment, "--status", "finished", "-o", "json").json
    assert (job["id"], job["status"], job["experiment"]) == (begun["job_id"], "FINISHED", f"/Users/{USER}/{experiment}")
    assert (job["compute"], job["project"]) == ("databricks:1127-181818-abc123", str(amlflow.cwd / "proj"))
    logs = amlflow.ok("-w", "databricks", "job", "logs", str(begun["job_run_id"]))
    assert logs.out.startswith("text hi\ndata some data\n")
    assert "exit-code" not in logs.out
    assert databricks.jobs.files() == []
    assert amlflow("-w", "databricks", "job", "cancel", begun["job_id"][:8]).code == 1


def test_what_a_killed_amlflow_had_begun_is_taken_up(amlflow: Any, databricks: Host, project: Any) -> None:
    project(PROJECT)
    experiment = f"cluster {uuid.uuid4().hex[:8]}"
    arguments = (*RUN, "databricks:small cluster", "--entry-point", "sleep", "-e", experiment)
    following = amlflow.start(*arguments)
    assert following.stderr is not None
    for line in following.stderr:
        if b"on the cluster: running" in line:
            break
    following.kill()
    following.communicate()
    again = amlflow.ok(*arguments, "--detach", "-o", "json")
    assert "it is taken up, and not begun again" in again.err
    (number,) = databricks.jobs.runs
    assert again.json["job_run_id"] == number
    cancelled = amlflow.ok("-w", "databricks", "job", "cancel", "last", "-o", "json").json
    assert (cancelled["id"], cancelled["status"]) == (again.json["job_id"], "KILLED")
    run = amlflow.ok("-w", "databricks", "run", "show", cancelled["id"], "-o", "json").json
    assert run["status"] == "KILLED"


def test_an_interrupt_cancels_where_that_was_asked(amlflow: Any, databricks: Host, project: Any) -> None:
    project(PROJECT)
    experiment = f"cluster {uuid.uuid4().hex[:8]}"
    arguments = (*RUN, "databricks:small cluster", "--entry-point", "sleep", "--cancel-on-interrupt", "-e", experiment)
    following = amlflow.start(*arguments)
    assert following.stderr is not None
    for line in following.stderr:
        if b"on the cluster: running" in line:
            break
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=60)
    assert following.returncode == 130, said
    (job,) = databricks.jobs.runs.values()
    assert job.cancelled
    (run,) = amlflow.ok("-w", "databricks", "run", "list", "-e", experiment, "-o", "json").json
    assert run["status"] == "KILLED"


def test_what_a_cluster_cannot_run_is_refused_before_it_is_sent(amlflow: Any, databricks: Host, project: Any) -> None:
    project(PROJECT)
    (amlflow.cwd / "outside.txt").write_text("x")
    for code, said, arguments in (
        (3, "Did you mean 'small cluster'", (*RUN, "databricks:smal cluster")),
        (1, "Name the other with `-w databricks`", ("-w", "local", *RUN[2:], "databricks:small cluster")),
        (2, "is not in the project", (*RUN, "databricks:small cluster", "-P", "data=outside.txt")),
        (2, "--instances is for a job", (*RUN, "databricks:small cluster", "--instances", "2")),
        (2, "--offline", (*RUN, "databricks:small cluster", "--offline")),
        (
            2,
            "--require-model and --dataset-rows are for a program that runs here",
            (*RUN, "databricks:small cluster", *BESIDE),
        ),
        (2, "is in the state ERROR", (*RUN, "databricks:broken")),
        (2, "is no folder of a volume", (*RUN, "databricks:small cluster", "--upload-to", "dbfs:/tmp")),
        (1, "databricks:CLUSTER", (*RUN, "cpu-cluster")),
        (2, "no time", (*RUN, "databricks:small cluster", "--timeout", "soon")),
    ):
        done = amlflow(*arguments)
        assert (done.code, done.out) == (code, ""), done.err
        assert said in done.err
    planned = amlflow.ok(*RUN, "databricks:small cluster", "--dry-run", "-o", "json").json
    assert set(planned["files"]) == {"MLproject", "data.txt", "python_env.yaml", "train.py"}
    assert databricks.jobs.submitted == []
    databricks.faults.append(Fault("/api/2.2/jobs/runs/submit", 400, 1, "INVALID_PARAMETER_VALUE"))
    experiment = f"cluster {uuid.uuid4().hex[:8]}"
    assert amlflow(*RUN, "databricks:small cluster", "-e", experiment).code == 1
    assert databricks.jobs.files() == []
    (run,) = amlflow.ok("-w", "databricks", "run", "list", "-e", experiment, "-o", "json").json
    assert run["status"] == "FAILED"
    (amlflow.cwd / "proj" / "large.bin").write_bytes(os.urandom(8_000_000))
    large = amlflow(*RUN, "databricks:small cluster", "--code-limit", "7")
    assert large.code == 1
    assert "large.bin" in large.err
