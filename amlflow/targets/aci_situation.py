"""What a deploy to Azure Container Instances finds: the image, what pulls it and writes for it, the group; and how all go."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amlflow import paths
from amlflow.errors import AmlflowError, NotAllowed, NotFound, UsageError
from amlflow.targets import image
from amlflow.targets.aci_group import APP, COLLECT, CONTENT, WORKSPACE, Wanted, beside, default_label
from amlflow.targets.base import DeployOptions, ModelToDeploy
from amlflow.targets.image import Image
from amlflow.workspaces.azure import collected, private, rights
from amlflow.workspaces.azure.collected import Storage
from amlflow.workspaces.azure.containers import AzureContainers, ContainerGroup, ContainerState, named_right
from amlflow.workspaces.azure.identities import ACR_PULL, BLOB_WRITER, AzureIdentities, Identity, Role
from amlflow.workspaces.azure.registries import AzureRegistry
from amlflow.workspaces.azure.service import Service

LOST = ("failed", "canceled", "deleting")


class Azure:
    """The services that an endpoint's parts are in, and the keys of this machine."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.containers, self.identities = AzureContainers(service), AzureIdentities(service)
        self.registry = AzureRegistry(service)

    def remove(self, name: str) -> None:
        """The group last: as long as it is there, another try finds the rest. What is not there is not deleted either, for which
        one may have no right."""
        pull = beside(name)
        group: ContainerGroup | None = None
        with contextlib.suppress(NotFound):
            group = self.containers.get(name)
        try:
            registry = self.registry.get().id
        except NotFound:
            registry = ""
        if registry:
            self._withdraw(ACR_PULL, pull, registry)
            if self.registry.has_token(pull):
                self.registry.delete_token(pull)
        if self.identities.get(pull) is not None:
            # Whatever the group says of itself: a deploy that was cut may have given the role, or not have taken it back.
            with contextlib.suppress(NotFound):
                self._withdraw(BLOB_WRITER, pull, collected.storage(self.service).id)
            self.identities.delete(pull)
        if group is not None:
            self.containers.delete(name)
        self.keep_keys(name, ())

    def _withdraw(self, role: Role, name: str, scope: str) -> None:
        if self.identities.has(role, name, scope):
            self.identities.withdraw(role, name, scope)

    def keys(self, name: str) -> Sequence[str]:
        """The keys that were given to the group from this machine, the one to use first."""
        kept = private.read(_key_file()).get(self._place(name))
        return [str(key) for key in kept] if isinstance(kept, list) else []

    def keep_keys(self, name: str, keys: Sequence[str]) -> None:
        def edit(content: dict[str, Any]) -> None:
            content.pop(self._place(name), None)
            if keys:
                content[self._place(name)] = list(keys)

        private.change(_key_file(), edit)

    def _place(self, name: str) -> str:
        group = self.service.path.split("/providers/")[0]
        return f"{self.service.http.credential.cloud.arm}{group}/{name}".lower()


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is: the image, if it is `built`; the identity and whether it may pull; the group, None before the first deploy;
    the `storage` that it collects into, or did, and whether the identity may write there. `same` says that it is as it is
    wanted."""

    wanted: Wanted
    image: Image
    built: bool
    identity: Identity | None
    may_pull: bool
    group: ContainerGroup | None
    storage: Storage | None
    may_write: bool

    @property
    def same(self) -> bool:
        group = self.group
        return bool(group and group.tags.get(CONTENT) == self.wanted.content() and group.state.lower() not in LOST)

    @property
    def replaced(self) -> bool:
        """Whether the group must go first, because Azure does not change what is different."""
        group = self.group
        return bool(group and group.tags.get(CONTENT, "").partition(".")[0] != self.wanted.fixed())

    @property
    def live(self) -> ContainerGroup | None:
        """The group, if there is one that came up."""
        group = self.group
        if group is None or group.state.lower() in LOST or crashed(group.container(APP)):
            return None
        return group


def find(azure: Azure, model: ModelToDeploy, options: DeployOptions) -> Situation:
    """Raises `UsageError` for a name that another service has, `AmlflowError` for more than the quota allows, `NotAllowed` for
    a collection that this account may not set up."""
    made, service = image.of_model(model), azure.service
    registry, name, own = azure.registry.get(), options.name, options.container
    group = _group(azure, name)
    # Who deploys again without saying where means where it is.
    label = "" if own.subnet else own.dns_label or _label(group) or default_label(name, service.path)
    wanted = Wanted(
        name,
        f"{registry.server}/{image.repository(model)}:{made.tag}",
        model.registered or model.label,
        own.location or (group.location if group else service.description().location),
        label,
        service.http.credential.cloud.container_suffix,
        service.name,
        options,
    )
    pull, built = beside(name), azure.registry.has(image.repository(model), made.tag)
    collects = options.collect is not None or bool(group and group.tags.get(COLLECT) == "yes")
    storage = collected.storage(service) if collects else None
    with named_right():
        identity, may_pull = azure.identities.get(pull), azure.identities.has(ACR_PULL, pull, registry.id)
        may_write = storage is not None and azure.identities.has(BLOB_WRITER, pull, storage.id)
    if options.collect is not None and storage is not None and not may_write:
        _check_assigning(service, storage)
    now = Situation(wanted, made, built, identity, may_pull, group, storage, may_write)
    if not now.same:
        _check_quota(azure, now)
    return now


def owned(group: ContainerGroup, workspace: str) -> bool:
    """Whether the group is an endpoint of the workspace."""
    return group.tags.get(WORKSPACE, "").lower() == workspace.lower()


def _group(azure: Azure, name: str) -> ContainerGroup | None:
    try:
        with named_right():
            group = azure.containers.get(name)
    except NotFound as error:
        if error.mend:
            raise
        return None
    if not owned(group, azure.service.name):
        raise UsageError(
            f"There is a container group {name!r} in {azure.service.group!r} that is no endpoint of {azure.service.name!r}.",
            "Choose another name with --name.",
        )
    return group


def _check_assigning(service: Service, storage: Storage) -> None:
    account, _, container = storage.id.partition("/blobServices/default/containers/")
    with contextlib.suppress(NotAllowed, NotFound):
        if rights.at(service.arm, account).allow(rights.ASSIGN):
            return
    raise NotAllowed(
        f"What --collect keeps is written by the endpoint's identity, which needs the role «{BLOB_WRITER.name}» on the blob "
        f"container {container!r}, and this account may not assign it.",
        f"Ask for the role «User Access Administrator» on the storage account {account.rpartition('/')[2]!r}, or deploy without "
        "--collect.",
    )


def _check_quota(azure: Azure, now: Situation) -> None:
    """Raises `AmlflowError` where the region does not allow so many cores."""
    wanted = now.wanted
    with contextlib.suppress(NotAllowed, NotFound):
        used, limit = azure.containers.usage(wanted.location).get("StandardCores", (0, 0))
        free = limit - used + _cores(now.group)
        if limit and wanted.cores > free:
            raise AmlflowError(
                f"Container group {wanted.name!r} needs {wanted.cores:g} cores, and the quota of {wanted.location!r} allows "
                f"{free:g} more of {limit}.",
                "Take fewer with --cpu, another region with --location, or ask for more under Quotas in the portal.",
            )


def uses_identity(record: Mapping[str, Any]) -> bool:
    credentials = (record.get("properties") or {}).get("imageRegistryCredentials") or [{}]
    return bool(credentials[0].get("identity"))


def crashed(container: ContainerState) -> bool:
    return container.state.lower() != "running" and container.exit_code not in (None, 0)


def _label(group: ContainerGroup | None) -> str:
    address = ((group.record.get("properties") or {}) if group else {}).get("ipAddress") or {}
    return str(address.get("dnsNameLabel") or "")


def _cores(group: ContainerGroup | None) -> float:
    containers = ((group.record.get("properties") or {}) if group else {}).get("containers") or []
    return sum(float(item["properties"]["resources"]["requests"]["cpu"]) for item in containers)


def _key_file() -> Any:
    return paths.azure() / "endpoint-keys.json"
