"""Sizes of machines in a workspace's region, and how many of their cores the subscription may still use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces.azure.arm import PROVIDER, segment
from amlflow.workspaces.azure.service import Service

_API = "2023-08-01-preview"


@dataclass(frozen=True, slots=True)
class MachineSize:
    """`free_cores` is what the quota of its family still allows, None where it is not known."""

    name: str
    family: str
    cores: int
    memory_gb: float
    gpus: int
    used_cores: int = 0
    limit_cores: int | None = None

    @property
    def free_cores(self) -> int | None:
        return None if self.limit_cores is None else self.limit_cores - self.used_cores


def sizes(service: Service) -> list[MachineSize]:
    """Every size of the region, with its family's quota."""
    root = f"/subscriptions/{segment(service.subscription)}/providers/{PROVIDER}/locations"
    root = f"{root}/{segment(service.description().location)}"
    usage = {
        str((item.get("name") or {}).get("value") or "").lower(): (
            int(item.get("currentValue") or 0),
            int(item.get("limit") or 0),
        )
        for item in service.arm.pages(f"{root}/usages", _API, "quota of the region")
    }
    found = []
    for item in service.arm.pages(f"{root}/vmSizes", _API, "sizes of the region"):
        family = str(item.get("family") or "")
        used, limit = usage.get(family.lower(), (0, None))
        found.append(
            MachineSize(
                str(item.get("name") or ""),
                family,
                int(item.get("vCPUs") or 0),
                float(item.get("memoryGB") or 0),
                int(item.get("gpus") or 0),
                used,
                limit,
            )
        )
    return found


def reserved_cores(size: MachineSize, count: int) -> int:
    """The cores that so many instances of a deployment take: the service keeps a fifth more for upgrades."""
    return size.cores * -(-count * 6 // 5)


def check(
    known: Sequence[MachineSize], name: str, count: int, replaced: str = "", replaced_count: int = 0
) -> MachineSize:
    """The size of that name. Raises `NotFound` naming the nearest, and `AmlflowError` where the quota does not allow `count` of
    it, naming one that fits. So many machines of the size `replaced` will have gone by then."""
    size = next((item for item in known if item.name.lower() == name.lower()), None)
    if size is None:
        raise NotFound(
            f"There is no instance type {name!r} in the workspace's region.",
            "Give another with --instance-type.",
            name=name,
            known=[item.name for item in known],
        )
    needed = reserved_cores(size, count)
    freed = next((item for item in known if item.name.lower() == replaced.lower()), None)
    if freed is not None and freed.family == size.family:
        needed = max(0, needed - reserved_cores(freed, replaced_count))
    if size.free_cores is None or needed <= size.free_cores:
        return size
    other = _fitting(known, size, count)
    raise AmlflowError(
        f"The quota does not allow {count} of {size.name}: {size.used_cores} of {size.limit_cores} cores of {size.family} are "
        f"used, and {needed} more are needed (with the fifth that Azure keeps for upgrades).",
        f"{other.name} fits ({other.cores} cores, {other.memory_gb:g} GB): give --instance-type {other.name}, or ask for more "
        "quota in the studio."
        if other
        else "Use fewer instances (--instance-count), delete deployments that are not needed, or ask for more quota in the "
        "studio.",
    )


def _fitting(known: Sequence[MachineSize], wanted: MachineSize, count: int) -> MachineSize | None:
    """The size that is most like the wanted one among those that the quota allows."""
    fitting = [
        item
        for item in known
        if (item.free_cores is None or reserved_cores(item, count) <= item.free_cores)
        and bool(item.gpus) == bool(wanted.gpus)
        and item.memory_gb >= 7
    ]
    if not fitting and wanted.gpus:
        return None
    return min(
        fitting, key=lambda item: (abs(item.cores - wanted.cores), abs(item.memory_gb - wanted.memory_gb)), default=None
    )
