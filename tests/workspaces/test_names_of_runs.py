"""Which runs a name stands for is the same in every kind of workspace."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from amlflow.errors import NotFound, UsageError
from amlflow.services import references
from amlflow.services.references import Choice
from amlflow.workspaces.base import Metric
from amlflow.workspaces.local.fallback import ClientStore
from amlflow.workspaces.local.workspace import LocalWorkspace
from amlflow.workspaces.server.workspace import ServerWorkspace


@pytest.fixture(params=["local", "through the client", "server"])
def workspace(request: pytest.FixtureRequest, clean_env: dict[str, str], tmp_path: Path) -> Any:
    if request.param == "server":
        return ServerWorkspace(request.getfixturevalue("mlflow_server"))
    local = LocalWorkspace(tmp_path / "workspace")
    local.create()
    return local if request.param == "local" else ClientStore(local.tracking_uri, str(local.artifact_root))


@pytest.fixture
def salt() -> str:
    """The server is shared: names of one test are not those of another."""
    return uuid.uuid4().hex[:8]


def test_a_name_comes_before_the_beginning_of_an_id(workspace: Any, salt: str) -> None:
    here, there = (workspace.ensure_experiment(f"{name} {salt}").id for name in ("here", "there"))
    other = workspace.create_run(here, f"other {salt}", {}, {}).id
    name = other[:10]
    near, far = (workspace.create_run(at, name, {}, {}).id for at in (here, there))
    assert set(workspace.find_run_ids(name, 10)) == {near, far}
    assert workspace.find_run_ids(name, 10, here) == [near]
    assert workspace.find_run_ids(name, 10, there) == [far]
    third = workspace.ensure_experiment(f"third {salt}").id
    assert set(workspace.find_run_ids(name, 10, third)) == {near, far}
    twin = workspace.create_run(here, name, {}, {}).id
    assert set(workspace.find_run_ids(name, 10, here)) == {near, twin}
    assert workspace.find_run_ids(other[:12], 10, there) == [other]


def test_the_best_is_the_one_that_the_metrics_name_means(clean_env: dict[str, str], tmp_path: Path) -> None:
    store = LocalWorkspace(tmp_path / "workspace")
    store.create()
    experiment = store.ensure_experiment("wine").id
    for at, name in enumerate(("low", "middle", "high")):
        run = store.create_run(experiment, name, {}, {})
        store.log_batch(run.id, [Metric(key, float(at), 0, 1) for key in ("rmse", "auc", "lr")])

    def best(asked: str, **choice: Any) -> str:
        return references.find_run(store, f"best:{asked}", "wine", Choice(**choice)).name

    found = {asked: best(asked) for asked in ("rmse", "-rmse", "+rmse", "auc", "-auc", "+auc", "lr", "-lr", "+lr")}
    assert found == {
        **{"rmse": "low", "-rmse": "low", "+rmse": "high"},
        **{"auc": "high", "-auc": "low", "+auc": "high"},
        **{"lr": "high", "-lr": "low", "+lr": "high"},
    }
    assert best("rmse", higher=["rmse"]) == "high"
    assert best("lr", lower=["lr"]) == "low"
    ids = [references.find_run(store, name).id for name in ("low", "high")]
    assert best("rmse", besides=ids) == best("auc", besides=ids) == "middle"
    with pytest.raises(NotFound, match="no other run in experiment 'wine' has that metric"):
        best("rmse", besides=[run.id for run in store.search_runs(references.RunQuery())])
    for asked in ("", "-", "+"):
        with pytest.raises(UsageError, match="names no metric"):
            best(asked)


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("local::one", ("local", "one")),
        ("local::a::b", ("local", "a::b")),
        ("local:./a::best:val::rmse", ("local:./a", "best:val::rmse")),
        ("http://[::1]:5000::one", ("http://[::1]:5000", "one")),
        ("local::", ("local", "")),
        ("one", ("", "one")),
        ("::one", ("", "::one")),
        ("best:val::rmse", ("", "best:val::rmse")),
        ("wine[0]", ("", "wine[0]")),
        ("local:/tmp/w[1::a", ("local:/tmp/w[1", "a")),
        ("local:/tmp/w[1]::a[0]", ("local:/tmp/w[1]", "a[0]")),
        ("http://host:80::a[1]", ("http://host:80", "a[1]")),
        ("https://me:word@[::1]::a::b", ("https://me:word@[::1]", "a::b")),
        ("http://[::1]:5000", ("", "http://[::1]:5000")),
        (f"local:/tmp/x::y::{'0a' * 16}", ("local:/tmp/x::y", "0a" * 16)),
        (f"::{'0a' * 16}", ("", f"::{'0a' * 16}")),
    ],
)
def test_a_workspace_ends_at_the_first_pair_of_colons_or_at_an_id(asked: str, parts: tuple[str, str]) -> None:
    assert references.split_workspace(asked) == parts
