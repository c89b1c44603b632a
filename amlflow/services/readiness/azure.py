"""The Azure ML workspace that a model is to be deployed in: quota, registry, network, rights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from amlflow.errors import AmlflowError, NotFound
from amlflow.services.readiness.findings import Finding, Hosting, of_error
from amlflow.targets.base import DeployOptions
from amlflow.targets.managed import DEFAULT_SIZE
from amlflow.workspaces.azure import quota, rights
from amlflow.workspaces.azure.registries import AzureRegistry
from amlflow.workspaces.azure.service import Service

_ML = "Microsoft.MachineLearningServices/workspaces"
# Where a service that may reach approved addresses alone must be let, for pip to work; conda needs the second as well.
_PIP_HOSTS = ("pypi.org", "files.pythonhosted.org")
_CONDA_HOSTS = ("conda.anaconda.org",)
# A model and what loads it must fit into a machine's memory beside its operating system: a choice of ours.
_MEMORY_SHARE = 0.5
# What each target does, and where: its own words for the place are `workspace`, `group` and `registry`.
_ACTIONS: Mapping[str, Sequence[tuple[str, str]]] = {
    "managed": (
        ("workspace", f"{_ML}/onlineEndpoints/write"),
        ("workspace", f"{_ML}/onlineEndpoints/deployments/write"),
        ("workspace", f"{_ML}/onlineEndpoints/listKeys/action"),
    ),
    "aks": (
        ("workspace", f"{_ML}/onlineEndpoints/write"),
        ("workspace", f"{_ML}/onlineEndpoints/deployments/write"),
        ("workspace", f"{_ML}/environments/versions/write"),
        ("workspace", f"{_ML}/onlineEndpoints/listKeys/action"),
    ),
    "batch": (
        ("workspace", f"{_ML}/batchEndpoints/write"),
        ("workspace", f"{_ML}/batchEndpoints/deployments/write"),
        ("workspace", f"{_ML}/jobs/write"),
    ),
    "aci": (
        ("group", "Microsoft.ContainerInstance/containerGroups/write"),
        ("group", "Microsoft.ManagedIdentity/userAssignedIdentities/write"),
        ("registry", "Microsoft.ContainerRegistry/registries/listBuildSourceUploadUrl/action"),
        ("registry", "Microsoft.ContainerRegistry/registries/scheduleRun/action"),
    ),
}


def findings(
    service: Service,
    hosting: Hosting,
    options: DeployOptions,
    model_bytes: int,
    planned: bool,
    report: Callable[[str], None],
) -> Iterator[Finding]:
    """`planned` says that the target has planned the deploy, and so has held it to the quota."""
    report(f"Asking the workspace {service.name}…")
    try:
        record = service.read()
    except AmlflowError as error:
        yield of_error("workspace", error)
        return
    properties = record.get("properties") or {}
    yield from network(properties, hosting)
    if hosting.target == "managed":
        yield from _asked("quota", lambda: fits(quota.sizes(service), options, model_bytes, planned))
    registry = ""
    if hosting.target == "aci":
        found = AzureRegistry(service)
        yield from _asked("registry", lambda: [Finding("ok", "registry", f"images go to {found.get().server}")])
        registry = str(properties.get("containerRegistry") or "")
    yield from _asked("rights", lambda: _rights(service, hosting, registry))


def _asked(what: str, ask: Callable[[], Sequence[Finding]]) -> Iterator[Finding]:
    """What could not be asked is told, and is no reason to fail: but for a thing that is missing."""
    try:
        yield from ask()
    except NotFound as error:
        yield of_error(what, error, "error" if error.mend else "warning")
    except AmlflowError as error:
        yield of_error(what, error, "warning")


def network(properties: Mapping[str, Any], hosting: Hosting) -> Iterator[Finding]:
    """What the properties of a workspace's own record say of the ways in and out."""
    mode = str((properties.get("managedNetwork") or {}).get("isolationMode") or "Disabled")
    public = str(properties.get("publicNetworkAccess") or "Enabled").lower() != "disabled"
    if not public:
        yield Finding(
            "warning",
            "network",
            "The workspace takes no requests from public networks: neither a deploy nor a request gets through from outside.",
            "Run amlflow inside of its network, or through its VPN.",
        )
    if mode.lower() == "allowonlyapprovedoutbound" and hosting.target != "aci":
        yield _egress(properties, hosting)
    elif not public and mode.lower() == "disabled" and hosting.target != "aci":
        yield Finding(
            "warning",
            "egress",
            "The workspace is private and has no managed network, so that what is deployed may reach no package index: packages "
            "cannot be installed when it is made.",
            "Bake them into an image, `amlflow model image MODEL --build`, or give the workspace a managed network.",
        )
    else:
        yield Finding("ok", "egress", f"the managed network's isolation is {mode}")


