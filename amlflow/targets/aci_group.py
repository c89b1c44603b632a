"""What a container group of the aci target is: the scoring app, and Caddy before it, which has the certificate.

The certificate's name must be known before the group is there: Azure makes it of the DNS label and the region. Certificates are
in a volume of the group, so that a container that is started again asks for none.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amlflow.errors import UsageError
from amlflow.serving.app import COLLECT_VARIABLE, KEY_VARIABLE, OPEN_VARIABLE
from amlflow.targets.base import CURRENT, ContainerOptions, DeployOptions
from amlflow.targets.image import PORT
from amlflow.workspaces.azure import collected
from amlflow.workspaces.azure.collected import Storage

APP, HTTPS = "model", "https"
# Docker's official image: Microsoft's registry has none of Caddy.
HTTPS_IMAGE = "docker.io/library/caddy:2.10.2"
MODEL, IMAGE, WORKSPACE, CONTENT, OPEN, COLLECT = (
    f"amlflow.{name}" for name in ("model", "image", "workspace", "content", "open", "collect")
)
_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9]){0,62}")
_LABEL = re.compile(r"[a-z][a-z0-9-]{3,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9]{2,40}")
_SUBNET = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+", re.I
)
_IMAGE = re.compile(r"[a-z0-9][\w.-]*(?::\d+)?(?:/[\w.-]+)+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What may wait on the group's own disk while the storage does not answer.
_WAITING_BYTES = 256 * 1024**2
# The sidecar's share; both are counted with the model's.
_HTTPS_CPU, _HTTPS_GB = 0.2, 0.2
# A model may take minutes to load, and no probe may end it before.
_PROBE = {"path": "/health", "port": PORT, "scheme": "http"}
_LIVENESS = {
    "httpGet": _PROBE,
    "initialDelaySeconds": 60,
    "periodSeconds": 10,
    "failureThreshold": 12,
    "timeoutSeconds": 5,
}
_READINESS = {
    "httpGet": _PROBE,
    "initialDelaySeconds": 2,
    "periodSeconds": 5,
    "failureThreshold": 3,
    "timeoutSeconds": 5,
}
# What Azure changes of no group that is there.
_FIXED = ("cpu", "memory", "location", "label", "subnet", "https")


@dataclass(frozen=True, slots=True)
class Pull:
    """How the group gets its image from the registry `server`: by the identity with that ARM id, or by a token."""

    server: str
    identity: str = ""
    username: str = ""
    password: str = ""

    def credential(self) -> dict[str, str]:
        if self.identity:
            return {"server": self.server, "identity": self.identity}
        return {"server": self.server, "username": self.username, "password": self.password}


@dataclass(frozen=True, slots=True)
class Collector:
    """Where a group writes what it collects, and the ARM id and the client id of the identity by which it does."""

    storage: Storage
    identity: str
    client: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A group to have: its name, the image's reference, the model's name, the region, the DNS label (empty for a private group)
    and the domain that follows it."""

    name: str
    image: str
    model: str
    location: str
    label: str
    domain: str
    workspace: str
    options: DeployOptions

    @property
    def container(self) -> ContainerOptions:
        return self.options.container

    @property
    def host(self) -> str:
        return f"{self.label}.{self.location}.{self.domain}" if self.label else ""

    @property
    def cores(self) -> float:
        return self.container.cpu + (_HTTPS_CPU if self.label else 0.0)

    def settings(self) -> dict[str, Any]:
        """All that makes one group differ from another, but for secrets."""
        own = self.container
        found = {
            "image": self.image,
            "variables": dict(self.options.variables),
            "tags": dict(own.tags),
            "open": own.insecure,
            "cpu": own.cpu,
            "memory": own.memory_gb,
            "location": self.location,
            "label": self.label,
            "subnet": own.subnet,
            "https": (own.https_image or HTTPS_IMAGE) if self.label else "",
        }
        return {**found, "collect": self._rules()} if self.options.collect else found

    def fixed(self) -> str:
        return _digest({name: self.settings()[name] for name in _FIXED})

    def content(self) -> str:
        """A digest of the settings; the part before the dot is of those that Azure cannot change."""
        return f"{self.fixed()}.{_digest(self.settings())}"

    def body(self, key: str, pull: Pull, host: str, collector: Collector | None = None) -> dict[str, Any]:
        """The group as it is put; `host` the name that its certificate is for, `key` empty for a group that asks for none."""
        own = self.container
        secret = {"name": OPEN_VARIABLE, "value": "yes"} if own.insecure else {"name": KEY_VARIABLE, "secureValue": key}
        variables = [{"name": name, "value": value} for name, value in self.options.variables.items()]
        if collector is not None:
            variables.append({"name": COLLECT_VARIABLE, "value": self._collecting(collector)})
        app = {
            "image": self.image,
            "ports": [{"port": PORT, "protocol": "TCP"}],
            "environmentVariables": [secret, *variables],
            "resources": {"requests": {"cpu": own.cpu, "memoryInGB": own.memory_gb}},
            "livenessProbe": _LIVENESS,
            "readinessProbe": _READINESS,
        }
        containers = [{"name": APP, "properties": app}]
        properties: dict[str, Any] = {
            "osType": "Linux",
            "sku": "Standard",
            "restartPolicy": "Always",
            "containers": containers,
            "imageRegistryCredentials": [pull.credential()],
        }
        if self.label:
            containers.append({"name": HTTPS, "properties": _https(own.https_image or HTTPS_IMAGE, host)})
            properties["volumes"] = [{"name": "certificates", "emptyDir": {}}]
            properties["ipAddress"] = {
                "type": "Public",
                "ports": [{"port": port, "protocol": "TCP"} for port in (80, 443)],
                "dnsNameLabel": self.label,
                "autoGeneratedDomainNameLabelScope": "Unsecure",
            }
        else:
            properties["ipAddress"] = {"type": "Private", "ports": [{"port": PORT, "protocol": "TCP"}]}
            properties["subnetIds"] = [{"id": own.subnet}]
        tags = {
            **own.tags,
            MODEL: self.model[:256],
            IMAGE: self.image.rpartition(":")[2],
            WORKSPACE: self.workspace,
            CONTENT: self.content(),
            OPEN: "yes" if own.insecure else "no",
        }
        if collector is not None:
            tags[COLLECT] = "yes"
        body = {"location": self.location, "tags": tags, "properties": properties}
        return {**body, **_identities([pull.identity, collector.identity if collector else ""])}

    def _collecting(self, collector: Collector) -> str:
        """As the scoring app takes it."""
        destination = {
            "container": collector.storage.url,
            "prefix": collected.prefix(self.name, CURRENT),
            "client_id": collector.client,
            "resource": collector.storage.resource,
        }
        return json.dumps({"rules": self._rules(), "destination": destination}, sort_keys=True)

    def _rules(self) -> dict[str, Any]:
        collect = self.options.collect
        assert collect is not None
        return {
            "source": f"amlflow:{self.name}/{self.model}",
            "rate": collect.rate,
            "dropped": [*collect.dropped],
            "hashed": [*collect.hashed],
            "limit_bytes": _WAITING_BYTES,
        }


