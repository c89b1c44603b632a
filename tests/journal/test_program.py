"""An unchanged program logs through the journal into each kind of workspace, with its own version of MLflow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from servers import proxy

PROGRAM = Path(__file__).with_name("program.py")
PY = sys.executable
# What a server of Azure ML's kind does not know.
LACKS = ("/logged-models", "/runs/outputs", "/registered-models/alias", "/traces")
VERSIONS = ("2.9.2", "2.16.2", "2.22.1", "3.1.4", "3.5.1")
IN_CI = ("2.9.2",)


def found_in(output: str) -> dict[str, Any]:
    match = re.search(r"^FOUND (.*)$", output, re.MULTILINE)
    assert match, output
    return json.loads(match[1])


def check(found: dict[str, Any], registered: bool = True) -> None:
    """What the program saw of its own run."""
    own = found["own"]
    assert own["status"] in ("FINISHED", "RUNNING")
    assert (own["params"]["a"], own["params"]["b"], own["t"], own["gone"]) == ("1", "2", "last", False)
    assert own["metrics"] == {"loss": "0.2", "nan": "nan", "inf": "inf"}
    assert own["history"] == [[0, 1.0], [1, 0.5], [2, 1 / 3], [3, 0.25], [4, 0.2]]
    assert {"dir", "d.json"} <= set(own["files"])
    assert own["inputs"] == ["zeros"]
    assert (found["conflict"], found["note"]) == ("INVALID_PARAMETER_VALUE", "hello")
    assert "'huge' has a value of 10000000 characters" in found["huge"]
    assert found["predicted"] == pytest.approx([5.0, 5.0])
    if registered:
        assert int(found["alias"]) >= 1
        assert found["registered"] == pytest.approx(5.0)
        assert found["searched"] == 2


def check_there(amlflow: Any, run_id: str, child_id: str) -> None:
    """What the workspace holds of it."""
    shown = amlflow.ok("run", "show", run_id, "--history", "loss", "-o", "json").json
    assert (shown["status"], shown["params"]["a"], shown["params"]["b"]) == ("FINISHED", "1", "2")
    assert (shown["tags"]["t"], "gone" in shown["tags"]) == ("last", False)
    assert shown["metrics"]["loss"] == 0.2
    assert [point["step"] for point in shown["histories"]["loss"]] == [0, 1, 2, 3, 4]
    files = {item["path"] for item in shown["artifacts"]}
    assert {"dir/note.txt", "d.json"} <= files
    # Without pyarrow, which MLflow's smaller package does not bring, rows are kept as text.
    kept = [Path(path).suffix for path in files if path.startswith("amlflow/datasets/")]
    assert kept in ([".parquet"], [".csv"])
    child = amlflow.ok("run", "show", child_id, "-o", "json").json
    assert child["tags"]["mlflow.parentRunId"] == shown["run_id"]
    assert (child["status"], child["metrics"]) == ("FINISHED", {"inner": 3.0})


def tracked(amlflow: Any, *options: str, name: str = "", python: str = PY) -> dict[str, Any]:
    experiment = f"program {uuid.uuid4().hex[:8]}"
    command = [python, "-W", "ignore", str(PROGRAM), experiment, *([name] if name else [])]
    done = amlflow.ok("track", "-e", experiment, "--dataset-rows", "1", *options, "--", *command)
    assert "View run" not in done.out
    return found_in(done.out)


def test_into_the_local_workspace(amlflow: Any) -> None:
    found = tracked(amlflow, name="wine")
    check(found)
    check_there(amlflow, found["run_id"], found["child_id"])
    assert found["uri"].startswith("models:/m-")
    assert amlflow.ok("model", "show", "wine@champion", "-o", "json").json["version"] == "1"
    assert not list(Path(amlflow.env["AMLFLOW_HOME"]).glob("workspaces/*/journal/runs/*/run.json"))


def test_into_a_tracking_server(amlflow: Any, mlflow_server: str) -> None:
    amlflow.env["AMLFLOW_WORKSPACE"] = mlflow_server  # type: ignore[index]
    name = f"wine-{uuid.uuid4().hex[:8]}"
    found = tracked(amlflow, name=name)
    check(found)
    check_there(amlflow, found["run_id"], found["child_id"])
    assert amlflow.ok("model", "show", f"{name}@champion", "-o", "json").json["version"] == "1"


def test_into_a_server_without_logged_models_outputs_and_aliases(amlflow: Any, mlflow_server: str) -> None:
    with proxy(mlflow_server, missing=LACKS) as lacking:
        amlflow.env["AMLFLOW_WORKSPACE"] = lacking  # type: ignore[index]
        found = tracked(amlflow, name=f"wine-{uuid.uuid4().hex[:8]}")
        check(found)
        check_there(amlflow, found["run_id"], found["child_id"])
        # A later process, which has nothing of this one's journal, finds the model by its id and by its run.
        later = dict(amlflow.env, AMLFLOW_HOME=str(amlflow.cwd / "another-home"), MLFLOW_TRACKING_URI="amlflow:")
        load = f"""
import mlflow.sklearn
for uri in ("{found["uri"]}", "runs:/{found["run_id"]}/model"):
    print("PREDICTED", mlflow.sklearn.load_model(uri).predict([[5.0]])[0])
"""
        done = subprocess.run(
            [PY, "-W", "ignore", "-c", load], env=later, cwd=amlflow.cwd, capture_output=True, text=True
        )
        assert [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PREDICTED")] == [
            pytest.approx(5.0),
            pytest.approx(5.0),
        ], done.stderr


FLAVOURS = """
import json, mlflow, mlflow.lightgbm, mlflow.pyfunc
import lightgbm, numpy as np, pandas as pd
from mlflow import MlflowClient

