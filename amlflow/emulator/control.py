"""The emulator's own address, `/emulator/…`: its state, and faults at run time. Only who has the control key is let in."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from amlflow.emulator import faults
from amlflow.emulator.identity import Identity
from amlflow.emulator.settings import Settings
from amlflow.emulator.web import Answer, Handler, Request, Route, arm_error
from amlflow.errors import UsageError

HEADER = "x-amlflow-control"


class Control:
    """`preempt` takes the nodes of a job by name, and says whether it ran."""

    def __init__(
        self, settings: Settings, struck: faults.Faults, identity: Identity, preempt: Callable[[str], bool]
    ) -> None:
        self._settings, self._faults, self._identity, self._preempt_job = settings, struck, identity, preempt

    def routes(self) -> list[Route]:
        return [
            Route(method, f"/emulator/{path}", guarded(self._settings, handler), "open")
            for method, path, handler in (
                ("GET", "health", self._health),
                ("GET", "faults", self._health),
                ("POST", "faults", self._add),
                ("DELETE", "faults", self._clear),
                ("PUT", "token-lifetime", self._lifetime),
                ("POST", "preempt", self._preempt),
            )
        ]

    def _health(self, _: Request) -> Answer:
        state: dict[str, Any] = {"faults": self._faults.specs(), "token_lifetime_s": self._identity.lifetime_s}
        return Answer(content=state)

    def _add(self, request: Request) -> Answer:
        try:
            for spec in request.json().get("faults", []):
                self._faults.add(faults.parse(str(spec)))
        except UsageError as error:
            raise arm_error(400, "BadFault", error.paragraph()) from error
        return self._health(request)

    def _clear(self, request: Request) -> Answer:
        self._faults.clear()
        return self._health(request)

    def _lifetime(self, request: Request) -> Answer:
        seconds = request.json().get("seconds")
        if not isinstance(seconds, int) or seconds < 1:
            raise arm_error(400, "BadLifetime", f"A token's lifetime is a number of seconds, not {seconds!r}.")
        self._identity.lifetime_s = seconds
        return self._health(request)

    def _preempt(self, request: Request) -> Answer:
        job = str(request.json().get("job") or "")
        if not self._preempt_job(job):
            raise arm_error(409, "NotRunning", f"The job '{job}' does not run now.")
        return self._health(request)


def guarded(settings: Settings, handler: Handler) -> Handler:
    """The handler, for who has the control key alone."""

    def asked(request: Request) -> Answer:
        given = request.headers.get(HEADER, "")
        if not hmac.compare_digest(given.encode(), settings.control_key.encode()):
            raise arm_error(403, "Forbidden", "Only `amlflow emulator` may ask this.")
        return handler(request)

    return asked