def default_label(name: str, scope: str) -> str:
    """A DNS label for the endpoint that no other workspace makes; `scope` is the workspace's ARM id."""
    own = hashlib.sha256(f"{scope.lower()} {name}".encode()).hexdigest()[:8]
    lead = name if name[0].isalpha() else f"m-{name}"
    return f"{lead[:50].rstrip('-')}-{own}"


def beside(name: str) -> str:
    """The name of what pulls the endpoint's image: an identity, or a token, whose name has at most 50 characters."""
    if len(name) <= 45:
        return f"{name}-pull"
    return f"{name[:36].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-pull"


def check(options: DeployOptions) -> None:
    """Raises `UsageError` for what Azure would refuse."""
    own = options.container
    if not _NAME.fullmatch(options.name):
        raise UsageError(
            f"{options.name!r} cannot name a container group: up to 63 lower-case letters, digits and single '-' between them.",
            "Choose one with --name.",
        )
    if own.dns_label and not _LABEL.fullmatch(own.dns_label):
        raise UsageError(
            f"--dns-label {own.dns_label!r} is no DNS label: 5 to 63 lower-case letters, digits and '-', beginning with a letter "
            "and not ending with '-'.",
            "Choose another, or leave it out for one made of the name.",
        )
    if own.subnet and not _SUBNET.fullmatch(own.subnet):
        raise UsageError(
            f"--subnet {own.subnet!r} is no ARM id of a subnet.", "`az network vnet subnet show` prints it as id."
        )
    if own.subnet and (own.dns_label or own.https_image):
        extra = "--dns-label" if own.dns_label else "--https-image"
        raise UsageError(
            f"{extra} means nothing with --subnet: such a group has no public name.", "Leave one of the two out."
        )
    if own.location and not _REGION.fullmatch(own.location):
        raise UsageError(
            f"--location {own.location!r} is no region.", "Write it as `az account list-locations` does: westeurope."
        )
    if own.https_image and not _IMAGE.fullmatch(own.https_image):
        raise UsageError(
            f"--https-image {own.https_image!r} is no image.", f"Write REGISTRY/NAME:TAG, such as {HTTPS_IMAGE}."
        )
    if not 0.1 <= own.cpu <= 32 or not 0.1 <= own.memory_gb <= 256:
        raise UsageError(
            f"A container of {own.cpu:g} cores and {own.memory_gb:g} GB is none that Azure has.",
            "Most regions give --cpu 0.1 to 4 and --memory 0.1 to 16.",
        )
    if abs(own.memory_gb * 10 - round(own.memory_gb * 10)) > 1e-9:
        raise UsageError(f"--memory {own.memory_gb:g} is no multiple of 0.1 GB.", "Azure counts memory in tenths.")
    for name, value in own.tags.items():
        if (
            name.startswith("amlflow.")
            or not name
            or len(name) > 512
            or len(value) > 256
            or re.search(r"[<>%&\\?/]", name)
        ):
            raise UsageError(
                f"--tag {name}={value} is no tag.",
                "A name has none of <>%&\\?/ and does not begin with «amlflow.»; a value has up to 256 characters.",
            )
    for name in options.variables:
        if not _VARIABLE.fullmatch(name) or name in (KEY_VARIABLE, OPEN_VARIABLE, COLLECT_VARIABLE):
            raise UsageError(f"--env {name} is no variable that the container may be given.", "Choose another name.")


