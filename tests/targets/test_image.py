"""The image of a model: what its context holds, and that its steps, carried out here, make a service that answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Amlflow
from deployable import ROW

from amlflow.errors import AmlflowError, NotSupported, UsageError
from amlflow.targets import image
from amlflow.targets.base import ModelToDeploy

LAYERS = ("RUN", "COPY", "ADD")


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Instructions and their values; continued lines joined."""
    lines = [line for line in dockerfile.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def carried_out(context: Path, root: Path) -> list[str]:
    """Do what the Dockerfile says with `root` in the place of `/`; the command that it ends with."""
    command: list[str] = []

    def below(text: str) -> str:
        return re.sub(r"(?<![\w./:-])/(app|opt)(?=/|\b)", f"{root}/\\1", text)

    for instruction, value in steps((context / "Dockerfile").read_text()):
        if instruction == "COPY":
            source, target = value.split()
            found, placed = context / source, Path(below(target))
            placed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(found, placed, dirs_exist_ok=True) if found.is_dir() else shutil.copyfile(found, placed)
        elif instruction == "RUN":
            # What makes the layer small and its first start fast only costs time here.
            value = value.replace("--no-cache ", "").replace("--compile-bytecode ", "")
            done = subprocess.run(below(value), shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        elif instruction == "CMD":
            command = [below(word) for word in json.loads(value)]
    spec = root / "app/spec.json"
    spec.write_text(below(spec.read_text()))
    return command


@contextmanager
def started(command: list[str], key: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(port) if word == str(image.PORT) else word for word in command]
    process = subprocess.Popen(command, env={**os.environ, "AMLFLOW_ENDPOINT_KEY": key})
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                if ask(port, "GET", "/health")[0] == 200:
                    break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def ask(port: int, method: str, path: str, body: bytes = b"", key: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_steps_of_the_dockerfile_make_a_service_with_a_key(deployable: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(deployable / "two", model)
    # MLflow asks for itself, which the scoring app does without for this model.
    asked = [line for line in (model / "requirements.txt").read_text().splitlines() if not line.startswith("mlflow")]
    (model / "requirements.txt").write_text("\n".join(asked) + "\n")
    made = image.of_model(ModelToDeploy(model, "two:1"))
    image.write(made, tmp_path / "context", lambda line: None)
    locked = (tmp_path / "context/app/requirements.txt").read_text()
    assert re.search(r"(?m)^scikit-learn==\S+ \\\n +--hash=sha256:", locked)
    assert re.search(r"(?m)^uvicorn==\S+ \\\n +--hash=sha256:", locked)
    command = carried_out(tmp_path / "context", tmp_path / "root")
    body = json.dumps({"input_data": ROW}).encode()
    with started(command, "secret") as port:
        assert ask(port, "POST", "/invocations", body)[0] == 401
        assert ask(port, "POST", "/invocations", body, "wrong")[0] == 401
        status, answer = ask(port, "POST", "/score", body, "secret")
        assert (status, json.loads(answer)) == (200, {"predictions": [2.0]})
    with started(command, "") as port:
        assert ask(port, "POST", "/invocations", body, "")[0] == 401


def test_an_image_is_small_beside_mlflows(deployable: Path, tmp_path: Path) -> None:
    from mlflow.pyfunc.backend import PyFuncBackend

    PyFuncBackend({}, env_manager=None).generate_dockerfile(str(deployable / "one"), str(tmp_path / "mlflow"))
    image.write(image.of_model(ModelToDeploy(deployable / "one", "one:1")), tmp_path / "own", lambda line: None)
    own, theirs = (steps((tmp_path / place / "Dockerfile").read_text()) for place in ("own", "mlflow"))
    counts = [sum(step[0] in LAYERS for step in found) for found in (own, theirs)]
    assert counts[0] * 2 < counts[1], counts
    text = (tmp_path / "own/Dockerfile").read_text()
    assert not re.search(r"\b(gcc|build-essential|nginx|apt-get)\b", text)
    user = next(value for name, value in own if name == "USER")
    names = [name for name, _ in own]
    assert int(user.split(":")[0]) > 0
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names


def test_the_tag_stands_for_the_content(deployable: Path, tmp_path: Path) -> None:
    def tag(folder: Path) -> str:
        return image.of_model(ModelToDeploy(folder, "wine:1")).tag

    copy = tmp_path / "copy"
    shutil.copytree(deployable / "one", copy)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__/left.pyc").write_bytes(b"left over")
    assert tag(copy) == tag(deployable / "one") != tag(deployable / "two")
    with (copy / "requirements.txt").open("a") as sink:
        sink.write("six\n")
    assert tag(copy) != tag(deployable / "one")


def test_what_an_image_cannot_hold_is_refused_before_anything_is_written(deployable: Path, tmp_path: Path) -> None:
    def write(line: str) -> None:
        folder = tmp_path / f"model{len(line)}"
        shutil.copytree(deployable / "one", folder)
        (folder / "requirements.txt").write_text(f"{line}\n")
        image.write(image.of_model(ModelToDeploy(folder, "wine:1")), tmp_path / "context", lambda line: None)

    with pytest.raises(UsageError, match="password") as caught:
        write("thing @ https://someone:hush@example.invalid/thing-1.0-py3-none-any.whl")
    assert "hush" not in caught.value.paragraph()
    with pytest.raises(UsageError, match="--extra-index-url") as caught:
        write("--extra-index-url https://someone:hush@example.invalid/simple")
    assert "hush" not in caught.value.paragraph()
    with pytest.raises(UsageError, match="path of this machine"):
        write("./own-1.0-py3-none-any.whl")
    with pytest.raises(AmlflowError, match="numpy"):
        write("numpy==1.0,==2.0")
    assert not (tmp_path / "context").exists()
    outside = tmp_path / "linked"
    shutil.copytree(deployable / "one", outside)
    (outside / "secret").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="leads out of its folder"):
        image.of_model(ModelToDeploy(outside, "wine:1"))
    conda = tmp_path / "conda"
    shutil.copytree(deployable / "one", conda)
    (conda / "python_env.yaml").unlink()
    (conda / "conda.yaml").write_text("dependencies:\n- python=3.11\n- r-base=4.3\n")
    with pytest.raises(NotSupported, match="conda"):
        image.of_model(ModelToDeploy(conda, "wine:1"))


def test_the_command_writes_a_context_once(deployable: Path, amlflow: Amlflow) -> None:
    written = json.loads(amlflow.ok("model", "image", str(deployable / "one"), "--to", "image", "-o", "json").out)
    folder = amlflow.cwd / "image"
    assert written["path"] == "image"
    assert sorted(item.name for item in folder.iterdir()) == ["Dockerfile", "app"]
    assert (folder / "app/model/MLmodel").is_file()
    again = amlflow("model", "image", str(deployable / "one"), "--to", "image")
    assert again.code == 1
    assert "exists and is not empty" in again.err
