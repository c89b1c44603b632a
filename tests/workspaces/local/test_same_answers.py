"""What is read and written directly is what MLflow's own client reads and writes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.workspaces.base import Metric, RunQuery
from amlflow.workspaces.local import database
from amlflow.workspaces.local.direct import DirectStore
from amlflow.workspaces.local.fallback import ClientStore
from amlflow.workspaces.local.workspace import LocalWorkspace

# Written by MLflow itself, so that nothing of it depends on our own writing.
PROGRAM = """
import logging, math, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import mlflow
from mlflow import MlflowClient
client = MlflowClient()
wine, other = client.create_experiment("wine"), client.create_experiment("other")
for number in range(6):
    with mlflow.start_run(experiment_id=wine, run_name=f"run-{number}"):
        mlflow.log_param("alpha", number / 10)
        mlflow.log_param("kind", "a b" if number % 2 else "ünïcode")
        mlflow.set_tag("stage", "x" * number)
        if number != 3:
            for step in (2, 0, 1):
                mlflow.log_metric("rmse", number - step / 10, step=step)
        mlflow.log_metric("weird", [math.nan, math.inf, -math.inf, 0.0, -1.5, 1e-300][number])
with mlflow.start_run(experiment_id=other, run_name="parent"):
    with mlflow.start_run(experiment_id=other, run_name="child", nested=True) as child:
        mlflow.log_metric("only here", 1)
client.set_terminated(client.create_run(wine, run_name="failed", start_time=5).info.run_id, "FAILED", 9)
gone = client.create_run(wine, run_name="gone")
client.log_metric(gone.info.run_id, "rmse", 0)
client.delete_run(gone.info.run_id)
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
with mlflow.start_run(experiment_id=wine, run_name="with model") as run:
    mlflow.pyfunc.log_model(name="model", python_model=Model(), pip_requirements=[])
client.create_registered_model("empty", tags={"a": "b"}, description="nothing")
for _ in range(3):
    mlflow.register_model(f"runs:/{run.info.run_id}/model", "wine", tags={"t": "v"})
client.set_registered_model_alias("wine", "champion", 2)
client.set_registered_model_alias("wine", "old", 1)
client.delete_model_version("wine", 3)
client.update_model_version("wine", 1, description="first")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    before = os.environ.get("AMLFLOW_CACHE_DIR")
    os.environ["AMLFLOW_CACHE_DIR"] = str(shared_cache)
    try:
        workspace = LocalWorkspace(root)
        workspace.create()
    finally:
        if before is None:
            del os.environ["AMLFLOW_CACHE_DIR"]
        else:
            os.environ["AMLFLOW_CACHE_DIR"] = before
    env = {
        **os.environ,
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
        "MLFLOW_REGISTRY_URI": workspace.tracking_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(workspace.artifact_root),
    }
    subprocess.run([sys.executable, "-c", PROGRAM], env=env, check=True, cwd=root)
    return root


@pytest.fixture
def direct(made: Path) -> DirectStore:
    assert database.schema(made / database.FILE_NAME) in database.KNOWN_SCHEMAS
    return DirectStore(made / database.FILE_NAME, made / "artifacts")


@pytest.fixture
def client(made: Path) -> ClientStore:
    return ClientStore(f"sqlite:///{made / database.FILE_NAME}", str(made / "artifacts"))


