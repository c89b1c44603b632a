"""Runs to copy, the workspaces they are copied between, and all that is to be the same of a run and its copy."""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from amlflow.config import Config
from amlflow.workspaces import resolve
from amlflow.workspaces.base import Workspace

PY = sys.executable
OWN = ("amlflow.key", "amlflow.copied_run", "amlflow.copied_from")


class Places(dict[str, str]):
    """What `-w` takes for a workspace of each kind; the server is started when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, root: Path) -> None:
        super().__init__(local=f"local:{root / 'here'}", other=f"local:{root / 'there'}")
        self._request = request

    def __missing__(self, kind: str) -> str:
        assert kind == "server"
        return str(self._request.getfixturevalue("mlflow_server"))


def opened(where: str) -> Workspace:
    return resolve.open_workspace(resolve.resolve(where, Config()))


def logged(amlflow: Any, where: str, script: str, name: str = "all 'kinds'") -> str:
    """The id of a run that a program has made, in an experiment of its own."""
    (amlflow.cwd / "program.py").write_text(script)
    arguments = ("track", "-w", where, "-e", f"copy {uuid.uuid4().hex[:8]}", "--run-name", name)
    line = f'echo "$AMLFLOW_RUN"; "{PY}" -W ignore program.py 2>err.txt'
    return str(amlflow.ok(*arguments, "--", "sh", "-c", line).out.split()[0])


def copied(amlflow: Any, source: str, target: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = amlflow.ok(
        "run", "copy", *arguments, "--from", source, "--to", target, "-o", "json"
    ).json
    return found


def facts(where: str, run_id: str, with_models: bool = True) -> dict[str, Any]:
    """All that is to be the same of a run and its copy."""
    workspace = opened(where)
    behind = workspace.behind()
    run = workspace.get_run(run_id)
    raw = behind.request("GET", "/api/2.0/mlflow/runs/get", {"run_id": run_id})["run"]
    skipped = (*OWN, "mlflow.parentRunId", "mlflow.log-model.history")
    found: dict[str, Any] = {
        "name": run.name,
        "user": run.user,
        "status": run.status,
        "times": (run.start_time_ms, run.end_time_ms),
        "params": dict(run.params),
        "tags": {key: value for key, value in run.tags.items() if key not in skipped and not key.startswith("azureml")},
        "histories": {
            key: [(point.step, point.timestamp_ms, repr(point.value)) for point in line]
            for key, line in workspace.metric_histories([run_id]).get(run_id, {}).items()
        },
        "files": files(workspace, run_id),
        "datasets": sorted(
            (
                item["dataset"]["name"],
                item["dataset"]["digest"],
                item["dataset"]["source"],
                json.dumps(item.get("tags")),
            )
            for item in (raw.get("inputs") or {}).get("dataset_inputs", [])
        ),
    }
    if with_models:
        found["models"] = models(workspace, raw)
    return found


def files(workspace: Workspace, run_id: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        if workspace.list_artifacts(run_id):
            workspace.download_artifacts(run_id, "", Path(folder))
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }


def models(workspace: Workspace, raw: dict[str, Any]) -> list[Any]:
    found = []
    for output in (raw.get("outputs") or {}).get("model_outputs", []):
        model = workspace.behind().request("GET", f"/api/2.0/mlflow/logged-models/{output['model_id']}")["model"]
        info, data = model["info"], model.get("data") or {}
        folder = workspace.fetch(f"models:/{info['model_id']}")
        found.append(
            {
                "name": info["name"],
                "status": info["status"],
                "owner": info["source_run_id"] == raw["info"]["run_id"],
                "params": data.get("params"),
                "tags": [tag for tag in info.get("tags", []) if not tag["key"].startswith(("amlflow.", "mlflow."))],
                "metrics": [
                    (m["key"], m["value"], m["step"], m["run_id"] == raw["info"]["run_id"])
                    for m in data.get("metrics", [])
                ],
                "files": {
                    path.relative_to(folder).as_posix(): path.read_bytes()
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                },
            }
        )
    return found
