"""`deploy --check` and `--mend`, from the command line: here, and in an Azure ML workspace that the emulator stands for."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployable import put
from emulated import Running


@pytest.fixture
def poor(deployable: Path, tmp_path: Path) -> Path:
    """A model without signature, whose requirements are not pinned."""
    folder = tmp_path / "poor"
    shutil.copytree(deployable / "one", folder)
    content = yaml.safe_load((folder / "MLmodel").read_text())
    content.pop("signature")
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    for name in ("requirements.txt", "conda.yaml"):
        text = (folder / name).read_text()
        (folder / name).write_text(
            "\n".join(line.replace("cloudpickle==", "cloudpickle>=") for line in text.splitlines())
        )
    return folder


@pytest.fixture
def wine(azure: Running, poor: Path) -> str:
    name = f"wine-{uuid.uuid4().hex[:6]}"
    put(azure, name, poor, 1)
    return name


def by_what(result: Any) -> dict[str, dict[str, str]]:
    return {item["what"]: item for item in result.json}


def test_a_model_is_checked_without_being_deployed(amlflow: Any, poor: Path) -> None:
    checked = amlflow.ok("deploy", str(poor), "--check", "-o", "json")
    found = by_what(checked)
    assert found["signature"]["severity"] == found["pins"]["severity"] == "warning"
    assert found["plan"]["severity"] == "ok"
    assert set(checked.json[0]) == {"severity", "what", "why", "mend"}
    assert "on local: 0 errors, 2 warnings" in checked.err
    assert amlflow.ok("endpoint", "list", "-q").out == ""
    lines = amlflow.ok("deploy", str(poor), "--check").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["warning"] * 2 + ["ok"] * (len(lines) - 2)

    (poor / "requirements.txt").write_text("six==99.0\n")
    broken = amlflow("deploy", str(poor), "--check", "-o", "json")
    assert broken.code == 1
    assert "six==99.0" in by_what(broken)["packages"]["mend"]
    # As the deploy itself would say.
    taken = amlflow("deploy", str(poor), "--check", "--name", "No Name", "-o", "json")
    assert by_what(taken)["plan"]["severity"] == "error"


def test_what_is_typed_wrong(amlflow: Any, poor: Path) -> None:
    assert "Did you mean 'managed'" in amlflow("deploy", str(poor), "-t", "manged", "--check").err
    assert amlflow("deploy", "nothing", "--check").code == 3
    assert amlflow("deploy", str(poor), "--check", "--instance-type", "Standard_DS3_v2").code == 2
    unregistered = amlflow("deploy", str(poor), "--mend")
    assert (unregistered.code, "amlflow register" in unregistered.err) == (2, True)


def test_targets_of_azure_are_checked_without_azure(amlflow: Any, poor: Path) -> None:
    for target in ("aci", "aks", "batch"):
        found = by_what(amlflow.ok("deploy", str(poor), "-t", target, "--check", "-o", "json"))
        assert found["workspace"]["severity"] == "warning"
        assert found["packages"]["severity"] == "ok"
    managed = amlflow("deploy", str(poor), "-t", "managed", "--check", "--scoring", "azure", "-o", "json")
    assert (managed.code, by_what(managed)["monitoring"]["severity"]) == (1, "error")
    left = amlflow.ok("deploy", str(poor), "-t", "managed", "--check", "-o", "json")
    assert "own scoring script" in by_what(left)["monitoring"]["why"]


def test_a_model_is_mended_into_its_next_version(amlflow: Any, poor: Path) -> None:
    amlflow.ok("register", str(poor), "--name", "wine")
    mended = amlflow.ok("deploy", "wine:1", "-t", "managed", "--mend", "-o", "json").json
    assert (mended["model"], mended["mended_from"]) == ("wine:2", "wine:1")
    assert "signature inferred from the input example" in mended["changes"]
    shown = amlflow.ok("model", "show", "wine:2", "-o", "json").json
    assert shown["signature"]["inputs"]
    assert shown["tags"]["amlflow.mended_from"] == "wine:1"
    assert "added azureml-ai-monitoring" in shown["tags"]["amlflow.mended"]
    checked = amlflow.ok("deploy", "wine:2", "-t", "managed", "--check", "--scoring", "azure", "-o", "json")
    assert {item["what"] for item in checked.json if item["severity"] == "warning"} == {
        "MLflow on the target",
        "workspace",
    }
    deployed = amlflow.ok("deploy", "wine:2", "--name", "mended", "--env-manager", "local", "-o", "json").json
    assert deployed["state"] == "running"
    assert amlflow.ok("endpoint", "invoke", "mended", "--example").json == {"predictions": [1.0, 1.0]}


def test_a_model_is_mended_once(amlflow: Any, deployable: Path) -> None:
    folder = amlflow.cwd / "small"
    shutil.copytree(deployable / "one", folder)
    for name in ("requirements.txt", "conda.yaml"):
        (folder / name).write_text((folder / name).read_text().replace("cloudpickle==", "cloudpickle>="))
    amlflow.ok("register", str(folder), "--name", "small")
    planned = amlflow.ok("deploy", "small:1", "--mend", "--dry-run", "-o", "json").json
    assert (planned["model"], planned["changed"]) == ("small:1", True)
    assert len(planned["changes"]) == 1
    assert amlflow.ok("model", "list", "small", "-q").out.split() == ["small:1"]
    mended = amlflow.ok("deploy", "small:1", "--mend", "-o", "json").json
    assert (mended["model"], mended["changes"]) == ("small:2", planned["changes"])
    assert amlflow.ok("deploy", "small:1", "--mend", "-q").out.strip() == "small:2"
    nothing = amlflow.ok("deploy", "small:2", "--mend", "-o", "json")
    assert (nothing.json["model"], nothing.json["changed"]) == ("small:2", False)
    assert "Nothing in small:2 is to mend" in nothing.err
    assert len(amlflow.ok("model", "list", "small", "-q").out.split()) == 2


def test_a_model_that_fails_gets_no_signature_and_says_why(amlflow: Any, poor: Path) -> None:
    (poor / "model.pkl").write_bytes(b"this is no pickle")
    amlflow.ok("register", str(poor), "--name", "broken")
    mended = amlflow.ok("deploy", "broken", "--mend", "-o", "json").json
    assert mended["model"] == "broken:2"
    assert any("UnpicklingError" in item["why"] for item in mended["left"]), mended


def test_a_workspace_is_asked_for_quota_and_rights(amlflow: Any, azure: Running, wine: str) -> None:
    asked = (
        "deploy",
        f"{wine}:1",
        "-t",
        "managed",
        "--name",
        "never-made",
        "--check",
        "--scoring",
        "azure",
        "-o",
        "json",
    )
    first = amlflow(*asked)
    found = by_what(first)
    assert first.code == 1
    assert {item["what"] for item in first.json if item["severity"] == "error"} == {"monitoring"}
    assert "of 100 cores are free" in found["quota"]["why"] or "cores are free" in found["quota"]["why"]
    assert found["rights"]["severity"] == found["egress"]["severity"] == found["plan"]["severity"] == "ok"
    full = by_what(amlflow(*asked, "--instance-type", "Standard_NC24s_v3"))
    assert "--instance-type Standard_NC6s_v3" in full["plan"]["mend"]
    reader = azure.settings["principals"][1]
    signed_in = {"AZURE_CLIENT_ID": reader["client_id"], "AZURE_CLIENT_SECRET": reader["secret"]}
    refused = amlflow(*asked, **signed_in)
    lacking = [item for item in refused.json if item["what"] == "rights"]
    assert [item["severity"] for item in lacking] == ["error"] * 3
    assert "onlineEndpoints/write" in lacking[0]["why"]
    image = by_what(amlflow.ok("deploy", f"{wine}:1", "-t", "aci", "--check", "-o", "json"))
    assert image["registry"]["severity"] == image["rights"]["severity"] == "ok"
    assert image["right to assign roles"]["severity"] == "warning"
    assert "never-made" not in amlflow.ok("endpoint", "list", "-q").out


def test_a_closed_network_and_a_missing_registry_are_told_of(amlflow: Any, azure: Running, poor: Path) -> None:
    closed = f"{azure.workspace_path.rpartition('/')[0]}/closed-{uuid.uuid4().hex[:6]}"
    properties = {
        "publicNetworkAccess": "Disabled",
        "managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"},
        "containerRegistry": "",
    }
    body = {"location": "local", "properties": properties}
    assert azure.request("PUT", closed, body, api_version="2024-04-01-preview").status_code == 202
    try:
        name = "/".join((*azure.scope[:2], closed.rpartition("/")[2]))
        found = by_what(amlflow("-w", name, "deploy", str(poor), "-t", "batch", "--check", "-o", "json"))
        bare = by_what(amlflow("-w", name, "deploy", str(poor), "-t", "aci", "--check", "-o", "json"))
    finally:
        azure.request("DELETE", closed, api_version="2024-04-01-preview")
    assert found["network"]["severity"] == "warning"
    assert found["egress"]["severity"] == "warning"
    assert found["registered"]["severity"] == "warning"
    assert (bare["registry"]["severity"], "az acr create" in bare["registry"]["mend"]) == ("error", True)


@pytest.mark.slow
def test_a_model_is_mended_in_azure_while_the_service_fails_now_and_then(
    amlflow: Any, azure: Running, wine: str
) -> None:
    """Under a service that fails every tenth request."""
    amlflow.ok("compute", "list")
    azure.run("fault", "* *:503:0.05", "* *:throttle=0.2:0.05")
    try:
        mended = amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--mend", "-o", "json").json
    finally:
        azure.run("fault", "--clear")
    assert mended["model"] == f"{wine}:2"
    checked = amlflow.ok("deploy", mended["model"], "-t", "managed", "--name", "never-made", "--check", "-o", "json")
    assert not [item for item in checked.json if item["severity"] == "error"]
    assert amlflow.ok("deploy", f"{wine}:1", "-t", "managed", "--mend", "-q").out.strip() == f"{wine}:2"
