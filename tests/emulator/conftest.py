"""One emulator for all tests of this folder, in a home of its own, with every exchange recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated import CLEARED, Running


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("emulator-home")
    record = home / "exchanges.jsonl"
    env = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    env |= {"AMLFLOW_HOME": str(home), "AMLFLOW_CACHE_DIR": str(shared_cache), "HOME": str(home)}
    running = Running(env, home, record)
    running.command("start", "--record", str(record))
    try:
        lines = running.command("env", "-o", "json").stdout
        # The SDKs report to the vendor by default; tests have nobody to report to.
        quiet = {"AZURE_ML_SDK_TELEMETRY": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        yield Running({**env, **json.loads(lines), **quiet}, home, record)
    finally:
        running.command("stop")


@pytest.fixture
def pointed(emulator: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """This process's variables point at the emulator, as after `eval "$(amlflow emulator env)"`."""
    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    for name, value in emulator.env.items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.fixture
def ml_client(pointed: Running) -> Any:
    """azure-ai-ml, as its documentation makes it."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    return MLClient(DefaultAzureCredential(), *pointed.scope)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The contract's tests come last: they read what all the others have exchanged."""
    items.sort(key=lambda item: item.path.name == "test_contract.py")
