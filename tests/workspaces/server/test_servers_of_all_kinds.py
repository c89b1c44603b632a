"""Servers that ask who you are, that are old, that keep artifacts elsewhere, that are down or hostile."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from servers import free_port, http_server, proxy, send

from amlflow.errors import AmlflowError, NotAllowed, NotFound, Unavailable, UsageError
from amlflow.workspaces.base import Metric, RunQuery
from amlflow.workspaces.server.workspace import ServerWorkspace

# What autologging and log_model of MLflow 3 leave on a server: an entity of its own.
PROGRAM = """
import logging, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import mlflow
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
mlflow.set_experiment("logged models")
with mlflow.start_run() as run:
    mlflow.pyfunc.log_model(name="model", python_model=Model(), pip_requirements=[])
print(run.info.run_id)
"""


@pytest.fixture
def closed(mlflow_server: str) -> Iterator[str]:
    """The server behind a proxy that wants `me` with `p@ss/word`, or a token."""
    with proxy(mlflow_server, user="me", password="p@ss/word", token="secret-token") as url:
        yield url


def test_a_logged_model_of_mlflow_3_is_found_fetched_and_registered(
    clean_env: dict[str, str], mlflow_server: str, tmp_path: Path
) -> None:
    workspace = ServerWorkspace(mlflow_server)
    env = {**os.environ, "MLFLOW_TRACKING_URI": workspace.tracking_uri}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, check=True, cwd=tmp_path, capture_output=True)
    run_id = done.stdout.decode().split()[-1]
    (model,) = workspace.logged_models(run_id)
    assert model.name == "model"
    assert model.uri.startswith("models:/m-")
    folder = workspace.fetch(model.location)
    assert (folder / "MLmodel").is_file()
    assert folder == workspace.fetch(model.location)
    assert (workspace.fetch(model.uri) / "MLmodel").is_file()
    one = workspace.fetch_file(model.location, "MLmodel", tmp_path / "one")
    assert one.read_text() == (folder / "MLmodel").read_text()
    assert list((tmp_path / "one").iterdir()) == [one]
    with pytest.raises(NotFound):
        workspace.fetch_file(model.location, "none.txt", tmp_path / "one")
    version = workspace.create_model_version("logged", f"runs:/{run_id}/model", "", "", {})
    assert (version.source, version.location, version.run_id) == (model.uri, model.location, run_id)
    # A file that is cut in the cache is noticed.
    (folder / "MLmodel").write_text("")
    assert (workspace.fetch(model.location) / "MLmodel").read_text()


def test_an_old_server_works_without_what_it_lacks(
    clean_env: dict[str, str], mlflow_server: str, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    with proxy(mlflow_server, missing=("logged-models", "registered-models/alias", "get-history-bulk")) as url:
        workspace = ServerWorkspace(url)
        runs = [workspace.create_run(workspace.ensure_experiment("old").id, "x", {}, {}) for _ in range(2)]
        for run in runs:
            workspace.log_batch(run.id, [Metric("m", float(step), step, step) for step in range(3)])
        lines = workspace.metric_histories([run.id for run in runs], ["m"])
        assert [[p.step for p in lines[run.id]["m"]] for run in runs] == [[0, 1, 2]] * 2
        workspace.log_artifact(runs[0].id, tmp_path / "model", "deep")
        assert [model.name for model in workspace.logged_models(runs[0].id)] == ["deep/model"]
        workspace.create_model_version("old", f"runs:/{runs[0].id}/deep/model", "", "", {})
        workspace.create_model_version("old", f"runs:/{runs[0].id}/deep/model", "", "", {})
        assert not workspace.set_alias("old", "champion", "2")
        assert not workspace.set_alias("old", "champion", "1")
        assert not workspace.set_alias("old", "gone", "2")
        workspace.delete_alias("old", "gone")
        assert (workspace.get_model("old").aliases, workspace.get_model("old").tags) == ({"champion": "1"}, {})
        assert [list(item.aliases) for item in workspace.list_model_versions("old")] == [[], ["champion"]]
        assert list(workspace.get_model_version("old", "1").aliases) == ["champion"]
        with pytest.raises(NotFound):
            workspace.set_alias("old", "champion", "9")
        workspace.delete_model("old", "1")
        assert workspace.get_model("old").aliases == {}


def test_a_folder_of_this_machine_is_registered_from_a_run_of_its_own(
    clean_env: dict[str, str], mlflow_server: str, tmp_path: Path
) -> None:
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "model" / "data" / "w").write_text("1")
    workspace = ServerWorkspace(mlflow_server)
    version = workspace.create_model_version("from-folder", str(tmp_path / "model"), "", "", {})
    assert workspace.get_run(version.run_id).status == "FINISHED"
    assert (workspace.fetch(version.location) / "data" / "w").read_text() == "1"


def test_a_login_comes_from_the_address_variables_or_the_credentials_file(
    closed: str, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def works(url: str = closed) -> bool:
        try:
            return bool(ServerWorkspace(url).list_experiments())
        except NotAllowed:
            return False

    assert not works()
    with_login = closed.replace("http://", "http://me:p%40ss%2Fword@")
    assert works(with_login)
    assert not works(closed.replace("http://", "http://me:wrong@"))
    credentials = Path.home() / ".mlflow" / "credentials"
    credentials.parent.mkdir()
    credentials.write_text("[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = p@ss/word\n")
    assert works()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    assert not works()
    credentials.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-token")
    assert works()
    # ~/.netrc is somebody else's business: a token that is set is what is sent.
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    assert works()


def test_a_password_is_given_to_children_and_shown_to_nobody(clean_env: dict[str, str]) -> None:
    url = f"http://me:hunter2@127.0.0.1:{free_port()}"
    workspace = ServerWorkspace(url)
    assert "hunter2" not in workspace.name + workspace.tracking_uri + str(workspace.state_folder())
    with workspace.serving() as served:
        child = dict(served)
    assert child.pop("MLFLOW_TRACKING_PASSWORD") == "hunter2"
    assert "hunter2" not in str(child)
    assert "hunter2" not in workspace.reference
    with pytest.raises(Unavailable) as caught:
        workspace.list_experiments()
    assert "hunter2" not in caught.value.paragraph()
    assert stat.S_IMODE(workspace.state_folder().stat().st_mode) == 0o700


def test_a_sign_in_page_is_named(clean_env: dict[str, str]) -> None:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command == "POST":
            send(request, 302, b"", "text/html", Location="https://login.example.org/?next=secret")
        else:
            send(request, 200, b"<html>Sign in</html>", "text/html")

    with http_server(page) as url:
        with pytest.raises(UsageError, match="web page"):
            ServerWorkspace(url).get_run("x")
        problem = ServerWorkspace(url).describe()["problem"]
        assert "login.example.org" in problem
        assert "secret" not in problem


def test_a_hostile_server_writes_nothing_outside(clean_env: dict[str, str], tmp_path: Path) -> None:
    names: list[str] = []

    def hostile(request: BaseHTTPRequestHandler) -> None:
        if "runs/get" in request.path:
            info = {"run_id": "r", "experiment_id": "0", "artifact_uri": "mlflow-artifacts:/0/r/artifacts"}
            send(request, 200, json.dumps({"run": {"info": info}}).encode())
        elif "experiments/search" in request.path:
            request.rfile.read(int(request.headers.get("Content-Length") or 0))
            send(request, 200, b"{}")
        elif "?path=" in request.path or "artifacts/list" in request.path:
            send(request, 200, json.dumps({"files": [{"path": names[0], "is_dir": False}]}).encode())
        else:
            send(request, 200, b"gotcha", "text/plain")

    with http_server(hostile) as url:
        workspace = ServerWorkspace(url)
        for name in ("../evil", "/tmp/evil", "..", "a/../../evil", "..\\evil"):
            names[:] = [name]
            with pytest.raises(AmlflowError, match="leads out"):
                workspace.download_artifacts("r", "", tmp_path / "out" / "deep")
            with pytest.raises(AmlflowError, match="leads out"):
                workspace.list_artifacts("r")
        names[:] = ["link"]
        (tmp_path / "out" / "deep").mkdir(parents=True)
        (tmp_path / "out" / "deep" / "link").symlink_to(tmp_path / "victim")
        with pytest.raises(AmlflowError, match="link"):
            workspace.download_artifacts("r", "", tmp_path / "out" / "deep")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_folders_of_a_server_elsewhere_are_said_to_be_out_of_reach(clean_env: dict[str, str]) -> None:
    workspace = ServerWorkspace("http://mlflow.example.org:5000")
    for location in ("/srv/mlruns/1/r/artifacts", "file:///srv/mlruns/1"):
        with pytest.raises(AmlflowError, match="its own machine") as caught:
            workspace.fetch(location)
        assert "--serve-artifacts" in caught.value.mend


def test_a_service_that_sorts_by_attributes_alone_is_sorted_for(clean_env: dict[str, str], mlflow_server: str) -> None:
    from amlflow.workspaces.server.client import Client, ServerLimits
    from amlflow.workspaces.server.rest import RestWorkspace

    server = ServerWorkspace(mlflow_server)
    limits = ServerLimits(order_by_data=False, bulk_history=False, history_page=2, runs_page=2, metrics=2, batch=3)
    plain = RestWorkspace(Client(server._server, "It", limits), "plain")
    experiment = server.ensure_experiment("sorted here").id
    for number, value in enumerate([2.0, float("nan"), None, 1.0, float("inf")]):
        run = plain.create_run(experiment, f"r{number}", {}, {"p": str(number)} if number else {})
        if value is not None:
            plain.log_batch(run.id, [Metric("m", value, step, step) for step in range(5)])
    for key in ("m", "params.p", "attributes.run_name"):
        for down in (False, True):
            query = RunQuery([experiment], order_by=key, descending=down)
            assert [r.name for r in plain.search_runs(query)] == [r.name for r in server.search_runs(query)]
            best = replace(query, limit=1, filter="attributes.run_name LIKE 'r%'")
            assert [r.name for r in plain.search_runs(best)] == [r.name for r in server.search_runs(best)]
    ids = [run.id for run in server.search_runs(RunQuery([experiment], filter="metrics.m < 3", order_by="run_name"))]
    assert plain.metric_histories(ids[:1], ["m"]) == server.metric_histories(ids[:1], ["m"])