def _egress(properties: Mapping[str, Any], hosting: Hosting) -> Finding:
    rules = ((properties.get("managedNetwork") or {}).get("outboundRules") or {}).values()
    allowed = [str(rule.get("destination")).lower() for rule in rules if str(rule.get("type")).lower() == "fqdn"]
    needed = (*_PIP_HOSTS, *(_CONDA_HOSTS if hosting.conda else ()))
    missing = [host for host in needed if not any(_covers(rule, host) for rule in allowed)]
    if not missing:
        return Finding("ok", "egress", f"the outbound rules of the managed network allow {', '.join(needed)}")
    one = len(missing) == 1
    return Finding(
        # What answers in the managed network installs packages there; what is built beside it may have them from elsewhere.
        "error" if hosting.no_code else "warning",
        "egress",
        f"The managed network lets out to approved addresses alone, and {', '.join(missing)} {'is' if one else 'are'} none: the "
        "packages of the model cannot be installed.",
        f"Allow {'it' if one else 'them'} with `az ml workspace outbound-rule set --type fqdn --destination HOST`, or "
        "bake the packages into an image: `amlflow model image MODEL --build`.",
    )


def _covers(rule: str, host: str) -> bool:
    return rule == host or (rule.startswith("*.") and host.endswith(rule[1:]))


def fits(sizes: Sequence[quota.MachineSize], options: DeployOptions, model_bytes: int, planned: bool) -> list[Finding]:
    """Whether the machines that are asked for may be had, and are large enough. `planned`: they may, as the plan has found."""
    name = options.online.instance_type or DEFAULT_SIZE
    try:
        if planned:
            size = next(item for item in sizes if item.name.lower() == name.lower())
        else:
            size = quota.check(sizes, name, options.online.instance_count)
    except AmlflowError as error:
        return [of_error("quota", error)]
    free = "no limit is told" if size.free_cores is None else f"{size.free_cores} of {size.limit_cores} cores are free"
    needed = quota.reserved_cores(size, options.online.instance_count)
    found = [
        Finding(
            "ok",
            "quota",
            f"{options.online.instance_count} × {size.name} take {needed} cores of {size.family}, of which {free}",
        )
    ]
    if model_bytes > size.memory_gb * 1e9 * _MEMORY_SHARE:
        larger = [item for item in sizes if model_bytes <= item.memory_gb * 1e9 * _MEMORY_SHARE]
        fitting = min(larger, key=lambda item: (item.memory_gb, item.cores), default=None)
        found.append(
            Finding(
                "error" if model_bytes > size.memory_gb * 1e9 else "warning",
                "memory",
                f"The model has {model_bytes / 1e9:.1f} GB, and {size.name} {size.memory_gb:g} GB of memory.",
                f"Give --instance-type {fitting.name}." if fitting else "Make the model smaller.",
            )
        )
    return found


def _rights(service: Service, hosting: Hosting, registry: str) -> list[Finding]:
    places = {
        "workspace": service.path,
        "group": service.path.partition("/providers/")[0],
        "registry": registry,
    }
    actions = [(place, action) for place, action in _ACTIONS[hosting.target] if places[place]]
    asked = {place: rights.at(service.arm, places[place]) for place in dict.fromkeys(place for place, _ in actions)}
    lacking = [(place, action) for place, action in actions if not asked[place].allow(action)]
    found = [_lacking(place, action, hosting) for place, action in lacking]
    if not lacking:
        found.append(Finding("ok", "rights", f"all {len(actions)} that the deploy needs"))
    if registry and not asked["registry"].allow(rights.ASSIGN):
        found.append(
            Finding(
                "warning",
                "right to assign roles",
                f"This account lacks {rights.ASSIGN} on the registry, so a token pulls the image instead of an identity.",
                "Ask for the role «User Access Administrator» on the registry.",
            )
        )
    return found


def _lacking(place: str, action: str, hosting: Hosting) -> Finding:
    role = "Contributor" if hosting.target == "aci" else "AzureML Data Scientist"
    named = "resource group" if place == "group" else place
    return Finding(
        "error",
        "rights",
        f"This account lacks {action} on the {named}.",
        f"Ask for the role «{role}» on it, or sign in as somebody else (--auth).",
    )
