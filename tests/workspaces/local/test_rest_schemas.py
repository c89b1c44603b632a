"""Every schema that is read directly has what the REST API needs; any other is MLflow's own to read."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rest_requests import API, EXPERIMENTS, MODELS, RUNS, Recording, Side

from amlflow.journal.errors import Refused, Unreachable
from amlflow.workspaces.local import database
from amlflow.workspaces.local.rest import ROUTES, LocalRest
from amlflow.workspaces.local.workspace import LocalWorkspace

# A database at each step of MLflow's own migrations.
MIGRATE = """
import logging, shutil, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base
folder, *wanted = sys.argv[1:]
url = f"sqlite:///{folder}/moving.db"
engine = create_sqlalchemy_engine(url)
Base.metadata.create_all(engine)
engine.dispose()
config = _get_alembic_config(url)
steps = [step.revision for step in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]
first = min(steps.index(step) for step in wanted if step in steps)
for step in [steps[first - 1], *(step for step in steps if step in wanted)]:
    command.upgrade(config, step)
    shutil.copyfile(f"{folder}/moving.db", f"{folder}/{step}.db")
print(steps[first - 1])
"""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with a database a schema, and the schema that came before the first known one."""
    folder = tmp_path_factory.mktemp("schemas")
    command = [sys.executable, "-c", MIGRATE, str(folder), *sorted(database.KNOWN_SCHEMAS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout.split()[-1]


def workspace_at(schema: str, folder: Path, root: Path) -> LocalWorkspace:
    workspace = LocalWorkspace(root)
    root.mkdir()
    shutil.copyfile(folder / f"{schema}.db", workspace.file)
    connection = sqlite3.connect(workspace.file)
    connection.execute(
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
        "last_update_time) VALUES (0, 'Default', ?, 'active', 1700000000000, 1700000000000)",
        (str(workspace.artifact_root / "0"),),
    )
    connection.commit()
    connection.close()
    return workspace


def without_workspaces(value: Any) -> Any:
    """An answer as before there were workspaces inside a database (MLflow 3.10)."""
    if isinstance(value, dict):
        return {key: without_workspaces(item) for key, item in value.items() if key != "workspace"}
    return [without_workspaces(item) for item in value] if isinstance(value, list) else value


def test_every_known_schema_has_the_same_answers(
    schemas: tuple[Path, str], work: Path, clean_env: dict[str, str]
) -> None:
    folder, _ = schemas
    heads = sorted(path.stem for path in folder.glob("*.db") if path.stem in database.KNOWN_SCHEMAS)
    assert heads
    answers: dict[str, list[Any]] = {}
    for head in heads:
        workspace = workspace_at(head, folder, work / head)
        rest = LocalRest(workspace)
        passed_on = rest._application = Recording(workspace.file, workspace.artifact_root)
        answers[head] = []
        for index, requests in enumerate((EXPERIMENTS, RUNS, MODELS)):
            # Each group makes the experiment x.
            renamed = [
                (r[0], r[1], {**r[2], "name": f"x{index}"} if r[2].get("name") == "x" else r[2], *r[3:])
                for r in requests
            ]
            side = Side(workspace.root, rest.request)
            answers[head] += [(request[:3], without_workspaces(side(*request))) for request in renamed]
        rest.close()
        assert passed_on.asked == (), head
    newest = answers[heads[-1]]
    for head in heads:
        for ours, theirs in zip(answers[head], newest, strict=True):
            assert ours == theirs, head


def test_an_older_database_is_refused_with_the_mend(
    schemas: tuple[Path, str], work: Path, clean_env: dict[str, str]
) -> None:
    folder, older = schemas
    workspace = workspace_at(older, folder, work / "older")
    rest = LocalRest(workspace)
    with pytest.raises(Refused, match="mlflow db upgrade") as refused:
        rest.request("GET", f"{API}experiments/get", {"experiment_id": "0"})
    assert refused.value.status == 501
    status, _, body = rest.raw("GET", f"{API}experiments/get?experiment_id=0", {}, b"")
    assert (status, b"mlflow db upgrade" in body) == (501, True)
    assert database.schema(workspace.file) == older
    rest.close()


def test_routes_that_are_taken_away_are_mlflows(work: Path, clean_env: dict[str, str]) -> None:
    rest = LocalRest(LocalWorkspace(work / "workspace"), routes={})
    made = rest.request("POST", f"{API}runs/create", {"experiment_id": "0", "start_time": 3})
    run_id = made["run"]["info"]["run_id"]
    metrics = [{"key": "m", "value": float("nan"), "timestamp": 1}, {"key": "n", "value": float("inf"), "timestamp": 1}]
    rest.request("POST", f"{API}runs/log-batch", {"run_id": run_id, "metrics": metrics})
    known = LocalRest(rest.workspace).request("GET", f"{API}runs/get", {"run_id": run_id})
    assert rest.request("GET", f"{API}runs/get", {"run_id": run_id}) == known
    assert {metric["key"]: metric["value"] for metric in known["run"]["data"]["metrics"]} == {
        "m": "NaN",
        "n": 1.7976931348623157e308,
    }
    rest.close()


def test_routes_can_be_replaced(work: Path, clean_env: dict[str, str]) -> None:
    def gone(db: sqlite3.Connection, call: Any) -> dict[str, Any]:
        raise Refused(404, "ENDPOINT_NOT_FOUND", f"no {call.place['model_id']} here")

    route = ROUTES["GET logged-models/{model_id}"]
    routes = {**ROUTES, "GET logged-models/{model_id}": type(route)(gone, "read")}
    rest = LocalRest(LocalWorkspace(work / "workspace"), routes=routes)
    with pytest.raises(Refused, match="no m-1 here"):
        rest.request("GET", f"{API}logged-models/m-1")
    assert rest.raw("GET", f"{API}logged-models/m%2F1", {}, b"")[2] == (
        b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "no m/1 here"}'
    )
    rest.close()


def test_a_file_that_is_no_database_is_out_of_reach(work: Path, clean_env: dict[str, str]) -> None:
    workspace = LocalWorkspace(work / "workspace")
    workspace.root.mkdir()
    workspace.file.write_text("words, words, words" * 1000)
    rest = LocalRest(workspace)
    with pytest.raises(Unreachable, match="not an MLflow database"):
        rest.request("GET", f"{API}experiments/get", {"experiment_id": "0"})
    assert rest.raw("GET", f"{API}experiments/get?experiment_id=0", {}, b"")[0] == 503


def test_a_run_takes_the_id_that_it_was_given(work: Path, clean_env: dict[str, str]) -> None:
    workspace = LocalWorkspace(work / "workspace")
    rest, body = LocalRest(workspace), {"experiment_id": "0", "run_id": "a" * 32, "start_time": 7}
    made = rest.request("POST", f"{API}runs/create", body)
    assert made["run"]["info"]["run_id"] == "a" * 32
    with pytest.raises(Refused) as refused:
        rest.request("POST", f"{API}runs/create", body)
    assert refused.value.code == "RESOURCE_ALREADY_EXISTS"
    with pytest.raises(Refused, match="cannot be an id"):
        rest.request("POST", f"{API}runs/create", {**body, "run_id": "../../etc"})
    model = rest.request("POST", f"{API}logged-models", {"experiment_id": "0", "model_id": "m-" + "b" * 32})
    assert model["model"]["info"]["artifact_uri"].endswith(f"/0/models/m-{'b' * 32}/artifacts")
    run = workspace.create_run("0", "n", {}, {}, run_id="c" * 32, start_time_ms=9)
    assert (
        run.id,
        run.start_time_ms,
        rest.request("GET", f"{API}runs/get", {"run_id": "c" * 32})["run"]["info"]["start_time"],
    ) == (
        "c" * 32,
        9,
        9,
    )
    rest.close()


def test_what_is_behind_a_workspace_takes_what_its_limits_promise(work: Path, clean_env: dict[str, str]) -> None:
    workspace = LocalWorkspace(work / "workspace")
    behind, limits = workspace.behind(), workspace.limits()
    run_id = behind.request("POST", f"{API}runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    metrics = [{"key": "m", "value": float(step), "step": step, "timestamp": step} for step in range(limits.metrics)]
    behind.request("POST", f"{API}runs/log-batch", {"run_id": run_id, "metrics": metrics})
    params = [{"key": f"p{number}", "value": ""} for number in range(limits.params)]
    behind.request("POST", f"{API}runs/log-batch", {"run_id": run_id, "params": params})
    tags = [{"key": f"t{number}", "value": ""} for number in range(limits.tags)]
    behind.request("POST", f"{API}runs/log-batch", {"run_id": run_id, "tags": tags})
    run = workspace.get_run(run_id)
    assert (run.metrics["m"], len(run.params), len(run.tags)) == (limits.metrics - 1, limits.params, limits.tags + 1)
