"""Container groups with the unmodified azure-mgmt-containerinstance: the emulator runs them as processes."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.containerinstance import ContainerInstanceManagementClient
from azure.mgmt.containerinstance import models as aci
from emulated import Running
from servers import http_server, send

from amlflow.config import Config
from amlflow.serving import shipping
from amlflow.serving.collector import Collector, Rules
from amlflow.serving.payload import Payload
from amlflow.workspaces import resolve
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.azure.registries import AzureRegistry

_DEADLINE_S = 60
MAIN = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
print("says", os.environ.get("SAYS"), len(os.environ.get("SECRET", "")), flush=True)
print("metadata", os.environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST"), flush=True)
if os.environ.get("SAYS") == "nothing":
    sys.exit(3)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.path.exists(os.environ.get("SICK", "")) else 200)
        self.end_headers()
        self.wfile.write(os.environ["SAYS"].encode())

HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def client(pointed: Running) -> ContainerInstanceManagementClient:
    from azure.identity import DefaultAzureCredential

    subscription, _, _ = pointed.scope
    scopes = [f"{pointed.url}/.default"]
    return ContainerInstanceManagementClient(
        DefaultAzureCredential(), subscription, base_url=pointed.url, credential_scopes=scopes
    )


@pytest.fixture
def registry(pointed: Running) -> AzureRegistry:
    workspace = resolve.open_workspace(resolve.resolve("/".join(pointed.scope), Config(), {}))
    assert isinstance(workspace, HasOnlineEndpoints)
    return AzureRegistry(workspace.service)


@pytest.fixture
def echo(registry: AzureRegistry, tmp_path: Path) -> str:
    """The reference of an image whose program says what SAYS is, fails where that is nothing, and is sick while SICK exists."""
    context = tmp_path / "context"
    (context / "app").mkdir(parents=True)
    (context / "app" / "main.py").write_text(MAIN)
    command = 'CMD ["python3", "/app/main.py", "--port", "8080"]'
    (context / "Dockerfile").write_text(f"FROM base\nCOPY app /app\n{command}\n")
    registry.build(context, "echo", "1", lambda line: None)
    return f"{registry.get().server}/echo:1"


@pytest.fixture
def name(client: ContainerInstanceManagementClient, pointed: Running) -> Iterator[str]:
    made = f"echo-{uuid.uuid4().hex[:8]}"
    yield made
    client.container_groups.begin_delete(pointed.scope[1], made).result()


def group(registry: AzureRegistry, image: str, label: str, says: str, **more: Any) -> aci.ContainerGroup:
    token = registry.make_token("echo-token", "echo")
    variables = [
        aci.EnvironmentVariable(name="SAYS", value=says),
        aci.EnvironmentVariable(name="SECRET", secure_value="a-secret-of-30-characters-long"),
        *(aci.EnvironmentVariable(name=key, value=value) for key, value in more.pop("variables", {}).items()),
    ]
    size = aci.ResourceRequirements(requests=aci.ResourceRequests(cpu=more.pop("cpu", 0.5), memory_in_gb=0.5))
    app = aci.Container(
        name="app",
        image=image,
        ports=[aci.ContainerPort(port=8080)],
        environment_variables=variables,
        resources=size,
        liveness_probe=more.pop("liveness", None),
    )
    front = aci.Container(
        name="front",
        image="docker.io/library/caddy:2.10.2",
        command=["caddy", "reverse-proxy", "--from", f"{label}.local.localhost", "--to", "localhost:8080"],
        resources=aci.ResourceRequirements(requests=aci.ResourceRequests(cpu=0.1, memory_in_gb=0.1)),
    )
    return aci.ContainerGroup(
        location="local",
        containers=[app, front],
        os_type="Linux",
        ip_address=aci.IpAddress(
            ports=[aci.Port(port=443)],
            type="Public",
            dns_name_label=label,
            auto_generated_domain_name_label_scope="Unsecure",
        ),
        image_registry_credentials=[
            aci.ImageRegistryCredential(
                server=image.partition("/")[0], username=token.username, password=more.pop("password", token.password)
            )
        ],
        **more,
    )


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_group_runs_answers_and_shows_no_secret(
    client: ContainerInstanceManagementClient, registry: AzureRegistry, pointed: Running, echo: str, name: str
) -> None:
    scope = pointed.scope[1]
    made = client.container_groups.begin_create_or_update(scope, name, group(registry, echo, name, "hello")).result()
    assert made.provisioning_state == "Succeeded"
    assert made.ip_address.fqdn == f"{name}.local.localhost:{pointed.settings['port']}"
    shown = client.container_groups.get(scope, name)
    secret = next(item for item in shown.containers[0].environment_variables if item.name == "SECRET")
    assert (secret.value, secret.secure_value) == (None, None)
    assert shown.image_registry_credentials[0].password is None

    def answered() -> str:
        at = f"{pointed.url}/containers/{name}.local.localhost/any"
        return pointed.request("GET", at, token="").text

    until(lambda: answered() == "hello")
    view = client.container_groups.get(scope, name).containers[0].instance_view
    assert (view.current_state.state, view.restart_count) == ("Running", 0)
    assert [event.name for event in view.events] == ["Pulling", "Pulled", "Started"]
    assert "says hello 30" in client.containers.list_logs(scope, name, "app", tail=5).content
    client.container_groups.begin_create_or_update(scope, name, group(registry, echo, name, "again")).result()
    until(lambda: answered() == "again")
    client.container_groups.stop(scope, name)
    assert client.container_groups.get(scope, name).instance_view.state == "Stopped"
    assert answered() == ""
    client.container_groups.begin_start(scope, name).result()
    until(lambda: answered() == "again")
    assert name in [item.name for item in client.container_groups.list_by_resource_group(scope)]
    used = {item.name.value: item for item in client.location.list_usage("local")}
    assert used["ContainerGroups"].current_value >= 1
    with pytest.raises(ResourceNotFoundError):
        client.containers.list_logs(scope, name, "none")
    assert "a-secret-of-30" not in pointed.record.read_text()


def test_what_ends_is_started_again_and_says_how_it_ended(
    client: ContainerInstanceManagementClient,
    registry: AzureRegistry,
    pointed: Running,
    echo: str,
    name: str,
    tmp_path: Path,
) -> None:
    scope = pointed.scope[1]
    client.container_groups.begin_create_or_update(scope, name, group(registry, echo, name, "nothing")).result()

    def view() -> Any:
        return client.container_groups.get(scope, name).containers[0].instance_view

    until(lambda: view().restart_count >= 2)
    assert view().previous_state.exit_code == 3
    client.container_groups.begin_delete(scope, name).result()
    sick = tmp_path / "sick"
    probe = aci.ContainerProbe(
        http_get=aci.ContainerHttpGet(port=8080, path="/", scheme="http"), period_seconds=1, failure_threshold=3
    )
    wanted = group(registry, echo, name, "well", variables={"SICK": str(sick)}, liveness=probe)
    client.container_groups.begin_create_or_update(scope, name, wanted).result()
    sick.touch()
    # On a busy machine the probe may come before the program listens, and end it for that at first.
    for words in ("HTTP probe failed with statuscode: 500", "failed liveness probe"):
        until(lambda words=words: any(words in event.message for event in view().events))
    until(lambda: view().restart_count >= 1)
    sick.unlink()
    until(lambda: view().current_state.state == "Running")


def test_refusals_are_azure_s(
    client: ContainerInstanceManagementClient, registry: AzureRegistry, pointed: Running, echo: str, name: str
) -> None:
    scope = pointed.scope[1]
    begin = client.container_groups.begin_create_or_update
    for wanted, code in (
        (group(registry, echo, "abc", "x"), "InvalidDnsNameLabel"),
        (group(registry, echo, name, "x", password="wrong"), "InaccessibleImage"),
        (group(registry, echo.replace("echo:1", "none:1"), name, "x"), "InaccessibleImage"),
        (group(registry, echo, name, "x", cpu=64), "ContainerGroupQuotaReached"),
    ):
        with pytest.raises(HttpResponseError) as refused:
            begin(scope, name, wanted)
        assert refused.value.error.code == code
    begin(scope, name, group(registry, echo, name, "x")).result()
    with pytest.raises(HttpResponseError, match="Try using a different label"):
        begin(scope, f"{name}-2", group(registry, echo, name, "x"))
    with pytest.raises(HttpResponseError, match="you must delete it first"):
        begin(scope, name, group(registry, echo, name, "x", cpu=1))


@pytest.fixture
def writer(
    client: ContainerInstanceManagementClient,
    registry: AzureRegistry,
    pointed: Running,
    echo: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, Any]]:
    """The identity of a group, without any role; this process reaches the metadata service as a container of it does."""
    subscription, scope, _ = pointed.scope
    root = f"/subscriptions/{subscription}/resourceGroups/{scope}/providers"
    path = f"{root}/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    identity = pointed.request("PUT", path, {"location": "local"}, api_version="2023-01-31").json()
    given = aci.ContainerGroupIdentity(type="UserAssigned", user_assigned_identities={identity["id"]: {}})
    wanted = group(registry, echo, name, "hello", identity=given)
    client.container_groups.begin_create_or_update(scope, name, wanted).result()

    def said() -> str:
        return next(iter(client.containers.list_logs(scope, name, "app").content.partition("metadata ")[2].split()), "")

    until(lambda: said() != "")
    monkeypatch.delenv("IDENTITY_ENDPOINT")
    monkeypatch.setenv(shipping.METADATA_VARIABLE, said())
    yield identity
    pointed.request("DELETE", path, api_version="2023-01-31")


def container_of(azure: Running) -> tuple[str, str]:
    """The address of the container of the workspace's own datastore, and its ARM id."""
    record = azure.request("GET", f"{azure.workspace_path}/datastores/workspaceblobstore").json()["properties"]
    url = f"https://127.0.0.1:{azure.settings['storage_port']}/{record['accountName']}/{record['containerName']}"
    root = azure.workspace_path.partition("/Microsoft.MachineLearningServices")[0]
    account = f"{root}/Microsoft.Storage/storageAccounts/{record['accountName']}"
    return url, f"{account}/blobServices/default/containers/{record['containerName']}"


