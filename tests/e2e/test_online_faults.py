"""Deploys to a managed endpoint under faults: what is cut or refused ends well when it is asked for again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from deployable import sample
from emulated import Running

ENDPOINTS = "2022-02-01-preview"


def tags(azure: Running, endpoint: str) -> dict[str, str]:
    place = f"{azure.workspace_path}/onlineEndpoints/{endpoint}"
    return dict(azure.request("GET", place, api_version=ENDPOINTS).json()["tags"])


def killed_at(amlflow: Any, step: str, *command: str) -> str:
    """What a command has said until it said the step, and was killed."""
    process, said = amlflow.start(*command), ""
    for line in process.stderr:
        said += line.decode()
        if step in said:
            break
    process.kill()
    process.communicate()
    assert step in said, said
    return said


@pytest.mark.slow
def test_an_endpoint_of_a_deploy_that_was_cut_goes_with_the_one_that_fails(
    amlflow: Any, azure: Running, wine: str, endpoint: str
) -> None:
    command = ("deploy", f"{wine}:3", "-t", "managed", "--name", endpoint)
    killed_at(amlflow, "Making blue", *command)
    assert tags(azure, endpoint) == {"amlflow.unfinished": "true"}
    failed = amlflow(*command)
    assert (failed.code, f"The endpoint {endpoint} is deleted again" in failed.err) == (1, True)
    assert amlflow("endpoint", "show", endpoint).code == 3
    amlflow.ok("deploy", f"{wine}:1", *command[2:])
    assert tags(azure, endpoint) == {}
    # One that answers is not taken for the rest of a deploy.
    assert amlflow(*command).code == 1
    assert amlflow.ok("endpoint", "show", endpoint, "--query", "traffic", "-o", "json").json == {"blue": 100}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("Making the endpoint", marks=pytest.mark.slow),
        "Making blue",
        pytest.param("answers the input example", marks=pytest.mark.slow),
    ],
)
def test_killed_and_asked_again(amlflow: Any, wine: str, endpoint: str, work: Path, step: str) -> None:
    command = ("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    killed_at(amlflow, step, *command)
    ended = amlflow.ok(*command, "-o", "json").json
    assert (ended["traffic"], ended["state"]) == ({"blue": 100}, "running")
    assert amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json == {"predictions": [1.0]}
    assert amlflow.ok("endpoint", "list", "-q").out.split().count(endpoint) == 1


@pytest.mark.slow
def test_killed_between_two_colours(amlflow: Any, azure: Running, wine: str, endpoint: str) -> None:
    base = ("-t", "managed", "--name", endpoint)
    amlflow.ok("deploy", f"{wine}:1", *base)
    options = ("--canary", "30,100", "--canary-wait", "60")
    killed_at(amlflow, "green 30 %", "deploy", f"{wine}:2", *base, *options)
    ended = amlflow.ok("deploy", f"{wine}:2", *base, "--canary", "30,100", "--canary-wait", "0", "-o", "json").json
    assert (ended["traffic"], ended["model"]) == ({"blue": 0, "green": 100}, f"{wine}:2")
    killed_at(amlflow, "Mirroring", "deploy", f"{wine}:1", *base, "--env", "A=1", "--mirror", "10")
    failed = amlflow("deploy", f"{wine}:3", *base)
    assert (failed.code, "the traffic is green 100 %" in failed.err) == (1, True)
    place = f"{azure.workspace_path}/onlineEndpoints/{endpoint}"
    shown = azure.request("GET", place, api_version=ENDPOINTS).json()["properties"]
    assert (shown["traffic"], shown["mirrorTraffic"]) == ({"green": 100}, {})


def test_a_fifth_of_all_requests_fails(amlflow: Any, azure: Running, wine: str, endpoint: str, work: Path) -> None:
    base = ("-t", "managed", "--name", endpoint)
    azure.run("fault", "* *:503:0.1", "* *:429:0.1")
    try:
        amlflow.ok("deploy", f"{wine}:1", *base, "--autoscale", "1:2")
        ended = amlflow.ok("deploy", f"{wine}:2", *base, "--canary", "50,100", "--canary-wait", "0", "-o", "json").json
        sent = amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json
        failed = amlflow("deploy", f"{wine}:3", *base)
        amlflow.ok("endpoint", "delete", endpoint)
    finally:
        azure.run("fault", "--clear")
    assert (ended["traffic"], sent) == ({"blue": 0, "green": 100}, {"predictions": [2.0]})
    assert (failed.code, "the traffic is green 100 %" in failed.err) == (1, True)
    assert amlflow("endpoint", "show", endpoint).code == 3


def test_the_key_changes_while_requests_come(amlflow: Any, wine: str, endpoint: str, work: Path) -> None:
    amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--name", endpoint)
    ended = threading.Event()

    def rotate() -> None:
        while not ended.is_set():
            amlflow("endpoint", "keys", endpoint, "--rotate")

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        answers = [amlflow.ok("endpoint", "invoke", endpoint, str(sample(work))).json for _ in range(6)]
    finally:
        ended.set()
        thread.join()
    assert answers == [{"predictions": [1.0]}] * 6


@pytest.mark.slow
def test_the_endpoint_goes_while_it_is_deployed_to(amlflow: Any, wine: str, endpoint: str) -> None:
    base = ("-t", "managed", "--name", endpoint)
    amlflow.ok("deploy", f"{wine}:1", *base)
    moving = amlflow.start("deploy", f"{wine}:2", *base)
    assert any(b"Making green" in line for line in moving.stderr)
    amlflow.ok("endpoint", "delete", endpoint)
    said = moving.communicate(timeout=120)[1].decode()
    assert moving.returncode != 0
    assert "deleted meanwhile" in said or "There is no" in said, said
    assert endpoint not in amlflow.ok("endpoint", "list", "-q").out
