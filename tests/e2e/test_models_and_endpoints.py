"""From a run to a registered model to a web service, and `compare`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

TRAIN = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
x, y = load_diabetes(return_X_y=True, as_frame=True)
for name, alpha, signed in (("good", 0.01, True), ("bad", 10.0, True), ("unsigned", 1.0, False), ("two", 1.0, True)):
    with mlflow.start_run(run_name=name):
        model = Ridge(alpha=alpha).fit(x, y)
        mlflow.log_params({"alpha": alpha, "solver": "auto"})
        for step in range(20):
            mlflow.log_metric("rmse", alpha * 10 + 1 / (step + 1), step=step)
        mlflow.log_metric("r2", model.score(x, y))
        options = {"signature": infer_signature(x, y), "input_example": x.head(2)} if signed else {}
        for model_name in ("model", "other")[: 1 + (name == "two")]:
            mlflow.sklearn.log_model(model, name=model_name, serialization_format="cloudpickle", **options)
with mlflow.start_run(run_name="none"):
    mlflow.log_metric("rmse", 500)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """A workspace with trained runs, made once and copied for each test."""
    import subprocess
    import sys

    from amlflow.workspaces.local.workspace import LocalWorkspace

    root = tmp_path_factory.mktemp("trained")
    before = dict(os.environ)
    os.environ["AMLFLOW_CACHE_DIR"] = str(shared_cache)
    try:
        workspace = LocalWorkspace(root)
        wine = workspace.ensure_experiment("wine")
        env = {
            **os.environ,
            "MLFLOW_TRACKING_URI": workspace.tracking_uri,
            "MLFLOW_REGISTRY_URI": workspace.tracking_uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(workspace.artifact_root),
            "MLFLOW_EXPERIMENT_ID": wine.id,
        }
        subprocess.run([sys.executable, "-c", TRAIN], check=True, env=env, cwd=root, capture_output=True)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return root


@pytest.fixture
def wine(amlflow: Any, trained: Path) -> Any:
    """The command, on a workspace of its own with the trained runs. Their artifacts stay where they were logged."""
    home = Path(amlflow.env["AMLFLOW_HOME"]) / "workspaces" / "local"
    home.mkdir(parents=True)
    import sqlite3

    with sqlite3.connect(trained / "mlflow.db") as source, sqlite3.connect(home / "mlflow.db") as copy:
        source.backup(copy)
    return amlflow


def model_folder(wine: Any) -> Path:
    """A copy of the folder of a model with a signature."""
    location = wine.ok("register", "good", "--name", "copied", "-o", "json").json["location"]
    wine.ok("model", "delete", "copied", "--yes")
    return shutil.copytree(location, wine.cwd / "folder")


def test_register_from_every_kind_of_source(wine: Any) -> None:
    best = wine.ok("register", "best:-rmse", "-e", "wine", "--name", "wine", "--alias", "champion", "-o", "json").json
    good = wine.ok("run", "show", "good", "-o", "json").json["run_id"]
    assert (best["model"], best["run_id"], best["aliases"]) == ("wine:1", good, ["champion"])
    assert wine.ok("register", f"runs:/{good}/model", "--name", "wine", "-q").out == "wine:2\n"
    assert (
        wine.ok("register", "bad", "--name", "wine", "--tag", "a=b", "--description", "worse", "-q").out == "wine:3\n"
    )
    folder = model_folder(wine)
    assert wine.ok("register", str(folder), "--name", "other", "-q").out == "other:1\n"
    shown = wine.ok("model", "show", "wine", "-o", "json").json
    assert (shown["version"], shown["tags"], shown["description"]) == ("3", {"a": "b"}, "worse")
    assert [m["name"] for m in wine.ok("model", "list", "-o", "json").json] == ["other", "wine"]
    assert wine.ok("run", "show", "wine:1", "-q").out.strip() == good


def test_what_cannot_be_registered_says_why(wine: Any) -> None:
    none = wine("register", "none", "--name", "x")
    assert (none.code, "has no model" in none.err) == (3, True)
    two = wine("register", "two", "--name", "x")
    assert two.code == 2
    assert "has 2 models" in two.err
    assert "/other" in two.err
    missing = wine("register", "goood", "--name", "x")
    assert missing.code == 3
    assert wine("register", "best:accuracy", "-e", "wine", "--name", "x").code == 3
    wrong = wine("register", "best:-rmes", "-e", "wine", "--name", "x")
    assert "Did you mean 'rmse'" in wrong.err
    assert wine("register", "best:-rmse", "-e", "wien", "--name", "x").code == 3
    assert wine("register", "good", "--name", "a/b").code == 2
    unsigned = wine.ok("register", "unsigned", "--name", "u")
    assert "Warning: The model" in unsigned.err
    assert "has no signature" in unsigned.err


def test_an_incomplete_model_is_neither_registered_nor_deployed(wine: Any) -> None:
    folder = model_folder(wine)
    (folder / "model.pkl").unlink()
    for arguments in (["register", str(folder), "--name", "x"], ["deploy", str(folder), "--name", "x"]):
        refused = wine(*arguments)
        assert refused.code == 1
        assert "is incomplete: its MLmodel file names 'model.pkl'" in refused.err
    (folder / "MLmodel").write_text("a: b: c")
    assert "cannot be read as YAML" in wine("register", str(folder), "--name", "x").err
    (folder / "MLmodel").unlink()
    assert wine("register", str(folder), "--name", "x").code == 3


def test_aliases_and_deletion(wine: Any) -> None:
    for _ in range(2):
        wine.ok("register", "good", "--name", "wine")
    wine.ok("model", "alias", "wine:1", "champion")
    assert wine.ok("model", "show", "wine@champion", "-q").out == "wine:1\n"
    wine.ok("model", "alias", "wine:2", "champion")
    assert wine.ok("model", "show", "wine@champion", "-q").out == "wine:2\n"
    assert "Did you mean 'champion'" in wine("model", "show", "wine@champoin").err
    assert wine("model", "alias", "wine:2", "v3").code == 2
    assert wine("model", "show", "wine:9").code == 3
    assert "Did you mean 'wine'" in wine("model", "show", "wien").err
    wine.ok("model", "download", "wine@champion", "--to", "got")
    assert (wine.cwd / "got/MLmodel").is_file()
    assert wine("model", "download", "wine", "--to", "got").code == 1
    wine.ok("model", "alias", "wine", "champion", "--delete")
    assert wine("model", "show", "wine@champion").code == 3
    wine.ok("model", "delete", "wine:2")
    assert wine.ok("model", "list", "wine", "-q").out == "wine:1\n"
    assert wine("model", "delete", "wine").code == 2
    wine.ok("model", "delete", "wine", "--yes")
    assert wine.ok("model", "list", "-o", "json").json == []


def test_mlflow_loads_what_was_registered(wine: Any) -> None:
    import subprocess
    import sys

    wine.ok("register", "good", "--name", "wine", "--alias", "champion")
    home = Path(wine.env["AMLFLOW_HOME"]) / "workspaces" / "local"
    script = (
        "import mlflow, sklearn.datasets as d\n"
        "model = mlflow.pyfunc.load_model('models:/wine@champion')\n"
        "print(len(model.predict(d.load_diabetes(as_frame=True).data.head(3))))\n"
    )
    env = {**wine.env, "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_deploy_invoke_and_delete(wine: Any) -> None:
    wine.ok("register", "good", "--name", "wine", "--alias", "champion")
    plan = wine.ok("deploy", "wine@champion", "--env-manager", "local", "--dry-run", "-o", "json").json
    assert [step["action"] for step in plan["steps"]] == ["keep", "create", "create"]
    assert wine.ok("endpoint", "list", "-o", "json").json == []
    shown = wine.ok("deploy", "wine@champion", "--env-manager", "local", "-o", "json").json
    assert (shown["name"], shown["state"], shown["model"]) == ("wine", "running", "wine:1")
    example = wine.ok("endpoint", "invoke", "wine", "--example").json["predictions"]
    assert len(example) == 2
    columns = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    row = [0.01] * 10
    forms: dict[str, Any] = {
        "split.json": {"dataframe_split": {"columns": columns, "data": [row]}},
        "records.json": {"dataframe_records": [dict(zip(columns, row, strict=True))]},
        "azure.json": {"input_data": {"columns": columns, "index": [0], "data": [row]}},
        "bare.json": [dict(zip(columns, row, strict=True))],
        "rows.json": [row],
    }
    for name, content in forms.items():
        (wine.cwd / name).write_text(json.dumps(content))
    (wine.cwd / "data.csv").write_text(",".join(columns) + "\n" + ",".join(map(str, row)) + "\n")
    answers = {name: wine.ok("endpoint", "invoke", "wine", name).json["predictions"] for name in [*forms, "data.csv"]}
    answers["stdin"] = wine.ok("endpoint", "invoke", "wine", "-", stdin=json.dumps(forms["split.json"])).json[
        "predictions"
    ]
    assert len({json.dumps(answer) for answer in answers.values()}) == 1
    (wine.cwd / "wrong.json").write_text('{"dataframe_split": {"columns": ["age"], "data": [["x"]]}}')
    wrong = wine("endpoint", "invoke", "wine", "wrong.json")
    assert wrong.code == 1
    assert "refused the request (400): The request lacks the columns 'sex'" in wrong.err
    (wine.cwd / "broken.json").write_text("{")
    assert wine("endpoint", "invoke", "wine", "broken.json").code == 2
    assert wine("endpoint", "invoke", "wine").code == 2
    assert wine("endpoint", "invoke", "wine", "none.json").code == 3
    assert "Did you mean 'wine'" in wine("endpoint", "show", "wien").err
    old = wine.ok("endpoint", "keys", "wine", "-q").out
    assert wine.ok("endpoint", "keys", "wine", "--rotate", "-q").out != old
    masked = wine.ok("endpoint", "keys", "wine", "-q", GITHUB_ACTIONS="true")
    assert masked.err == f"::add-mask::{masked.out}"
    wine.ok("endpoint", "invoke", "wine", "--example")
    wine.ok("endpoint", "logs", "wine")
    wine.ok("endpoint", "delete", "wine")
    assert wine.ok("endpoint", "list", "-o", "json").json == []


def test_a_model_in_an_environment_of_its_own(wine: Any) -> None:
    """The scoring app needs nothing of amlflow: its environment has the model's requirements and the server's alone."""
    folder = model_folder(wine)
    (folder / "requirements.txt").write_text("scikit-learn\ncloudpickle\n")
    shown = wine.ok("deploy", str(folder), "--name", "own", "-o", "json").json
    python = psutil.Process(shown["pid"]).exe(), psutil.Process(shown["pid"]).cmdline()[0]
    assert "environments" in python[1]
    assert wine.ok("endpoint", "invoke", "own", "--example").code == 0


def test_requirements_that_do_not_resolve_are_named(wine: Any) -> None:
    folder = model_folder(wine)
    (folder / "requirements.txt").write_text("scikit-learn==0.0.1.nothing\n")
    refused = wine("deploy", str(folder), "--name", "own")
    assert refused.code == 1
    assert "scikit-learn" in refused.err
    assert wine.ok("endpoint", "list", "-o", "json").json == []


def test_bad_deploys_say_why(wine: Any) -> None:
    wine.ok("register", "good", "--name", "wine")
    assert "Did you mean 'local'" in wine("deploy", "wine", "--target", "lokal").err
    assert "needs an Azure ML workspace" in wine("deploy", "wine", "--target", "managed").err
    assert wine("deploy", "wine", "--env-manager", "pip").code == 2
    assert wine("deploy", "wine:7").code == 3
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = wine("deploy", "wine", "--env-manager", "local", "--port", str(holder.getsockname()[1]))
    assert taken.code == 1
    assert "cannot be taken" in taken.err
    assert "Choose another with --port" in taken.err


def test_a_model_and_a_folder_of_one_name(wine: Any) -> None:
    wine.ok("register", "good", "--name", "wine")
    for folder in ("wine", "wine:1", "wine@best"):
        shutil.copytree(model_folder(wine), wine.cwd / folder)
        shutil.rmtree(wine.cwd / "folder")

    def planned(model: str) -> str:
        base = ("deploy", model, "--env-manager", "local", "--name", "one", "--dry-run", "-o", "json")
        return str(wine.ok(*base).json["steps"][-1]["detail"]).partition(" on ")[0]

    unclear = wine("deploy", "wine", "--env-manager", "local")
    assert unclear.code == 2
    assert "./wine for the folder" in unclear.err
    assert "models:/wine or wine:VERSION" in unclear.err
    assert planned("./wine") == "wine"
    assert planned("models:/wine") == planned("wine:1") == "wine:1"
    assert wine("deploy", "wine@best").code == 3
    wine.ok("model", "alias", "wine:1", "best")
    assert planned("wine@best") == "wine:1"
    assert wine.ok("register", "wine", "--name", "wine", "-q").out == "wine:2\n"


def test_interrupting_a_deploy_leaves_no_process(wine: Any) -> None:
    wine.ok("register", "good", "--name", "wine")
    for moment in (0.1, 0.3, 0.5, 0.7, 1.0, 1.4):
        process = wine.start("deploy", "wine", "--env-manager", "local")
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        if process.returncode == 0:
            wine.ok("endpoint", "delete", "wine")
    home = wine.env["AMLFLOW_HOME"]
    left = [p for p in psutil.process_iter(["cmdline"]) if home in " ".join(p.info["cmdline"] or [])]
    assert left == []
    assert wine.ok("endpoint", "list", "-o", "json").json == []


def test_compare_marks_the_best_and_shows_deltas(wine: Any) -> None:
    table = wine.ok("compare", "good", "bad", "--baseline", "bad", "-o", "table").out
    lines = {line.split()[0] if not line.startswith("≠") else line.split()[1]: line for line in table.splitlines()[1:]}
    assert lines["alpha"].startswith("≠ alpha")
    assert "★" in lines["rmse"]
    assert "(-99.9)" in lines["rmse"]
    assert "rmse ↓" in lines["rmse"]
    assert "█" in lines["rmse"]
    assert list(lines).index("alpha") < list(lines).index("solver")
    document = wine.ok("compare", "--experiment", "wine", "--sort", "rmse", "--top", "2", "-o", "json").json
    assert [run["name"] for run in document["runs"]] == ["good", "unsigned"] or document["runs"][0]["name"] == "good"
    rmse = next(row for row in document["metrics"] if row["key"] == "rmse")
    assert (rmse["direction"], rmse["best"]) == ("lower", [document["runs"][0]["run_id"]])
    markdown = wine.ok("compare", "good", "bad", "--markdown").out
    assert markdown.startswith("|   | good | bad |\n| --- | ---: | ---: |\n")
    rows = wine.ok("compare", "--experiment", "wine", "--sort", "r2").out.splitlines()
    assert rows[0].split("\t")[:3] == ["RUN", "NAME", "r2 ↑"]
    assert rows[1].split("\t")[1] == "good"
    assert rows[-1].split("\t")[1] == "none"
    history = wine.ok("compare", "good", "--history", "rmse", "-o", "json").json["runs"][0]["histories"]["rmse"]
    assert history["steps"] == list(range(20))


def test_bad_comparisons_say_why(wine: Any) -> None:
    assert wine("compare").code == 2
    assert wine("compare", "good", "--filter", "a = 'b'").code == 2
    broken = wine("compare", "-e", "wine", "--filter", "metrics.rmse <")
    assert broken.code == 2
    assert "^" in broken.err
    assert "Did you mean 'rmse'" in wine("compare", "good", "--metric", "rmsee").err
    assert wine("compare", "-e", "wine", "--filter", "metrics.rmse > 1e9").code == 3
    assert "Did you mean 'wine'" in wine("compare", "-e", "wien").err


def test_runs_by_every_name(wine: Any) -> None:
    good = wine.ok("run", "show", "good", "-q").out.strip()
    for name in (good, good[:12], "best:r2", "best:-rmse"):
        assert wine.ok("run", "show", name, "-q").out.strip() == good
    assert wine.ok("run", "show", "-q").out == wine.ok("run", "show", "last", "-q").out
    assert wine("run", "show", "goood").code == 3
    assert "Did you mean 'good'" in wine("run", "show", "goood").err


def test_an_ambiguous_prefix_lists_what_it_fits(wine: Any) -> None:
    from amlflow.workspaces.local.workspace import LocalWorkspace

    workspace = LocalWorkspace(Path(wine.env["AMLFLOW_HOME"]) / "workspaces" / "local")
    # Of seventeen ids two begin with the same of sixteen digits.
    ids = [workspace.create_run("0", f"r{number}", {}, {}).id for number in range(17)]
    digit = next(run[0] for run in ids if sum(other[0] == run[0] for other in ids) > 1)
    refused = wine("run", "show", digit)
    assert refused.code == 2
    assert f"'{digit}' fits" in refused.err
    assert any(run in refused.err for run in ids)
    same = [workspace.create_run("0", "twice", {}, {}).id for _ in range(2)]
    twice = wine("run", "show", "twice")
    assert (twice.code, all(run in twice.err for run in same)) == (2, True)


def test_deleted_runs_come_back(wine: Any) -> None:
    wine.ok("run", "delete", "good", "bad")
    assert "good" not in wine.ok("run", "list").out
    assert len(wine.ok("run", "list", "--deleted", "-o", "json").json) == 2
    assert wine("run", "delete", "good").code == 3
    wine.ok("run", "restore", "good")
    assert "good" in wine.ok("run", "list").out
    assert wine("run", "restore", "good").code == 3


def test_downloads_stay_inside(wine: Any) -> None:
    assert wine("run", "download", "none").code == 3
    for path in ("../../../etc/passwd", "/etc/passwd"):
        assert wine("run", "download", "good", path).code == 2
