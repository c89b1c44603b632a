"""The emulator as a process in the background."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from conftest import Amlflow


@pytest.fixture
def emulated(amlflow: Amlflow) -> Iterator[Amlflow]:
    """The command, whose emulator is stopped after the test."""
    yield amlflow
    amlflow("emulator", "stop")


def _token(env: dict[str, str], url: str) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": env["AZURE_CLIENT_ID"],
        "client_secret": env["AZURE_CLIENT_SECRET"],
        "scope": f"{url}/.default",
    }
    place = f"{url}/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    return requests.post(place, data=form, verify=env["SSL_CERT_FILE"], timeout=30).json()["access_token"]


def _exports(amlflow: Amlflow) -> dict[str, str]:
    """The variables as a shell gets them."""
    lines = amlflow.ok("emulator", "env").out.splitlines()
    return dict(shlex.split(line)[1].split("=", 1) for line in lines)


def test_what_it_holds_is_there_after_a_restart(emulated: Amlflow) -> None:
    first = emulated.ok("emulator", "start", "--no-blobs", "-o", "json").json
    env = _exports(emulated)
    url, (subscription, group, name) = env["AZURE_AUTHORITY_HOST"], env["AMLFLOW_WORKSPACE"].split("/")
    place = f"{url}/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices/workspaces"
    made = f"{place}/{name}/environments/kept/versions/1?api-version=2023-04-01"
    options = {
        "headers": {"Authorization": f"Bearer {_token(env, url)}"},
        "verify": env["SSL_CERT_FILE"],
        "timeout": 30,
    }
    assert requests.put(made, json={"properties": {"image": "x"}}, **options).status_code == 201
    assert emulated.ok("emulator", "status", "-o", "json").json["pid"] == first["pid"]

    again = emulated.ok("emulator", "start", "--no-blobs")
    assert "runs already" in again.err
    emulated.ok("emulator", "stop")
    assert emulated.ok("emulator", "status", "--query", "running").out == "false\n"
    assert not psutil.pid_exists(first["pid"]) or psutil.Process(first["pid"]).status() == psutil.STATUS_ZOMBIE
    emulated.ok("emulator", "start", "--no-blobs")
    assert _exports(emulated) == env
    assert requests.get(made, **options).json()["name"] == "1"
    emulated.ok("emulator", "stop")
    emulated.ok("emulator", "start", "--no-blobs", "--reset")
    assert _exports(emulated)["AZURE_CLIENT_SECRET"] != env["AZURE_CLIENT_SECRET"]


@pytest.mark.skipif(shutil.which("node") is None, reason="the blobs need Node.js")
def test_a_killed_emulator_leaves_nothing_that_the_next_trips_over(emulated: Amlflow) -> None:
    started = emulated.ok("emulator", "start", "-o", "json").json
    children = psutil.Process(started["pid"]).children(recursive=True)
    assert any("azurite" in " ".join(child.cmdline()) for child in children)
    os.kill(started["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while emulated.ok("emulator", "status", "--query", "running").out != "false\n":
        assert time.monotonic() < deadline
    emulated.ok("emulator", "start")
    psutil.wait_procs(children, timeout=30)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    left = psutil.Process(emulated.ok("emulator", "status", "-o", "json").json["pid"]).children(recursive=True)
    emulated.ok("emulator", "stop")
    psutil.wait_procs(left, timeout=30)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in left)


def test_without_node_it_says_what_to_do(emulated: Amlflow, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    result = emulated("emulator", "start", PATH=str(tools))
    assert result.code == 3
    assert "needs Node.js" in result.err
    assert "--no-blobs" in result.err


def test_a_port_that_is_taken(emulated: Amlflow) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        result = emulated("emulator", "start", "--no-blobs", "--port", port)
    assert (result.code, f"Port {port}" in result.err) == (1, True)


def test_faults_and_a_record_from_the_start(emulated: Amlflow, work: Path) -> None:
    wrong = emulated("emulator", "start", "--no-blobs", "--fault", "GET /x:explode")
    assert (wrong.code, "explode" in wrong.err) == (2, True)
    emulated.ok("emulator", "start", "--no-blobs", "--fault", "GET */metadata/*:503:x1", "--record", "out.jsonl")
    env = _exports(emulated)
    codes = [
        requests.get(env["ARM_CLOUD_METADATA_URL"], verify=env["SSL_CERT_FILE"], timeout=30).status_code
        for _ in range(2)
    ]
    assert codes == [503, 200]
    lines = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    assert [(line["method"], line["target"], line["status"]) for line in lines] == [
        ("GET", "/metadata/endpoints", 503),
        ("GET", "/metadata/endpoints", 200),
    ]


def test_before_the_first_start(amlflow: Amlflow) -> None:
    for command in ("status", "env", "fault"):
        result = amlflow("emulator", command)
        assert (result.code, "amlflow emulator start" in result.err) == (3, True)
    assert amlflow.ok("emulator", "stop").err == "No emulator was running.\n"


def test_other_programs_still_trust_this_machine_s_authorities(emulated: Amlflow) -> None:
    emulated.ok("emulator", "start", "--no-blobs")
    bundle = Path(_exports(emulated)["SSL_CERT_FILE"]).read_text()
    assert bundle.count("BEGIN CERTIFICATE") > 10
    shell = 'eval "$(%s emulator env)" && printenv AZUREML_CURRENT_CLOUD' % shlex.quote(emulated.command[0])  # noqa: UP031
    done = subprocess.run(["sh", "-c", shell], env=dict(emulated.env), capture_output=True, text=True, timeout=60)
    assert done.stdout == "AmlflowEmulator\n"
