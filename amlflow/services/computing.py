"""Computes: what the command line says of one, checked."""

from __future__ import annotations

from typing import get_args

from amlflow.errors import UsageError, nearest
from amlflow.workspaces.abilities import ComputeSpec, Tier

_KINDS = ("cluster", "instance")


def spec(name: str, kind: str, size: str, least: int, most: int, tier: str, idle_s: int) -> ComputeSpec:
    """Raises `UsageError` for an unknown kind or tier. `idle_s` 0 leaves the time to the service."""
    for what, value, known in (("kind", kind, _KINDS), ("tier", tier, get_args(Tier))):
        if value not in known:
            near = nearest(value, known)
            hint = f" Did you mean {near}?" if near else ""
            raise UsageError(f"There is no {what} {value!r} of a compute.{hint}", f"It is one of {', '.join(known)}.")
    return ComputeSpec(
        name,
        "instance" if kind == "instance" else "cluster",
        size,
        least,
        most,
        "spot" if tier == "spot" else "dedicated",
        idle_s or None,
    )
