"""Runs of given values for tests, made without a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from amlflow.workspaces.base import Metric
from amlflow.workspaces.local.workspace import LocalWorkspace

NOW = 1_700_000_000_000
Maker = Callable[..., str]


@pytest.fixture
def make(amlflow: Any) -> Maker:
    """Makes a run in a workspace of the current folder: `make("good", rmse=0.5, params={"lr": "1"})`. A list is a history."""

    def run(
        name: str,
        workspace: str = "a",
        experiment: str = "wine",
        params: Mapping[str, str] | None = None,
        running: bool = False,
        **metrics: float | Sequence[float],
    ) -> str:
        store = LocalWorkspace(amlflow.cwd / workspace, workspace)
        store.create()
        made = store.create_run(store.ensure_experiment(experiment).id, name, {}, params or {})
        values = {key: value if isinstance(value, list) else [value] for key, value in metrics.items()}
        store.log_batch(
            made.id,
            [
                Metric(key, point, step, NOW + step * 1000)
                for key, row in values.items()
                for step, point in enumerate(row)
            ],
        )
        if not running:
            store.finish_run(made.id, "FINISHED")
        return made.id

    return run


def compare(amlflow: Any, *arguments: str, **env: str) -> Any:
    return amlflow("-w", "local:./a", "compare", *arguments, **env)
