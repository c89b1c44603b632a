"""The image of a model, built by the tasks of the workspace's registry: the emulator carries out its steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from emulated import Running

from amlflow.config import Config
from amlflow.errors import AmlflowError
from amlflow.workspaces import resolve
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.azure.registries import AzureRegistry


@pytest.fixture
def model(deployable: Path, tmp_path: Path) -> Path:
    """A model that asks for little: the build is what is looked at."""
    folder = tmp_path / "small"
    shutil.copytree(deployable / "one", folder)
    (folder / "requirements.txt").write_text("cloudpickle\n")
    return folder


def test_an_image_is_built_once(azure: Running, amlflow: Any, model: Path) -> None:
    first = amlflow.ok("model", "image", str(model), "--build", "-o", "json")
    made = json.loads(first.out)
    assert made["built"] is True
    assert made["image"] == f"{azure.url.removeprefix('https://')}/amlflow-small:{made['tag']}"
    assert "Step 2/" in first.err
    assert "Successfully tagged" in first.err
    before = azure.record.read_text().count("scheduleRun")
    again = amlflow.ok("model", "image", str(model), "--build", "-o", "json")
    assert json.loads(again.out) == {**made, "built": False}
    assert azure.record.read_text().count("scheduleRun") == before > 0
    root = next((azure.home / "emulator/images").glob("*/app/model/MLmodel")).parents[2]
    assert (root / "opt/environment/bin/uvicorn").is_file()
    assert not (root / "opt/uv").exists()


def test_a_service_that_fails_every_fifth_request_builds_it_all_the_same(
    azure: Running, amlflow: Any, model: Path
) -> None:
    (model / "requirements.txt").write_text("cloudpickle\ntyping_extensions\n")
    # Where the cloud is is asked once, before there is anything to fail.
    amlflow.ok("compute", "list")
    azure.run("fault", "* *:throttle=0.2:0.05", "* *:503:0.05", "* *:reset:0.05", "* *:lost:0.05")
    try:
        made = json.loads(amlflow.ok("model", "image", str(model), "--build", "-o", "json").out)
        assert made["built"] is True
        again = json.loads(amlflow.ok("model", "image", str(model), "--build", "-o", "json").out)
    finally:
        azure.run("fault", "--clear")
    assert again == {**made, "built": False}


def test_what_is_asked_must_be_one_thing(amlflow: Any, model: Path) -> None:
    neither = amlflow("model", "image", str(model))
    assert (neither.code, "--to DIR" in neither.err) == (2, True)
    assert amlflow("model", "image", str(model), "--build", "--to", "image").code == 2
    here = amlflow("model", "image", str(model), "--build")
    assert here.code == 1
    assert "is none" in here.err


def test_a_failed_build_shows_the_line_and_leaves_no_image(azure: Running, tmp_path: Path) -> None:
    workspace = resolve.open_workspace(resolve.resolve("/".join(azure.scope), Config(), {}))
    assert isinstance(workspace, HasOnlineEndpoints)
    registry, said = AzureRegistry(workspace.service), list[str]()
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN echo so far && \\\n exit 3\n")
    with pytest.raises(
        AmlflowError, match=r"build of broken:1 failed: .*exit 3' returned a non-zero code: 3"
    ) as caught:
        registry.build(tmp_path, "broken", "1", said.append)
    assert "so far" in caught.value.mend
    assert any(line.endswith("so far") for line in said)
    assert registry.has("broken", "1") is False
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY ../../etc /app\n")
    with pytest.raises(AmlflowError, match="outside the build context"):
        registry.build(tmp_path, "broken", "1", said.append)
