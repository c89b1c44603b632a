"""Requests to MLflow's REST API, group by group, and what is needed to compare two that answer them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from amlflow.journal.errors import Refused
from amlflow.workspaces.local.rest.application import Application

API = "/api/2.0/mlflow/"
_ID = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b")
_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,3}")
DATASET = {"name": "d", "digest": "dd", "source_type": "local", "source": "{}", "schema": "{}", "profile": "{}"}


class Recording(Application):
    """MLflow's own application, and which requests it was asked."""

    asked: tuple[str, ...] = ()

    def raw(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.asked = (*self.asked, f"{method} {target}")
        return super().raw(method, target, headers, body)


class Side:
    """One of the two that are compared: its answers, with ids, times, names and folders replaced by what they stand for."""

    def __init__(self, root: Path, ask: Callable[[str, str, Mapping[str, Any]], dict[str, Any]]) -> None:
        self.root, self.ask, self.made, self.ids = root, ask, dict[str, str](), dict[str, str]()
        self.history = False

    def __call__(self, method: str, path: str, body: Mapping[str, Any], keep: str = "") -> Any:
        filled = json.loads(re.sub(r"<(\w+)>", lambda match: self.made[match[1]], json.dumps(dict(body))))
        path = re.sub(r"<(\w+)>", lambda match: self.made[match[1]], path)
        self.history = path == "metrics/get-history"
        try:
            answer = self.ask(method, path if path.startswith("/") else API + path, filled)
        except Refused as error:
            return error.status, error.code, self.plain(error.message.split("Error: (sqlite3")[0].strip())
        if keep:
            name, _, where = keep.partition("=")
            found: Any = answer
            for part in where.split("."):
                found = found[part]
            self.made[name] = found
        return self.plain(answer)

    def plain(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self.plain(item, name) for name, item in value.items()}
        if isinstance(value, list):
            found = [self.plain(item, key) for item in value]
            # MLflow promises no order of these.
            free = ("params", "tags", "aliases", "latest_versions", "dataset_inputs", "models", "metrics")
            return sorted(found, key=str) if key in free and not self.history else found
        if isinstance(value, int) and not isinstance(value, bool) and value > 1_600_000_000_000:
            return "now"
        if isinstance(value, str):
            value = value.replace(str(self.root), "ROOT")
            value = _ID.sub(lambda match: self.ids.setdefault(match[0], f"id{len(self.ids)}"), value)
            return "name" if _NAME.fullmatch(value) else value
        return value


def batch(**lists: Any) -> dict[str, Any]:
    return {"run_id": "<run>", **lists}


def points(*values: Any, key: str = "m", **more: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value, "timestamp": 10, "step": step, **more} for step, value in enumerate(values)]