def let_write(azure: Running, identity: dict[str, Any], method: str = "PUT") -> None:
    """Storage Blob Data Contributor on the container."""
    _, container = container_of(azure)
    role = "/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/ba92f5b4-2d11-453d-a403-e96b0029c9fe"
    body = {"properties": {"roleDefinitionId": role, "principalId": identity["properties"]["principalId"]}}
    mark = uuid.uuid5(uuid.NAMESPACE_URL, identity["id"])
    path = f"{container}/providers/Microsoft.Authorization/roleAssignments/{mark}"
    azure.request(method, path, body, token=azure.token(role=2), api_version="2022-04-01").raise_for_status()


def test_azures_own_clients_write_blobs_by_a_groups_identity_with_its_role_alone(
    pointed: Running, writer: dict[str, Any], name: str
) -> None:
    from azure.identity import ManagedIdentityCredential
    from azure.storage.blob import ContainerClient

    url, _ = container_of(pointed)
    credential = ManagedIdentityCredential(client_id=writer["properties"]["clientId"])
    container = ContainerClient.from_container_url(url, credential, connection_verify=pointed.env["SSL_CERT_FILE"])

    def code() -> str:
        try:
            container.upload_blob(name, b"written", overwrite=True)
        except HttpResponseError as error:
            return str(error.error_code)
        return ""

    assert code() == "AuthorizationPermissionMismatch"
    let_write(pointed, writer)
    until(lambda: code() == "")
    assert container.download_blob(name).readall() == b"written"
    let_write(pointed, writer, "DELETE")
    assert code() == "AuthorizationPermissionMismatch"
    with pytest.raises(ClientAuthenticationError, match="Identity not found"):
        ManagedIdentityCredential(client_id=str(uuid.uuid4())).get_token("https://storage.azure.com/.default")
    forged = {"Authorization": f"Bearer {credential.get_token('https://storage.azure.com/.default').token[:-4]}AAAA"}
    connection = http.client.HTTPSConnection(
        urlsplit(url).netloc, context=ssl.create_default_context(cafile=pointed.env["SSL_CERT_FILE"])
    )
    for path, status in ((f"{urlsplit(url).path}/%zz", 400), (f"{urlsplit(url).path}/{name}", 401)):
        connection.request("PUT", path, b"", {**forged, "x-ms-blob-type": "BlockBlob"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status


def test_what_is_collected_arrives_once_however_the_storage_answers(
    pointed: Running,
    writer: dict[str, Any],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Before the storage stands what loses answers, refuses and is away; then somebody deletes a blob."""
    monkeypatch.setattr(shipping, "_PAUSE_S", 0.05)
    monkeypatch.setattr(shipping, "_LONGEST_PAUSE_S", 0.2)
    let_write(pointed, writer)
    url, _ = container_of(pointed)
    trusted = ssl.create_default_context(cafile=pointed.env["SSL_CERT_FILE"])
    lock, seen = threading.Lock(), []

    def passed(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with lock:
            seen.append(request.command)
            turn = len(seen) % 4
        if turn == 1:
            send(request, 503, b"busy", "text/plain", Retry_After="0.1")
            return
        connection = http.client.HTTPSConnection(urlsplit(url).netloc, context=trusted, timeout=30)
        kept = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        connection.request(request.command, urlsplit(url).path + request.path, body, kept)
        reply = connection.getresponse()
        content = reply.read()
        if turn == 2:
            request.close_connection = True
            return
        request.send_response(reply.status)
        request.send_header("Content-Length", reply.headers.get("Content-Length") or str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    with http_server(passed) as front:
        to = shipping.Destination(front, f"modelDataCollector/{name}/current", writer["properties"]["clientId"])
        blobs = shipping.Blobs(to)
        collector = Collector(Rules(str(tmp_path), hashed=["x"]), None, blobs.key)
        shipper = shipping.Shipper(tmp_path, blobs)

        def arrive(first: int, last: int) -> None:
            sent = [f"request-{turn}" for turn in range(first, last)]
            for mark in sent:
                collector.take([(b"x-request-id", mark.encode())], Payload(["x"], [[7]]), [1], 10)
                time.sleep(0.1)
            until(lambda: sent[-1] in "".join(lines(pointed, name)))
            found = [json.loads(line) for line in lines(pointed, name)]
            assert [line["correlationid"] for line in found] == sent
            assert len({line["data"][0]["x"] for line in found}) == 1

        def is_acknowledged() -> bool:
            files = [(file.relative_to(tmp_path).as_posix(), file.stat().st_size) for file in tmp_path.rglob("*.jsonl")]
            return all(shipper._sent.get(name, (0, 0))[0] == size for name, size in files)

        arrive(10, 40)
        # What is under way while its blob is deleted may have been in it, or not.
        until(is_acknowledged)
        blobs_of(pointed).delete_blobs(*names(pointed, name))
        arrive(40, 55)
        collector.close()
        shipper.close()
        assert "waits to be sent" in capfd.readouterr().err


def lines(azure: Running, name: str) -> list[str]:
    """Of the inputs that the storage has, read with the account's key."""
    container = blobs_of(azure)
    return [
        line
        for blob in names(azure, name)
        if "model_inputs" in blob
        for line in container.download_blob(blob).readall().decode().splitlines()
    ]


def names(azure: Running, name: str) -> list[str]:
    found = blobs_of(azure).list_blobs(name_starts_with=f"modelDataCollector/{name}/current/")
    return [blob.name for blob in found if blob.name.endswith(".jsonl")]


def blobs_of(azure: Running) -> Any:
    from azure.storage.blob import ContainerClient

    url, _ = container_of(azure)
    key = {"account_name": url.split("/")[-2], "account_key": azure.settings["storage_key"]}
    return ContainerClient.from_container_url(url, key, connection_verify=azure.env["SSL_CERT_FILE"])
