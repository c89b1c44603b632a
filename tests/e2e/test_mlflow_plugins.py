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
