"""The command line on any MLflow tracking server: `-w http://…`."""

from __future__ import annotations

import re
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from browsers import data_of
from servers import free_port, proxy

MLMODEL = """
flavors:
  python_function:
    loader_module: doubling
    code: code
signature:
  inputs: '[{"type": "double", "name": "x"}]'
"""

DOUBLING = """
class Doubling:
    def predict(self, data, params=None):
        return data["x"] * 2

def _load_pyfunc(path):
    return Doubling()
"""


@pytest.fixture
def there(amlflow: Any, mlflow_server: str) -> Any:
    """The command, on the server."""
    object.__setattr__(amlflow, "env", {**amlflow.env, "AMLFLOW_WORKSPACE": mlflow_server})
    return amlflow


@pytest.fixture
def experiment() -> str:
    return f"wine {uuid.uuid4().hex[:8]}"


def tracked(there: Any, experiment: str, name: str, rmse: float) -> str:
    """A run with a metric, a param and a folder that holds a model."""
    model = there.cwd / "model"
    (model / "code").mkdir(parents=True, exist_ok=True)
    (model / "code" / "doubling.py").write_text(DOUBLING)
    (model / "MLmodel").write_text(MLMODEL)
    said = there.ok("track", "-e", experiment, "--run-name", name, "--", "sh", "-c", "echo $AMLFLOW_RUN").out
    run_id = said.strip()
    there.ok("log", "metric", f"rmse={rmse}", "--run", run_id)
    there.ok("log", "param", f"alpha={rmse / 10}", "--run", run_id)
    there.ok("log", "tag", "kind=a b", "--run", run_id)
    there.ok("log", "artifact", "model", "--run", run_id)
    return str(run_id)


def test_runs_live_on_the_server(there: Any, experiment: str) -> None:
    good, bad = (tracked(there, experiment, name, rmse) for name, rmse in (("good", 0.5), ("bad", 2.0)))
    listed = there.ok("run", "list", "-e", experiment, "--sort", "-rmse", "-o", "json").json
    assert [(run["name"], run["status"]) for run in listed] == [("bad", "FINISHED"), ("good", "FINISHED")]
    found = there.ok("run", "list", "-e", experiment, "--filter", "metrics.rmse < 1", "-q").out.split()
    assert found == [good]
    shown = there.ok("run", "show", good[:10], "--history", "rmse", "-o", "json").json
    assert shown["params"] == {"alpha": "0.05"}
    assert [point["value"] for point in shown["histories"]["rmse"]] == [0.5]
    assert {item["path"] for item in shown["artifacts"]} == {
        "logs/stdout.log",
        "model/MLmodel",
        "model/code/doubling.py",
    }
    there.ok("run", "download", bad, "logs", "--to", "out")
    assert (there.cwd / "out" / "logs" / "stdout.log").read_text() == f"{bad}\n"
    there.ok("run", "delete", good)
    assert there("run", "show", "-e", experiment, "best:-rmse", "-q").out.split() == [bad]
    there.ok("run", "restore", good)
    compared = there.ok("compare", "-e", experiment, "--sort", "rmse", "-o", "json").out
    assert compared.index(good) < compared.index(bad)
    there.ok("compare", "-e", experiment, "--sort", "rmse", "--html", "page.html")
    page = data_of(there.cwd / "page.html")
    assert [run["name"] for run in page["runs"]] == ["good", "bad"]
    assert [files["models"]["model"]["inputs"] for files in page["files"]] == ["x: double"] * 2
    assert page["notes"] == []


def test_models_live_on_the_server(there: Any, experiment: str) -> None:
    run, name = tracked(there, experiment, "good", 0.5), f"wine-{uuid.uuid4().hex[:8]}"
    made = there.ok("register", run, "--name", name, "--alias", "champion", "-o", "json").json
    assert (made["version"], made["run_id"], made["aliases"]) == ("1", run, ["champion"])
    there.ok("register", "./model", "--name", name)
    assert there.ok("model", "show", f"{name}@champion", "-o", "json").json["version"] == "1"
    there.ok("model", "alias", f"{name}:2", "champion")
    assert there.ok("model", "show", f"{name}@champion", "-o", "json").json["version"] == "2"
    there.ok("model", "download", f"{name}:1", "--to", "copy")
    assert (there.cwd / "copy" / "MLmodel").read_text() == MLMODEL
    there.ok("model", "delete", f"{name}:2", "--yes")
    assert there("model", "show", f"{name}:2").code == 3
    assert there("run", "show", name, "-q").out.split() == [run]


