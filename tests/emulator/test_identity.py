"""Who is let in, and what the others are told."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from dataclasses import replace

import requests
from azure.identity import (
    ClientAssertionCredential,
    ClientSecretCredential,
    DefaultAzureCredential,
    EnvironmentCredential,
    ManagedIdentityCredential,
)
from emulated import Running

from amlflow.emulator import settings

SCOPE = "https://management.azure.com/.default"


def _code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_every_credential_of_azure_identity_signs_in(pointed: Running) -> None:
    secret = ClientSecretCredential(
        pointed.env["AZURE_TENANT_ID"],
        pointed.env["AZURE_CLIENT_ID"],
        pointed.env["AZURE_CLIENT_SECRET"],
        authority=pointed.url,
        disable_instance_discovery=True,
    )
    assertion = ClientAssertionCredential(
        pointed.env["AZURE_TENANT_ID"],
        pointed.env["AZURE_CLIENT_ID"],
        lambda: _pipeline_assertion(pointed),
        authority=pointed.url,
        disable_instance_discovery=True,
    )
    environment = EnvironmentCredential(disable_instance_discovery=True)
    for credential in (secret, assertion, environment, ManagedIdentityCredential(), DefaultAzureCredential()):
        token = credential.get_token(SCOPE)
        assert token.expires_on > time.time() + 600
        assert pointed.request("GET", pointed.workspace_path, token=token.token).status_code == 200


def _pipeline_assertion(emulator: Running, audience: str = "api://AzureADTokenExchange") -> str:
    answer = requests.get(
        f"{emulator.url}/oidc/token",
        params={"audience": audience},
        headers={"Authorization": f"Bearer {emulator.env['IDENTITY_HEADER']}"},
        verify=emulator.env["SSL_CERT_FILE"],
        timeout=30,
    )
    return answer.json()["value"]


def test_a_wrong_sign_in_is_refused_with_the_platform_s_codes(emulator: Running) -> None:
    form = {"grant_type": "client_credentials", "client_id": emulator.env["AZURE_CLIENT_ID"], "scope": SCOPE}
    right = {**form, "client_secret": emulator.env["AZURE_CLIENT_SECRET"]}
    assertion = {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    wrong = {
        7000215: {**form, "client_secret": "no"},
        700016: {**right, "client_id": str(uuid.uuid4())},
        500011: {**right, "scope": "https://example.com/.default"},
        70003: {**right, "grant_type": "password"},
        50027: {**form, **assertion, "client_assertion": "x.y"},
        700212: {**form, **assertion, "client_assertion": _pipeline_assertion(emulator, "api://elsewhere")},
    }
    for code, asked in wrong.items():
        answer = emulator.post_token(asked)
        assert answer.status_code in (400, 401)
        assert answer.json()["error_codes"] == [code]
        assert answer.json()["error_description"].startswith(f"AADSTS{code}: ")


def test_each_flaw_of_a_token_has_its_own_refusal(emulator: Running) -> None:
    place, good = emulator.workspace_path, emulator.token()
    head, body, signature = good.split(".")
    assert _code(emulator.request("GET", place, token="")) == (401, "AuthenticationFailed")
    assert _code(emulator.request("GET", place, token="abc")) == (401, "InvalidAuthenticationToken")
    forged = f"{head}.{body}.{signature[:-8]}AAAAAAAA"
    assert _code(emulator.request("GET", place, token=forged)) == (401, "InvalidAuthenticationToken")
    storage = emulator.token("https://storage.azure.com/.default")
    refused = emulator.request("GET", place, token=storage)
    assert _code(refused) == (401, "InvalidAuthenticationTokenAudience")
    assert refused.headers["www-authenticate"].startswith("Bearer authorization_uri=")
    history = place.replace("/subscriptions", "/history/v1.0/subscriptions") + "/runs/x/details"
    assert _code(emulator.request("GET", history, token="")) == (401, "UserError")


def test_a_token_expires(emulator: Running) -> None:
    emulator.run("token-lifetime", "1")
    try:
        old = emulator.token()
        deadline = time.monotonic() + 30
        while (answer := emulator.request("GET", emulator.workspace_path, token=old)).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        emulator.run("token-lifetime", "3600")
    assert _code(answer) == (401, "ExpiredAuthenticationToken")


def test_a_wrong_place_is_told_from_a_missing_right(emulator: Running) -> None:
    subscription, _, workspace = emulator.scope
    path = emulator.workspace_path
    assert _code(emulator.request("GET", path.replace(subscription, str(uuid.uuid4())))) == (
        404,
        "SubscriptionNotFound",
    )
    assert _code(emulator.request("GET", path.replace(subscription, "mine"))) == (400, "InvalidSubscriptionId")
    assert _code(emulator.request("GET", path.replace("/emulator/", "/other/"))) == (404, "ResourceGroupNotFound")
    missing = emulator.request("GET", path.removesuffix(workspace) + "nowhere")
    assert _code(missing) == (404, "ResourceNotFound")
    assert "Microsoft.MachineLearningServices/workspaces/nowhere" in missing.json()["error"]["message"]

    reader = emulator.token(role=1)
    assert emulator.request("GET", f"{path}/computes", token=reader).status_code == 200
    refused = emulator.request("PUT", f"{path}/computes/mine", {"properties": {}}, token=reader)
    assert _code(refused) == (403, "AuthorizationFailed")
    assert "Microsoft.MachineLearningServices/workspaces/computes/write" in refused.json()["error"]["message"]
    tracking = f"/mlflow/v2.0{path}/api/2.0/mlflow"
    assert (
        emulator.request("POST", f"{tracking}/runs/search", {"experiment_ids": ["0"]}, token=reader).status_code == 200
    )
    written = emulator.request("POST", f"{tracking}/experiments/create", {"name": "mine"}, token=reader)
    assert (written.status_code, written.json()["error_code"]) == (403, "PERMISSION_DENIED")


def test_an_owner_alone_assigns_roles(emulator: Running) -> None:
    subscription, group, _ = emulator.scope
    place = f"/subscriptions/{subscription}/resourceGroups/{group}/providers"
    registry = f"{place}/Microsoft.ContainerRegistry/registries/emulatorregistry"
    role = "Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
    body = {
        "properties": {
            "roleDefinitionId": f"/subscriptions/{subscription}/providers/{role}",
            "principalId": emulator.settings["principals"][0]["object_id"],
        }
    }
    places = [f"{registry}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}" for _ in range(2)]
    tokens = {}
    for name in ("reader", "contributor", "owner"):
        env = json.loads(emulator.run("env", "--role", name, "-o", "json"))
        asked = {"resource": "https://management.azure.com", "client_id": env["AZURE_CLIENT_ID"]}
        header = {"X-IDENTITY-HEADER": env["IDENTITY_HEADER"]}
        answer = requests.get(
            env["IDENTITY_ENDPOINT"], params=asked, headers=header, verify=env["SSL_CERT_FILE"], timeout=60
        )
        tokens[name] = answer.json()["access_token"]

    def put(place: str, who: str) -> requests.Response:
        return emulator.request("PUT", place, body, token=tokens[who], api_version="2022-04-01")

    for who in ("reader", "contributor"):
        refused = put(places[0], who)
        assert _code(refused) == (403, "AuthorizationFailed")
        assert "Microsoft.Authorization/roleAssignments/write" in refused.json()["error"]["message"]
    assert [put(places[0], "owner").status_code for _ in range(2)] == [201, 200]
    assert _code(put(places[1], "owner")) == (409, "RoleAssignmentExists")
    body["properties"]["principalId"] = emulator.settings["principals"][1]["object_id"]
    assert _code(put(places[0], "owner")) == (400, "RoleAssignmentUpdateNotPermitted")
    body["properties"]["principalId"] = str(uuid.uuid4())
    assert _code(put(places[1], "owner")) == (400, "PrincipalNotFound")
    gone = [
        emulator.request("DELETE", places[0], token=tokens["owner"], api_version="2022-04-01").status_code
        for _ in range(2)
    ]
    assert gone == [200, 204]


def test_an_emulator_from_before_there_was_an_owner_gets_one() -> None:
    known = settings.fresh()
    old = replace(known, principals=known.principals[:2])
    made = settings.complete(old, 1, 2)
    assert (made.port, made.storage_port, made.principals[:2]) == (1, 2, old.principals)
    assert [item.role for item in made.principals] == ["contributor", "reader", "owner"]
    assert settings.complete(made, 1, 2) == made


def test_paths_ignore_case(emulator: Running) -> None:
    path = emulator.workspace_path
    for written in (path.replace("resourceGroups", "resourcegroups"), path.upper()):
        assert emulator.request("GET", written).json()["id"] == path


def test_secrets_are_for_the_owner_s_eyes(emulator: Running) -> None:
    folder = emulator.home / "emulator"
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("settings.json", "token-key.pem", "front-key.pem", "resources.db"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    secrets = [emulator.settings["storage_key"], *(item["secret"] for item in emulator.settings["principals"])]
    assert not any(secret in listed for secret in secrets)
