"""Every exchange of the tests before, and of a walk of its own, against the vendor's OpenAPI of its api-version."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import contract
import pytest
from azure.ai.ml import command
from azure.ai.ml.entities import AmlCompute, Data, Environment, Model
from emulated import Running

# azure-ai-ml sends the version of its hash as a number, where the contract has a text.
KNOWN = re.compile(r"codes/.*: request: .*'hash_version': \d+")


@pytest.fixture(scope="module")
def openapi() -> contract.Contract:
    root = contract.folder()
    if root is None:
        pytest.skip("the contract folder is not beside the repository (AMLFLOW_CONTRACT names another place)")
    return contract.Contract(root)


def _exchanges(file: Path) -> list[dict[str, Any]]:
    """Whole lines alone: another emulator may be writing."""
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _walk(client: Any, tmp_path: Path) -> None:
    """One of everything that amlflow asks an Azure ML workspace."""
    client.workspaces.get(client.workspace_name)
    client.workspaces.get_keys(client.workspace_name)
    cluster = AmlCompute(name="walked", size="Standard_DS3_v2", max_instances=1)
    client.compute.begin_create_or_update(cluster).result()
    list(client.compute.list())
    list(client.datastores.list())
    client.environments.create_or_update(Environment(name="walked", version="1", image="python:3.11"))
    (tmp_path / "main.py").write_text("print('walked')")
    client.data.create_or_update(Data(name="walked", version="1", type="uri_folder", path=str(tmp_path)))
    client.models.create_or_update(Model(name="walked", type="custom_model", path=str(tmp_path)))
    list(client.models.list())
    job = command(code=str(tmp_path), command="python main.py", environment="walked:1", compute="walked")
    name = client.jobs.create_or_update(job).name
    client.jobs.stream(name)
    client.jobs.download(name, download_path=tmp_path / "down", all=True)
    assert name in [item.name for item in client.jobs.list(max_results=5)]
    client.compute.begin_delete("walked").result()


def test_every_exchange_is_as_the_contract_says(
    ml_client: Any, records: list[Path], openapi: contract.Contract, tmp_path: Path
) -> None:
    _walk(ml_client, tmp_path)
    found, checked = [], set()
    for exchange in [exchange for record in records for exchange in _exchanges(record)]:
        problems = openapi.problems(exchange)
        if problems is not None:
            checked.add((exchange["method"], exchange["target"].rpartition("api-version=")[2].split("&")[0]))
            found += [item for item in problems if not KNOWN.search(item)]
    assert not found, "\n".join(sorted(set(found)))
    assert len(checked) >= 15, checked


def test_the_contract_notices_what_is_wrong(
    ml_client: Any, emulator: Running, openapi: contract.Contract, tmp_path: Path
) -> None:
    list(ml_client.compute.list())
    ml_client.environments.create_or_update(Environment(name="noticed", version="1", image="python:3.11"))
    exchanges = _exchanges(emulator.record)
    listed = next(item for item in reversed(exchanges) if "/computes?" in item["target"] and item["response"]["value"])
    put = next(item for item in reversed(exchanges) if item["method"] == "PUT" and "/noticed/" in item["target"])
    assert openapi.problems(listed) == []
    assert openapi.problems(put) == []

    def broken(exchange: dict[str, Any], *path: Any, value: Any) -> list[str]:
        made = copy.deepcopy(exchange)
        place = made
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
        return openapi.problems(made) or []

    first = ("response", "value", 0)
    assert broken(listed, "status", value=299)
    assert broken(listed, "response", value=None)
    assert broken(listed, *first, "tags", value="none")
    assert broken(listed, *first, "properties", "computeType", value=7)
    assert broken(listed, *first, "properties", "isAttachedCompute", value="no")
    assert broken(listed, *first, "properties", "spelled", value="wrong")
    assert broken(listed, *first, "properties", "properties", "vmSize", value=["list"])
    assert broken(put, "request", "properties", "image", value={"not": "a text"})
    assert broken(put, "request", value=None)
    assert broken(put, "response", "properties", value=None)
    assert broken(listed, "target", value=listed["target"].replace("api-version=", "unknown=1&api-version="))


def test_a_record_holds_no_secret(ml_client: Any, emulator: Running) -> None:
    ml_client.datastores.get("workspaceblobstore", include_secrets=True)
    ml_client.workspaces.get_keys(ml_client.workspace_name)
    text = emulator.record.read_text()
    secrets = [emulator.settings["storage_key"], emulator.settings["identity_header"]]
    secrets += [item["secret"] for item in emulator.settings["principals"]]
    assert not any(secret in text for secret in secrets)
    assert not re.search(r"eyJ[\w-]+\.[\w-]+\.", text), "a token"
    assert not re.search(r"sig=[^*&]", text), "a signature"
    assert emulator.record.stat().st_mode & 0o077 == 0
