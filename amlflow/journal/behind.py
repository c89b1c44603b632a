"""What the journal asks of the service behind it, and how its refusals are read."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Protocol

from .errors import Refused


class Behind(Protocol):
    """A service that speaks MLflow's REST API. Raises `Refused`, or `Unreachable` after its own retries; with `retry` False a
    request is not repeated where it may have been applied."""

    def request(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        *,
        timeout_s: Optional[float] = None,
        retry: bool = True,
    ) -> Dict[str, Any]: ...


class Stuck(Exception):
    """Sending goes no further for now; all is kept. `kind` is unreachable, not_allowed or gone."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return self.reason


class Stopped(Exception):
    """The drainer was told to end; what is under way is taken up by the next one."""


def lacks_route(refused: Refused) -> bool:
    """Whether the service does not have what was asked for at all, as opposed to a thing of that name."""
    if refused.status in (405, 501):
        return True
    return refused.status == 404 and refused.code != "RESOURCE_DOES_NOT_EXIST"


def is_missing(refused: Refused) -> bool:
    return refused.code == "RESOURCE_DOES_NOT_EXIST"


def final(refused: Refused) -> Optional[Stuck]:
    """What keeps everything from being sent, where a refusal is not about the one request."""
    if refused.status in (401, 403) or refused.code == "INVALID_CREDENTIALS":
        return Stuck("not_allowed", str(refused))
    if refused.code in ("NOT_MLFLOW", "INVALID_URL"):
        return Stuck("unreachable", str(refused))
    return None