def test_a_model_of_the_server_is_deployed_here(there: Any, experiment: str) -> None:
    run = tracked(there, experiment, "good", 0.5)
    there.ok("deploy", f"runs:/{run}/model", "--target", "local", "--name", "doubling", "--env-manager", "local")
    try:
        answer = there.ok("endpoint", "invoke", "doubling", "-", stdin='{"inputs": {"x": [1.5, 2.0]}}').out
        assert [float(number) for number in re.findall(r"[0-9.]+", answer)] == [3.0, 4.0]
    finally:
        there.ok("endpoint", "delete", "doubling")


def test_a_param_that_would_change_and_a_filter_that_has_no_meaning_are_usage(there: Any, experiment: str) -> None:
    run = tracked(there, experiment, "good", 0.5)
    changed = there("log", "param", "alpha=9", "--run", run)
    assert (changed.code, "'0.05'" in changed.err) == (2, True)
    assert there("run", "list", "--filter", "metrics.rmse <").code == 2
    assert there("run", "show", "nothing-of-that-name").code == 3


def test_a_job_and_its_files_stay_here(there: Any, project: Any, experiment: str) -> None:
    project(MLproject="name: p\nentry_points:\n  main:\n    command: echo from the job\n")
    job = there.ok("run-project", "proj", "-e", experiment, "--detach", "-q").out.split()[-1]
    assert "from the job" in there.ok("job", "logs", job, "--follow").out
    assert there.ok("job", "show", job, "-o", "json").json["status"] == "FINISHED"
    assert there.ok("run", "show", job, "-o", "json").json["experiment"] == experiment
    (state,) = (Path(there.env["AMLFLOW_HOME"]) / "servers").iterdir()
    assert (state / "jobs" / job / "job.json").is_file()


def test_the_workspace_says_whether_the_server_answers(there: Any) -> None:
    shown = there.ok("workspace", "show", "-o", "json").json
    assert (shown["answers"], shown["kind"]) == (True, "mlflow")
    assert shown["mlflow"][0].isdigit()
    dead = f"http://127.0.0.1:{free_port()}"
    shown = there.ok("workspace", "show", "-w", dead, "-o", "json").json
    assert (shown["answers"], shown["where"]) == (False, dead)
    assert "accepts no connection" in shown["problem"]


def test_a_server_that_is_down_ends_with_5_and_soon(amlflow: Any) -> None:
    started = time.monotonic()
    ended = amlflow("-w", f"http://127.0.0.1:{free_port()}", "run", "list", timeout=60)
    assert ended.code == 5
    assert "accepts no connection" in ended.err
    assert len(ended.err.splitlines()) == 1
    # Not a measurement: without a bound on the retries it would be minutes.
    assert time.monotonic() - started < 60


def test_a_wrong_password_ends_with_4_and_is_not_shown(amlflow: Any, mlflow_server: str) -> None:
    with proxy(mlflow_server, user="me", password="right") as url:
        host = url.removeprefix("http://")
        good, bad = f"http://me:right@{host}", f"http://me:hunter2@{host}"
        ended = amlflow("-w", bad, "run", "list")
        assert ended.code == 4
        assert "MLFLOW_TRACKING_USERNAME" in ended.err
        for command in (("run", "list"), ("workspace", "show"), ("workspace", "list"), ("run", "show", "nope")):
            said = amlflow("-w", bad, *command)
            assert "hunter2" not in said.out + said.err
        amlflow.ok("-w", good, "track", "--", sys.executable, "-c", "import mlflow; mlflow.log_param('seen', 1)")
        assert amlflow.ok("-w", good, "run", "show", "-o", "json").json["params"] == {"seen": "1"}
        assert amlflow.ok("-w", url, "run", "list", MLFLOW_TRACKING_USERNAME="me", MLFLOW_TRACKING_PASSWORD="right")


def test_what_waits_for_another_workspace_is_named_with_the_command_that_sends_it(amlflow: Any) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    ended = amlflow.ok("-w", f"http://me:hunter2@{dead.removeprefix('http://')}", "track", "--", "true")
    assert f"`amlflow sync -w {dead}` sends them" in ended.err
    assert "hunter2" not in ended.out + ended.err
    for command in (("sync",), ("sync", "status")):
        said = amlflow.ok(*command)
        assert "1 run waits for other workspaces: `amlflow sync --all`" in said.err
        assert said.out == ""
    assert amlflow.ok("sync", "status", "-o", "json").json == []
    (waiting,) = amlflow.ok("sync", "status", "--all", "-o", "json").json
    assert waiting["workspace"] == dead
