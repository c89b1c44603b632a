"""`amlflow run copy`: runs in another workspace, whatever kinds the two are."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import Any

import pytest
from azure_workspaces import send_all
from copies import Places, copied, facts, logged, opened
from servers import free_port

# Everything that a run can have, under names that ask for trouble.
LOG = """
import math, mlflow, numpy as np
class Adding(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input + 1
for step in range(300):
    mlflow.log_metric("loss/train set", 1 / (step + 1), step=step, timestamp=1_700_000_000_000 + step)
for step, value in enumerate([math.nan, math.inf, -math.inf, 0.0, -1e300, 5e-324]):
    mlflow.log_metric("odd", value, step=-step)
mlflow.log_param("alpha", "0.1")
mlflow.log_param("q", 'it\\'s "quoted"; -- \\u00e4\\u4e2d\\n\\ttwo lines')
mlflow.set_tag("a tag", "100% \\u00fc 'x'")
mlflow.log_text("hello", "plots/deep/it's n1 100%\\u00e4?.txt")
mlflow.log_text("", "empty.txt")
mlflow.log_input(mlflow.data.from_numpy(np.arange(6.0).reshape(3, 2), name="set one"), context="training")
more = {"params": {"depth": "3"}, "tags": {"kind": "t"}}
info = mlflow.pyfunc.log_model(name="model", python_model=Adding(), pip_requirements=["numpy"], **more)
mlflow.log_metric("acc", 0.9, step=7, model_id=info.model_id)
with mlflow.start_run(run_name="child one", nested=True):
    mlflow.log_metric("inner", 2.0)
    with mlflow.start_run(run_name="grandchild", nested=True):
        mlflow.log_param("deep", 1)
"""


@pytest.fixture
def places(amlflow: Any, request: pytest.FixtureRequest) -> Places:
    return Places(request, amlflow.cwd)


@pytest.mark.parametrize(("source", "target"), [("local", "other"), ("local", "server"), ("server", "local")])
def test_a_copy_has_all_that_its_source_has(amlflow: Any, places: Places, source: str, target: str) -> None:
    here, there = places[source], places[target]
    run = logged(amlflow, here, LOG)
    tree = copied(amlflow, here, there, run, "--children")
    assert [item["name"] for item in tree] == ["all 'kinds'", "child one", "grandchild"]
    assert [(item["state"], item["refused"]) for item in tree] == [("copied", [])] * 3, tree
    for item in tree:
        assert facts(here, item["source_run_id"]) == facts(there, item["run_id"])
    assert len(facts(there, tree[0]["run_id"])["models"]) == 1
    assert len(facts(there, tree[0]["run_id"])["histories"]["loss/train set"]) == 300
    parents = [opened(there).get_run(item["run_id"]).tags.get("mlflow.parentRunId") for item in tree]
    assert parents == [None, tree[0]["run_id"], tree[1]["run_id"]]
    assert opened(here).get_run(run).experiment_name == opened(there).get_run(tree[0]["run_id"]).experiment_name

    again = copied(amlflow, here, there, run, "--children")
    assert [(item["state"], item["run_id"]) for item in again] == [("unchanged", item["run_id"]) for item in tree]

    # As on another machine: nothing is noted here, and the tag leads to the copy.
    shutil.rmtree(opened(there).state_folder() / "copies")
    found = copied(amlflow, here, there, run)
    assert [(item["state"], item["run_id"]) for item in found] == [("unchanged", tree[0]["run_id"])]


def test_the_copy_of_a_model_is_loaded_and_predicts(amlflow: Any, places: Places) -> None:
    run = logged(amlflow, places["local"], LOG)
    (item,) = copied(amlflow, places["local"], places["other"], run)
    assert item["models"] == 1
    (model,) = opened(places["other"]).logged_models(item["run_id"])
    import mlflow
    import numpy as np

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(opened(places["other"]).tracking_uri)
    try:
        assert mlflow.pyfunc.load_model(model.uri).predict(np.array([1.0]))[0] == 2.0
    finally:
        mlflow.set_tracking_uri(before)
    amlflow.ok("-w", places["other"], "register", item["run_id"], "--name", "adding")


def test_a_copy_follows_its_source(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    run = logged(amlflow, here, "import mlflow; mlflow.log_metric('a', 1, step=1)")
    (first,) = copied(amlflow, here, there, run)
    for more in (("metric", "a=2", "--step", "2"), ("param", "p=1"), ("tag", "t=1"), ("artifact", "program.py")):
        amlflow.ok("-w", here, "log", *more, "--run", run)
    (second,) = copied(amlflow, here, there, run)
    assert second["run_id"] == first["run_id"]
    counted = {key: second[key] for key in ("state", "points", "params", "tags", "files")}
    assert counted == {"state": "completed", "points": 1, "params": 1, "tags": 1, "files": 1}
    assert facts(here, run) == facts(there, first["run_id"])
    # A copy that somebody has deleted is made anew.
    amlflow.ok("-w", there, "run", "delete", first["run_id"])
    (third,) = copied(amlflow, here, there, run)
    assert third["state"] == "copied"
    assert third["run_id"] != first["run_id"]


def test_a_child_finds_the_copy_of_its_parent_later(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    run = logged(amlflow, here, LOG)
    child = next(item.id for item in opened(here).search_runs(_all()) if item.name == "child one")
    (alone,) = copied(amlflow, here, there, child, "-e", "another")
    assert "mlflow.parentRunId" not in opened(there).get_run(alone["run_id"]).tags
    assert alone["experiment"] == "another"
    (parent,) = copied(amlflow, here, there, run)
    (later,) = copied(amlflow, here, there, child)
    assert (later["run_id"], later["state"]) == (alone["run_id"], "completed")
    assert opened(there).get_run(later["run_id"]).tags["mlflow.parentRunId"] == parent["run_id"]


def _all() -> Any:
    from amlflow.workspaces.base import RunQuery

    return RunQuery()


BIG = """
import mlflow
client = mlflow.MlflowClient()
import os
run = os.environ["AMLFLOW_RUN"]
from mlflow.entities import Metric, Param
for key in "abcdef":
    for start in range(0, 10_000, 1000):
        client.log_batch(run, metrics=[Metric(key, float(n), 1_700_000_000_000 + n, n) for n in range(start, start + 1000)])
client.log_batch(run, params=[Param(f"p{n}", str(n)) for n in range(90)])
for n in range(40):
    mlflow.log_text("x" * 50_000 + str(n), f"files/{n % 4}/{n}.txt")
class Adding(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input + 1
mlflow.pyfunc.log_model(name="model", python_model=Adding(), pip_requirements=["numpy"])
"""


@pytest.mark.parametrize("target", ["other", pytest.param("server", marks=pytest.mark.slow)])
def test_a_copy_that_is_killed_again_and_again_is_whole_in_the_end(amlflow: Any, places: Places, target: str) -> None:
    here, there = places["local"], places[target]
    run = logged(amlflow, here, BIG)
    killed = 0
    for patience_s in (0.6, 1.0, 1.5, 2.2, 3.0, 4.0):
        copying = amlflow.start("run", "copy", run, "--from", here, "--to", there)
        time.sleep(patience_s)
        if copying.poll() is None:
            os.killpg(copying.pid, signal.SIGKILL)
            killed += 1
        copying.communicate(timeout=60)
    assert killed >= 2
    (item,) = copied(amlflow, here, there, run)
    assert facts(here, run) == facts(there, item["run_id"])
    name = opened(here).get_run(run).experiment_name
    made = amlflow.ok("-w", there, "run", "list", "-e", name, "-o", "json").json
    assert [found["run_id"] for found in made] == [item["run_id"]]
    assert len(opened(there).logged_models(item["run_id"])) == 1
    assert amlflow.ok("-w", there, "sync", "status", "-o", "json").json == []


def test_a_server_that_is_away_is_told_of(amlflow: Any, places: Places) -> None:
    run = logged(amlflow, places["local"], "import mlflow; mlflow.log_metric('a', 1)")
    away = amlflow("run", "copy", run, "--from", places["local"], "--to", f"http://127.0.0.1:{free_port()}")
    assert away.code == 5
    assert away.out == ""


def test_a_run_of_another_kind_goes_to_azure_ml(amlflow: Any, places: Places, azure: Any) -> None:
    there = azure.env["AMLFLOW_WORKSPACE"]
    run = logged(amlflow, places["local"], LOG + "mlflow.log_param('long', 'y' * 2000)\n")
    (item,) = copied(amlflow, places["local"], there, run)
    send_all(amlflow)
    source, copy = facts(places["local"], run, False), facts(there, item["run_id"], False)
    assert copy["params"].pop("long").startswith("yyy")
    assert source["params"].pop("long")
    for what in ("name", "status", "times", "params", "histories"):
        assert copy[what] == source[what], what
    assert source["tags"].items() <= copy["tags"].items()
    assert source["files"].items() <= copy["files"].items()
    assert "model/MLmodel" in copy["files"]
    (again,) = copied(amlflow, places["local"], there, run)
    assert (again["run_id"], again["state"]) == (item["run_id"], "unchanged")
    # And home again, to a workspace that has never seen it.
    (back,) = copied(amlflow, there, places["other"], item["run_id"])
    home = facts(places["other"], back["run_id"], False)
    for what in ("name", "status", "times", "histories"):
        assert home[what] == source[what], what
    assert home["files"] == copy["files"]


def test_wrong_copies_are_told_why(amlflow: Any, places: Places) -> None:
    here, there = places["local"], places["other"]
    run = logged(amlflow, here, "")
    for code, said, arguments in (
        (3, "There is no run 'nun'", ("nun", "--from", here, "--to", there)),
        (2, "Both workspaces are", (run, "--from", here, "--to", here)),
        (2, "--to", (run, "--from", here)),
        (3, "There is no workspace 'nowhere'", (run, "--from", here, "--to", "nowhere")),
        (2, "RUN", ("--from", here, "--to", there)),
    ):
        done = amlflow("run", "copy", *arguments)
        assert (done.code, done.out) == (code, ""), done.err
        assert said in done.err
    amlflow.ok("-w", here, "run", "delete", run)
    deleted = amlflow("run", "copy", run, "--from", here, "--to", there)
    assert deleted.code == 1
    assert "amlflow run restore" in deleted.err
    assert not (amlflow.cwd / "there" / "mlflow.db").exists()
