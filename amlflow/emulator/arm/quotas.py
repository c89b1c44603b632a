"""How many cores of each family are in use, by computes' nodes and by deployments."""

from __future__ import annotations

from collections.abc import Iterator

from amlflow.emulator.arm.resources import PROVIDER, Arm
from amlflow.emulator.arm.sizes import SIZES, Size, quota
from amlflow.emulator.pools import Pools
from amlflow.emulator.store import Document
from amlflow.emulator.web import ServiceError, service_error


class Quotas:
    def __init__(self, arm: Arm, pools: Pools) -> None:
        self._arm, self._pools = arm, pools

    def used(self, besides: str = "") -> dict[str, int]:
        """Cores by family; the deployment with the id `besides` is left out."""
        found = dict.fromkeys(sorted({size.family for size in SIZES.values()}), 0)
        for workspace in workspaces(self._arm):
            for compute in self._arm.store.children(f"{workspace.id}/computes"):
                size = SIZES.get(str(compute.body["properties"].get("vmSize", "")).lower())
                if size is not None and "gone" not in compute.body:
                    found[size.family] += size.cores * len(self._pools.nodes(compute.id))
            for endpoint in self._arm.store.children(f"{workspace.id}/onlineEndpoints"):
                for deployment in self._arm.store.children(f"{endpoint.id}/deployments"):
                    size = SIZES.get(str(deployment.body["properties"].get("instanceType", "")).lower())
                    if size is not None and deployment.id.lower() != besides.lower():
                        found[size.family] += reserved(size, deployment.body["capacity"])
        return found

    def check_deployment(self, id: str, size: Size, count: int) -> None:
        """Raises the service's refusal where the quota does not allow so many instances."""
        used, limit, needed = self.used(id)[size.family], quota(size.family), reserved(size, count)
        if used + needed > limit:
            raise _out_of_quota(self._arm.settings.subscription, size, used, limit, needed)


def reserved(size: Size, count: int) -> int:
    """The cores of a deployment: a fifth more instances than it has are reserved, for upgrades."""
    return size.cores * -(-count * 6 // 5)


def workspaces(arm: Arm) -> Iterator[Document]:
    for group in arm.store.children(f"/subscriptions/{arm.settings.subscription}/resourceGroups"):
        yield from arm.store.children(f"{group.id}/providers/{PROVIDER}/workspaces")


def _out_of_quota(subscription: str, size: Size, used: int, limit: int, needed: int) -> ServiceError:
    text = (
        f"Not enough quota available for {size.name} in SubscriptionId {subscription}. Current usage/limit: {used}/{limit}. "
        f"Additional needed: {needed} Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-outofquota"
    )
    return service_error(400, text, "BadRequest", inner=("BadArgument", "OutOfQuota"))
