"""Signing in to a cloud that describes itself, by azure-identity, over TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from amlflow import paths
from amlflow.errors import NotAllowed, NotFound, UsageError
from amlflow.workspaces.azure import clouds
from amlflow.workspaces.azure.auth import Credential, clock_sentence

NO_WAY = {"AZURE_CLIENT_SECRET": "", "IDENTITY_ENDPOINT": "", "IDENTITY_HEADER": ""}


def credential(asked: str = "", **changes: str) -> Credential:
    env = {**os.environ, **changes}
    return Credential(clouds.current(env), asked, env)


def test_the_service_principal_of_the_environment_wins(azure: Any) -> None:
    made = credential()
    claims = made.token().claims()
    assert claims["appid"] == azure.variables["AZURE_CLIENT_ID"]
    assert made.winner == f"service principal {azure.variables['AZURE_CLIENT_ID']}"


def test_a_second_command_neither_signs_in_nor_imports_what_does(azure: Any) -> None:
    first = credential().token()
    script = (
        "import os, sys; from amlflow.workspaces.azure import auth, clouds; made = auth.Credential(clouds.current());"
        "print(made.token().value); print('azure.identity' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [first.value, "False"]
    file = paths.azure() / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert paths.azure().stat().st_mode & 0o777 == 0o700
    assert azure.variables["AZURE_CLIENT_SECRET"] not in file.read_text()


def test_a_wrong_secret_is_one_sentence_and_lets_no_other_identity_stand_in(azure: Any) -> None:
    with pytest.raises(NotAllowed, match=r"AADSTS7000215: Invalid client secret provided\.$") as refused:
        credential(AZURE_CLIENT_SECRET="wrong").token()
    assert "managed identity" not in refused.value.message
    assert "AZURE_CLIENT_SECRET" in refused.value.mend


def test_each_way_is_tried_in_order_and_named(azure: Any) -> None:
    made = credential(AZURE_CLIENT_SECRET="")
    made.token()
    assert made.winner.startswith("managed identity")
    assert [attempt.way.name for attempt in made.attempts] == ["sp", "oidc"]
    assert credential("mi").token().claims()["tid"] == azure.variables["AZURE_TENANT_ID"]


def test_a_ci_job_signs_in_by_its_assertion(azure: Any) -> None:
    base = azure.variables["AZURE_AUTHORITY_HOST"]
    made = credential(
        **{**NO_WAY, "ACTIONS_ID_TOKEN_REQUEST_URL": f"{base}/oidc/token?from=github"},
        ACTIONS_ID_TOKEN_REQUEST_TOKEN=azure.variables["IDENTITY_HEADER"],
    )
    assert made.token().claims()["appid"] == azure.variables["AZURE_CLIENT_ID"]
    assert made.winner.startswith("GitHub OIDC")


def test_without_any_way_each_has_its_sentence(azure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_WAY:
        monkeypatch.delenv(name)
    with pytest.raises(NotAllowed) as refused:
        credential(PATH="/nowhere").token()
    assert "there is no `az` on this machine" in refused.value.message
    assert "az login" in refused.value.mend
    with pytest.raises(UsageError, match="'clii'"):
        credential("clii")


def test_a_damaged_cache_costs_a_sign_in_and_nothing_else(azure: Any) -> None:
    credential().token()
    (paths.azure() / "tokens.json").write_text('{"half')
    assert credential().token().claims()


def test_an_unknown_cloud_offers_the_nearest(azure: Any) -> None:
    with pytest.raises(NotFound, match="AzureUSGovernment"):
        clouds.current({**os.environ, "AZUREML_CURRENT_CLOUD": "AzureUSGoverment"})
    plain = clouds.current({"AZURE_CLOUD": "AzureChinaCloud"})
    assert plain.arm_scope == "https://management.chinacloudapi.cn/.default"
    assert plain.container_suffix == "azurecontainer.console.azure.cn"
    assert clouds.current({"AZURE_CLOUD": "AzureCloud"}).container_suffix == "azurecontainer.io"
    assert clouds.current().container_suffix == f"localhost:{azure.settings['port']}"


def test_a_clock_that_is_off_is_told() -> None:
    assert clock_sentence(3600) == "This machine's clock is 60 minutes ahead of Azure's."
    assert clock_sentence(-3600) == "This machine's clock is 60 minutes behind Azure's."
    assert clock_sentence(20) == ""
