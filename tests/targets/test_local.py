"""A real model behind a real port, by the environment at hand."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from amlflow.errors import AmlflowError, NotFound, UsageError
from amlflow.targets.base import DeployOptions, Endpoint, ModelToDeploy
from amlflow.targets.local import LocalTarget

TRAIN = """
import sys
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
x, y = load_diabetes(return_X_y=True, as_frame=True)
for name, constant in (("one", 1.0), ("two", 2.0)):
    model = DummyRegressor(strategy="constant", constant=constant).fit(x, y)
    mlflow.sklearn.save_model(model, f"{sys.argv[1]}/{name}", serialization_format="cloudpickle",
        signature=infer_signature(x, y), input_example=x.head(2), pip_requirements=[])
"""
ROW = {
    "dataframe_split": {
        "columns": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
        "data": [[0.1] * 10],
    }
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalTarget]:
    made = LocalTarget(tmp_path / "state")
    yield made
    for endpoint in made.list():
        made.delete(endpoint.name)


def deploy(target: LocalTarget, folder: Path, name: str = "wine", port: int | None = None) -> Endpoint:
    options = DeployOptions(name=name, port=port, env_manager="local", timeout_s=60)
    return target.apply(target.plan(ModelToDeploy(folder, folder.name), options), lambda line: None)


def ask(
    endpoint: Endpoint, body: bytes, path: str = "/invocations", method: str = "POST", **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def running(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(root) in word for word in process.info["cmdline"] or []) and "boot.py" in str(
            process.info["cmdline"]
        ):
            found.append(process)
    return found


def test_an_endpoint_answers_with_its_key_alone(target: LocalTarget, models: Path) -> None:
    endpoint = deploy(target, models / "one")
    assert endpoint.state == "running"
    assert target.invoke("wine", json.dumps(ROW).encode(), "application/json") == {"predictions": [1.0]}
    body = json.dumps(ROW).encode()
    key = target.keys("wine")[0]
    assert ask(endpoint, body)[0] == 401
    assert ask(endpoint, body, Authorization="Bearer wrong")[0] == 401
    assert ask(endpoint, body, Authorization="Bearer ")[0] == 401
    assert ask(endpoint, b"not even json")[0] == 401
    assert ask(endpoint, b"", "/", "GET")[0] == 401
    assert ask(endpoint, body, Authorization=f"Bearer {key}")[0] == 200
    assert ask(endpoint, body, **{"api-key": key})[0] == 200
    assert ask(endpoint, b"", "/ping", "GET")[0] == 401
    assert ask(endpoint, b"", "/ping", "GET", **{"api-key": key}) == (200, {"status": "healthy"})
    status, about = ask(endpoint, b"", "/", "GET", Authorization=f"Bearer {key}")
    assert (status, about["model"]) == (200, "one")
    keys = target._root / "wine" / "keys.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    for process in running(target._root):
        assert key not in " ".join(process.cmdline())


def test_a_rotated_key_works_at_once_and_the_old_one_no_more(target: LocalTarget, models: Path) -> None:
    endpoint = deploy(target, models / "one")
    old = target.keys("wine")[0]
    new = target.keys("wine", rotate=True)[0]
    body = json.dumps(ROW).encode()
    assert ask(endpoint, body, Authorization=f"Bearer {old}")[0] == 401
    assert ask(endpoint, body, Authorization=f"Bearer {new}")[0] == 200


def test_bad_requests_get_a_reason_and_never_stop_the_server(target: LocalTarget, models: Path) -> None:
    endpoint = deploy(target, models / "one")
    key = {"Authorization": f"Bearer {target.keys('wine')[0]}"}
    bad: list[tuple[int, bytes, str, str]] = [
        (400, b"{", "/invocations", "POST"),
        (400, b'{"inputs": [["x"]]}', "/invocations", "POST"),
        (400, b'{"dataframe_split": {"columns": ["age"], "data": [[1]]}}', "/invocations", "POST"),
        (404, b"", "/nothing", "GET"),
        (405, b"", "/invocations", "GET"),
    ]
    for status, body, path, method in bad:
        found, content = ask(endpoint, body, path, method, **key)
        assert found == status
        assert "Traceback" not in json.dumps(content)
        assert content["error"]["message"]
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Authorization", key["Authorization"])
    connection.putheader("Content-Length", str(200 * 1024 * 1024))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    with socket.create_connection(("127.0.0.1", endpoint.port)) as raw:
        raw.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert b"400" in raw.recv(1000)
    assert ask(endpoint, json.dumps(ROW).encode(), **key) == (200, {"predictions": [1.0]})


def test_redeploying_under_load_loses_no_request(target: LocalTarget, models: Path) -> None:
    endpoint = deploy(target, models / "one")
    key = target.keys("wine")[0]
    body, ended, answers = json.dumps(ROW).encode(), threading.Event(), []

    def client() -> None:
        while not ended.is_set():
            try:
                answers.append(ask(endpoint, body, Authorization=f"Bearer {key}"))
            except OSError as error:
                answers.append((0, error))

    def staying_client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
        headers = {"content-type": "application/json", "Authorization": f"Bearer {key}"}
        while not ended.is_set():
            try:
                connection.request("POST", "/invocations", body, headers)
                answer = connection.getresponse()
                answers.append((answer.status, json.loads(answer.read())))
            except OSError as error:
                answers.append((0, error))

    threads = [threading.Thread(target=each) for each in (client, client, client, staying_client)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    for name in ("two", "one", "two", "one", "two"):
        after = deploy(target, models / name)
    time.sleep(0.5)
    ended.set()
    for thread in threads:
        thread.join()
    assert (after.port, after.model) == (endpoint.port, "two")
    assert target.keys("wine")[0] == key
    assert [answer for status, answer in answers if status != 200] == []
    assert answers[0][1] == {"predictions": [1.0]}
    assert answers[-1][1] == {"predictions": [2.0]}
    assert len(answers) > 50
    deadline = time.monotonic() + 20
    while len(running(target._root)) > 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(running(target._root)) == 2


def test_a_model_that_fails_leaves_what_ran(target: LocalTarget, models: Path, tmp_path: Path) -> None:
    deploy(target, models / "one")
    broken = shutil.copytree(models / "two", tmp_path / "broken")
    (broken / "model.pkl").write_bytes(b"not a pickle")
    with pytest.raises(AmlflowError, match="What ran before goes on") as caught:
        deploy(target, broken)
    assert "UnpicklingError" in caught.value.paragraph()
    assert target.invoke("wine", json.dumps(ROW).encode(), "application/json") == {"predictions": [1.0]}
    assert target.status("wine").model == "one"


def test_a_first_deploy_that_fails_leaves_nothing(target: LocalTarget, models: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(models / "two", tmp_path / "broken")
    (broken / "model.pkl").write_bytes(b"not a pickle")
    with pytest.raises(AmlflowError, match="did not start: UnpicklingError"):
        deploy(target, broken)
    assert target.list() == []
    assert running(target._root) == []
    assert not (target._root / "wine").exists()


def test_a_taken_port_is_said_with_who_has_it(target: LocalTarget, models: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(AmlflowError) as caught:
            deploy(target, models / "one", port=port)
    assert f"Port {port}" in caught.value.message
    assert f"process {os.getpid()}" in caught.value.message
    assert target.list() == []


def test_a_worker_that_dies_is_started_again(target: LocalTarget, models: Path) -> None:
    endpoint = deploy(target, models / "one")
    os.kill(endpoint.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = target.status("wine")
        if now.state == "running" and now.pid not in (0, endpoint.pid):
            break
        time.sleep(0.1)
    assert target.invoke("wine", json.dumps(ROW).encode(), "application/json") == {"predictions": [1.0]}


def test_when_the_supervisor_is_killed_no_worker_is_left(target: LocalTarget, models: Path) -> None:
    deploy(target, models / "one")
    supervisor = int((target._root / "wine" / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running(target._root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(target._root) == []
    assert target.status("wine").state == "stopped"
    assert deploy(target, models / "one").state == "running"


def test_deleting_stops_every_process(target: LocalTarget, models: Path) -> None:
    deploy(target, models / "one")
    assert len(running(target._root)) == 2
    target.delete("wine")
    assert running(target._root) == []
    with pytest.raises(NotFound):
        target.status("wine")


@pytest.mark.parametrize("name", ["", "Wine", "a_b", "../x", "-a", "a" * 63])
def test_a_name_that_cannot_be_is_refused(target: LocalTarget, models: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name an endpoint"):
        deploy(target, models / "one", name=name)
