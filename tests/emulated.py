"""One emulator for all tests that want it, in a home of its own, with every exchange recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

# Of the process that runs the tests: nothing that leads elsewhere.
CLEARED = ("AMLFLOW_", "AZUREML_", "AZURE_", "MLFLOW_", "_MLFLOW_", "ARM_", "IDENTITY_", "MSI_")


_SESSION = requests.Session()
_TOKENS: dict[str, tuple[str, float]] = {}


@dataclass(frozen=True)
class Running:
    """A started emulator: the variables that point amlflow and Azure's SDKs at it, alone and with those of this process, its
    home, and the record of its exchanges."""

    variables: Mapping[str, str]
    env: Mapping[str, str]
    home: Path
    record: Path

    @property
    def url(self) -> str:
        return self.env["AZURE_AUTHORITY_HOST"]

    @property
    def scope(self) -> tuple[str, str, str]:
        subscription, group, workspace = self.env["AMLFLOW_WORKSPACE"].split("/")
        return subscription, group, workspace

    @property
    def workspace_path(self) -> str:
        subscription, group, workspace = self.scope
        provider = "Microsoft.MachineLearningServices"
        return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/workspaces/{workspace}"

    @property
    def settings(self) -> dict[str, Any]:
        return json.loads((self.home / "emulator" / "settings.json").read_text())

    def run(self, *arguments: str) -> str:
        """What `amlflow emulator …` prints."""
        command = [str(Path(sys.executable).with_name("amlflow")), "emulator", *arguments]
        done = subprocess.run(command, env=dict(self.env), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, scope: str = "https://management.azure.com/.default", role: int = 0) -> str:
        principal = self.settings["principals"][role]
        form = {"grant_type": "client_credentials", "client_id": principal["client_id"], "scope": scope}
        answer = self.post_token({**form, "client_secret": principal["secret"]})
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def cached_token(self) -> str:
        if self.url not in _TOKENS or _TOKENS[self.url][1] < time.monotonic():
            _TOKENS[self.url] = self.token(), time.monotonic() + 600
        return _TOKENS[self.url][0]

    def post_token(self, form: Mapping[str, str]) -> requests.Response:
        place = f"{self.url}/{self.env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
        return requests.post(place, data=dict(form), verify=self.env["SSL_CERT_FILE"], timeout=60)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        api_version: str = "2024-04-01",
        **query: str,
    ) -> requests.Response:
        """Ask as a client without an SDK would. An empty token sends none; a path from the root is asked as it is."""
        bearer = self.cached_token() if token is None else token
        return _SESSION.request(
            method,
            path if path.startswith("https://") else f"{self.url}{path}",
            params=query if path.startswith("https://") else {"api-version": api_version, **query},
            json=body,
            headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
            verify=self.env["SSL_CERT_FILE"],
            timeout=60,
        )


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[Running]:
    if shutil.which("node") is None:
        pytest.skip("the emulator's blobs need Node.js")
    home = tmp_path_factory.mktemp("emulator-home")
    record = home / "exchanges.jsonl"
    env = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    env |= {"AMLFLOW_HOME": str(home), "AMLFLOW_CACHE_DIR": str(shared_cache), "HOME": str(home)}
    running = Running({}, env, home, record)
    running.run("start", "--record", str(record))
    try:
        variables = json.loads(running.run("env", "-o", "json"))
        # The SDKs report to the vendor by default; tests have nobody to report to.
        quiet = {"AZURE_ML_SDK_TELEMETRY": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        yield Running(variables, {**env, **variables, **quiet}, home, record)
    finally:
        running.run("stop")


@pytest.fixture
def records(emulator: Running, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What this emulator has exchanged so far, and the emulators of the workers beside this one."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return [emulator.record]
    return sorted(tmp_path_factory.getbasetemp().parent.glob(f"*/*/{emulator.record.name}"))


@pytest.fixture
def pointed(emulator: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """This process's variables point at the emulator, as after `eval "$(amlflow emulator env)"`."""
    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    for name, value in emulator.env.items():
        monkeypatch.setenv(name, value)
    # azureml-mlflow reads the address when it is imported; another test of this process may have done that before.
    clouds = sys.modules.get("azureml.mlflow._common._cloud.cloud")
    if clouds is not None:
        monkeypatch.setattr(clouds, "KNOWN_METADATA_URL_LIST", [emulator.env["ARM_CLOUD_METADATA_URL"]])
    return emulator


@pytest.fixture
def ml_client(pointed: Running) -> Any:
    """azure-ai-ml, as its documentation makes it."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    return MLClient(DefaultAzureCredential(), *pointed.scope)