def revived(record: Mapping[str, Any], key: str, pull: Pull) -> dict[str, Any]:
    """The body that puts a group as it is, from the service's record of it, which has no secrets."""
    given = copy.deepcopy(dict(record.get("properties") or {}))
    for name in ("provisioningState", "instanceView", "isCreatedFromStandbyPool"):
        given.pop(name, None)
    for container in given.get("containers") or []:
        properties = container["properties"]
        properties.pop("instanceView", None)
        for variable in properties.get("environmentVariables") or []:
            if variable["name"] == KEY_VARIABLE:
                variable.pop("value", None)
                variable["secureValue"] = key
    for name in ("ip", "fqdn"):
        (given.get("ipAddress") or {}).pop(name, None)
    given["imageRegistryCredentials"] = [pull.credential()]
    body = {"location": record.get("location"), "tags": dict(record.get("tags") or {}), "properties": given}
    return {
        **body,
        **_identities([pull.identity, *((record.get("identity") or {}).get("userAssignedIdentities") or {})]),
    }


def _https(image: str, host: str) -> dict[str, Any]:
    return {
        "image": image,
        "command": ["caddy", "reverse-proxy", "--from", host, "--to", f"localhost:{PORT}"],
        "ports": [{"port": port, "protocol": "TCP"} for port in (80, 443)],
        "resources": {"requests": {"cpu": _HTTPS_CPU, "memoryInGB": _HTTPS_GB}},
        "volumeMounts": [{"name": "certificates", "mountPath": "/data"}],
    }


def _identities(ids: Sequence[str]) -> dict[str, Any]:
    # Azure writes the same id in other cases than it was given.
    found = {id.lower(): id for id in ids if id}
    if not found:
        return {}
    return {"identity": {"type": "UserAssigned", "userAssignedIdentities": {id: {} for id in found.values()}}}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
