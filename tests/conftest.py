"""Every test works in its own home, cache and current folder, with the installed command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = (
    "servers",
    "emulated",
    "azure_workspaces",
    "deployable",
    "online",
    "browsers",
    "databricks_host",
    "compared",
)

CLEARED = (
    "AMLFLOW_",
    "AZUREML_",
    "AZURE_",
    "DATABRICKS_",
    "MLFLOW_",
    "_MLFLOW_",
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "NO_COLOR",
    "COLUMNS",
    "LINES",
    "PYTHONPATH",
)


# A suite begun with nohup or in a script's background inherits these ignored, and so would every program that it starts.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Amlflow:
    """Runs the installed command as a user's shell would."""

    env: Mapping[str, str]
    cwd: Path

    def __call__(self, *arguments: str, stdin: str | bytes = "", timeout: float = 240, **env: str) -> Result:
        done = subprocess.run(
            [*self.command, *arguments],
            env={**self.env, **env},
            cwd=self.cwd,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *arguments: str, **options: Any) -> Result:
        result = self(*arguments, **options)
        assert result.code == 0, f"amlflow {' '.join(arguments)} ended with {result.code}:\n{result.err}\n{result.out}"
        return result

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """In a session of its own, as a terminal without job control would start it."""
        return subprocess.Popen(
            [*self.command, *arguments],
            env={**self.env, **env},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Whoever started the tests may ignore interrupts, as a shell does for `&`; a user's shell does not.
            preexec_fn=self.take_interrupts,
        )

    @staticmethod
    def take_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    @property
    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("amlflow"))]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database templates and environments are costly and never change: one cache for the whole run."""
    kept = os.environ.get("AMLFLOW_TEST_CACHE")
    if kept:
        return Path(kept)
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Beside the folders of the workers, and so one for all of them.
        return tmp_path_factory.getbasetemp().parent / "cache"
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def clean_env(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment without anything that points amlflow, MLflow or Azure somewhere."""
    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("AMLFLOW_HOME", str(home / "amlflow"))
    monkeypatch.setenv("AMLFLOW_CACHE_DIR", str(shared_cache))
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(home / ".azure"))
    monkeypatch.setenv("HOME", str(home))
    return dict(os.environ)


@pytest.fixture
def work(tmp_path: Path, clean_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def amlflow(clean_env: dict[str, str], work: Path) -> Iterator[Amlflow]:
    command = Amlflow(clean_env, work)
    yield command
    endpoints = Path(clean_env["AMLFLOW_HOME"]).glob("workspaces/*/endpoints/*")
    for endpoint in endpoints:
        command("-w", endpoint.parent.parent.name, "endpoint", "delete", endpoint.name)


@pytest.fixture
def project(work: Path) -> Callable[..., Path]:
    """Writes an MLflow Project: `project({"train.py": "..."}, MLproject="...")`."""

    def write(files: Mapping[str, str] | None = None, folder: str = "proj", **named: str) -> Path:
        root = work / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, text in {**(files or {}), **named}.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return root

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The contract's tests come last: they read what all the others have exchanged."""
    items.sort(key=lambda item: item.path.name == "test_contract.py")
