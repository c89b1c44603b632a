"""What Azure refuses of a container group, and how much of each resource the subscription uses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from amlflow.emulator.arm.resources import Arm
from amlflow.emulator.settings import LOCATION
from amlflow.emulator.store import Document
from amlflow.emulator.web import arm_error

KIND = "Microsoft.ContainerInstance/containerGroups"
_NAME = r"[a-z0-9](?:-?[a-z0-9]){0,62}"
_LABEL = r"[a-z][a-z0-9-]{3,61}[a-z0-9]"
_MOST_CORES, _MOST_GROUPS = 10, 100


def every(arm: Arm) -> list[Document]:
    """The container groups of all resource groups."""
    groups = arm.store.children(f"/subscriptions/{arm.settings.subscription}/resourceGroups")
    return [item for group in groups for item in arm.store.children(f"{group.id}/providers/{KIND}")]


def check(name: str, body: Mapping[str, Any], before: Document | None, others: Sequence[Document]) -> None:
    """Raises the service's refusals; `before` is what the group is now, `others` are all other groups."""
    properties = body["properties"]
    if not re.fullmatch(_NAME, name):
        text = f"The container group name '{name}' is invalid. It must match the regex '{_NAME}'."
        raise arm_error(400, "InvalidContainerGroupName", text)
    if body["location"] != LOCATION:
        text = (
            f"The provided location '{body['location']}' is not available for resource type '{KIND}'. List of available "
            f"regions for the resource type is '{LOCATION}'."
        )
        raise arm_error(400, "LocationNotAvailableForResourceType", text)
    if before is not None and _fixed(before.body["properties"]) != _fixed(properties):
        text = (
            f"The updates on container group '{name}' are invalid. If you are going to update the os type, restart policy, "
            "network profile, CPU, memory or GPU resources for a container group, you must delete it first and then create a "
            "new one."
        )
        raise arm_error(400, "InvalidContainerGroupUpdate", text)
    label = (properties.get("ipAddress") or {}).get("dnsNameLabel")
    if label is not None and not re.fullmatch(_LABEL, label):
        text = (
            f"The DNS name label '{label}' in container group '{name}' is invalid. It can contain only lowercase letters, "
            "numbers and hyphens. The first character must be a letter. The last character must be a letter or number. The "
            "value must be between 5 and 63 characters long."
        )
        raise arm_error(400, "InvalidDnsNameLabel", text)
    if label and any((item.body["properties"].get("ipAddress") or {}).get("dnsNameLabel") == label for item in others):
        text = f"The DNS name label '{label}' in container group '{name}' not available. Try using a different label."
        raise arm_error(409, "DnsNameLabelNotAvailable", text)
    used, asked = sum(_cores(item.body["properties"]) for item in others), _cores(properties)
    if used + asked > _MOST_CORES:
        text = (
            f"Resource type '{KIND}' container group quota 'StandardCores' exceeded in region '{LOCATION}'. "
            f"Limit: '{_MOST_CORES}', Usage: '{used:g}' Requested: '{asked:g}'."
        )
        raise arm_error(409, "ContainerGroupQuotaReached", text)


def usages(groups: Sequence[Document], place: str) -> list[dict[str, Any]]:
    """As the service lists them; `place` is the path of the region."""
    cores = sum(_cores(group.body["properties"]) for group in groups)
    listed = (("ContainerGroups", len(groups), _MOST_GROUPS), ("StandardCores", cores, _MOST_CORES))
    return [
        {
            "id": f"{place}/usages/{name}",
            "unit": "Count",
            "currentValue": round(used),
            "limit": limit,
            "name": {"value": name, "localizedValue": name},
        }
        for name, used, limit in listed
    ]


def _cores(properties: Mapping[str, Any]) -> float:
    return sum(float(item["properties"]["resources"]["requests"]["cpu"]) for item in properties["containers"])


def _fixed(properties: Mapping[str, Any]) -> Any:
    """What no update may change."""
    sizes = {item["name"]: item["properties"]["resources"]["requests"] for item in properties["containers"]}
    policy = properties.get("restartPolicy") or "Always"
    return [properties["osType"], policy, properties.get("subnetIds") or [], sizes]