def pairs(**values: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


EXPERIMENTS = [
    ("POST", "experiments/create", {"name": "x", "tags": pairs(a="b")}, "exp=experiment_id"),
    ("POST", "experiments/create", {"name": "x"}),
    ("GET", "experiments/get", {"experiment_id": "<exp>"}),
    ("GET", "/ajax-api/2.0/mlflow/experiments/get", {"experiment_id": "0"}),
    ("GET", "experiments/get", {"experiment_id": "99"}),
    ("GET", "experiments/get", {"experiment_id": "abc"}),
    ("GET", "experiments/get", {}),
    ("GET", "experiments/get-by-name", {"experiment_name": "x"}),
    ("GET", "experiments/get-by-name", {"experiment_name": "nope"}),
    ("POST", "experiments/search", {"max_results": 1}, "page=next_page_token"),
    ("POST", "experiments/search", {"max_results": 1, "page_token": "<page>"}),
    ("GET", "experiments/search", {"max_results": 5}),
    ("GET", "experiments/search", {"max_results": 5, "filter": "name = 'x'", "view_type": "ALL"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "<exp>", "key": "a", "value": "c"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "<exp>", "key": "b", "value": ""}),
    ("POST", "experiments/delete-experiment-tag", {"experiment_id": "<exp>", "key": "b"}),
    ("POST", "experiments/delete-experiment-tag", {"experiment_id": "<exp>", "key": "zz"}),
    ("POST", "runs/create", {"experiment_id": "<exp>"}, "run=run.info.run_id"),
    ("POST", "experiments/update", {"experiment_id": "<exp>", "new_name": "y"}),
    ("POST", "experiments/delete", {"experiment_id": "<exp>"}),
    ("GET", "experiments/get", {"experiment_id": "<exp>"}),
    ("GET", "runs/get", {"run_id": "<run>"}),
    ("POST", "experiments/delete", {"experiment_id": "<exp>"}),
    ("POST", "experiments/search", {"max_results": 5, "view_type": 2}),
    ("POST", "runs/create", {"experiment_id": "<exp>"}),
    ("POST", "experiments/update", {"experiment_id": "<exp>", "new_name": "q"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "<exp>", "key": "a", "value": "c"}),
    ("POST", "experiments/restore", {"experiment_id": "<exp>"}),
    ("POST", "experiments/restore", {"experiment_id": "<exp>"}),
    ("GET", "runs/get", {"run_id": "<run>"}),
]

RUNS = [
    ("POST", "experiments/create", {"name": "x"}, "exp=experiment_id"),
    (
        "POST",
        "runs/create",
        {"experiment_id": "<exp>", "start_time": 5, "user_id": "u", "tags": pairs(k="v"), "run_name": "n"},
        "run=run.info.run_id",
    ),
    (
        "POST",
        "runs/create",
        {"experiment_id": "<exp>", "start_time": "7", "tags": [{"key": "mlflow.runName", "value": "t"}]},
    ),
    ("POST", "runs/create", {"experiment_id": "<exp>", "run_name": "z", "tags": pairs(**{"mlflow.user": "me"})}),
    ("POST", "runs/create", {"experiment_id": "77"}),
    ("POST", "runs/log-batch", batch(metrics=points(1.5, 1, "NaN"), params=pairs(p="1", empty=""), tags=pairs(t=""))),
    (
        "POST",
        "runs/log-batch",
        batch(metrics=points("Infinity", "-Infinity", -1, key="i") + points(0, 1e-300, key="a/b")),
    ),
    ("POST", "runs/log-batch", batch(metrics=points(1.5, 1) + points(1.5), params=pairs(p="1"), tags=pairs(t="2"))),
    ("POST", "runs/log-batch", batch(params=pairs(long="é" * 7000), tags=pairs(long="x" * 9000))),
    ("GET", "runs/get", {"run_id": "<run>"}),
    ("GET", "runs/get", {"run_uuid": "<run>"}),
    ("GET", "runs/get", {"run_id": "zz"}),
    ("GET", "runs/get", {}),
    ("POST", "runs/log-batch", batch(params=pairs(p="2", new="1"), metrics=points(9, key="not kept"))),
    ("POST", "runs/log-batch", {"run_id": "zz", "params": pairs(p="2")}),
    ("POST", "runs/log-batch", {"run_id": "zz"}),
    ("POST", "runs/log-batch", batch(metrics=points(*range(1001)))),
    ("POST", "runs/log-batch", batch(params=[{"key": f"p{i}", "value": ""} for i in range(101)])),
    ("POST", "runs/log-batch", batch(tags=[{"key": f"p{i}", "value": ""} for i in range(101)])),
    ("POST", "runs/log-parameter", {"run_id": "<run>", "key": "p", "value": "2"}),
    ("POST", "runs/log-parameter", {"run_id": "<run>", "key": "p", "value": "1"}),
    ("POST", "runs/log-parameter", {"run_id": "<run>", "key": "one", "value": ""}),
    ("POST", "runs/log-metric", {"run_id": "<run>", "key": "m", "value": 7, "timestamp": 11, "step": 4}),
    ("POST", "runs/log-metric", {"run_id": "<run>", "key": "m", "value": "8", "timestamp": "12"}),
    ("POST", "runs/set-tag", {"run_id": "<run>", "key": "mlflow.runName", "value": "renamed"}),
    ("POST", "runs/set-tag", {"run_id": "<run>", "key": "k", "value": "w"}),
    ("POST", "runs/delete-tag", {"run_id": "<run>", "key": "k"}),
    ("POST", "runs/delete-tag", {"run_id": "<run>", "key": "nope"}),
    ("POST", "runs/update", {"run_id": "<run>", "status": "FINISHED", "end_time": 99}),
    ("POST", "runs/update", {"run_id": "<run>", "run_name": "again"}),
    ("POST", "runs/update", {"run_id": "<run>", "status": 4}),
    ("POST", "runs/log-inputs", {"run_id": "<run>", "datasets": [{"tags": pairs(c="train"), "dataset": DATASET}]}),
    (
        "POST",
        "runs/log-inputs",
        {
            "run_id": "<run>",
            "datasets": [
                {"tags": pairs(c="again"), "dataset": DATASET},
                {"dataset": {"name": "d2", "digest": "dd", "source_type": "local", "source": "{}"}},
            ],
        },
    ),
    ("GET", "runs/get", {"run_id": "<run>"}),
    (
        "POST",
        "runs/log-model",
        {
            "run_id": "<run>",
            "model_json": json.dumps(
                {
                    "artifact_path": "m",
                    "run_id": "r",
                    "utc_time_created": "t",
                    "model_uuid": "u",
                    "flavors": {"f": {"config": 1, "a": 2}},
                    "signature": None,
                }
            ),
        },
    ),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "max_results": 1}, "page=next_page_token"),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "max_results": 1, "page_token": "<page>"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "filter": "metrics.m > 3 and params.p = '1'"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "order_by": ["metrics.m DESC", "tags.`mlflow.runName` asc"]}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "order_by": ["attributes.start_time ASC"]}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>", "0"], "run_view_type": "DELETED_ONLY"}),
    ("POST", "runs/search", {"experiment_ids": []}),
    ("GET", "metrics/get-history", {"run_id": "<run>", "metric_key": "m"}),
    ("GET", "metrics/get-history", {"run_id": "<run>", "metric_key": "m", "max_results": 2}, "page=next_page_token"),
    ("GET", "metrics/get-history", {"run_id": "<run>", "metric_key": "m", "max_results": 2, "page_token": "<page>"}),
    ("GET", "metrics/get-history", {"run_id": "<run>", "metric_key": "i"}),
    ("GET", "metrics/get-history", {"run_id": "zz", "metric_key": "m"}),
    ("POST", "runs/delete", {"run_id": "<run>"}),
    ("POST", "runs/delete", {"run_id": "<run>"}),
    ("POST", "runs/log-batch", batch(metrics=points(1))),
    ("POST", "runs/log-metric", {"run_id": "<run>", "key": "m", "value": 7, "timestamp": 11}),
    ("POST", "runs/update", {"run_id": "<run>", "status": "RUNNING"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"], "run_view_type": "DELETED_ONLY"}),
    ("POST", "runs/restore", {"run_id": "<run>"}),
    ("POST", "runs/restore", {"run_id": "zz"}),
    ("GET", "runs/get", {"run_id": "<run>"}),
]

MODELS = [
    ("POST", "experiments/create", {"name": "x"}, "exp=experiment_id"),
    ("POST", "runs/create", {"experiment_id": "<exp>", "run_name": "n"}, "run=run.info.run_id"),
    (
        "POST",
        "logged-models",
        {
            "experiment_id": "<exp>",
            "name": "mod",
            "source_run_id": "<run>",
            "model_type": "t",
            "params": pairs(a="1"),
            "tags": pairs(tt="vv"),
        },
        "model=model.info.model_id",
    ),
    ("POST", "logged-models", {"experiment_id": "<exp>", "name": "zz"}, "other=model.info.model_id"),
    ("POST", "logged-models", {"experiment_id": "<exp>", "name": "a/b"}),
    ("POST", "logged-models", {"experiment_id": "55"}),
    ("PATCH", "logged-models/<model>", {"model_id": "<model>", "status": "LOGGED_MODEL_READY"}),
    ("PATCH", "logged-models/<other>", {"model_id": "<other>", "status": 3}),
    ("PATCH", "logged-models/<model>", {"status": 2}),
    ("PATCH", "logged-models/<model>/tags", {"tags": pairs(x="y", tt="new")}),
    ("DELETE", "logged-models/<model>/tags/x", {}),
    ("DELETE", "logged-models/<model>/tags/x", {}),
    ("POST", "logged-models/<model>/params", {"model_id": "<model>", "params": pairs(b="2")}),
    ("POST", "runs/outputs", {"run_id": "<run>", "models": [{"model_id": "<model>", "step": 3}]}),
    ("POST", "runs/log-inputs", {"run_id": "<run>", "models": [{"model_id": "<model>"}]}),
    ("POST", "runs/log-inputs", {"run_id": "<run>", "models": [{"model_id": "<model>"}]}),
    (
        "POST",
        "runs/log-metric",
        {
            "run_id": "<run>",
            "key": "mm",
            "value": 7,
            "timestamp": 11,
            "step": 4,
            "model_id": "<model>",
            "dataset_name": "d",
            "dataset_digest": "dd",
        },
    ),
    ("POST", "runs/log-batch", batch(metrics=points(8, "NaN", key="mm", model_id="<model>") + points(1))),
    ("POST", "runs/log-batch", batch(metrics=points(8, key="mm", model_id="<model>"))),
    ("GET", "logged-models/<model>", {}),
    ("GET", "logged-models/m-none", {}),
    ("GET", "runs/get", {"run_id": "<run>"}),
    ("POST", "runs/search", {"experiment_ids": ["<exp>"]}),
    ("POST", "logged-models/search", {"experiment_ids": ["<exp>"]}),
    ("POST", "logged-models/search", {"experiment_ids": ["<exp>"], "filter": "name = 'mod' AND source_run_id='<run>'"}),
    (
        "POST",
        "logged-models/search",
        {"experiment_ids": ["<exp>"], "order_by": [{"field_name": "name", "ascending": False}]},
    ),
    (
        "POST",
        "logged-models/search",
        {"experiment_ids": ["<exp>"], "max_results": 1, "order_by": [{"field_name": "name"}]},
    ),
    ("GET", "artifacts/list", {"run_id": "<run>"}),
    ("GET", "artifacts/list", {"run_id": "<run>", "path": "nope"}),
    ("GET", "artifacts/list", {"run_id": "<run>", "path": "../x"}),
    ("GET", "artifacts/list", {"run_id": "zz"}),
    ("GET", "logged-models/<model>/artifacts/directories", {}),
    ("POST", "registered-models/create", {"name": "rm", "description": "d", "tags": pairs(a="b")}),
    ("POST", "registered-models/create", {"name": "plain"}),
    ("POST", "registered-models/create", {"name": "rm"}),
    ("GET", "registered-models/get", {"name": "rm"}),
    ("GET", "registered-models/get", {"name": "no"}),
    (
        "POST",
        "model-versions/create",
        {
            "name": "rm",
            "source": "models:/<model>",
            "tags": pairs(a="b"),
            "model_id": "<model>",
            "description": "first",
        },
    ),
    ("POST", "model-versions/create", {"name": "rm", "source": "models:/<model>", "run_id": "<run>"}),
    ("POST", "model-versions/create", {"name": "no", "source": "models:/<model>"}),
    ("GET", "logged-models/<model>", {}),
    ("GET", "model-versions/get", {"name": "rm", "version": "1"}),
    ("GET", "model-versions/get", {"name": "rm", "version": "9"}),
    ("GET", "model-versions/get", {"name": "rm", "version": "x"}),
    ("GET", "model-versions/get-download-uri", {"name": "rm", "version": "1"}),
    ("POST", "registered-models/alias", {"name": "rm", "alias": "champ", "version": "1"}),
    ("POST", "registered-models/alias", {"name": "rm", "alias": "champ", "version": "7"}),
    ("GET", "registered-models/alias", {"name": "rm", "alias": "champ"}),
    ("GET", "registered-models/alias", {"name": "rm", "alias": "none"}),
    ("POST", "registered-models/get-latest-versions", {"name": "rm"}),
    ("GET", "registered-models/get-latest-versions", {"name": "rm", "stages": ["none"]}),
    ("POST", "model-versions/transition-stage", {"name": "rm", "version": "1", "stage": "production"}),
    (
        "POST",
        "model-versions/transition-stage",
        {"name": "rm", "version": "2", "stage": "Production", "archive_existing_versions": True},
    ),
    ("GET", "registered-models/get", {"name": "rm"}),
    ("GET", "registered-models/search", {}),
    ("GET", "registered-models/search", {"max_results": 1}, "page=next_page_token"),
    ("GET", "registered-models/search", {"max_results": 1, "page_token": "<page>"}),
    ("GET", "registered-models/search", {"filter": "name = 'rm'"}),
    ("GET", "model-versions/search", {"filter": "name='rm'"}),
    ("GET", "model-versions/search", {"filter": "run_id = '<run>'"}),
    ("GET", "model-versions/search", {"max_results": 1}),
    ("PATCH", "model-versions/update", {"name": "rm", "version": "1", "description": "hey"}),
    ("PATCH", "registered-models/update", {"name": "rm", "description": ""}),
    ("POST", "registered-models/set-tag", {"name": "rm", "key": "k", "value": "v"}),
    ("POST", "registered-models/set-tag", {"name": "no", "key": "k", "value": "v"}),
    ("DELETE", "registered-models/delete-tag", {"name": "rm", "key": "k"}),
    ("POST", "model-versions/set-tag", {"name": "rm", "version": "1", "key": "k", "value": "v"}),
    ("GET", "model-versions/get", {"name": "rm", "version": "1"}),
    ("DELETE", "model-versions/delete-tag", {"name": "rm", "version": "1", "key": "k"}),
    ("DELETE", "registered-models/alias", {"name": "rm", "alias": "champ"}),
    ("DELETE", "registered-models/alias", {"name": "rm", "alias": "champ"}),
    ("DELETE", "model-versions/delete", {"name": "rm", "version": "2"}),
    ("DELETE", "model-versions/delete", {"name": "rm", "version": "2"}),
    ("GET", "registered-models/get", {"name": "rm"}),
    ("DELETE", "registered-models/delete", {"name": "plain"}),
    ("DELETE", "registered-models/delete", {"name": "plain"}),
    ("DELETE", "logged-models/<model>", {}),
    ("GET", "logged-models/<model>", {}),
    ("GET", "logged-models/<model>", {"allow_deleted": True}),
]
