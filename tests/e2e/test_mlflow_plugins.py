"""MLflow's own command reaches amlflow's services."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from deployable import ROW


def mlflow(amlflow: Any, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mlflow")), *arguments]
    return subprocess.run(
        command, env={**amlflow.env, **env}, cwd=amlflow.cwd, capture_output=True, text=True, timeout=240
    )


def test_mlflow_deployments(amlflow: Any, deployable: Path, work: Path) -> None:
    amlflow.ok("register", str(deployable / "one"), "--name", "one")
    made = mlflow(
        amlflow,
        *"deployments create -t amlflow --name ep -m models:/one/1 -C target=local -C env_manager=local".split(),
    )
    assert "python_function deployment ep is created" in made.stdout, made.stderr
    assert amlflow.ok("endpoint", "show", "ep", "-o", "json").json["model"] == "one:1"
    (work / "in.json").write_text(json.dumps([dict(zip(ROW["columns"], ROW["data"][0], strict=True))] * 2))
    told = mlflow(amlflow, *"deployments predict -t amlflow://local --name ep -I in.json".split())
    assert json.loads(told.stdout) == {"predictions": [1.0, 1.0]}, told.stderr
    script = """
from mlflow.deployments import get_deploy_client
import numpy
client = get_deploy_client("amlflow")
assert [item["name"] for item in client.list_deployments()] == ["ep"]
assert client.get_deployment("ep")["state"] == "running"
assert client.predict("ep", numpy.ones((3, 10)))["predictions"] == [1.0] * 3
for wrong in ({"target": "lokal"}, {"prot": "1"}, {"port": "x"}, {"canary": "10,100"}):
    try:
        client.create_deployment("other", "models:/one/1", config=wrong)
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=amlflow.env, cwd=amlflow.cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["MlflowException"] * 4
    assert "Did you mean 'port'" in done.stdout
    mlflow(amlflow, *"deployments delete -t amlflow --name ep".split()).check_returncode()
    assert amlflow.ok("endpoint", "list", "-o", "json").json == []


PROJECT = """
name: small
entry_points:
  main:
    parameters: {alpha: {type: float, default: 0.5}}
    command: "python train.py {alpha}"
  fail:
    command: "python -c 'raise SystemExit(3)'"
"""
TRAIN = """
import sys, mlflow
with mlflow.start_run():
    mlflow.log_metric("rmse", float(sys.argv[1]))
print("alpha is", sys.argv[1])
"""


def test_mlflow_run(amlflow: Any, work: Path) -> None:
    (work / "proj").mkdir()
    (work / "proj" / "MLproject").write_text(PROJECT)
    (work / "proj" / "train.py").write_text(TRAIN)
    here = {"MLFLOW_TRACKING_URI": "amlflow:"}
    base = ("run", "proj", "-b", "amlflow", "--env-manager", "local")
    begun = mlflow(amlflow, *base, "-P", "alpha=0.25", "--experiment-name", "wine", "--run-name", "r", **here)
    assert begun.returncode == 0, begun.stderr
    (job,) = amlflow.ok("job", "list", "-q").out.split()
    assert f"amlflow job logs -f {job}" in begun.stderr
    assert "alpha is 0.25" in amlflow.ok("job", "logs", "-f", job).out
    amlflow.ok("sync")
    run = amlflow.ok("run", "show", job, "-o", "json").json
    assert (run["name"], run["status"], run["experiment"]) == ("r", "FINISHED", "wine")
    assert (run["metrics"]["rmse"], run["params"]["alpha"]) == (0.25, "0.25")

    script = """
import mlflow
options = {"backend": "amlflow", "env_manager": "local"}
assert mlflow.run("proj", parameters={"alpha": 2}, **options).get_status() == 3
for wrong in ({"entry_point": "fail"}, {"backend_config": {"comptue": "cpu-cluster"}}, {"docker_args": {"gpus": "all"}}):
    try:
        mlflow.run("proj", **options, **wrong)
    except Exception as error:
        print(type(error).__name__, error)
mlflow.set_tracking_uri("sqlite:///other.db")
try:
    mlflow.run("proj", **options)
except Exception as error:
    print(error)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    waited = subprocess.run(command, env={**amlflow.env, **here}, cwd=work, capture_output=True, text=True, timeout=240)
    assert waited.returncode == 0, waited.stderr
    said = waited.stdout.splitlines()
    assert said[0] == "alpha is 2"
    assert [line.split()[0] for line in said[1:4]] == ["ExecutionException", "MlflowException", "MlflowException"]
    assert "Did you mean 'compute'" in said[2]
    assert "Set MLFLOW_TRACKING_URI=amlflow:" in said[4]


def test_mlflow_run_on_a_compute(azure: Any, amlflow: Any, work: Path) -> None:
    amlflow.ok("compute", "create", "plugin-cluster", "--max", "1", "-q")
    (work / "proj").mkdir()
    (work / "proj" / "MLproject").write_text(PROJECT)
    (work / "proj" / "train.py").write_text(TRAIN)
    (work / "on.json").write_text(json.dumps({"compute": "plugin-cluster", "environment": "image:python:3.11"}))
    base = ("run", "proj", "-b", "amlflow", "-c", "on.json", "--experiment-name", "plugin")
    begun = mlflow(amlflow, *base, MLFLOW_TRACKING_URI="amlflow:")
    assert begun.returncode == 0, begun.stderr
    (job,) = amlflow.ok("job", "list", "--experiment", "plugin", "-q").out.split()
    assert "alpha is 0.5" in amlflow.ok("job", "logs", "-f", job).out
    assert amlflow.ok("job", "show", job, "-o", "json").json["compute"] == "plugin-cluster"
