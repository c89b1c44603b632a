"""What the account that is signed in may do at a place of Azure, as Azure itself tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from amlflow.workspaces.azure.arm import Arm

PERMISSIONS_API = "2022-04-01"
ASSIGN = "Microsoft.Authorization/roleAssignments/write"


@dataclass(frozen=True, slots=True)
class Rights:
    """Each grant is what one role allows and what it leaves out of that, by patterns such as `*/read`."""

    grants: Sequence[tuple[Sequence[str], Sequence[str]]]

    def allow(self, action: str) -> bool:
        """Whether a role allows the action. Deny assignments and conditions are not told by Azure, and may forbid it all the
        same."""
        return any(_fits(action, allowed) and not _fits(action, left_out) for allowed, left_out in self.grants)


def at(arm: Arm, scope: str) -> Rights:
    """The rights at an ARM id. Raises `AmlflowError` where they cannot be asked for."""
    path = f"{scope}/providers/Microsoft.Authorization/permissions"
    return Rights([_grant(item) for item in arm.pages(path, PERMISSIONS_API, "own rights")])


def _grant(item: dict[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    return item.get("actions") or [], item.get("notActions") or []


def _fits(action: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
