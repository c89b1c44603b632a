"""The same requests get the same answers from SQL as from MLflow's own application on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_requests import API, EXPERIMENTS, MODELS, RUNS, Recording, Side, batch, pairs, points

from amlflow.workspaces.local.rest import LocalRest
from amlflow.workspaces.local.rest.application import Application
from amlflow.workspaces.local.workspace import LocalWorkspace


@pytest.fixture
def sides(work: Path, clean_env: dict[str, str]) -> Iterator[tuple[Side, Side, Recording]]:
    ours, theirs = LocalWorkspace(work / "ours"), LocalWorkspace(work / "theirs")
    theirs.create()
    rest = LocalRest(ours)
    passed_on = rest._application = Recording(ours.file, ours.artifact_root)
    whole = Application(theirs.file, theirs.artifact_root)
    yield Side(ours.root, rest.request), Side(theirs.root, whole.request), passed_on
    rest.close()


@pytest.mark.parametrize("requests", [EXPERIMENTS, RUNS, MODELS], ids=["experiments", "runs", "models"])
def test_ordinary_requests_have_mlflows_answers_and_do_not_need_it(
    sides: tuple[Side, Side, Recording], requests: list[tuple[Any, ...]]
) -> None:
    ours, theirs, passed_on = sides
    for request in requests:
        assert ours(*request) == theirs(*request), request
    assert passed_on.asked == ()


UNUSUAL = [
    ("POST", "experiments/create", {"name": "x"}, "exp=experiment_id"),
    ("POST", "runs/create", {"experiment_id": "<exp>", "run_name": "n"}, "run=run.info.run_id"),
    ("POST", "experiments/create", {"name": "y" * 501}),
    ("POST", "experiments/create", {"name": "z", "artifact_location": "s3://bucket/folder"}, "far=experiment_id"),
    ("GET", "experiments/get", {"experiment_id": "<far>"}),
    ("POST", "experiments/search", {}),
    ("POST", "experiments/search", {"max_results": 5, "filter": "name LIKE 'x%'", "order_by": ["name ASC"]}),
    ("POST", "runs/log-batch", batch(metrics=points(1, key="../x"))),
    ("POST", "runs/log-batch", batch(metrics=[{"key": "x", "timestamp": 1}])),
    ("POST", "runs/log-batch", batch(params=pairs(a="1") * 2)),
    ("POST", "runs/log-batch", batch(tags=[{"value": "no key"}])),
    ("POST", "runs/log-metric", {"run_id": "<run>", "key": "m", "value": "x", "timestamp": 1}),
    ("POST", "runs/update", {"run_id": "<run>", "status": "NO SUCH"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "filter": "metrics.m >"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "filter": "dataset.name = 'd'"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "max_results": 50_001}),
    ("POST", "logged-models/search", {"experiment_ids": ["<exp>"], "filter": "metrics.a > 1"}),
    ("POST", "registered-models/create", {"name": "a/b"}),
    ("POST", "registered-models/create", {"name": "rm"}),
    ("POST", "model-versions/create", {"name": "rm", "source": "/etc"}),
    ("POST", "registered-models/alias", {"name": "rm", "alias": "v1", "version": "1"}),
    ("GET", "metrics/get-history-bulk-interval", {"run_ids": ["<run>"], "metric_key": "m", "max_results": 3}),
    ("POST", "experiments/search-datasets", {"experiment_ids": ["<exp>"]}),
    ("GET", "/api/3.0/mlflow/traces/tr-none", {}),
]


def test_whatever_else_mlflow_answers_itself(sides: tuple[Side, Side, Recording]) -> None:
    ours, theirs, passed_on = sides
    for request in UNUSUAL:
        assert ours(*request) == theirs(*request), request
    # All but those that make what the others need, and the refusals of what is only not there.
    assert len(passed_on.asked) == len(UNUSUAL) - 4


def test_mlflow_itself_writes_what_webhooks_are_told_of(
    sides: tuple[Side, Side, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _, passed_on = sides
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    # Of another event, so that nothing is sent.
    events = [{"entity": "MODEL_VERSION_TAG", "action": "SET"}]
    made = ours("POST", "/api/2.0/mlflow/webhooks", {"name": "hook", "url": "https://127.0.0.1:9/", "events": events})
    assert made["webhook"]["name"] == "hook"
    ours("POST", "registered-models/create", {"name": "told"})
    assert passed_on.asked[-1] == f"POST {API}registered-models/create"
    assert ours("GET", "registered-models/get", {"name": "told"})["registered_model"]["name"] == "told"
