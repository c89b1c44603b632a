"""Faults by rule: what a rule means, and what a client sees of it."""

from __future__ import annotations

import time

import pytest
import requests
from emulated import Running

from amlflow.emulator.faults import Faults, parse
from amlflow.errors import UsageError


def test_a_rule_is_read_as_it_is_written() -> None:
    assert parse("PUT */jobs/*:503:0.2").rate == 0.2
    assert (parse("get */computes*:throttle=2:x3").count, parse("get */computes*:throttle=2:x3").amount) == (3, 2.0)
    assert parse("* *:latency=150").amount == 150
    for wrong in ("PUT", "PUT /x:700", "PUT /x:latency", "PUT /x:explode", "PUT /x:503:often", "/x:503"):
        with pytest.raises(UsageError):
            parse(wrong)
    with pytest.raises(UsageError, match="Did you mean 'latency'"):
        parse("* *:latncy=150")


def test_a_rule_strikes_at_its_rate_and_as_often_as_it_may() -> None:
    faults = Faults()
    faults.add(parse("PUT */jobs/*:503:x2"))
    faults.add(parse("* *:latency=5"))
    struck = [[hit.action for hit in faults.strike("PUT", "/w/jobs/a")] for _ in range(3)]
    assert struck == [["status", "latency"], ["status", "latency"], ["latency"]]
    assert [hit.action for hit in faults.strike("GET", "/w/jobs/a")] == ["latency"]
    faults.clear()
    faults.add(parse("* *:503:0.2"))
    hits = sum(bool(faults.strike("GET", "/")) for _ in range(2000))
    assert 250 < hits < 550


def test_each_kind_of_fault_reaches_the_client(emulator: Running) -> None:
    place, token = f"{emulator.workspace_path}/computes", emulator.token()
    try:
        emulator.run("fault", "GET */computes:503:x1")
        failed = emulator.request("GET", place, token=token)
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "ServiceUnavailable")
        assert emulator.request("GET", place, token=token).status_code == 200

        emulator.run("fault", "GET */computes:throttle=7:x1")
        throttled = emulator.request("GET", place, token=token)
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "7")

        emulator.run("fault", "GET */computes:expire:x1")
        assert emulator.request("GET", place, token=token).json()["error"]["code"] == "ExpiredAuthenticationToken"

        emulator.run("fault", "GET */computes:reset:x1")
        with pytest.raises(requests.ConnectionError):
            emulator.request("GET", place, token=token)

        emulator.run("fault", "GET */computes:latency=300:x1")
        started = time.monotonic()
        assert emulator.request("GET", place, token=token).status_code == 200
        assert time.monotonic() - started >= 0.3
    finally:
        emulator.run("fault", "--clear")


def test_the_work_is_done_though_its_answer_is_lost(emulator: Running) -> None:
    token, place = emulator.token(), f"{emulator.workspace_path}/environments/lost/versions/1"
    emulator.run("fault", "PUT */environments/lost/*:lost:x1")
    with pytest.raises(requests.ConnectionError):
        emulator.request("PUT", place, {"properties": {"image": "x"}}, token=token)
    assert emulator.request("GET", place, token=token).status_code == 200


def test_the_sdk_gets_through_a_bad_day(ml_client: object, emulator: Running) -> None:
    emulator.run("fault", "GET */computes*:503:x2", "GET */computes*:throttle=1:x1")
    try:
        assert isinstance([item.name for item in ml_client.compute.list()], list)  # type: ignore[attr-defined]
    finally:
        emulator.run("fault", "--clear")


def test_only_the_command_may_set_faults(emulator: Running) -> None:
    refused = emulator.request("POST", "/emulator/faults", {"faults": ["* *:503"]})
    assert refused.status_code == 403
