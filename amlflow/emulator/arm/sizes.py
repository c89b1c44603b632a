"""The sizes of virtual machines on offer, and the quota of each family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    family: str
    cores: int
    memory_gb: float
    gpus: int = 0

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "family": self.family,
            "vCPUs": self.cores,
            "gpus": self.gpus,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": self.cores * 7168,
            "memoryGB": self.memory_gb,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }


SIZES = {
    size.name.lower(): size
    for size in (
        Size("Standard_DS1_v2", "standardDSv2Family", 1, 3.5),
        Size("Standard_DS2_v2", "standardDSv2Family", 2, 7),
        Size("Standard_DS3_v2", "standardDSv2Family", 4, 14),
        Size("Standard_DS4_v2", "standardDSv2Family", 8, 28),
        Size("Standard_DS5_v2", "standardDSv2Family", 16, 56),
        Size("Standard_D2s_v3", "standardDSv3Family", 2, 8),
        Size("Standard_D4s_v3", "standardDSv3Family", 4, 16),
        Size("Standard_D8s_v3", "standardDSv3Family", 8, 32),
        Size("Standard_E4s_v3", "standardESv3Family", 4, 32),
        Size("Standard_F4s_v2", "standardFSv2Family", 4, 8),
        Size("Standard_NC6s_v3", "standardNCSv3Family", 6, 112, 1),
        Size("Standard_NC24s_v3", "standardNCSv3Family", 24, 448, 4),
    )
}
QUOTA_CORES = {"standardNCSv3Family": 24}
DEFAULT_QUOTA_CORES = 100


def quota(family: str) -> int:
    """How many cores of the family the subscription may use."""
    return QUOTA_CORES.get(family, DEFAULT_QUOTA_CORES)
