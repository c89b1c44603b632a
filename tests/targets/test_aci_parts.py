"""Of the aci target what needs no service: names, digests, the body of a group, and what is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from amlflow.errors import UsageError
from amlflow.services.deploy_options import Asked, AskedContainer, AskedMachines, AskedOnline, AskedRollout, options
from amlflow.targets.aci_group import Pull, Wanted, beside, check, default_label, revived
from amlflow.targets.base import Collecting, DeployOptions

SUBNET = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/n"
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/wine-pull"


def asked(name: str = "wine", env: tuple[str, ...] = (), **container: Any) -> DeployOptions:
    machines = AskedMachines(cpu=container.pop("cpu", None), memory_gb=container.pop("memory_gb", None))
    return options("aci", Asked(name, env), AskedOnline(machines=machines), container=AskedContainer(**container))


def wanted(name: str = "wine", **container: Any) -> Wanted:
    made = asked(name, ("MODE=one",), **container)
    label = "" if made.container.subnet else "wine-0a1b"
    return Wanted(name, "r.azurecr.io/amlflow-wine:t1", "wine:1", "westeurope", label, "azurecontainer.io", "ws", made)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: asked("Wine"), "cannot name a container group"),
        (lambda: asked("wine--1"), "cannot name a container group"),
        (lambda: asked("w" * 64), "cannot name a container group"),
        (lambda: asked(dns_label="abc"), "no DNS label"),
        (lambda: asked(dns_label="9wine"), "no DNS label"),
        (lambda: asked(dns_label="wine-"), "no DNS label"),
        (lambda: asked(subnet="/subscriptions/s"), "no ARM id of a subnet"),
        (lambda: asked(subnet=SUBNET, dns_label="wine-1"), "--dns-label means nothing with --subnet"),
        (lambda: asked(location="west_europe"), "no region"),
        (lambda: asked(https_image="caddy; rm -rf /"), "no image"),
        (lambda: asked(cpu=40.0), "none that Azure has"),
        (lambda: asked(memory_gb=1.55), "no multiple of 0.1 GB"),
        (lambda: asked(tags=["amlflow.model=x"]), "is no tag"),
        (lambda: asked(tags=["a/b=x"]), "is no tag"),
        (lambda: asked(tags=["alone"]), "is no tag"),
        (lambda: asked(env=("AMLFLOW_ENDPOINT_KEY=mine",)), "no variable that the container may be given"),
        (lambda: asked(env=("A-B=1",)), "no variable that the container may be given"),
    ],
)
def test_what_azure_would_refuse_is_refused_here(make: Callable[[], DeployOptions], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        check(make())
    assert refused.value.exit_code == 2
    assert refused.value.mend


def test_what_azure_takes_passes() -> None:
    for name in ("a", "wine-3", "w" * 63):
        check(asked(name))
    check(asked(https_image="myregistry.azurecr.io/caddy:2", cpu=0.5, memory_gb=1.5, tags=["team=ml", "empty="]))
    check(asked(subnet=SUBNET, insecure=True))
    assert asked(location="West Europe").container.location == "westeurope"
    assert asked().timeout_s == 900
    with pytest.raises(UsageError, match="--cpu means nothing to --target managed"):
        options("managed", Asked(), AskedOnline(machines=AskedMachines(cpu=1)))
    with pytest.raises(UsageError, match=r"--collect means nothing to --target batch: what .* files"):
        options("batch", Asked(collect=Collecting()))
    with pytest.raises(UsageError, match="--canary means nothing to --target aci"):
        options("aci", Asked(), AskedOnline(AskedRollout(canary="10,100")))


def test_names_beside_the_group_are_its_own() -> None:
    one, other = default_label("wine", "/subscriptions/a"), default_label("wine", "/subscriptions/b")
    assert one != other
    assert one == default_label("wine", "/SUBSCRIPTIONS/A")
    for name in ("wine", "9-lives", "w" * 63):
        check(asked(name, dns_label=default_label(name, "/subscriptions/a")))
    assert beside("wine") == "wine-pull"
    long = [beside("w" * 62 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name) <= 50 for name in long)


def test_the_key_is_in_one_place_alone() -> None:
    body = wanted().body("the-secret-key", Pull("r.azurecr.io", IDENTITY), "wine-0a1b.westeurope.azurecontainer.io")
    text = json.dumps(body)
    assert text.count("the-secret-key") == 1
    app, https = body["properties"]["containers"]
    assert {"name": "AMLFLOW_ENDPOINT_KEY", "secureValue": "the-secret-key"} in app["properties"][
        "environmentVariables"
    ]
    assert {"name": "MODE", "value": "one"} in app["properties"]["environmentVariables"]
    assert app["properties"]["livenessProbe"]["httpGet"]["path"] == "/health"
    command = "caddy reverse-proxy --from wine-0a1b.westeurope.azurecontainer.io --to localhost:5001"
    assert " ".join(https["properties"]["command"]) == command
    assert [port["port"] for port in body["properties"]["ipAddress"]["ports"]] == [80, 443]
    assert body["properties"]["imageRegistryCredentials"] == [{"server": "r.azurecr.io", "identity": IDENTITY}]
    assert body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}
    assert body["tags"]["amlflow.model"] == "wine:1"


def test_an_open_group_has_no_key_and_a_private_one_no_name() -> None:
    text = json.dumps(wanted(insecure=True).body("", Pull("r.azurecr.io", username="t", password="p"), "h"))
    assert "AMLFLOW_ENDPOINT_KEY" not in text
    assert '{"name": "AMLFLOW_ENDPOINT_OPEN", "value": "yes"}' in text
    private = wanted(subnet=SUBNET).body("k", Pull("r.azurecr.io", IDENTITY), "")["properties"]
    assert private["ipAddress"] == {"type": "Private", "ports": [{"port": 5001, "protocol": "TCP"}]}
    assert private["subnetIds"] == [{"id": SUBNET}]
    assert [item["name"] for item in private["containers"]] == ["model"]


def test_digests_tell_what_differs_and_what_azure_cannot_change() -> None:
    plain = wanted()
    assert plain.content() == wanted().content()
    for other in (wanted(tags=["a=b"]), wanted(insecure=True)):
        assert other.content() != plain.content()
        assert other.fixed() == plain.fixed()
    for other in (wanted(cpu=2), wanted(memory_gb=4), wanted(subnet=SUBNET), wanted(https_image="r.io/caddy:3")):
        assert other.fixed() != plain.fixed()


def test_a_record_is_put_again_with_its_secrets() -> None:
    pull = Pull("r.azurecr.io", IDENTITY)
    body = wanted().body("first-key", pull, "wine-0a1b.westeurope.azurecontainer.io")
    record = json.loads(json.dumps(body))
    record.update(id="…", name="wine")
    record["properties"].update(provisioningState="Succeeded", instanceView={"state": "Running"})
    record["properties"]["ipAddress"].update(ip="20.0.0.1", fqdn="wine-0a1b.westeurope.azurecontainer.io")
    for container in record["properties"]["containers"]:
        container["properties"]["instanceView"] = {"restartCount": 0}
        for variable in container["properties"].get("environmentVariables", []):
            variable.pop("secureValue", None)
    again = wanted().body("second-key", pull, "wine-0a1b.westeurope.azurecontainer.io")
    assert revived(record, "second-key", pull) == again
