"""The Azure ML emulator, started once for all tests that need a workspace in Azure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("amlflow"))


class Emulator:
    """`variables` point amlflow and Azure's SDKs at it."""

    def __init__(self, home: Path, cache: Path) -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AMLFLOW_", "AZURE", "MLFLOW_"))
        }
        self._env = {**kept, "AMLFLOW_HOME": str(home), "AMLFLOW_CACHE_DIR": str(cache)}
        self.run("start")
        self.variables: Mapping[str, str] = json.loads(self.run("env", "-o", "json"))

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [COMMAND, "emulator", *arguments], env=self._env, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def azure_emulator(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[Emulator]:
    if shutil.which("node") is None:
        pytest.skip("The emulator's blob storage needs Node.js, which is not installed.")
    emulator = Emulator(tmp_path_factory.mktemp("emulator"), shared_cache)
    yield emulator
    emulator.run("stop")


@pytest.fixture
def azure(azure_emulator: Emulator, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The environment of a test, pointed at the emulator."""
    for name, value in azure_emulator.variables.items():
        monkeypatch.setenv(name, value)
        clean_env[name] = value
    return azure_emulator
