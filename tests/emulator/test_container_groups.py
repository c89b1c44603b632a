"""Container groups with the unmodified azure-mgmt-containerinstance: the emulator runs them as processes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.containerinstance import ContainerInstanceManagementClient
from azure.mgmt.containerinstance import models as aci
from emulated import Running

from amlflow.config import Config
from amlflow.workspaces import resolve
from amlflow.workspaces.abilities import HasOnlineEndpoints
from amlflow.workspaces.azure.registries import AzureRegistry

_DEADLINE_S = 60
MAIN = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
print("says", os.environ.get("SAYS"), len(os.environ.get("SECRET", "")), flush=True)
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