def plain(value: Any) -> Any:
    """NaN is never equal to itself; a word in its place is."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def test_experiments_are_the_same(direct: DirectStore, client: ClientStore) -> None:
    assert plain(direct.experiments()) == plain(client.experiments())
    assert [e.name for e in direct.experiments()] == ["Default", "wine", "other"]


@pytest.mark.parametrize("lifecycle", ["active", "deleted", "all"])
@pytest.mark.parametrize(
    ("order_by", "descending"),
    [
        ("", False),
        ("rmse", False),
        ("rmse", True),
        ("metrics.weird", False),
        ("metrics.weird", True),
        ("params.alpha", True),
        ("tags.stage", False),
        ("attributes.start_time", False),
        ("end_time", True),
    ],
)
def test_runs_are_the_same_in_the_same_order(
    direct: DirectStore, client: ClientStore, lifecycle: Any, order_by: str, descending: bool
) -> None:
    query = RunQuery(order_by=order_by, descending=descending, lifecycle=lifecycle)
    ours, theirs = direct.search_runs(query), client.search_runs(query)
    assert [run.name for run in ours] == [run.name for run in theirs]
    assert plain(ours) == plain(theirs)


def test_a_limit_and_an_experiment_are_kept(direct: DirectStore, client: ClientStore) -> None:
    query = RunQuery(experiment_ids=["1"], order_by="rmse", limit=3)
    assert plain(direct.search_runs(query)) == plain(client.search_runs(query))
    assert len(direct.search_runs(query)) == 3


def test_nan_and_the_infinities_come_back(direct: DirectStore) -> None:
    values = {run.name: run.metrics.get("weird") for run in direct.search_runs(RunQuery())}
    assert math.isnan(values["run-0"] or 0)
    assert (values["run-1"], values["run-2"]) == (math.inf, -math.inf)


def test_histories_are_the_same(direct: DirectStore, client: ClientStore) -> None:
    ids = [run.id for run in direct.search_runs(RunQuery())]
    assert plain(direct.metric_histories(ids, ())) == plain(client.metric_histories(ids, ()))
    assert plain(direct.metric_histories(ids, ["rmse"])) == plain(client.metric_histories(ids, ["rmse"]))


def test_models_are_the_same(direct: DirectStore, client: ClientStore) -> None:
    assert plain(direct.registered_models()) == plain(client.registered_models())
    assert plain(direct.model_versions("wine")) == plain(client.model_versions("wine"))
    run = next(run for run in direct.search_runs(RunQuery()) if run.name == "with model")
    assert plain(direct.logged_models(run.id)) == plain(client.logged_models(run.id))
    assert [version.version for version in direct.model_versions("wine")] == ["2", "1"]


FILTERS = [
    "metrics.rmse < 3",
    "metrics.rmse >= 1.8 and params.alpha = '0.2'",
    "metric.rmse != 0.8",
    "metrics.weird > 0",
    "metrics.weird <= 0",
    "metrics.`only here` = 1",
    'metrics."only here" >= 1',
    "params.kind = 'a b'",
    "params.kind LIKE 'a%'",
    "params.kind ILIKE 'A%'",
    "params.kind LIKE 'A%'",
    "parameters.alpha != '0.1'",
    "tags.stage LIKE '%xx'",
    "tag.stage != 'x'",
    "tags.mlflow.runName = 'run-1'",
    "tags.\"mlflow.parentRunId\" LIKE '%'",
    "attributes.status = 'FAILED'",
    "status = 'FINISHED' AND metrics.rmse > 1",
    "attribute.run_name LIKE 'run-%'",
    "run_name ILIKE 'RUN-1'",
    "attributes.start_time > 100",
    "start_time <= 5",
    "end_time = 9",
    "params.alpha IS NULL",
    "params.alpha IS NOT NULL",
    "tags.stage IS NOT NULL and tags.nothing IS NULL",
    "user_id = 'nobody'",
    "artifact_uri LIKE '%artifacts'",
    "params.kind = 'ünïcode'",
    'params.alpha = "0.3"',
]
REFUSED = [
    "metrics.rmse",
    "metrics.rmse <",
    "metrics.rmse < 'a'",
    "metrics.rmse LIKE '1'",
    "params.alpha = 0.1",
    "params.alpha > '0.1'",
    "nothing.x = 'a'",
    "attributes.color = 'red'",
    "status = 'FINISHED' or status = 'FAILED'",
    "status = 'open",
    "start_time > 'x'",
]


@pytest.mark.parametrize("filter", FILTERS)
def test_a_filter_finds_what_mlflow_finds(direct: DirectStore, client: ClientStore, filter: str) -> None:
    query = RunQuery(filter=filter)
    assert [run.name for run in direct.search_runs(query)] == [run.name for run in client.search_runs(query)]


@pytest.mark.parametrize("filter", REFUSED)
def test_a_filter_that_mlflow_refuses_is_refused_with_its_place(
    direct: DirectStore, client: ClientStore, filter: str
) -> None:
    with pytest.raises(UsageError) as caught:
        direct.search_runs(RunQuery(filter=filter))
    assert caught.value.message.endswith("^")
    with pytest.raises(AmlflowError):
        client.search_runs(RunQuery(filter=filter))


def test_two_clauses_need_an_and(direct: DirectStore) -> None:
    with pytest.raises(UsageError, match="AND was expected"):
        direct.search_runs(RunQuery(filter="metrics.rmse < 1 metrics.rmse > 2"))


def test_ids_in_a_list_are_found(direct: DirectStore, client: ClientStore) -> None:
    ids = [run.id for run in direct.search_runs(RunQuery())][:2]
    for word in ("IN", "NOT IN"):
        query = RunQuery(filter=f"attributes.run_id {word} ('{ids[0]}', '{ids[1]}')")
        assert [r.id for r in direct.search_runs(query)] == [r.id for r in client.search_runs(query)]


def test_a_value_never_becomes_sql(direct: DirectStore) -> None:
    hostile = "x'; DROP TABLE runs; --"
    doubled = hostile.replace("'", "''")
    assert direct.search_runs(RunQuery(filter=f"params.alpha = '{doubled}'")) == []
    assert direct.find_run_ids("%", 5) == []
    assert len(direct.search_runs(RunQuery())) > 5


# Writing: the same calls through both stores leave what MLflow reads as the same.


@pytest.fixture
def two(clean_env: dict[str, str], tmp_path: Path) -> tuple[DirectStore, ClientStore]:
    stores: list[Any] = []
    for name in ("ours", "theirs"):
        workspace = LocalWorkspace(tmp_path / name)
        workspace.create()
        stores.append(workspace)
    ours, theirs = stores
    return (
        DirectStore(ours.root / database.FILE_NAME, ours.root / "artifacts"),
        ClientStore(theirs.tracking_uri, str(theirs.root / "artifacts")),
    )


def written(store: Any) -> Any:
    experiment = store.ensure_experiment("wine")
    assert store.ensure_experiment("wine").id == experiment.id
    run = store.create_run(experiment.id, "one", {"mlflow.user": "me", "k": "v"}, {"alpha": "0.1"})
    points = [
        Metric("m", 2.0, 1, 100),
        Metric("m", 3.0, 0, 200),
        Metric("nan", math.nan, 0, 1),
        Metric("i", math.inf, 0, 1),
    ]
    store.log_batch(run.id, points, {"beta": "2"}, {"k": "new", "long": "x" * 5000})
    # Without the NaN: MLflow 3.15 itself fails when one is logged twice.
    store.log_batch(run.id, [points[0], points[1], points[3]], {"alpha": "0.1"}, {})
    store.finish_run(run.id, "FINISHED", 12345)
    second = store.create_run(experiment.id, "two", {}, {})
    store.finish_run(second.id, "FAILED", 1)
    store.finish_run(second.id, "FINISHED", 2)
    store.set_deleted(second.id, True)
    third = store.create_run(experiment.id, "three", {}, {})
    store.set_deleted(third.id, True)
    store.set_deleted(third.id, False)
    store.create_model_version("m", "/some/where", "/some/where", run.id, "about", {"a": "b"})
    store.create_model_version("m", "/some/where", "/some/where", "", "", {})
    store.create_model_version("m", "/some/where", "/some/where", "", "", {})
    store.set_alias("m", "champion", "1")
    store.set_alias("m", "champion", "2")
    store.set_alias("m", "other", "1")
    store.delete_alias("m", "other")
    store.delete_model("m", "3")
    store.create_model_version("gone", "/x", "/x", "", "", {"a": "b"})
    store.delete_model("gone", "")
    return run.id


def test_both_ways_of_writing_leave_the_same(two: tuple[DirectStore, ClientStore]) -> None:
    ids = [written(store) for store in two]
    # MLflow reads both, so that what only our own reading would see as equal does not pass.
    readers = [ClientStore(f"sqlite:///{two[0]._file}", ""), two[1]]
    found = []
    for reader, run_id in zip(readers, ids, strict=True):
        runs = [
            replace(run, id="", artifact_uri="", start_time_ms=0, user="")
            for run in sorted(reader.search_runs(RunQuery(lifecycle="all")), key=lambda run: run.name)
        ]
        # Through MLflow's client the user's tag does not reach the deprecated user_id column.
        models = [replace(model, created_ms=0, updated_ms=0) for model in reader.registered_models()]
        versions = [replace(v, created_ms=0, updated_ms=0, run_id="") for v in reader.model_versions("m")]
        histories = reader.metric_histories([run_id], ())[run_id]
        found.append(plain([[replace(r, end_time_ms=r.end_time_ms or 0) for r in runs], models, versions, histories]))
    assert found[0] == found[1]


def test_a_param_never_changes(two: tuple[DirectStore, ClientStore]) -> None:
    for store in two:
        run = store.create_run("0", "x", {}, {"a": "1"})
        with pytest.raises(AmlflowError, match="1"):
            store.log_batch(run.id, (), {"a": "2"}, {})
        assert store.get_run(run.id).params == {"a": "1"}


@pytest.mark.parametrize("key", ["", "/abs", "a/../b", "a//b", "semi;colon", "x" * 300])
def test_names_that_mlflow_refuses_are_refused(two: tuple[DirectStore, ClientStore], key: str) -> None:
    for store in two:
        run = store.create_run("0", "x", {}, {})
        with pytest.raises(AmlflowError):
            store.log_batch(run.id, [Metric(key, 1.0, 0, 1)], {}, {})


def test_all_or_nothing_is_logged(two: tuple[DirectStore, ClientStore]) -> None:
    store = two[0]
    run = store.create_run("0", "x", {}, {"a": "1"})
    with pytest.raises(UsageError):
        store.log_batch(run.id, [Metric("m", 1.0, 0, 1)], {"a": "2"}, {"t": "v"})
    assert store.get_run(run.id).metrics == {}
    assert "t" not in store.get_run(run.id).tags


def test_a_missing_run_is_not_found(two: tuple[DirectStore, ClientStore]) -> None:
    for store in two:
        with pytest.raises(NotFound):
            store.get_run("0" * 32)