class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * 2

data = pd.DataFrame({"x": np.arange(40.0)})
booster = lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, lightgbm.Dataset(data, label=data["x"] * 3), 5)
found = {}
with mlflow.start_run() as run:
    kept = {
        "doubles": mlflow.pyfunc.log_model(python_model=Doubles(), name="doubles", input_example=data.head(2)),
        "boosted": mlflow.lightgbm.log_model(booster, name="boosted"),
    }
    for name, info in kept.items():
        mlflow.log_metric("rmse", 0.5, model_id=info.model_id)
        mlflow.set_logged_model_tags(info.model_id, {"stage": "trial"})
for name, info in kept.items():
    model = mlflow.get_logged_model(info.model_id)
    answers = [
        float(mlflow.pyfunc.load_model(uri).predict(data.head(3)).tolist()[2])
        for uri in (info.model_uri, f"runs:/{run.info.run_id}/{name}")
    ]
    found[name] = {"status": str(model.status), "tags": model.tags.get("stage"), "answers": answers}
found["names"] = sorted(m.name for m in mlflow.search_logged_models(
    filter_string=f"source_run_id = '{run.info.run_id}'", output_format="list"))
found["outputs"] = len(MlflowClient().get_run(run.info.run_id).outputs.model_outputs)
print("FOUND " + json.dumps(found))
"""


def test_other_flavours_on_a_server_that_knows_no_logged_models(amlflow: Any, mlflow_server: str) -> None:
    with proxy(mlflow_server, missing=LACKS) as lacking:
        amlflow.env["AMLFLOW_WORKSPACE"] = lacking  # type: ignore[index]
        done = amlflow.ok("track", "--require-model", "--", PY, "-W", "ignore", "-c", FLAVOURS)
        found = found_in(done.out)
        assert found["names"] == ["boosted", "doubles"]
        assert found["outputs"] == 2
        assert {found[name]["status"] for name in found["names"]} == {"READY"}
        assert {found[name]["tags"] for name in found["names"]} == {"trial"}
        assert found["doubles"]["answers"] == [4.0, 4.0]
        assert found["boosted"]["answers"][0] == found["boosted"]["answers"][1]
        run = amlflow.ok("run", "list", "-n", "1", "-o", "json").json[0]
        files = {item["path"] for item in amlflow.ok("run", "show", run["run_id"], "-o", "json").json["artifacts"]}
        assert {"boosted/MLmodel", "doubles/MLmodel", "amlflow/unsupported/runs-outputs.jsonl"} <= files
        name = f"flavours-{uuid.uuid4().hex[:8]}"
        amlflow.ok("register", f"runs:/{run['run_id']}/doubles", "--name", name)
        assert amlflow.ok("model", "show", f"{name}:1", "-o", "json").json["run_id"] == run["run_id"]


def test_offline_and_then_into_a_server(amlflow: Any, mlflow_server: str) -> None:
    amlflow.env["AMLFLOW_WORKSPACE"] = mlflow_server  # type: ignore[index]
    found = tracked(amlflow, "--offline")
    check(found, registered=False)
    waiting = amlflow.ok("sync", "status", "-o", "json").json
    assert {item["run_id"] for item in waiting} >= {found["run_id"], found["child_id"]}
    assert amlflow("run", "show", found["run_id"]).code == 3
    amlflow.ok("sync")
    assert amlflow.ok("sync", "status", "-o", "json").json == []
    check_there(amlflow, found["run_id"], found["child_id"])
    shown = amlflow.ok("run", "show", found["run_id"], "-o", "json").json
    assert shown["run_id"] != found["run_id"]
    assert {"model/MLmodel", "model/model.pkl"} <= {item["path"] for item in shown["artifacts"]}
    amlflow.ok("register", found["run_id"], "--name", f"wine-{uuid.uuid4().hex[:8]}")


@pytest.mark.parametrize("version", [v if v in IN_CI else pytest.param(v, marks=pytest.mark.slow) for v in VERSIONS])
@pytest.mark.parametrize("kind", ["local", "lacking"])
def test_with_another_mlflow(amlflow: Any, mlflow_server: str, version: str, kind: str, project: Any) -> None:
    """The project brings its own MLflow, and no amlflow: the plugin is found by PYTHONPATH alone."""
    project(
        {"program.py": PROGRAM.read_text()},
        MLproject="python_env: python_env.yaml\nentry_points:\n  main: {command: 'python -W ignore program.py {e} {n}', "
        "parameters: {e: string, n: string}}\n",
        **{
            "python_env.yaml": f"dependencies: ['mlflow-skinny=={version}', 'scikit-learn<1.6', 'pandas<2.3', 'numpy<2', "
            "'setuptools<80']\n"
        },
    )
    experiment, name = f"versions {uuid.uuid4().hex[:8]}", f"wine-{uuid.uuid4().hex[:8]}"
    with proxy(mlflow_server, missing=LACKS) as lacking:
        if kind == "lacking":
            amlflow.env["AMLFLOW_WORKSPACE"] = lacking  # type: ignore[index]
        options = ("-e", experiment, "--dataset-rows", "1")
        done = amlflow.ok("run-project", "proj", *options, "-P", f"e={experiment}", "-P", f"n={name}")
        found = found_in(done.out)
        assert found["mlflow"] == version
        check(found)
        check_there(amlflow, found["run_id"], found["child_id"])
