"""Why sending a run goes no further, and which refusals mean that."""

from __future__ import annotations

from typing import Optional

from .errors import Refused


class Stuck(Exception):
    """Nothing more of the run can be sent for now; all is kept. `kind` is unreachable, not_allowed or gone."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return self.reason


class Stopped(Exception):
    """The drainer was told to end; what is under way is taken up by the next one."""


def stuck_by(refused: Refused) -> Optional[Stuck]:
    """Where a refusal is not about the one request: what keeps everything from being sent."""
    if refused.status in (401, 403) or refused.code == "INVALID_CREDENTIALS":
        return Stuck("not_allowed", str(refused))
    if refused.code in ("NOT_MLFLOW", "INVALID_URL"):
        return Stuck("unreachable", str(refused))
    return None
